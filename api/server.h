/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API: libmicrohttpd on a Unix socket that we bind ourselves, one
 * thread ("ember_api"). It parses and validates, hands one vmm_action at a time
 * to the loop thread and writes the answer.
 */
#ifndef EMBER_SERVER_H
#define EMBER_SERVER_H

#include "vmm/vmm.h"

struct api_server;
struct seccomp_filters;

struct api_options {
	const char *socket_path;
	size_t max_payload;		       /* bytes of a request body */
	const struct seccomp_filters *filters; /* borrowed; NULL: none */
};

/* Whether something is in the socket's place already: for those who do what
 * cannot be taken back before they start the server. */
int api_server_check(const struct api_options *options,
		     struct error *err) must_check;

/* Binds the socket (its path must not exist), starts the thread. @vmm must
 * outlive the server. */
int api_server_start(struct api_server **ret_server, struct vmm *vmm,
		     const struct api_options *options,
		     struct error *err) must_check;

/* Ends the thread and closes every connection; the socket file stays. Call
 * after the loop has stopped, so that no request waits for it. Accepts NULL. */
void api_server_stop(struct api_server *server);

/* Applies a whole configuration file's text and starts the microVM. Thread:
 * main, before the loop runs. */
int api_apply_config_file(struct vmm *vmm, const char *path,
			  struct error *err) must_check;

/* Fills the metadata service from a JSON file. Thread: as above. */
int api_apply_metadata_file(struct vmm *vmm, const char *path,
			    struct error *err) must_check;

#endif
