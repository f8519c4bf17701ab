/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Two sets of pages are made: `ours`, whose bytes are read from the mapping,
 * and `others`, which are wanted too, but are nowhere in our page tables: they
 * come from the file below, or are zero. Runs of a set are contiguous in the
 * file, and in memory within a region, so that a run is one write.
 *
 * What the guest gave back and has not used since is `ours` too, but known to
 * be zero: to read it would only give it memory again.
 */
#include "snapshot/memory_file.h"

#include "snapshot/in_place.h"
#include "snapshot/page_set.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#define WHAT "memory backing file"

/* Private runs shorter than that are copied along and written over: cheaper
 * than two copies around them. */
#define COPY_AROUND_PAGES 256

/* Fewer zeros are cheaper to write than to punch out. */
#define PUNCH_MIN KIB(64)

/* Beside the pages: for the mark, and what the file system itself needs. */
#define ROOM_TO_SPARE MIB(1)

#define COPY_BUFFER KIB(256)
#define ZERO_PIECES 64

enum zero_pages {
	ZEROS_ARE_THERE, /* a new file: leave the hole */
	ZEROS_PUNCHED,	 /* over older bytes */
	ZEROS_WRITTEN,	 /* a diff: they must be data */
};

struct image {
	struct gmem *mem;
	int fd;
	int base;	  /* the memory file below; -1: none, or @fd itself */
	bool is_own_base; /* @fd is the file that the microVM runs on */
	enum zero_pages zeros;
	uint64_t *ours, *others;
	uint64_t *blank; /* of ours: known to be zero; NULL: none */
	struct memory_file_stats stats;
};

typedef int run_fn(struct image *image, uint64_t off, uint64_t len);

static void count(struct image *image, uint64_t bytes)
{
	image->stats.bytes_written += bytes;
	image->stats.pages_written = image->stats.bytes_written / PAGE_SIZE_4K;
}

/* ------------------------------------------------------------ into the file */

static int put_bytes(struct image *image, const uint8_t *from, uint64_t off,
		     uint64_t len)
{
	count(image, len);
	while (len > 0) {
		ssize_t n = pwrite(image->fd, from, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int put_zeros(struct image *image, uint64_t off, uint64_t len)
{
	uint8_t zeros[PAGE_SIZE_4K] = {0};
	struct iovec iov[ZERO_PIECES];

	for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){zeros, sizeof(zeros)};
	count(image, len);
	while (len > 0) {
		/* A short write may have left less than a page. */
		size_t pieces = MIN(len / sizeof(zeros), ZERO_PIECES);
		ssize_t n = pieces ? pwritev(image->fd, iov, (int)pieces,
					     (off_t)off)
				   : pwrite(image->fd, zeros, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int clear(struct image *image, uint64_t off, uint64_t len)
{
	off_t data;

	if (image->zeros == ZEROS_ARE_THERE)
		return 0;
	if (image->zeros == ZEROS_WRITTEN)
		return put_zeros(image, off, len);
	data = lseek(image->fd, (off_t)off, SEEK_DATA);
	if ((data < 0 && errno == ENXIO) || data >= (off_t)(off + len))
		return 0;
	if (len >= PUNCH_MIN &&
	    !fallocate(image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)off, (off_t)len))
		return 0;
	return put_zeros(image, off, len);
}

static int copy_through(struct image *image, uint8_t *buffer, uint64_t off,
			uint64_t len)
{
	while (len > 0) {
		ssize_t n = pread(image->base, buffer, MIN(len, COPY_BUFFER),
				  (off_t)off);
		int ret;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		ret = put_bytes(image, buffer, off, (uint64_t)n);
		if (ret)
			return ret;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int copy_by_hand(struct image *image, uint64_t off, uint64_t len)
{
	uint8_t *buffer = malloc(COPY_BUFFER);
	int ret = buffer ? copy_through(image, buffer, off, len) : -ENOMEM;

	free(buffer);
	return ret;
}

/* A reflink where the file system can, a copy in the kernel where it cannot,
 * and by hand from one file system to another. */
static int copy_from_base(struct image *image, uint64_t off, uint64_t len)
{
	loff_t from = (loff_t)off, to = (loff_t)off;
	const loff_t end = (loff_t)(off + len);

	while (to < end) {
		ssize_t n = copy_file_range(image->base, &from, image->fd, &to,
					    (size_t)(end - to), 0);

		if (n > 0)
			count(image, (uint64_t)n);
		else if (n == 0 || errno != EINTR)
			return copy_by_hand(image, (uint64_t)to,
					    (uint64_t)(end - to));
	}
	return 0;
}

/* The same, but holes stay holes. */
static int copy_data(struct image *image, uint64_t off, uint64_t len)
{
	const off_t end = (off_t)(off + len);
	off_t data = len ? lseek(image->base, (off_t)off, SEEK_DATA) : end;

	while (data >= 0 && data < end) {
		off_t hole = lseek(image->base, data, SEEK_HOLE);
		int ret;

		if (hole < 0)
			return -errno;
		hole = MIN(hole, end);
		ret = copy_from_base(image, (uint64_t)data,
				     (uint64_t)(hole - data));
		if (ret)
			return ret;
		data = lseek(image->base, hole, SEEK_DATA);
	}
	return data < 0 && errno != ENXIO ? -errno : 0;
}

/* ------------------------------------------------------------------- pages */

static bool is_zero(const uint8_t *page)
{
	uint64_t first;

	memcpy(&first, page, sizeof(first));
	return first == 0 && memcmp(page, page + 8, PAGE_SIZE_4K - 8) == 0;
}

/* Bytes of the pages at @bytes that are all zero, or all are not. */
static uint64_t same_kind(const uint8_t *bytes, uint64_t len, bool zero)
{
	uint64_t n = PAGE_SIZE_4K;

	while (n < len && is_zero(bytes + n) == zero)
		n += PAGE_SIZE_4K;
	return n;
}

/* What stands at @off of the file: at least one byte, within one region. */
static const uint8_t *bytes_at(const struct gmem *mem, uint64_t off,
			       uint64_t *ret_len)
{
	size_t i = 0;
	const struct gmem_region *region = gmem_region(mem, 0);

	while (off - region->fd_off >= region->len)
		region = gmem_region(mem, ++i);
	*ret_len = region->len - (off - region->fd_off);
	return region->hva + (off - region->fd_off);
}

static int put_piece(struct image *image, const uint8_t *from, uint64_t off,
		     uint64_t len)
{
	if (image->zeros == ZEROS_WRITTEN)
		return put_bytes(image, from, off, len);
	while (len > 0) {
		bool zero = is_zero(from);
		uint64_t n = same_kind(from, len, zero);
		int ret = zero ? clear(image, off, n)
			       : put_bytes(image, from, off, n);

		if (ret)
			return ret;
		from += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int put_read(struct image *image, uint64_t off, uint64_t len)
{
	while (len > 0) {
		uint64_t n;
		const uint8_t *from = bytes_at(image->mem, off, &n);
		int ret;

		n = MIN(n, len);
		ret = put_piece(image, from, off, n);
		if (ret)
			return ret;
		off += n;
		len -= n;
	}
	return 0;
}

/* What is read, and what need not be, in turns. */
static int put_ours(struct image *image, uint64_t off, uint64_t len)
{
	const uint64_t end = off + len;

	while (image->blank && off < end) {
		uint64_t first = off / PAGE_SIZE_4K, n = 0, start = end;
		int ret;

		if (page_set_next(image->blank, end / PAGE_SIZE_4K, &first, &n))
			start = first * PAGE_SIZE_4K;
		ret = put_read(image, off, start - off);
		off = start + n * PAGE_SIZE_4K;
		if (!ret && n)
			ret = clear(image, start, n * PAGE_SIZE_4K);
		if (ret)
			return ret;
	}
	return image->blank ? 0 : put_read(image, off, len);
}

static int put_others(struct image *image, uint64_t off, uint64_t len)
{
	if (image->is_own_base)
		return 0;
	return image->base >= 0 ? copy_from_base(image, off, len)
				: clear(image, off, len);
}

static int for_each_run(struct image *image, const uint64_t *set, run_fn *fn)
{
	const uint64_t pages = page_set_pages(image->mem);
	uint64_t first = 0, n;

	for (; page_set_next(set, pages, &first, &n); first += n) {
		int ret = fn(image, first * PAGE_SIZE_4K, n * PAGE_SIZE_4K);

		if (ret)
			return ret;
	}
	return 0;
}

/* All of the base but where a long run of our own pages will stand. */
static int copy_base(struct image *image)
{
	const uint64_t pages = page_set_pages(image->mem);
	uint64_t done = 0, first = 0, n;

	for (; page_set_next(image->ours, pages, &first, &n); first += n) {
		int ret;

		if (n < COPY_AROUND_PAGES)
			continue;
		ret = copy_data(image, done * PAGE_SIZE_4K,
				(first - done) * PAGE_SIZE_4K);
		if (ret)
			return ret;
		done = first + n;
	}
	return copy_data(image, done * PAGE_SIZE_4K,
			 (pages - done) * PAGE_SIZE_4K);
}

/* -------------------------------------------------------------- which ones */

/* Sets are mostly zeros that take no memory until they are written to: so it is
 * where a guest has much that is not plugged. */
static void set_word(uint64_t *word, uint64_t value)
{
	if (*word != value)
		*word = value;
}

static void split_dirty(struct image *image, const uint64_t *dirty)
{
	bool all_ours = gmem_backing(image->mem) == GMEM_UFFD;

	for (size_t i = 0; i < page_set_words(image->mem); i++) {
		uint64_t ours = all_ours ? dirty[i] : image->ours[i] & dirty[i];

		set_word(&image->ours[i], ours);
		set_word(&image->others[i], dirty[i] & ~ours);
	}
}

/* With a page-fault handler what is not there may be wanted, and a memfd of
 * huge pages is data as a whole: elsewhere `ours` tells what is there. */
static int scan_there(const struct image *image, uint64_t **ret_there)
{
	const struct gmem *mem = image->mem;
	const bool uffd = gmem_backing(mem) == GMEM_UFFD;

	*ret_there = NULL;
	if (!uffd && (gmem_backing(mem) != GMEM_MEMFD ||
		      gmem_pages(mem) != GMEM_PAGES_2M))
		return 0;
	*ret_there = page_set_create(mem);
	if (!*ret_there)
		return -ENOMEM;
	return uffd ? page_set_scan(mem, image->blank, *ret_there, NULL)
		    : page_set_scan_present(mem, *ret_there);
}

/* Which of the pages that were ever discarded are not there? */
static int find_blank(struct image *image, const uint64_t *dirty)
{
	uint64_t *blank = page_set_create(image->mem);
	uint64_t *there = NULL;
	int ret = blank ? 0 : -ENOMEM;

	image->blank = blank;
	if (ret || !gmem_add_discarded(image->mem, blank)) {
		free(take_ptr(image->blank));
		return ret;
	}
	ret = scan_there(image, &there);
	for (size_t i = 0; !ret && i < page_set_words(image->mem); i++)
		set_word(&blank[i],
			 blank[i] & ~(there ? there[i] : image->ours[i]) &
				 (dirty ? dirty[i] : UINT64_MAX));
	free(there);
	return ret;
}

static void add_blank(struct image *image)
{
	for (size_t i = 0; image->blank && i < page_set_words(image->mem);
	     i++) {
		set_word(&image->ours[i], image->ours[i] | image->blank[i]);
		set_word(&image->others[i],
			 image->others[i] & ~image->blank[i]);
	}
}

/* @dirty: the pages that are wanted; NULL: all that may differ. */
static int scan(struct image *image, enum memory_kind kind,
		const uint64_t *dirty)
{
	bool missing_is_unknown = gmem_backing(image->mem) == GMEM_UFFD;
	int ret = 0;

	image->ours = page_set_create(image->mem);
	image->others = page_set_create(image->mem);
	if (!image->ours || !image->others)
		return -ENOMEM;
	if (missing_is_unknown && kind == MEMORY_FULL)
		page_set_add_all(image->mem, image->ours);
	else if (!missing_is_unknown || !dirty)
		ret = page_set_scan(image->mem, dirty, image->ours, NULL);
	if (!ret)
		ret = find_blank(image, dirty);
	if (!ret && dirty)
		split_dirty(image, dirty);
	if (!ret)
		add_blank(image);
	return ret;
}

static int put_all(struct image *image)
{
	int ret = for_each_run(image, image->ours, put_ours);

	return ret ? ret : for_each_run(image, image->others, put_others);
}

static uint64_t us_since(uint64_t start)
{
	return (monotonic_ns() - start) / 1000;
}

/* ----------------------------------------------------------------- in place */

static uint64_t bytes_in(const struct image *image, const uint64_t *set)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < page_set_words(image->mem); i++)
		bytes += (uint64_t)__builtin_popcountll(set[i]) * PAGE_SIZE_4K;
	return bytes;
}

static int allocate(struct image *image, uint64_t off, uint64_t len)
{
	while (fallocate(image->fd, FALLOC_FL_KEEP_SIZE, (off_t)off,
			 (off_t)len)) {
		if (errno == EOPNOTSUPP || errno == ENOSYS)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* Where the disk may not hold all that comes, the room is taken first: then
 * there is none before a byte is changed, and not after. */
static int make_room(struct image *image)
{
	uint64_t need = bytes_in(image, image->ours) + ROOM_TO_SPARE;
	struct statvfs fs;
	int ret;

	if (!image->is_own_base)
		need += bytes_in(image, image->others);
	if (fstatvfs(image->fd, &fs) || fs.f_bavail * fs.f_frsize > need)
		return 0;
	ret = for_each_run(image, image->ours, allocate);
	if (!ret && !image->is_own_base)
		ret = for_each_run(image, image->others, allocate);
	return ret;
}

static int merge(struct image *image, const struct pair_id *id)
{
	uint64_t size = gmem_size(image->mem);
	int ret = make_room(image);

	if (ret)
		return ret;
	ret = pair_put_mark(image->fd, size, id);
	if (ret)
		return ret;
	image->zeros = ZEROS_WRITTEN;
	return put_all(image);
}

/* --------------------------------------------------------------- a new file */

static int fill(struct image *image, enum memory_kind kind)
{
	int ret = 0;

	if (ftruncate(image->fd, (off_t)gmem_size(image->mem)))
		return -errno;
	if (kind == MEMORY_DIFF)
		image->zeros = ZEROS_WRITTEN;
	else if (image->base < 0)
		image->zeros = ZEROS_ARE_THERE;
	else
		image->zeros = ZEROS_PUNCHED;
	if (kind == MEMORY_FULL && image->base >= 0)
		ret = copy_base(image);
	return ret ? ret : put_all(image);
}

/* ------------------------------------------------------------------- steps */

struct memory_file {
	struct image image;
	struct memory_file_request request;
	bool merges; /* in place; otherwise a new file */
	struct new_file new;
	struct in_place place;
};

static int open_in_place(struct memory_file *file, struct error *err)
{
	const struct memory_file_request *request = &file->request;
	const struct in_place_request place = {
		.path = request->path,
		.what = WHAT,
		.size = gmem_size(file->image.mem),
		.base = file->image.base,
		.known = request->known,
		.known_count = ARRAY_SIZE(request->known),
	};
	int ret = in_place_open(&file->place, &place, err);

	if (ret)
		return ret;
	file->merges = true;
	file->image.fd = file->place.fd;
	file->image.is_own_base = file->place.own >= 0;
	return 0;
}

static int open_new(struct memory_file *file, struct error *err)
{
	int ret = new_file_open(&file->new, file->request.path, WHAT, err);

	file->image.fd = file->new.fd;
	return ret;
}

static int open_any(struct memory_file *file, struct error *err)
{
	int ret = -ENOENT;

	if (file->request.kind == MEMORY_DIFF)
		ret = open_in_place(file, err);
	return ret == -ENOENT && !file->merges ? open_new(file, err) : ret;
}

int memory_file_open(struct memory_file **ret_file, struct gmem *mem,
		     const struct memory_file_request *request,
		     struct error *err)
{
	struct memory_file *file = calloc(1, sizeof(*file));
	int ret;

	if (!file) {
		new_file_error(WHAT, "open", ENOMEM, err);
		return -ENOMEM;
	}
	file->image = (struct image){.mem = mem, .fd = -1, .base = -1};
	file->new.fd = file->place.fd = file->place.own = -1;
	file->request = *request;
	if (gmem_backing(mem) == GMEM_FILE)
		file->image.base = gmem_region(mem, 0)->fd;
	ret = open_any(file, err);
	if (ret) {
		memory_file_close(file);
		return ret;
	}
	*ret_file = file;
	return 0;
}

int memory_file_pair(const struct memory_file *file, struct snapshot_pair *pair,
		     struct error *err)
{
	*pair = (struct snapshot_pair){.id = file->request.id};
	if (file->merges)
		return 0;
	pair->identity = pair_identity(file->image.fd, "");
	if (!pair->identity)
		return new_file_error(WHAT, "open", errno, err);
	strcpy(pair->name, new_file_name(&file->new));
	return 0;
}

static int write_pages(struct memory_file *file, struct error *err)
{
	struct image *image = &file->image;
	uint64_t start = monotonic_ns();
	int ret = file->merges ? merge(image, &file->request.id)
			       : fill(image, file->request.kind);

	image->stats.us_write = us_since(start);
	if (ret)
		return new_file_error(WHAT, "write", -ret, err);
	start = monotonic_ns();
	if (file->request.sync && !file->merges)
		ret = new_file_sync(&file->new, err);
	else if (file->request.sync && fdatasync(image->fd))
		ret = new_file_error(WHAT, "sync", errno, err);
	image->stats.us_sync = us_since(start);
	return ret;
}

int memory_file_fill(struct memory_file *file, const uint64_t *dirty,
		     struct error *err)
{
	uint64_t start = monotonic_ns();
	enum memory_kind kind = file->request.kind;
	int ret = scan(&file->image, kind, kind == MEMORY_DIFF ? dirty : NULL);

	if (ret)
		return new_file_error("guest memory", "scan", -ret, err);
	file->image.stats.us_scan = us_since(start);
	return write_pages(file, err);
}

int memory_file_commit(struct memory_file *file, struct error *err)
{
	int ret;

	if (!file->merges) {
		ret = new_file_commit(&file->new, file->request.sync, err);
		if (ret)
			new_file_keep(&file->new);
		return ret;
	}
	ret = pair_remove_mark(file->image.fd, gmem_size(file->image.mem));
	return ret ? new_file_error(WHAT, "write", -ret, err) : 0;
}

bool memory_file_is_beside(const struct memory_file *file, const char *path)
{
	size_t len = new_file_directory_len(path);

	return !file->merges && len == new_file_directory_len(file->new.path) &&
	       !strncmp(path, file->new.path, len);
}

const struct memory_file_stats *
memory_file_stats(const struct memory_file *file)
{
	return &file->image.stats;
}

void memory_file_close(struct memory_file *file)
{
	if (!file)
		return;
	new_file_release(&file->new);
	in_place_release(&file->place);
	free(file->image.ours);
	free(file->image.others);
	free(file->image.blank);
	free(file);
}
