/* SPDX-License-Identifier: Apache-2.0 */
/* Boot structures and tables, as a kernel finds them in guest memory. The
 * tables go through iasl, when there is one, in unit_iasl. */
#include "vmm/acpi.h"
#include "vmm/boot_x86.h"
#include "vmm/memmap_x86.h"
#include "vmm/mptable.h"

#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define MEM_SIZE MIB(8)

static struct gmem *make_memory(void)
{
	struct gmem_range ranges[2];
	const struct gmem_request request = {.ranges = ranges, .count = 1};
	struct gmem *mem = NULL;

	assert_int_equal(boot_ram_layout(MEM_SIZE, ranges), 1);
	assert_int_equal(gmem_create(&mem, &request, NULL), 0);
	return mem;
}

struct image {
	Elf64_Ehdr header;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint32_t entry;
	} pvh;
	uint8_t code[64];
};

static struct image make_image(bool pvh)
{
	struct image image = {
		.header =
			{
				.e_machine = EM_X86_64,
				.e_entry = 0x100010,
				.e_phoff = offsetof(struct image, load),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = pvh ? 2 : 1,
			},
		.load = {.p_type = PT_LOAD,
			 .p_offset = offsetof(struct image, code),
			 .p_paddr = 0x100000,
			 .p_filesz = 64,
			 .p_memsz = 4096},
		.note = {.p_type = PT_NOTE,
			 .p_offset = offsetof(struct image, pvh),
			 .p_filesz = sizeof(image.pvh)},
		.pvh = {.head = {4, 4, 18}, .name = "Xen", .entry = 0x100020},
	};

	memcpy(image.header.e_ident, ELFMAG "\x02\x01\x01", 7);
	memset(image.code, 0xf4, sizeof(image.code));
	return image;
}

static int make_file(const void *data, size_t len)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_int_equal(write(fd, data, len), (ssize_t)len);
	return fd;
}

static int load(struct gmem *mem, const void *data, size_t len, int initrd_fd,
		struct boot_entry *entry, struct error *err)
{
	const struct boot_device device = {0xc0001000, 5};
	int fd = make_file(data, len);
	const struct boot_request request = {
		.mem = mem,
		.kernel_fd = fd,
		.initrd_fd = initrd_fd,
		.cmdline = "quiet",
		.vcpu_count = 2,
		.devices = &device,
		.device_count = 1,
	};
	int ret = boot_load(&request, entry, err);

	close(fd);
	return ret;
}

static uint32_t get32(const struct gmem *mem, uint64_t gpa)
{
	le32 value = {0};

	assert_int_equal(gmem_read(mem, gpa, &value, sizeof(value)), 0);
	return le32_get(value);
}

static void test_ram_layout_splits_at_the_gap(void **state)
{
	struct gmem_range ranges[2];

	(void)state;
	assert_int_equal(boot_ram_layout(GIB(3), ranges), 1);
	assert_int_equal(boot_ram_layout(GIB(3) + 4096, ranges), 2);
	assert_int_equal(ranges[1].gpa, GIB(4));
	assert_int_equal(ranges[1].len, 4096);
	assert_int_equal(boot_ram_layout(0, ranges), -EINVAL);
	assert_int_equal(boot_ram_layout(4097, ranges), -EINVAL);
	assert_int_equal(boot_ram_layout(GIB(300), ranges), -EINVAL);
}

static void test_elf_without_note_gets_a_zero_page(void **state)
{
	struct image image = make_image(false);
	struct gmem *mem = make_memory();
	struct boot_entry entry;

	(void)state;
	assert_int_equal(load(mem, &image, sizeof(image), -1, &entry, NULL), 0);
	assert_int_equal(entry.protocol, BOOT_LINUX64);
	assert_int_equal(entry.rip, 0x100010);
	assert_int_equal(get32(mem, 0x100000), 0xf4f4f4f4);
	assert_int_equal(get32(mem, 0x7000 + 0x202), 0x53726448);
	assert_int_equal(get32(mem, 0x7000 + 0x228), 0x20000);
	assert_int_equal(get32(mem, 0x7000 + 0x070), 0xe0000);
	assert_int_equal(get32(mem, 0x7000 + 0x1e8) & 0xff, 4);
	assert_int_equal(get32(mem, 0x9000), 0xa003);
	assert_int_equal(get32(mem, 0xb008), 0x200083);
	gmem_destroy(mem);
}

static void test_elf_with_note_gets_a_start_info(void **state)
{
	struct image image = make_image(true);
	struct gmem *mem = make_memory();
	struct boot_entry entry;

	(void)state;
	assert_int_equal(load(mem, &image, sizeof(image), -1, &entry, NULL), 0);
	assert_int_equal(entry.protocol, BOOT_PVH);
	assert_int_equal(entry.rip, 0x100020);
	assert_int_equal(get32(mem, 0x6000), 0x336ec578);
	assert_int_equal(get32(mem, 0x6000 + 12), 0); /* modules */
	gmem_destroy(mem);
}

static void test_pages_of_the_generation_are_left_alone(void **state)
{
	static const uint64_t pages[] = {MEMMAP_VMGENID, MEMMAP_VMCLOCK};
	struct image image = make_image(true);
	struct gmem *mem = make_memory();
	uint8_t before[PAGE_SIZE_4K], after[PAGE_SIZE_4K];
	struct boot_entry entry;

	(void)state;
	memset(before, 0xa5, sizeof(before));
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		assert_int_equal(
			gmem_write(mem, pages[i], before, sizeof(before)), 0);
	assert_int_equal(load(mem, &image, sizeof(image), -1, &entry, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		assert_int_equal(gmem_read(mem, pages[i], after, sizeof(after)),
				 0);
		assert_memory_equal(before, after, sizeof(after));
	}
	gmem_destroy(mem);
}

static void test_initrd_lies_at_the_top(void **state)
{
	struct image image = make_image(true);
	struct gmem *mem = make_memory();
	int initrd = make_file("initrd data", 11);
	struct boot_entry entry;

	(void)state;
	assert_int_equal(load(mem, &image, sizeof(image), initrd, &entry, NULL),
			 0);
	assert_int_equal(get32(mem, 0x6000 + 12), 1);
	assert_int_equal(get32(mem, 0x6040), MEM_SIZE - 4096);
	assert_int_equal(get32(mem, 0x6048), 11);
	assert_int_equal(get32(mem, MEM_SIZE - 4096), 0x74696e69); /* init */
	close(initrd);
	gmem_destroy(mem);
}

static void test_bad_initrd_is_refused(void **state)
{
	struct image image = make_image(true);
	struct gmem *mem = make_memory();
	int initrd = memfd_create("initrd", MFD_CLOEXEC);
	static const off_t sizes[] = {0, MEM_SIZE, MEM_SIZE + 1, MIB(7)};
	struct boot_entry entry;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct error err = {0};

		assert_int_equal(ftruncate(initrd, sizes[i]), 0);
		assert_true(load(mem, &image, sizeof(image), initrd, &entry,
				 &err) < 0);
		assert_non_null(strstr(err.text, "initrd"));
	}
	close(initrd);
	gmem_destroy(mem);
}

static void test_bad_elf_files_are_refused(void **state)
{
	struct gmem *mem = make_memory();
	struct boot_entry entry;

	(void)state;
	for (int i = 0; i < 13; i++) {
		struct image image = make_image(true);
		struct error err = {0};

		switch (i) {
		case 0:
			image.header.e_machine = EM_ARM;
			break;
		case 1:
			image.header.e_phnum = 0;
			break;
		case 2:
			image.header.e_phnum = 65535;
			break;
		case 3:
			image.header.e_phoff = UINT64_MAX;
			break;
		case 4:
			image.load.p_paddr = 0xfffff;
			break;
		case 5:
			image.load.p_paddr = MEM_SIZE - 4095;
			break;
		case 6:
			image.load.p_paddr = UINT64_MAX - 10;
			break;
		case 7:
			image.load.p_memsz = UINT64_MAX;
			break;
		case 8:
			image.load.p_filesz = 8192;
			break;
		case 9:
			image.load.p_offset = UINT64_MAX - 5;
			break;
		case 10:
			image.pvh.entry = 0x200000;
			break;
		case 11:
			image.note.p_filesz = UINT32_MAX;
			break;
		default:
			image.header.e_ident[EI_CLASS] = ELFCLASS32;
			break;
		}
		assert_true(load(mem, &image, sizeof(image), -1, &entry, &err) <
			    0);
		assert_non_null(strstr(err.text, "kernel image"));
	}
	gmem_destroy(mem);
}

static void test_every_truncation_is_refused(void **state)
{
	struct image image = make_image(true);
	struct gmem *mem = make_memory();
	struct boot_entry entry;

	(void)state;
	for (size_t len = 0; len < offsetof(struct image, code) + 64; len++)
		assert_true(load(mem, &image, len, -1, &entry, NULL) < 0);
	gmem_destroy(mem);
}

static uint8_t sum(const struct gmem *mem, uint64_t gpa, uint32_t len)
{
	uint8_t total = 0, byte;

	for (uint32_t i = 0; i < len; i++) {
		assert_int_equal(gmem_read(mem, gpa + i, &byte, 1), 0);
		total = (uint8_t)(total + byte);
	}
	return total;
}

static void test_acpi_tables_add_up(void **state)
{
	const struct boot_device devices[] = {{0xc0001000, 5}, {0xc0002000, 6}};
	struct gmem *mem = make_memory();
	uint64_t xsdt;

	(void)state;
	assert_int_equal(
		acpi_write_tables(mem, 0xa0000, 0xe0000, 32, devices, 2), 0);
	assert_int_equal(sum(mem, MEMMAP_RSDP, 20), 0);
	assert_int_equal(sum(mem, MEMMAP_RSDP, 36), 0);
	xsdt = get32(mem, MEMMAP_RSDP + 24);
	assert_int_equal(sum(mem, xsdt, get32(mem, xsdt + 4)), 0);
	for (uint64_t entry = xsdt + 36; entry < xsdt + 52; entry += 8) {
		uint64_t table = get32(mem, entry);

		assert_in_range(table, 0xa0000, 0xdffff);
		assert_int_equal(sum(mem, table, get32(mem, table + 4)), 0);
	}
	assert_int_equal(acpi_write_tables(mem, 0xdff00, 0xe0000, 1, NULL, 0),
			 -ENOSPC);
	assert_int_equal(acpi_write_tables(mem, 0xa0000, 0xe0000, 33, NULL, 0),
			 -ENOSPC);
	gmem_destroy(mem);
}

static void test_mp_table_adds_up(void **state)
{
	static const uint32_t counts[] = {1, 2, 32};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct gmem *mem = make_memory();
		uint32_t len;

		assert_int_equal(mptable_write(mem, 0x9fc00, counts[i]), 0);
		assert_int_equal(get32(mem, 0x9fc00), 0x5f504d5f); /* _MP_ */
		assert_int_equal(sum(mem, 0x9fc00, 16), 0);
		len = get32(mem, 0x9fc14) & 0xffff;
		assert_int_equal(sum(mem, 0x9fc10, len), 0);
		assert_int_equal(len, 44 + counts[i] * 20 + 16 + 26 * 8);
		gmem_destroy(mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ram_layout_splits_at_the_gap),
		cmocka_unit_test(test_elf_without_note_gets_a_zero_page),
		cmocka_unit_test(test_elf_with_note_gets_a_start_info),
		cmocka_unit_test(test_pages_of_the_generation_are_left_alone),
		cmocka_unit_test(test_initrd_lies_at_the_top),
		cmocka_unit_test(test_bad_initrd_is_refused),
		cmocka_unit_test(test_bad_elf_files_are_refused),
		cmocka_unit_test(test_every_truncation_is_refused),
		cmocka_unit_test(test_acpi_tables_add_up),
		cmocka_unit_test(test_mp_table_adds_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
