/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request to an answer: one table says which paths and methods exist,
 * when each is legal, who handles it, and how its errors begin. Handlers parse
 * into plain structs (api/<resource>.c) and hand an action to the vmm.
 *
 * Thread: API.
 */
#ifndef EMBER_ROUTER_H
#define EMBER_ROUTER_H

#include "api/json.h"
#include "vmm/vmm.h"

struct api_request {
	const char *method;
	const char *path; /* "/drives/rootfs"; a scheme and host may precede */
	const char *body;
	size_t body_len;
};

/* @body is NULL or malloc'ed JSON text; the caller frees it. */
struct api_response {
	unsigned status;
	char *body;
	bool deprecated; /* the request used something that will go away */
};

struct route;

/* What a handler works on. */
struct api_call {
	struct vmm *vmm;
	const struct route *route;
	/* Second and third path segment, NULL when there is none. */
	const char *id, *rest;
	struct json_text body;
	struct api_response *response;
	struct error err;
};

/* 0: 204, or 200 when the handler set a body. -errno: 400 with call->err. */
typedef int (*api_handler)(struct api_call *call);

struct route {
	const char *method;
	const char *resource; /* first path segment */
	const char *sub;      /* second one if it is fixed, else NULL */
	enum vmm_when when;
	api_handler handle;
	const char *error_prefix; /* of errors from the vmm */
	size_t metric;		  /* offset in struct metrics, or NO_METRIC */
};

#define NO_METRIC SIZE_MAX

/* The table, for tests. */
extern const struct route api_routes[];
extern const size_t api_route_count;

/* Never fails: what goes wrong is an answer too. */
void api_route(struct vmm *vmm, const struct api_request *request,
	       struct api_response *ret_response);

/* {"error": ...}: the answer to what cannot be parsed as a request at all. */
void api_refuse(const char *why, struct api_response *ret_response);

/* For handlers: runs @action on the loop thread with the route's legal states
 * and error prefix. */
int api_submit(struct api_call *call, struct vmm_action *action) must_check;

/* For handlers: the id in the path must be well-formed and the body's. */
int api_check_id(struct api_call *call, const char *body_id) must_check;

/* Letters, digits and '_', at least one; says in @err what is wrong. */
int api_valid_id(const char *id, struct error *err) must_check;

/* For handlers: notes in metrics and log how long a request that succeeded took
 * from the client's point of view. */
void api_record_latency(struct metric_store *store, const char *what,
			uint64_t start_ns);

/* For handlers: warns in the log and marks the answer. */
void api_deprecated(struct api_call *call, const char *what);

/* Handlers, one file per resource. */
int api_get_instance(struct api_call *call);
int api_get_version(struct api_call *call);
int api_get_config(struct api_call *call);
int api_get_machine(struct api_call *call);
int api_put_machine(struct api_call *call);
int api_patch_machine(struct api_call *call);
int api_put_boot_source(struct api_call *call);
int api_put_drive(struct api_call *call);
int api_patch_drive(struct api_call *call);
int api_delete_device(struct api_call *call);
int api_put_net(struct api_call *call);
int api_patch_net(struct api_call *call);
int api_put_vsock(struct api_call *call);
int api_put_snapshot_create(struct api_call *call);
int api_put_snapshot_load(struct api_call *call);
int api_put_working_set(struct api_call *call);
int api_put_pre_fault_memory(struct api_call *call);
int api_put_pmem(struct api_call *call);
int api_patch_pmem(struct api_call *call);
int api_put_entropy(struct api_call *call);
int api_put_serial(struct api_call *call);
int api_put_balloon(struct api_call *call);
int api_get_balloon(struct api_call *call);
int api_patch_balloon(struct api_call *call);
int api_get_balloon_stats(struct api_call *call);
int api_patch_balloon_stats(struct api_call *call);
int api_get_hinting(struct api_call *call);
int api_change_hinting(struct api_call *call);
int api_put_hotplug(struct api_call *call);
int api_get_hotplug(struct api_call *call);
int api_patch_hotplug(struct api_call *call);
int api_put_mmds_config(struct api_call *call);
int api_put_mmds(struct api_call *call);
int api_patch_mmds(struct api_call *call);
int api_get_mmds(struct api_call *call);
int api_put_actions(struct api_call *call);
int api_patch_vm(struct api_call *call);
int api_put_logger(struct api_call *call);
int api_put_metrics(struct api_call *call);

#endif
