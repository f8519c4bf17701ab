/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Working-set files: the input is the section's content, in a file whose frame
 * and checksum are right (as whoever writes one can make them). Either there is
 * a sentence, or a set that can be populated and stays within the memory.
 */
#include "snapshot/state.h"
#include "snapshot/working_set.h"

#include <assert.h>
#include <sys/mman.h>

#define SIZE MIB(1)
#define PAGES (SIZE / PAGE_SIZE_4K)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file for the caller to close. */
static int make_file(const uint8_t *data, size_t size)
{
	struct state_writer writer;
	int fd = memfd_create("working-set", 0);

	state_writer_init(&writer);
	state_begin(&writer, STATE_TAG('W', 'S', 'E', 'T'), 1, 0);
	state_put_u64(&writer, SIZE);
	state_put(&writer, data, size);
	state_end(&writer);
	if (fd < 0 || state_writer_finish(&writer) ||
	    write(fd, writer.bytes, writer.len) != (ssize_t)writer.len)
		abort();
	state_writer_release(&writer);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct gmem_range ranges[] = {{0, SIZE / 2}, {SIZE, SIZE / 2}};
	const struct gmem_request request = {.ranges = ranges, .count = 2};
	struct working_set *set = NULL;
	struct gmem *mem = NULL;
	struct populate populate = {0};
	struct error err = {0};
	int fd = make_file(data, size);

	if (gmem_create(&mem, &request, NULL))
		abort();
	populate.mem = mem;
	if (working_set_load(&set, fd, SIZE, &err)) {
		assert(!set && err.text[0]);
	} else {
		assert(working_set_pages_written(set) <= PAGES);
		assert(working_set_pages_read(set) <= PAGES);
		if (working_set_populate(&populate, set))
			abort();
	}
	working_set_destroy(set);
	gmem_destroy(mem);
	close(fd);
	return 0;
}
