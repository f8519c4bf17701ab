/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_x86.h"

#include "vmm/acpi.h"
#include "vmm/kernel_image.h"
#include "vmm/log.h"
#include "vmm/memmap_x86.h"
#include "vmm/mptable.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* The MP table has the first KiB of the system area, the devices that announce
 * a new generation the last two pages, ACPI what is in between. */
#define ACPI_TABLES (MEMMAP_SYSTEM + KIB(1))
#define ACPI_TABLES_END MEMMAP_VMGENID

enum {
	E820_RAM = 1,
	E820_RESERVED = 2,
};

struct memory_map_entry {
	uint64_t start, len;
	uint32_t type;
};

#define MEMORY_MAP_MAX (GMEM_REGIONS_MAX + 3)

struct memory_map {
	size_t count;
	struct memory_map_entry entries[MEMORY_MAP_MAX];
};

struct initrd {
	uint64_t gpa;
	uint64_t len; /* 0: none */
};

/* -------------------------------------------------------------- memory map */

int boot_ram_layout(uint64_t size, struct gmem_range ranges[2])
{
	uint64_t high;

	if (size == 0 || size % PAGE_SIZE_4K)
		return -EINVAL;
	ranges[0] = (struct gmem_range){0, MIN(size, MEMMAP_LOW_RAM_END)};
	if (size <= MEMMAP_LOW_RAM_END)
		return 1;
	high = size - MEMMAP_LOW_RAM_END;
	if (high > MEMMAP_HIGH_RAM_END - MEMMAP_HIGH_RAM)
		return -EINVAL;
	ranges[1] = (struct gmem_range){MEMMAP_HIGH_RAM, high};
	return 2;
}

static void add_entry(struct memory_map *map, uint64_t start, uint64_t end,
		      uint32_t type)
{
	map->entries[map->count++] =
		(struct memory_map_entry){start, end - start, type};
}

/* What the kernel may use as RAM and what it must leave alone. */
static void make_memory_map(const struct gmem *mem, struct memory_map *map)
{
	map->count = 0;
	add_entry(map, 0, MEMMAP_SYSTEM, E820_RAM);
	add_entry(map, MEMMAP_SYSTEM, MEMMAP_SYSTEM_END, E820_RESERVED);
	add_entry(map, MEMMAP_PCI_MMCONFIG,
		  MEMMAP_PCI_MMCONFIG + MEMMAP_PCI_MMCONFIG_LEN, E820_RESERVED);
	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);
		uint64_t start = MAX(region->gpa, MEMMAP_KERNEL);

		/* Pluggable memory is the driver's business (5.15). */
		if (!region->blocks && region->gpa + region->len > start)
			add_entry(map, start, region->gpa + region->len,
				  E820_RAM);
	}
}

/* ------------------------------------------------------------------ initrd */

static int load_initrd(struct gmem *mem, int fd, uint64_t kernel_end,
		       struct initrd *ret_initrd, struct error *err)
{
	const struct gmem_region *low = gmem_region(mem, 0);
	uint64_t gpa, len;
	struct stat st;
	int ret;

	*ret_initrd = (struct initrd){0};
	if (fd < 0)
		return 0;
	if (fstat(fd, &st))
		return error_set_os(err, errno, "Cannot read the initrd:");
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return error_set(err, EINVAL,
				 "Invalid initrd: not a regular file with "
				 "something in it");
	len = (uint64_t)st.st_size;
	if (len > low->len)
		return error_set(err, ENOMEM,
				 "The initrd (%lu bytes) is larger than guest "
				 "memory",
				 (unsigned long)len);
	gpa = ALIGN_DOWN(low->len - len, PAGE_SIZE_4K);
	if (gpa < MAX(kernel_end, MEMMAP_KERNEL))
		return error_set(err, ENOMEM,
				 "The initrd (%lu bytes) does not fit behind "
				 "the kernel, which ends at %#lx",
				 (unsigned long)len, (unsigned long)kernel_end);
	ret = gmem_read_file(mem, gpa, len, fd, 0);
	if (ret)
		return error_set_os(err, -ret, "Cannot read the initrd:");
	*ret_initrd = (struct initrd){gpa, len};
	return 0;
}

/* ---------------------------------------------- Linux 64-bit boot protocol */

/* Fields of struct boot_params, the "zero page" (Linux: zero-page.rst). */
enum {
	ZERO_ACPI_RSDP = 0x070,
	ZERO_E820_COUNT = 0x1e8,
	ZERO_SETUP_HEADER = 0x1f1,
	ZERO_BOOT_FLAG = 0x1fe,
	ZERO_HEADER_MAGIC = 0x202,
	ZERO_LOADER_TYPE = 0x210,
	ZERO_RAMDISK_IMAGE = 0x218,
	ZERO_RAMDISK_SIZE = 0x21c,
	ZERO_CMDLINE = 0x228,
	ZERO_KERNEL_ALIGNMENT = 0x230,
	ZERO_CMDLINE_SIZE = 0x238,
	ZERO_E820_TABLE = 0x2d0,
	ZERO_SIZE = 0x1000,
};

#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448
#define LOADER_UNDEFINED 0xff
#define KERNEL_ALIGNMENT 0x1000000

static void set8(uint8_t *page, size_t off, uint8_t value)
{
	page[off] = value;
}

static void set16(uint8_t *page, size_t off, uint16_t value)
{
	le16 le = le16_make(value);

	memcpy(page + off, &le, sizeof(le));
}

static void set32(uint8_t *page, size_t off, uint32_t value)
{
	le32 le = le32_make(value);

	memcpy(page + off, &le, sizeof(le));
}

static void set64(uint8_t *page, size_t off, uint64_t value)
{
	le64 le = le64_make(value);

	memcpy(page + off, &le, sizeof(le));
}

static void set_e820(uint8_t *page, const struct memory_map *map)
{
	enum { ENTRY_SIZE = 20 };

	set8(page, ZERO_E820_COUNT, (uint8_t)map->count);
	for (size_t i = 0; i < map->count; i++) {
		size_t off = ZERO_E820_TABLE + i * ENTRY_SIZE;

		set64(page, off, map->entries[i].start);
		set64(page, off + 8, map->entries[i].len);
		set32(page, off + 16, map->entries[i].type);
	}
}

static int write_zero_page(struct gmem *mem, const struct kernel_image *image,
			   const struct initrd *initrd, size_t cmdline_len)
{
	uint8_t page[ZERO_SIZE] = {0};
	struct memory_map map;

	/* A bzImage brings its own header; for an ELF one is made up. */
	if (image->entry.bzimage)
		memcpy(page + ZERO_SETUP_HEADER, image->setup_header,
		       image->setup_header_len);
	else
		set32(page, ZERO_KERNEL_ALIGNMENT, KERNEL_ALIGNMENT);
	set16(page, ZERO_BOOT_FLAG, BOOT_FLAG);
	set32(page, ZERO_HEADER_MAGIC, HEADER_MAGIC);
	set8(page, ZERO_LOADER_TYPE, LOADER_UNDEFINED);
	set32(page, ZERO_CMDLINE, (uint32_t)MEMMAP_CMDLINE);
	set32(page, ZERO_CMDLINE_SIZE, (uint32_t)cmdline_len);
	set32(page, ZERO_RAMDISK_IMAGE, (uint32_t)initrd->gpa);
	set32(page, ZERO_RAMDISK_SIZE, (uint32_t)initrd->len);
	set64(page, ZERO_ACPI_RSDP, MEMMAP_RSDP);
	make_memory_map(mem, &map);
	set_e820(page, &map);
	return gmem_write(mem, MEMMAP_ZERO_PAGE, page, sizeof(page));
}

/* The first GiB, mapped one to one with 2 MiB pages. */
static int write_page_tables(struct gmem *mem)
{
	enum { PRESENT = 1, WRITABLE = 2, LARGE = 0x80, ENTRIES = 512 };
	le64 pml4 = le64_make(MEMMAP_PDPT | PRESENT | WRITABLE);
	le64 pdpt = le64_make(MEMMAP_PD | PRESENT | WRITABLE);
	le64 pd[ENTRIES];
	int ret;

	for (size_t i = 0; i < ENTRIES; i++)
		pd[i] = le64_make(MIB(2) * i | PRESENT | WRITABLE | LARGE);
	ret = gmem_write(mem, MEMMAP_PML4, &pml4, sizeof(pml4));
	if (!ret)
		ret = gmem_write(mem, MEMMAP_PDPT, &pdpt, sizeof(pdpt));
	return ret ? ret : gmem_write(mem, MEMMAP_PD, pd, sizeof(pd));
}

/* ------------------------------------------------------------ PVH protocol */

/* Xen's include/public/arch-x86/hvm/start_info.h, version 1. */
struct pvh_start_info {
	le32 magic, version, flags, module_count;
	le64 modules, cmdline, rsdp, memory_map;
	le32 memory_map_count, reserved;
};

struct pvh_module {
	le64 start, size, cmdline, reserved;
};

struct pvh_memory_map_entry {
	le64 start, size;
	le32 type, reserved;
};

#define PVH_MAGIC 0x336ec578

static int write_pvh_memory_map(struct gmem *mem, const struct memory_map *map)
{
	struct pvh_memory_map_entry entries[MEMORY_MAP_MAX] = {0};

	for (size_t i = 0; i < map->count; i++) {
		entries[i].start = le64_make(map->entries[i].start);
		entries[i].size = le64_make(map->entries[i].len);
		entries[i].type = le32_make(map->entries[i].type);
	}
	return gmem_write(mem, MEMMAP_PVH_MEMMAP, entries,
			  map->count * sizeof(entries[0]));
}

static int write_start_info(struct gmem *mem, const struct initrd *initrd)
{
	struct memory_map map;
	const struct pvh_module module = {
		.start = le64_make(initrd->gpa),
		.size = le64_make(initrd->len),
	};
	struct pvh_start_info info = {
		.magic = le32_make(PVH_MAGIC),
		.version = le32_make(1),
		.cmdline = le64_make(MEMMAP_CMDLINE),
		/* A kernel that takes the pointer need not scan for it. */
		.rsdp = le64_make(MEMMAP_RSDP),
		.memory_map = le64_make(MEMMAP_PVH_MEMMAP),
	};
	int ret;

	make_memory_map(mem, &map);
	info.memory_map_count = le32_make((uint32_t)map.count);
	if (initrd->len) {
		info.module_count = le32_make(1);
		info.modules = le64_make(MEMMAP_PVH_MODULES);
		ret = gmem_write(mem, MEMMAP_PVH_MODULES, &module,
				 sizeof(module));
		if (ret)
			return ret;
	}
	ret = write_pvh_memory_map(mem, &map);
	return ret ? ret
		   : gmem_write(mem, MEMMAP_PVH_INFO, &info, sizeof(info));
}

/* --------------------------------------------------------------- all of it */

/* Null, code, data and task state, as vcpu_x86.c loads them into segments. */
static int write_descriptor_tables(struct gmem *mem,
				   enum boot_protocol protocol)
{
	static const uint64_t gdts[][4] = {
		[BOOT_LINUX64] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff,
				  0x008f8b000000ffff},
		[BOOT_PVH] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
			      0x00008b0000000067},
	};
	int ret = gmem_write(mem, MEMMAP_BOOT_GDT, gdts[protocol],
			     sizeof(gdts[protocol]));

	return ret ? ret : gmem_zero(mem, MEMMAP_BOOT_IDT, sizeof(uint64_t));
}

/*
 * Kernels that know no better way to reset jump through the firmware, and there
 * is none. So code stands where it would be entered, in real mode: ask the
 * keyboard controller for a reset, and halt until it happened.
 */
static int write_reset_vector(struct gmem *mem)
{
	static const uint8_t code[] = {
		0xb0, 0xfe, /* mov al, 0xfe */
		0xe6, 0x64, /* out 0x64, al */
		0xf4,	    /* 1: hlt */
		0xeb, 0xfd, /* jmp 1b */
	};

	return gmem_write(mem, MEMMAP_RESET_VECTOR, code, sizeof(code));
}

static int write_tables(const struct boot_request *request,
			const struct kernel_image *image,
			const struct initrd *initrd)
{
	struct gmem *mem = request->mem;
	size_t cmdline_len = strlen(request->cmdline);
	int ret = gmem_write(mem, MEMMAP_CMDLINE, request->cmdline,
			     cmdline_len + 1);

	if (!ret)
		ret = write_reset_vector(mem);
	if (!ret)
		ret = mptable_write(mem, MEMMAP_SYSTEM, request->vcpu_count);
	if (!ret)
		ret = acpi_write_tables(mem, ACPI_TABLES, ACPI_TABLES_END,
					request->vcpu_count, request->devices,
					request->device_count);
	if (!ret)
		ret = write_descriptor_tables(mem, image->entry.protocol);
	if (ret || image->entry.protocol == BOOT_PVH)
		return ret ? ret : write_start_info(mem, initrd);
	ret = write_zero_page(mem, image, initrd, cmdline_len);
	return ret ? ret : write_page_tables(mem);
}

static void log_protocol(const struct boot_entry *entry)
{
	if (entry->protocol == BOOT_PVH)
		log_debug("Kernel loaded using PVH boot protocol");
	else
		log_debug("Kernel loaded using Linux 64-bit boot protocol%s",
			  entry->bzimage ? " (bzImage)" : "");
}

int boot_load(const struct boot_request *request, struct boot_entry *ret_entry,
	      struct error *err)
{
	struct kernel_image image;
	struct initrd initrd;
	int ret = kernel_image_load(request->mem, request->kernel_fd, &image,
				    err);

	if (ret)
		return ret;
	ret = load_initrd(request->mem, request->initrd_fd, image.end, &initrd,
			  err);
	if (ret)
		return ret;
	ret = write_tables(request, &image, &initrd);
	if (ret)
		return error_set(err, -ret,
				 "Guest memory is too small for boot tables");
	log_protocol(&image.entry);
	*ret_entry = image.entry;
	return 0;
}
