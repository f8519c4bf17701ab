/* SPDX-License-Identifier: Apache-2.0 */
/* What lwIP calls beside its callbacks. In vmm/mmds_stack.c. */
#ifndef EMBER_LWIP_HOOKS_H
#define EMBER_LWIP_HOOKS_H

#include <lwip/err.h>
#include <stddef.h>
#include <stdint.h>

struct tcp_hdr;
struct tcp_pcb;

/* Asked about each segment for a connection (or for @pcb that listens), before
 * it is looked at: @options bytes of options follow the @header, then @len
 * bytes of data. Anything but ERR_OK: it is dropped, because lwIP could not
 * bear it.
 *
 * - A segment size comes with the SYN (RFC 9293, 3.7.1). lwIP takes it from any
 *   segment, and fails when a smaller one comes for data that is cut up
 * already.
 * - What comes ends within the window (3.10.7.4). */
err_t mmds_stack_tcp_hook(struct tcp_pcb *pcb, const struct tcp_hdr *header,
			  size_t options, const uint8_t *more, size_t len);

#endif
