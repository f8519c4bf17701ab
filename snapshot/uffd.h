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
 * handler dies, whoever touches a missing page waits for ever.
 */
#ifndef EMBER_UFFD_H
#define EMBER_UFFD_H

#include "vmm/gmem.h"

/*
 * Both descriptors are the caller's; they stay open for the microVM's life: the
 * handler notices by the stream that the microVM is gone. Waits a second at
 * most for a handler whose queue is full. Before anything touches the memory,
 * loop thread. -errno with a sentence.
 */
int uffd_attach(struct gmem *mem, const char *socket_path, int *ret_uffd,
		int *ret_socket, struct error *err) must_check;

/* The memory is ordinary again: who waits for a page gets an empty one. For the
 * end of the microVM, when its handler may not answer any more. Any thread. */
void uffd_detach(const struct gmem *mem, int uffd);

#endif
