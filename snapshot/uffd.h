/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that another process fills, page by page (contract 5.3).
 *
 * Missing pages of the memory (GMEM_UFFD) are reported to a userfaultfd, which
 * is given to the page-fault handler that listens on a Unix socket. One message
 * says where the regions are and where in the memory file their bytes stand:
 *
 *   [{"base_host_virt_addr":A,"size":BYTES,"offset":BYTES,"page_size":4096,
 *     "page_size_kib":4096}, ...]
 *
 * with the descriptor beside it (SCM_RIGHTS). No answer is expected. If the
 * handler dies, whoever touches a missing page waits for ever: a vCPU, or the
 * loop, where a device has something for such a page. Only a load does not: it
 * is watched, and fails.
 */
#ifndef EMBER_UFFD_H
#define EMBER_UFFD_H

#include "vmm/gmem.h"

#include <pthread.h>

struct seccomp_filters;

/*
 * Both descriptors are the caller's; they stay open for the microVM's life: the
 * handler notices by the stream that the microVM is gone. Waits a second at
 * most for a handler whose queue is full. Before anything touches the memory,
 * loop thread. -errno with a sentence.
 */
int uffd_attach(struct gmem *mem, const char *socket_path, int *ret_uffd,
		int *ret_socket, struct error *err) must_check;

/*
 * Nobody waits for the handler any more: what is missing is zeros from now on.
 * The guest must not run, not even the rest of an instruction's work, on that:
 * its vCPUs are on their way out, or were never started. Any thread.
 */
void uffd_detach(const struct gmem *mem, int uffd);

/* Lets go of the memory as uffd_detach does if something takes too long, on a
 * thread of its own (`ember_uffd`). */
struct uffd_watch {
	const struct gmem *mem;
	int uffd; /* -1: nothing is watched */
	const struct seccomp_filters *filters;
	uint64_t patience_ns;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done, expired;
};

/* From now on, for @seconds; without a descriptor (-1) it does nothing. -errno
 * with a sentence. */
int uffd_watch_begin(struct uffd_watch *watch, const struct gmem *mem, int uffd,
		     unsigned seconds, const struct seccomp_filters *filters,
		     struct error *err) must_check;

/* It is done. -ETIMEDOUT with a sentence if it took too long: then nothing that
 * was read from the memory meanwhile is worth anything. */
int uffd_watch_end(struct uffd_watch *watch, struct error *err) must_check;

#endif
