/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service's HTTP: the head of a request in, the bytes of an answer
 * out. Requests have no bodies. Thread: loop.
 */
#ifndef EMBER_MMDS_HTTP_H
#define EMBER_MMDS_HTTP_H

#include "vmm/mmds.h"

/* Longer requests are not read to their end. */
#define MMDS_REQUEST_MAX 2500

/* Length of the first request in @data, up to and including the empty line, or
 * 0 when that has not come yet. */
size_t mmds_http_head_len(const char *data, size_t len);

/* Answers one request of @len bytes as cut out above. Returns the answer
 * (malloc'ed; the caller frees it) and its length; NULL without memory.
 * *@ret_body: bytes of a body that the client said will follow. */
char *mmds_http_answer(struct mmds *mmds, const char *request, size_t len,
		       size_t *ret_len, uint64_t *ret_body);

#endif
