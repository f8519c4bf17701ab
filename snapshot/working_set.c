/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/working_set.h"
#include "snapshot/new_file.h"
#include "snapshot/page_set.h"
#include "snapshot/state.h"
#include "vmm/gmem_blocks.h"

#include <errno.h>
#include <fcntl.h>

#define WHAT "working set file"
#define TAG STATE_TAG('W', 'S', 'E', 'T')
#define VERSION 1

/* Both lists together; 4 MiB of file. */
#define RANGES_MAX 524288

/* Pages that nobody asked for, but that cost less to read from a disk than
 * another call. A page that is made a private copy costs 1.7 us and memory, and
 * one that a handler has to fill more: there are none of these. */
#define DISK_GAP_PAGES 16

struct range {
	uint32_t first, count;
};

struct working_set {
	uint32_t written_count, read_count;
	uint64_t pages_written, pages_read;
	struct range ranges[]; /* written, then read */
};

/* ------------------------------------------------------------------- saving */

static bool is_of_look(const struct working_set_pages *pages,
		       const uint64_t *set, uint64_t page, unsigned look)
{
	return set[page / 64] & BIT(page % 64) &&
	       (!pages->looks || pages->looks[page] == look);
}

/* The next range of @set, as page_set_next, of pages first seen in @look. Each
 * page is looked at once only, however the guest has mixed the looks. */
static bool next_range(const struct working_set_pages *pages,
		       const uint64_t *set, uint64_t end, unsigned look,
		       uint64_t *first, uint64_t *ret_count)
{
	uint64_t page = *first;

	while (page < end && !is_of_look(pages, set, page, look))
		page += set[page / 64] ? 1 : 64 - page % 64;
	*first = page;
	while (page < end && is_of_look(pages, set, page, look))
		page++;
	*ret_count = page - *first;
	return *ret_count > 0;
}

/* Writes the ranges look by look, or (NULL) only counts them. */
static uint32_t put_ranges(struct state_writer *writer,
			   const struct working_set_pages *pages,
			   const uint64_t *set, uint64_t end)
{
	uint32_t count = 0;

	for (unsigned look = 0; look < pages->look_count; look++) {
		uint64_t first = 0, n;

		for (; next_range(pages, set, end, look, &first, &n);
		     first += n, count++) {
			if (!writer)
				continue;
			state_put_u32(writer, (uint32_t)first);
			state_put_u32(writer, (uint32_t)n);
		}
	}
	return count;
}

/* Halves the accuracy: what shares 2^@order pages with a page of the set. */
static void coarsen(uint64_t *set, uint64_t pages, unsigned order)
{
	uint64_t first = 0, n;

	for (; page_set_next(set, pages, &first, &n); first += n) {
		uint64_t end = MIN(ALIGN_UP(first + n, BIT(order)), pages);

		for (uint64_t page = ALIGN_DOWN(first, BIT(order)); page < end;
		     page++)
			set[page / 64] |= BIT(page % 64);
		n = end - first;
	}
}

static int put_sets(struct state_writer *writer, const struct gmem *mem,
		    struct working_set_pages *pages)
{
	const uint64_t end = page_set_pages(mem);
	uint32_t written = put_ranges(NULL, pages, pages->written, end);
	uint32_t read = put_ranges(NULL, pages, pages->read, end);

	for (unsigned order = 1; written + read > RANGES_MAX; order++) {
		/* The pages that come along were not seen at any time. */
		pages->looks = NULL;
		pages->look_count = 1;
		coarsen(pages->written, end, order);
		coarsen(pages->read, end, order);
		written = put_ranges(NULL, pages, pages->written, end);
		read = put_ranges(NULL, pages, pages->read, end);
	}
	state_begin(writer, TAG, VERSION, 0);
	state_put_u64(writer, gmem_size(mem));
	state_put_u32(writer, written);
	state_put_u32(writer, read);
	put_ranges(writer, pages, pages->written, end);
	put_ranges(writer, pages, pages->read, end);
	state_end(writer);
	return state_writer_finish(writer);
}

static int write_file(const struct state_writer *writer, const char *path,
		      struct error *err)
{
	struct new_file file;
	int ret = new_file_open(&file, path, WHAT, err);

	if (!ret)
		ret = new_file_write(&file, writer->bytes, writer->len, err);
	if (!ret)
		ret = new_file_commit(&file, false, err);
	new_file_release(&file);
	return ret;
}

int working_set_save(const struct gmem *mem, struct working_set_pages *pages,
		     const char *path, struct error *err)
{
	struct state_writer writer;
	int ret;

	state_writer_init(&writer);
	ret = put_sets(&writer, mem, pages);
	if (ret)
		ret = new_file_error(WHAT, "write", -ret, err);
	else
		ret = write_file(&writer, path, err);
	state_writer_release(&writer);
	return ret;
}

/* ------------------------------------------------------------------ loading */

/* Reads a list and adds its pages up. No list may have more pages than there
 * are, so that overlaps cannot make work without end. */
static int get_ranges(struct state_reader *reader, struct range *ranges,
		      uint32_t count, uint64_t pages, uint64_t *ret_total,
		      struct error *err)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t first = state_get_u32(reader);
		uint64_t n = state_get_u32(reader);

		total += n;
		if (n == 0 || first + n > pages || total > pages)
			return error_set(err, EINVAL,
					 "Range %u of the working set is not "
					 "within the %ju pages of the memory",
					 i, (uintmax_t)pages);
		ranges[i] = (struct range){(uint32_t)first, (uint32_t)n};
	}
	*ret_total = total;
	return 0;
}

static int check_head(struct state_reader *reader, uint64_t memory_size,
		      uint32_t *ret_written, uint32_t *ret_read,
		      struct error *err)
{
	uint64_t size = state_get_u64(reader);
	uint64_t written = state_get_u32(reader);
	uint64_t read = state_get_u32(reader);

	if (reader->failed ||
	    reader->left != (written + read) * sizeof(struct range))
		return error_set(err, EINVAL,
				 "The working set has %zu bytes for %ju ranges",
				 reader->left, (uintmax_t)(written + read));
	if (size != memory_size)
		return error_set(err, EINVAL,
				 "The working set is of a memory of %ju bytes, "
				 "this one has %ju",
				 (uintmax_t)size, (uintmax_t)memory_size);
	*ret_written = (uint32_t)written;
	*ret_read = (uint32_t)read;
	return 0;
}

static int get_lists(struct state_reader *reader, struct working_set *set,
		     uint64_t pages, struct error *err)
{
	int ret = get_ranges(reader, set->ranges, set->written_count, pages,
			     &set->pages_written, err);

	if (!ret)
		ret = get_ranges(reader, set->ranges + set->written_count,
				 set->read_count, pages, &set->pages_read, err);
	return ret ? ret : state_reader_end(reader, err);
}

static int parse(struct working_set **ret_set, struct state_reader *reader,
		 uint64_t memory_size, struct error *err)
{
	struct working_set *set;
	uint32_t written = 0, read = 0;
	int ret = check_head(reader, memory_size, &written, &read, err);

	if (ret)
		return ret;
	set = calloc(1, sizeof(*set) + ((size_t)written + read) *
					       sizeof(struct range));
	if (!set)
		return error_set_os(err, ENOMEM, "The working set:");
	set->written_count = written;
	set->read_count = read;
	ret = get_lists(reader, set, memory_size / PAGE_SIZE_4K, err);
	if (ret)
		free(set);
	else
		*ret_set = set;
	return ret;
}

int working_set_load(struct working_set **ret_set, int fd, uint64_t memory_size,
		     struct error *err)
{
	struct state_file file;
	struct state_reader reader;
	int ret = state_file_read(&file, fd, err);

	if (ret)
		return ret;
	ret = state_need(&file, TAG, 0, VERSION, &reader, err);
	if (!ret)
		ret = parse(ret_set, &reader, memory_size, err);
	state_file_release(&file);
	return ret;
}

void working_set_destroy(struct working_set *set)
{
	free(set);
}

uint64_t working_set_pages_written(const struct working_set *set)
{
	return set->pages_written;
}

uint64_t working_set_pages_read(const struct working_set *set)
{
	return set->pages_read;
}

void working_set_count(const struct working_set *set, unsigned order,
		       uint32_t *ret_counts, size_t count)
{
	const uint32_t ranges = set->written_count + set->read_count;

	for (uint32_t i = 0; i < ranges; i++) {
		const struct range *range = &set->ranges[i];

		for (uint32_t n = 0; n < range->count; n++) {
			size_t at = ((uint64_t)range->first + n) >> order;

			if (at < count)
				ret_counts[at]++;
		}
	}
}

static bool is_there(const struct range *range, unsigned order,
		     const bool *there, size_t count)
{
	uint64_t piece = (uint64_t)range->first >> order;
	uint64_t last = ((uint64_t)range->first + range->count - 1) >> order;

	return piece == last && piece < count && there[piece];
}

/* The others, moved to @to; the number of them. */
static uint32_t keep_others(struct range *to, const struct range *from,
			    uint32_t ranges, unsigned order, const bool *there,
			    size_t count)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < ranges; i++)
		if (!is_there(&from[i], order, there, count))
			to[kept++] = from[i];
	return kept;
}

void working_set_leave_out(struct working_set *set, unsigned order,
			   const bool *there, size_t count)
{
	const uint32_t written = set->written_count;

	set->written_count = keep_others(set->ranges, set->ranges, written,
					 order, there, count);
	set->read_count = keep_others(set->ranges + set->written_count,
				      set->ranges + written, set->read_count,
				      order, there, count);
}

/* --------------------------------------------------------------- populating */

static uint64_t end_of(const struct range *range)
{
	return (uint64_t)range->first + range->count;
}

/* The range at @ranges and those after it that are not far away, in ascending
 * order, as one. The number of them. */
static uint32_t join(const struct range *ranges, uint32_t count,
		     struct range *ret_range)
{
	uint64_t end = end_of(ranges);
	uint32_t n = 1;

	for (; n < count; n++) {
		if (ranges[n].first < end ||
		    ranges[n].first - end > DISK_GAP_PAGES)
			break;
		end = end_of(&ranges[n]);
	}
	*ret_range =
		(struct range){ranges->first, (uint32_t)(end - ranges->first)};
	return n;
}

/* What of [off, off+len) of a pluggable region is there: when the set was
 * recorded there may have been more. */
static int populate_plugged(struct populate *populate,
			    const struct gmem_region *region, uint64_t off,
			    uint64_t len, bool write)
{
	const uint64_t end = off + len;
	uint64_t n;
	int ret = 0;

	while (!ret && off < end &&
	       gmem_blocks_next(region->blocks, &off, &n) && off < end) {
		n = MIN(n, end - off);
		ret = populate_range(populate, region->gpa + off, n, write);
		off += n;
	}
	/* It may have been unplugged meanwhile. */
	return ret == -EFAULT ? 0 : ret;
}

static int populate_region(struct populate *populate,
			   const struct gmem_region *region, uint64_t off,
			   uint64_t len, bool write)
{
	if (region->blocks)
		return populate_plugged(populate, region, off, len, write);
	return populate_range(populate, region->gpa + off, len, write);
}

/* The parts of the range that are in one region each. */
static int populate_pages(struct populate *populate, const struct range *range,
			  bool write)
{
	const uint64_t start = range->first * PAGE_SIZE_4K;
	const uint64_t end = end_of(range) * PAGE_SIZE_4K;
	const struct gmem *mem = populate->mem;

	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);
		uint64_t from = MAX(start, region->fd_off);
		uint64_t to = MIN(end, region->fd_off + region->len);
		int ret;

		if (from >= to)
			continue;
		ret = populate_region(populate, region, from - region->fd_off,
				      to - from, write);
		if (ret)
			return ret;
	}
	return 0;
}

static int populate_list(struct populate *populate, const struct range *ranges,
			 uint32_t count, bool write)
{
	int ret = 0;

	for (uint32_t i = 0; i < count && !ret; i++)
		ret = populate_pages(populate, &ranges[i], write);
	return ret;
}

/* Starts reading all of the file's pages at once, so that the disk does not
 * wait for the copying. */
static void read_ahead(int fd, const struct working_set *set)
{
	const uint32_t count = set->written_count + set->read_count;
	struct range joined;

	for (uint32_t i = 0; i < count;) {
		i += join(set->ranges + i, count - i, &joined);
		posix_fadvise(fd, (off_t)(joined.first * PAGE_SIZE_4K),
			      (off_t)(joined.count * PAGE_SIZE_4K),
			      POSIX_FADV_WILLNEED);
	}
}

/* Of a file's, what is only read is left to the page cache. To map it ahead
 * costs what it saves: the kernel maps the neighbours of what a guest touches.
 */
int working_set_populate(struct populate *populate,
			 const struct working_set *set)
{
	const struct gmem *mem = populate->mem;
	const bool of_file = gmem_backing(mem) == GMEM_FILE;
	int ret;

	if (of_file)
		read_ahead(gmem_region(mem, 0)->fd, set);
	ret = populate_list(populate, set->ranges, set->written_count, true);
	if (ret || of_file)
		return ret;
	return populate_list(populate, set->ranges + set->written_count,
			     set->read_count, false);
}
