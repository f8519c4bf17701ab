/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service (MMDS): a JSON document that the host fills through the
 * API and the guest reads over HTTP at 169.254.169.254. The parts:
 *
 *   mmds.c          this interface: the document, its limit, the configuration
 *   mmds_token.c    session tokens of version 2
 *   mmds_sort.c     the document's keys in order
 *   mmds_http.c     one request -> one answer
 *   mmds_clients.c  connections of the guest, which ask mmds_http.c
 *   mmds_stack.c    TCP/IP between them and the guest's interfaces
 *
 * Thread: loop (or main before it runs).
 */
#ifndef EMBER_MMDS_H
#define EMBER_MMDS_H

#include "vmm/config.h"
#include "vmm/loop.h"
#include "vmm/metrics.h"

#include <jansson.h>

struct mmds;
struct nets;

/* @id goes into tokens; @limit: bytes of JSON text the document may have. */
int mmds_create(struct mmds **ret_mmds, const char *id, size_t limit,
		struct mmds_metrics *metrics) must_check;

/* The machine must be gone. Accepts NULL. */
void mmds_destroy(struct mmds *mmds);

/* Replaces the document. -EFBIG when it is over the limit. */
int mmds_put(struct mmds *mmds, json_t *value, struct error *err) must_check;

/* Merges into the document (RFC 7396), which must exist. -EFBIG as above: then
 * nothing has changed. */
int mmds_patch(struct mmds *mmds, json_t *value, struct error *err) must_check;

/* A new reference to the document; an empty object when there is none. */
json_t *mmds_get(const struct mmds *mmds);

/* NULL until configured. */
const struct mmds_config *mmds_config(const struct mmds *mmds);

/* Takes the strings of @config. The interfaces must be in @nets; one may be
 * named more than once. */
int mmds_configure(struct mmds *mmds, struct mmds_config *config,
		   const struct nets *nets, struct error *err) must_check;

/* Puts the service behind the configured interfaces of a microVM that is about
 * to start. Nothing to do when it is not configured. */
int mmds_start(struct mmds *mmds, struct loop *loop, const struct nets *nets,
	       struct error *err) must_check;

/* The other way, after a start that failed: interfaces may change again. */
void mmds_stop(struct mmds *mmds);

/* For mmds_http.c. */
json_t *mmds_document(const struct mmds *mmds); /* NULL: none */
struct mmds_metrics *mmds_metrics(struct mmds *mmds);
struct mmds_tokens *mmds_tokens(struct mmds *mmds);

#endif
