/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of 4 KiB past the page cache, so many at once: what a database does to
 * a disk. The kernel gets them together, and so does the device.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK 4096
#define DEPTH_MAX 128

struct disk {
	aio_context_t context;
	int fd;
	uint8_t *buffers; /* a block each */
	struct iocb iocbs[DEPTH_MAX];
};

static void submit(struct disk *disk, unsigned depth, unsigned done)
{
	struct iocb *list[DEPTH_MAX];

	for (unsigned i = 0; i < depth; i++) {
		disk->iocbs[i] = (struct iocb){
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_fildes = (uint32_t)disk->fd,
			.aio_buf = (uintptr_t)disk->buffers + i * BLOCK,
			.aio_nbytes = BLOCK,
			/* apart, or the kernel makes one request of them */
			.aio_offset = (int64_t)(done + i) * 2 * BLOCK,
		};
		list[i] = &disk->iocbs[i];
	}
	if (syscall(SYS_io_submit, disk->context, depth, list) != (long)depth)
		agent_fail("io_submit");
}

static void wait_for_all(const struct disk *disk, unsigned depth)
{
	struct io_event events[DEPTH_MAX];

	if (syscall(SYS_io_getevents, disk->context, depth, depth, events,
		    NULL) != (long)depth)
		agent_fail("io_getevents");
	for (unsigned i = 0; i < depth; i++)
		if (events[i].res != BLOCK) {
			errno = EIO;
			agent_fail("read");
		}
}

int agent_disk(int argc, char **argv)
{
	struct disk disk = {0};
	unsigned depth = (unsigned)atoi(argv[1]);
	unsigned count = (unsigned)atoi(argv[2]);

	(void)argc;
	if (depth == 0 || depth > DEPTH_MAX) {
		fprintf(stderr, "depth is not 1 to %d\n", DEPTH_MAX);
		return 2;
	}
	disk.fd = open(argv[0], O_RDONLY | O_DIRECT);
	disk.buffers = aligned_alloc(BLOCK, DEPTH_MAX * BLOCK);
	if (disk.fd < 0 || !disk.buffers ||
	    syscall(SYS_io_setup, DEPTH_MAX, &disk.context))
		agent_fail(argv[0]);
	memset(disk.buffers, 0, DEPTH_MAX * BLOCK);
	for (unsigned done = 0; done + depth <= count; done += depth) {
		submit(&disk, depth, done);
		wait_for_all(&disk, depth);
	}
	return 0;
}
