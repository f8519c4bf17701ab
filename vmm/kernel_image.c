/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kernel_image.h"

#include "vmm/memmap_x86.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* More than any kernel has, few enough to read at once. */
#define PROGRAM_HEADERS_MAX 64
#define NOTES_SIZE_MAX 65536

#define NOTE_XEN_PHYS32_ENTRY 18

/* bzImage (Documentation: x86 boot protocol), offsets in the file. */
enum {
	SETUP_SECTS = 0x1f1,
	SETUP_SYSSIZE = 0x1f4,
	SETUP_BOOT_FLAG = 0x1fe,
	SETUP_JUMP_LEN = 0x201,
	SETUP_MAGIC = 0x202,
	SETUP_VERSION = 0x206,
	SETUP_LOADFLAGS = 0x211,
	SETUP_CODE32_START = 0x214,
	SETUP_XLOADFLAGS = 0x236,
	SETUP_INIT_SIZE = 0x260,
	SETUP_READ_LEN = 0x280,
};

#define SETUP_MAGIC_HDRS 0x53726448
#define SETUP_VERSION_MIN 0x020c
#define XLF_KERNEL_64 1
#define BOOT_FLAG 0xaa55
#define LOADED_HIGH 1
#define SYSSIZE_UNIT 16
#define SECTOR 512
#define ENTRY64_OFFSET 0x200

static int read_exact(int fd, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	if (off > INT64_MAX - len)
		return -ENODATA;
	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		to += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int bad(struct error *err, const char *what, uint64_t value)
{
	return error_set(err, EINVAL, "Invalid kernel image: %s (%#lx)", what,
			 (unsigned long)value);
}

static int read_failed(struct error *err, int ret, const char *what)
{
	if (ret == -ENODATA)
		return error_set(err, EINVAL,
				 "Invalid kernel image: the file ends within "
				 "%s",
				 what);
	return error_set_os(err, -ret,
			    "Cannot read the kernel image (%s):", what);
}

/* Loads a piece and says which one failed. */
static int load_piece(struct gmem *mem, uint64_t gpa, uint64_t len, int fd,
		      uint64_t off, const char *what, struct error *err)
{
	int ret = gmem_read_file(mem, gpa, len, fd, off);

	return ret ? read_failed(err, ret, what) : 0;
}

/* --------------------------------------------------------------------- ELF */

struct elf {
	Elf64_Ehdr header;
	Elf64_Phdr segments[PROGRAM_HEADERS_MAX];
};

static int read_elf(int fd, struct elf *elf, struct error *err)
{
	const Elf64_Ehdr *header = &elf->header;
	int ret = read_exact(fd, 0, &elf->header, sizeof(elf->header));

	if (ret)
		return read_failed(err, ret, "the ELF header");
	if (header->e_ident[EI_CLASS] != ELFCLASS64 ||
	    header->e_ident[EI_DATA] != ELFDATA2LSB)
		return bad(err, "not a 64-bit little-endian ELF file",
			   header->e_ident[EI_CLASS]);
	if (header->e_machine != EM_X86_64)
		return bad(err, "not for x86_64", header->e_machine);
	if (header->e_phentsize != sizeof(Elf64_Phdr))
		return bad(err, "program headers of unknown size",
			   header->e_phentsize);
	if (header->e_phnum == 0 || header->e_phnum > PROGRAM_HEADERS_MAX)
		return bad(err, "number of program headers", header->e_phnum);
	ret = read_exact(fd, header->e_phoff, elf->segments,
			 header->e_phnum * sizeof(Elf64_Phdr));
	return ret ? read_failed(err, ret, "the program headers") : 0;
}

static int check_segment(const struct gmem *mem, const Elf64_Phdr *segment,
			 struct error *err)
{
	if (segment->p_filesz > segment->p_memsz)
		return bad(err, "segment larger in the file than in memory",
			   segment->p_filesz);
	if (segment->p_paddr < MEMMAP_KERNEL)
		return bad(err, "segment below 1 MiB", segment->p_paddr);
	if (!gmem_contains(mem, segment->p_paddr, segment->p_memsz))
		return bad(err, "segment outside guest memory",
			   segment->p_paddr);
	return 0;
}

static bool is_loaded(const Elf64_Phdr *segment)
{
	return segment->p_type == PT_LOAD && segment->p_memsz > 0;
}

/* Both are known to be in memory, so their ends do not overflow. */
static bool overlap(const Elf64_Phdr *a, const Elf64_Phdr *b)
{
	return a->p_paddr < b->p_paddr + b->p_memsz &&
	       b->p_paddr < a->p_paddr + a->p_memsz;
}

static int check_segments(const struct gmem *mem, const struct elf *elf,
			  struct error *err)
{
	size_t loaded = 0;

	for (size_t i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];
		int ret;

		if (!is_loaded(segment))
			continue;
		loaded++;
		ret = check_segment(mem, segment, err);
		if (ret)
			return ret;
		for (size_t j = 0; j < i; j++)
			if (is_loaded(&elf->segments[j]) &&
			    overlap(segment, &elf->segments[j]))
				return bad(err, "segments overlap",
					   segment->p_paddr);
	}
	return loaded ? 0 : bad(err, "nothing to load", 0);
}

static int load_segments(struct gmem *mem, int fd, const struct elf *elf,
			 uint64_t *ret_end, struct error *err)
{
	uint64_t end = 0;

	for (size_t i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];
		int ret;

		if (!is_loaded(segment))
			continue;
		ret = load_piece(mem, segment->p_paddr, segment->p_filesz, fd,
				 segment->p_offset, "a segment", err);
		if (ret)
			return ret;
		/* Guest memory starts as zeroes: bss needs no clearing. */
		end = MAX(end, segment->p_paddr + segment->p_memsz);
	}
	*ret_end = end;
	return 0;
}

static bool in_segments(const struct elf *elf, uint64_t address)
{
	for (size_t i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];

		if (is_loaded(segment) && address >= segment->p_paddr &&
		    address - segment->p_paddr < segment->p_memsz)
			return true;
	}
	return false;
}

/* Looks through the notes of one segment; the entry point, or 0. */
static uint64_t find_pvh_note(const uint8_t *notes, size_t len)
{
	static const char owner[] = "Xen";

	while (len >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		size_t name_len, desc_len, total;
		uint32_t entry;

		memcpy(&note, notes, sizeof(note));
		name_len = ALIGN_UP((size_t)note.n_namesz, 4);
		desc_len = ALIGN_UP((size_t)note.n_descsz, 4);
		total = sizeof(note) + name_len + desc_len;
		if (total > len)
			return 0;
		if (note.n_type == NOTE_XEN_PHYS32_ENTRY &&
		    note.n_namesz == sizeof(owner) &&
		    note.n_descsz >= sizeof(entry) &&
		    memcmp(notes + sizeof(note), owner, sizeof(owner)) == 0) {
			memcpy(&entry, notes + sizeof(note) + name_len,
			       sizeof(entry));
			return entry;
		}
		notes += total;
		len -= total;
	}
	return 0;
}

static int find_pvh_entry(int fd, const struct elf *elf, uint64_t *ret_entry,
			  struct error *err)
{
	*ret_entry = 0;
	for (size_t i = 0; i < elf->header.e_phnum && !*ret_entry; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];
		AUTO_FREE uint8_t *notes = NULL;
		int ret;

		if (segment->p_type != PT_NOTE || segment->p_filesz == 0)
			continue;
		if (segment->p_filesz > NOTES_SIZE_MAX)
			return bad(err, "size of a note segment",
				   segment->p_filesz);
		notes = malloc(segment->p_filesz);
		if (!notes)
			return error_set_os(err, ENOMEM, "Cannot read notes:");
		ret = read_exact(fd, segment->p_offset, notes,
				 segment->p_filesz);
		if (ret)
			return read_failed(err, ret, "a note segment");
		*ret_entry = find_pvh_note(notes, segment->p_filesz);
	}
	return 0;
}

static int load_elf(struct gmem *mem, int fd, struct kernel_image *image,
		    struct error *err)
{
	struct elf elf;
	uint64_t pvh_entry = 0;
	int ret = read_elf(fd, &elf, err);

	if (!ret)
		ret = check_segments(mem, &elf, err);
	if (!ret)
		ret = find_pvh_entry(fd, &elf, &pvh_entry, err);
	if (ret)
		return ret;
	image->entry.protocol = pvh_entry ? BOOT_PVH : BOOT_LINUX64;
	image->entry.rip = pvh_entry ? pvh_entry : elf.header.e_entry;
	if (!in_segments(&elf, image->entry.rip))
		return bad(err, "entry point outside every segment",
			   image->entry.rip);
	return load_segments(mem, fd, &elf, &image->end, err);
}

/* ----------------------------------------------------------------- bzImage */

static uint16_t get16(const uint8_t *setup, size_t off)
{
	le16 value;

	memcpy(&value, setup + off, sizeof(value));
	return le16_get(value);
}

static uint32_t get32(const uint8_t *setup, size_t off)
{
	le32 value;

	memcpy(&value, setup + off, sizeof(value));
	return le32_get(value);
}

static int check_setup(const uint8_t *setup, struct error *err)
{
	if (get16(setup, SETUP_BOOT_FLAG) != BOOT_FLAG)
		return bad(err, "neither ELF nor bzImage",
			   get16(setup, SETUP_BOOT_FLAG));
	if (get32(setup, SETUP_MAGIC) != SETUP_MAGIC_HDRS)
		return bad(err, "neither ELF nor bzImage",
			   get32(setup, SETUP_MAGIC));
	if (get16(setup, SETUP_VERSION) < SETUP_VERSION_MIN ||
	    !(get16(setup, SETUP_XLOADFLAGS) & XLF_KERNEL_64))
		return error_set(err, EINVAL,
				 "bzImage does not provide a 64-bit entry "
				 "point");
	if (!(setup[SETUP_LOADFLAGS] & LOADED_HIGH))
		return bad(err, "a zImage, not a bzImage",
			   setup[SETUP_LOADFLAGS]);
	return 0;
}

/* The header ends where the jump at its start leads to. */
static void keep_setup_header(struct kernel_image *image, const uint8_t *setup)
{
	size_t end = SETUP_MAGIC + (size_t)setup[SETUP_JUMP_LEN];

	image->setup_header_len =
		MIN(end - SETUP_SECTS, (size_t)SETUP_HEADER_MAX);
	memcpy(image->setup_header, setup + SETUP_SECTS,
	       image->setup_header_len);
}

static int load_bzimage(struct gmem *mem, int fd, uint64_t file_size,
			struct kernel_image *image, struct error *err)
{
	uint8_t setup[SETUP_READ_LEN];
	uint64_t start, code_off, code_len, room;
	int ret = read_exact(fd, 0, setup, sizeof(setup));

	if (ret)
		return read_failed(err, ret, "the setup header");
	ret = check_setup(setup, err);
	if (ret)
		return ret;
	/* Zero means four, for the sake of very old kernels. */
	code_off =
		((setup[SETUP_SECTS] ? setup[SETUP_SECTS] : 4u) + 1u) * SECTOR;
	if (code_off + ENTRY64_OFFSET >= file_size)
		return bad(err, "no code behind the setup sectors", code_off);
	code_len = file_size - code_off;
	if (code_len / SYSSIZE_UNIT < get32(setup, SETUP_SYSSIZE))
		return bad(err, "the file ends within the code", code_len);
	start = get32(setup, SETUP_CODE32_START);
	if (start < MEMMAP_KERNEL)
		return bad(err, "code32_start below 1 MiB", start);
	/* The kernel unpacks itself within init_size bytes. */
	room = MAX(code_len, (uint64_t)get32(setup, SETUP_INIT_SIZE));
	if (!gmem_contains(mem, start, room))
		return bad(err, "does not fit into guest memory", start + room);
	ret = load_piece(mem, start, code_len, fd, code_off, "the code", err);
	if (ret)
		return ret;
	keep_setup_header(image, setup);
	image->entry = (struct boot_entry){
		.protocol = BOOT_LINUX64,
		.bzimage = true,
		.rip = start + ENTRY64_OFFSET,
	};
	image->end = start + room;
	return 0;
}

int kernel_image_load(struct gmem *mem, int fd, struct kernel_image *ret_image,
		      struct error *err)
{
	struct kernel_image image = {0};
	uint8_t magic[SELFMAG];
	struct stat st;
	int ret;

	if (fstat(fd, &st))
		return error_set_os(err, errno,
				    "Cannot read the kernel image:");
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL,
				 "Invalid kernel image: not a regular file");
	ret = read_exact(fd, 0, magic, sizeof(magic));
	if (ret)
		return read_failed(err, ret, "the first bytes");
	if (memcmp(magic, ELFMAG, SELFMAG) == 0)
		ret = load_elf(mem, fd, &image, err);
	else
		ret = load_bzimage(mem, fd, (uint64_t)st.st_size, &image, err);
	if (!ret)
		*ret_image = image;
	return ret;
}
