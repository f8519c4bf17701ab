/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/state.h"
#include "tests/fake/kvm.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"
#include "vmm/memmap_x86.h"
#include "vmm/vmclock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#define TAG STATE_TAG('V', 'C', 'L', 'K')

/* Offsets as UAPI.13 gives them. */
enum {
	SEQ_COUNT = 0x0c,
	DISRUPTION_MARKER = 0x10,
	GENERATION_COUNTER = 0x68,
};

struct fixture {
	struct gmem *mem;
	struct kvm kvm;
	int irq; /* eventfd */
	struct vmclock vmclock;
};

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
	f->mem = make_memory(MIB(1));
	f->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fake_kvm = (struct fake_kvm){0};
	assert_int_equal(kvm_add_irqfd(&f->kvm, IRQ_GSI_VMCLOCK, f->irq, NULL),
			 0);
	assert_int_equal(vmclock_create(&f->vmclock, f->mem, &f->kvm, NULL), 0);
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

static uint32_t get32(const struct fixture *f, uint64_t off)
{
	le32 value = {0};

	assert_int_equal(
		gmem_read(f->mem, MEMMAP_VMCLOCK + off, &value, sizeof(value)),
		0);
	return le32_get(value);
}

static uint64_t get64(const struct fixture *f, uint64_t off)
{
	return get32(f, off) | (uint64_t)get32(f, off + 4) << 32;
}

static void put(struct fixture *f, uint64_t off, const void *data, size_t len)
{
	assert_int_equal(gmem_write(f->mem, MEMMAP_VMCLOCK + off, data, len),
			 0);
}

static void test_create_fills_the_page(void **state)
{
	/* magic, size; version 1, counter 0xff, type 0; seq_count; marker;
	 * flags 8 and 9 */
	static const uint8_t expected[PAGE_SIZE_4K] = {
		0x56, 0x43, 0x4c, 0x4b, 0, 0x10, 0, 0, 1, 0, 0xff, 0, 0,
		0,    0,    0,	  0,	0, 0,	 0, 0, 0, 0, 0,	   0, 3,
	};
	struct fixture *f = *state;
	uint8_t page[PAGE_SIZE_4K];

	assert_int_equal(gmem_read(f->mem, MEMMAP_VMCLOCK, page, sizeof(page)),
			 0);
	assert_memory_equal(page, expected, sizeof(page));
	assert_int_equal(interrupts(f), 0);
}

static void test_create_without_memory_fails(void **state)
{
	struct gmem *mem = make_memory(MEMMAP_VMCLOCK);
	struct fixture *f = *state;
	struct error err = {0};

	assert_int_equal(vmclock_create(&f->vmclock, mem, &f->kvm, &err),
			 -EFAULT);
	assert_non_null(strstr(err.text, "Cannot write the VMClock: "));
	gmem_destroy(mem);
}

static void test_renew_counts_up_and_notifies(void **state)
{
	uint8_t before[PAGE_SIZE_4K], after[PAGE_SIZE_4K];
	struct fixture *f = *state;

	assert_int_equal(gmem_track_dirty(f->mem), 0);
	assert_int_equal(
		gmem_read(f->mem, MEMMAP_VMCLOCK, before, sizeof(before)), 0);
	for (uint32_t i = 1; i < 4; i++) {
		assert_int_equal(vmclock_renew(&f->vmclock, NULL), 0);
		assert_int_equal(get32(f, SEQ_COUNT), 2 * i);
		assert_int_equal(get64(f, DISRUPTION_MARKER), i);
		assert_int_equal(get64(f, GENERATION_COUNTER), i);
		assert_int_equal(interrupts(f), 1);
	}
	assert_true(gmem_page_dirty(f->mem, MEMMAP_VMCLOCK));
	assert_false(gmem_page_dirty(f->mem, MEMMAP_VMGENID));
	assert_int_equal(
		gmem_read(f->mem, MEMMAP_VMCLOCK, after, sizeof(after)), 0);
	memcpy(after + SEQ_COUNT, before + SEQ_COUNT, 12);
	memcpy(after + GENERATION_COUNTER, before + GENERATION_COUNTER, 8);
	assert_memory_equal(before, after, sizeof(after));
}

/* The guest may write to its memory, or have been stopped in an update. */
static void test_renew_of_any_counters_ends_even(void **state)
{
	static const uint64_t ones = UINT64_MAX;
	static const struct {
		uint32_t before, after;
	} cases[] = {
		{0, 2}, {1, 2}, {2, 4}, {3, 4}, {UINT32_MAX, 0},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const le32 seq_count = le32_make(cases[i].before);

		put(f, SEQ_COUNT, &seq_count, sizeof(seq_count));
		put(f, DISRUPTION_MARKER, &ones, sizeof(ones));
		put(f, GENERATION_COUNTER, &ones, sizeof(ones));
		assert_int_equal(vmclock_renew(&f->vmclock, NULL), 0);
		assert_int_equal(get32(f, SEQ_COUNT), cases[i].after);
		assert_int_equal(get64(f, DISRUPTION_MARKER), 0);
		assert_int_equal(get64(f, GENERATION_COUNTER), 0);
		assert_int_equal(interrupts(f), 1);
	}
}

static int load_bytes(struct fixture *f, uint16_t version, uint64_t gpa,
		      size_t len, struct error *err)
{
	const le64 le = le64_make(gpa);
	struct state_writer writer;
	struct state_file file;
	int ret;

	state_writer_init(&writer);
	state_begin(&writer, TAG, version, 0);
	state_put(&writer, &le, len);
	state_end(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(
		state_file_parse(&file, writer.bytes, writer.len, NULL), 0);
	ret = vmclock_load(&f->vmclock, f->mem, &f->kvm, &file, err);
	state_file_release(&file);
	return ret;
}

static void test_load_finds_what_was_saved(void **state)
{
	struct fixture *f = *state;
	struct state_writer writer;
	struct state_file file;

	assert_int_equal(vmclock_renew(&f->vmclock, NULL), 0);
	assert_int_equal(interrupts(f), 1);
	state_writer_init(&writer);
	vmclock_save(&f->vmclock, &writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(
		state_file_parse(&file, writer.bytes, writer.len, NULL), 0);
	f->vmclock = (struct vmclock){0};
	assert_int_equal(
		vmclock_load(&f->vmclock, f->mem, &f->kvm, &file, NULL), 0);
	assert_int_equal(f->vmclock.gpa, MEMMAP_VMCLOCK);
	assert_int_equal(get64(f, GENERATION_COUNTER), 1);
	assert_int_equal(interrupts(f), 0);
	assert_int_equal(vmclock_renew(&f->vmclock, NULL), 0);
	assert_int_equal(get64(f, GENERATION_COUNTER), 2);
	state_file_release(&file);
}

static void test_load_of_an_impossible_address_is_refused(void **state)
{
	static const uint64_t addresses[] = {
		0,
		0x9f000,
		0x9fc00,
		0xdf008,
		0xe0000,
		0xfffffffffffff000,
		0xffffffffffffffff,
	};
	struct fixture *f = *state;

	f->vmclock = (struct vmclock){0};
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		struct error err = {0};

		assert_int_equal(load_bytes(f, 1, addresses[i], 8, &err),
				 -EINVAL);
		assert_non_null(strstr(err.text, "The VMClock cannot be at "));
		assert_null(f->vmclock.mem);
	}
	assert_int_equal(load_bytes(f, 1, 0xa0000, 8, NULL), 0);
	assert_int_equal(load_bytes(f, 1, 0xdf000, 8, NULL), 0);
}

static void test_load_of_an_address_without_memory_is_refused(void **state)
{
	struct fixture *f = *state;

	gmem_destroy(f->mem);
	f->mem = make_memory(MEMMAP_VMCLOCK);
	assert_int_equal(load_bytes(f, 1, MEMMAP_VMCLOCK, 8, NULL), -EINVAL);
}

static void test_load_of_a_bad_section_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};

	assert_int_equal(load_bytes(f, 1, MEMMAP_VMCLOCK, 7, &err), -EINVAL);
	assert_non_null(strstr(err.text, "VCLK"));
	assert_int_equal(load_bytes(f, 2, MEMMAP_VMCLOCK, 8, NULL), -EINVAL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_create_fills_the_page),
		TEST(test_create_without_memory_fails),
		TEST(test_renew_counts_up_and_notifies),
		TEST(test_renew_of_any_counters_ends_even),
		TEST(test_load_finds_what_was_saved),
		TEST(test_load_of_an_impossible_address_is_refused),
		TEST(test_load_of_an_address_without_memory_is_refused),
		TEST(test_load_of_a_bad_section_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
