/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page-fault handler (contract 5.3): takes a microVM's userfaultfd from its
 * Unix socket and fills missing pages from a memory file, until the microVM
 * closes the stream. Used by the unit tests in a thread, by the others as a
 * program (tests/lib/fault_handler.c).
 */
#ifndef EMBER_FAKE_FAULT_HANDLER_H
#define EMBER_FAKE_FAULT_HANDLER_H

#include <stddef.h>
#include <stdint.h>

#define FAULT_REGIONS_MAX 16

struct fault_region {
	uint64_t base, size, offset, page_size;
};

struct fault_handler {
	int memory_fd; /* borrowed */
	int stream, uffd;
	uint8_t *memory; /* the file, mapped */
	uint64_t memory_size;
	struct fault_region regions[FAULT_REGIONS_MAX];
	size_t region_count;
	uint8_t *removed; /* one byte per 4 KiB page of the file */
	uint64_t ahead;	  /* how many more pages are filled with each fault */
	_Atomic uint64_t served, removes; /* also looked at meanwhile */
	char message[4096];		  /* as it came */
};

/* A listening socket. -errno. */
int fault_handler_listen(const char *path);

/* Waits for a microVM and takes over what it sends. -errno; -EPROTO if that is
 * not what the contract says. */
int fault_handler_accept(struct fault_handler *handler, int listener,
			 int memory_fd);

/* Serves until the stream ends: 0, or -errno. */
int fault_handler_serve(struct fault_handler *handler);
void fault_handler_release(struct fault_handler *handler);

#endif
