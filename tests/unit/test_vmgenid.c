/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/state.h"
#include "tests/fake/kvm.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"
#include "vmm/memmap_x86.h"
#include "vmm/vmgenid.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include <cmocka.h>

#define TAG STATE_TAG('G', 'E', 'N', 'I')

struct fixture {
	struct gmem *mem;
	struct kvm kvm;
	int irq; /* eventfd */
	struct vmgenid vmgenid;
};

/* Stands before the C library's: a host that has none to give. */
static int random_error;
static size_t random_max;
static uint8_t random_next;

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
	assert_int_equal(flags, GRND_NONBLOCK);
	if (random_error) {
		errno = random_error;
		return -1;
	}
	len = MIN(len, random_max);
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = ++random_next;
	return (ssize_t)len;
}

static struct gmem *make_memory(uint64_t len)
{
	const struct gmem_range range = {0, len};
	struct gmem *mem = NULL;

	assert_int_equal(
		gmem_create(&mem,
			    &(const struct gmem_request){
				    .ranges = &range, .count = 1, .fd = -1},
			    NULL),
		0);
	return mem;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	random_error = 0;
	random_max = SIZE_MAX;
	f->mem = make_memory(MIB(1));
	f->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fake_kvm = (struct fake_kvm){0};
	assert_int_equal(kvm_add_irqfd(&f->kvm, IRQ_GSI_VMGENID, f->irq, NULL),
			 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->irq);
	gmem_destroy(f->mem);
	free(f);
	return 0;
}

static uint64_t interrupts(const struct fixture *f)
{
	uint64_t count;

	return read(f->irq, &count, sizeof(count)) < 0 ? 0 : count;
}

static void create(struct fixture *f)
{
	assert_int_equal(vmgenid_create(&f->vmgenid, f->mem, &f->kvm, NULL), 0);
}

static void read_page(const struct fixture *f, uint8_t page[PAGE_SIZE_4K])
{
	assert_int_equal(gmem_read(f->mem, MEMMAP_VMGENID, page, PAGE_SIZE_4K),
			 0);
}

static void test_create_draws_the_first_id(void **state)
{
	static const uint8_t zeros[PAGE_SIZE_4K];
	uint8_t page[PAGE_SIZE_4K];
	struct fixture *f = *state;

	random_next = 0;
	create(f);
	read_page(f, page);
	for (uint8_t i = 0; i < VMGENID_LEN; i++)
		assert_int_equal(page[i], i + 1);
	assert_memory_equal(page + VMGENID_LEN, zeros,
			    sizeof(page) - VMGENID_LEN);
	assert_int_equal(interrupts(f), 0);
}

static void test_create_without_randomness_fails(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};

	random_error = EAGAIN;
	assert_int_equal(vmgenid_create(&f->vmgenid, f->mem, &f->kvm, &err),
			 -EAGAIN);
	assert_non_null(strstr(err.text, "Cannot draw a generation id: "));
}

static void test_create_without_memory_fails(void **state)
{
	struct gmem *mem = make_memory(MEMMAP_VMGENID);
	struct fixture *f = *state;
	struct error err = {0};

	assert_int_equal(vmgenid_create(&f->vmgenid, mem, &f->kvm, &err),
			 -EFAULT);
	assert_non_null(strstr(err.text, "Cannot write the generation id: "));
	gmem_destroy(mem);
}

static void test_renew_changes_the_id_and_notifies(void **state)
{
	uint8_t before[PAGE_SIZE_4K], after[PAGE_SIZE_4K];
	struct fixture *f = *state;

	create(f);
	assert_int_equal(gmem_track_dirty(f->mem), 0);
	for (int i = 0; i < 3; i++) {
		read_page(f, before);
		assert_int_equal(vmgenid_renew(&f->vmgenid, NULL), 0);
		read_page(f, after);
		for (int j = 0; j < VMGENID_LEN; j++)
			assert_int_not_equal(before[j], after[j]);
		assert_memory_equal(before + VMGENID_LEN, after + VMGENID_LEN,
				    sizeof(after) - VMGENID_LEN);
		assert_int_equal(interrupts(f), 1);
	}
	assert_true(gmem_page_dirty(f->mem, MEMMAP_VMGENID));
	assert_false(gmem_page_dirty(f->mem, MEMMAP_VMGENID - 1));
	assert_false(gmem_page_dirty(f->mem, MEMMAP_VMCLOCK));
}

static void test_renew_without_randomness_changes_nothing(void **state)
{
	uint8_t before[PAGE_SIZE_4K], after[PAGE_SIZE_4K];
	struct fixture *f = *state;
	struct error err = {0};

	create(f);
	read_page(f, before);
	random_error = ENOSYS;
	assert_int_equal(vmgenid_renew(&f->vmgenid, &err), -ENOSYS);
	assert_non_null(strstr(err.text, "Cannot draw a generation id: "));
	random_error = 0;
	random_max = VMGENID_LEN - 1;
	assert_int_equal(vmgenid_renew(&f->vmgenid, NULL), -EAGAIN);
	read_page(f, after);
	assert_memory_equal(before, after, sizeof(after));
	assert_int_equal(interrupts(f), 0);
}

/* A state file with one section that holds @gpa. */
static void make_file(struct state_file *file, uint16_t version, uint64_t gpa,
		      size_t len)
{
	const le64 le = le64_make(gpa);
	struct state_writer writer;

	state_writer_init(&writer);
	state_begin(&writer, TAG, version, 0);
	state_put(&writer, &le, len);
	state_end(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_file_parse(file, writer.bytes, writer.len, NULL),
			 0);
}

static int load_bytes(struct fixture *f, uint16_t version, uint64_t gpa,
		      size_t len, struct error *err)
{
	struct state_file file;
	int ret;

	make_file(&file, version, gpa, len);
	ret = vmgenid_load(&f->vmgenid, f->mem, &f->kvm, &file, err);
	state_file_release(&file);
	return ret;
}

static void test_load_finds_what_was_saved(void **state)
{
	uint8_t before[PAGE_SIZE_4K], after[PAGE_SIZE_4K];
	struct fixture *f = *state;
	struct state_writer writer;
	struct state_file file;

	create(f);
	read_page(f, before);
	state_writer_init(&writer);
	vmgenid_save(&f->vmgenid, &writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(
		state_file_parse(&file, writer.bytes, writer.len, NULL), 0);
	f->vmgenid = (struct vmgenid){0};
	assert_int_equal(
		vmgenid_load(&f->vmgenid, f->mem, &f->kvm, &file, NULL), 0);
	assert_int_equal(f->vmgenid.gpa, MEMMAP_VMGENID);
	read_page(f, after);
	assert_memory_equal(before, after, sizeof(after));
	assert_int_equal(interrupts(f), 0);
	assert_int_equal(vmgenid_renew(&f->vmgenid, NULL), 0);
	read_page(f, after);
	assert_memory_not_equal(before, after, VMGENID_LEN);
	state_file_release(&file);
}

static void test_load_of_an_impossible_address_is_refused(void **state)
{
	static const uint64_t addresses[] = {
		0,
		0x9fbf8, /* straddles the start */
		0x9fc04, /* not aligned */
		0xde001,
		0xdfff8, /* straddles the end */
		0xe0000,
		0xfffffffffffffff0,
		0xfffffffffffffff8,
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		struct error err = {0};

		assert_int_equal(load_bytes(f, 1, addresses[i], 8, &err),
				 -EINVAL);
		assert_non_null(strstr(err.text, "The generation id cannot be "
						 "at "));
		assert_null(f->vmgenid.mem);
	}
	assert_int_equal(load_bytes(f, 1, 0x9fc00, 8, NULL), 0);
	assert_int_equal(load_bytes(f, 1, 0xdfff0, 8, NULL), 0);
}

static void test_load_of_an_address_without_memory_is_refused(void **state)
{
	struct fixture *f = *state;

	gmem_destroy(f->mem);
	f->mem = make_memory(MEMMAP_VMGENID);
	assert_int_equal(load_bytes(f, 1, MEMMAP_VMGENID, 8, NULL), -EINVAL);
	assert_int_equal(load_bytes(f, 1, MEMMAP_VMGENID - 16, 8, NULL), 0);
}

static void test_load_of_a_bad_section_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct state_writer writer;
	struct state_file file;

	assert_int_equal(load_bytes(f, 1, MEMMAP_VMGENID, 7, &err), -EINVAL);
	assert_non_null(strstr(err.text, "GENI"));
	assert_int_equal(load_bytes(f, 2, MEMMAP_VMGENID, 8, NULL), -EINVAL);
	state_writer_init(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(
		state_file_parse(&file, writer.bytes, writer.len, NULL), 0);
	assert_int_equal(
		vmgenid_load(&f->vmgenid, f->mem, &f->kvm, &file, NULL),
		-EINVAL);
	state_file_release(&file);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_create_draws_the_first_id),
		TEST(test_create_without_randomness_fails),
		TEST(test_create_without_memory_fails),
		TEST(test_renew_changes_the_id_and_notifies),
		TEST(test_renew_without_randomness_changes_nothing),
		TEST(test_load_finds_what_was_saved),
		TEST(test_load_of_an_impossible_address_is_refused),
		TEST(test_load_of_an_address_without_memory_is_refused),
		TEST(test_load_of_a_bad_section_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
