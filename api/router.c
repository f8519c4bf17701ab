/* SPDX-License-Identifier: Apache-2.0 */
#include "api/router.h"

#include "vmm/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_MAX_LEN 1024

#define METRIC(member) offsetof(struct metrics, member)

const struct route api_routes[] = {
	{"GET", "", NULL, VMM_ALWAYS, api_get_instance, "",
	 METRIC(get_api.instance_info_count)},
	{"GET", "version", NULL, VMM_ALWAYS, api_get_version, "",
	 METRIC(get_api.vmm_version_count)},
	{"GET", "machine-config", NULL, VMM_ALWAYS, api_get_machine, "",
	 METRIC(get_api.machine_cfg_count)},
	{"GET", "vm", "config", VMM_ALWAYS, api_get_config, "", NO_METRIC},
	{"PUT", "machine-config", NULL, VMM_PRE_BOOT, api_put_machine,
	 "Machine config error: ", METRIC(put_api.machine_cfg)},
	{"PUT", "boot-source", NULL, VMM_PRE_BOOT, api_put_boot_source,
	 "Boot source error: ", METRIC(put_api.boot_source)},
	{"PUT", "drives", NULL, VMM_ALWAYS, api_put_drive,
	 "Drive config error: ", METRIC(put_api.drive)},
	{"PUT", "actions", NULL, VMM_ALWAYS, api_put_actions,
	 "Start microvm error: ", METRIC(put_api.actions)},
	{"PUT", "logger", NULL, VMM_PRE_BOOT, api_put_logger,
	 "Logger error: ", METRIC(put_api.logger)},
	{"PUT", "metrics", NULL, VMM_PRE_BOOT, api_put_metrics,
	 "Metrics error: ", METRIC(put_api.metrics)},
	{"PATCH", "machine-config", NULL, VMM_PRE_BOOT, api_patch_machine,
	 "Machine config error: ", METRIC(patch_api.machine_cfg)},
	{"PATCH", "drives", NULL, VMM_POST_BOOT, api_patch_drive,
	 "Drive config error: ", METRIC(patch_api.drive)},
	{"PATCH", "vm", NULL, VMM_POST_BOOT, api_patch_vm,
	 "Internal VMM error: ", NO_METRIC},
	{"PUT", "network-interfaces", NULL, VMM_ALWAYS, api_put_net,
	 "Network config error: ", METRIC(put_api.network)},
	{"PATCH", "network-interfaces", NULL, VMM_POST_BOOT, api_patch_net,
	 "Network config error: ", METRIC(patch_api.network)},
	{"PUT", "vsock", NULL, VMM_PRE_BOOT, api_put_vsock,
	 "Vsock config error: ", METRIC(put_api.vsock)},
	{"PUT", "pmem", NULL, VMM_ALWAYS, api_put_pmem,
	 "Pmem config error: ", METRIC(put_api.pmem)},
	{"PATCH", "pmem", NULL, VMM_POST_BOOT, api_patch_pmem,
	 "Pmem config error: ", METRIC(patch_api.pmem)},
	{"PUT", "entropy", NULL, VMM_PRE_BOOT, api_put_entropy,
	 "Entropy config error: ", NO_METRIC},
	{"PUT", "serial", NULL, VMM_PRE_BOOT, api_put_serial,
	 "Serial config error: ", METRIC(put_api.serial)},
	{"PUT", "balloon", "hinting", VMM_POST_BOOT, api_change_hinting,
	 "Balloon update error: ", NO_METRIC},
	{"PUT", "balloon", NULL, VMM_PRE_BOOT, api_put_balloon,
	 "Balloon config error: ", NO_METRIC},
	{"GET", "balloon", "statistics", VMM_POST_BOOT, api_get_balloon_stats,
	 "Internal VMM error: ", NO_METRIC},
	{"PATCH", "balloon", "statistics", VMM_POST_BOOT,
	 api_patch_balloon_stats, "Balloon update error: ", NO_METRIC},
	{"GET", "balloon", "hinting", VMM_POST_BOOT, api_get_hinting,
	 "Balloon update error: ", NO_METRIC},
	{"PATCH", "balloon", "hinting", VMM_POST_BOOT, api_change_hinting,
	 "Balloon update error: ", NO_METRIC},
	{"GET", "balloon", NULL, VMM_ALWAYS, api_get_balloon,
	 "Balloon config error: ", NO_METRIC},
	{"PATCH", "balloon", NULL, VMM_POST_BOOT, api_patch_balloon,
	 "Balloon update error: ", NO_METRIC},
	{"PUT", "hotplug", "memory", VMM_PRE_BOOT, api_put_hotplug,
	 "Memory hotplug config error: ", METRIC(put_api.hotplug_memory)},
	{"GET", "hotplug", "memory", VMM_POST_BOOT, api_get_hotplug,
	 "Internal VMM error: ", METRIC(get_api.hotplug_memory_count)},
	{"PATCH", "hotplug", "memory", VMM_POST_BOOT, api_patch_hotplug,
	 "Memory hotplug update error: ", METRIC(patch_api.hotplug_memory)},
	{"PUT", "mmds", "config", VMM_PRE_BOOT, api_put_mmds_config,
	 "MMMDS config error: ", METRIC(put_api.mmds)},
	{"PUT", "mmds", NULL, VMM_ALWAYS, api_put_mmds,
	 "MMDS error: ", METRIC(put_api.mmds)},
	{"PATCH", "mmds", NULL, VMM_ALWAYS, api_patch_mmds,
	 "MMDS error: ", METRIC(patch_api.mmds)},
	{"GET", "mmds", NULL, VMM_ALWAYS, api_get_mmds,
	 "MMDS error: ", METRIC(get_api.mmds_count)},
	{"PUT", "snapshot", "create", VMM_POST_BOOT, api_put_snapshot_create,
	 "Create snapshot error: ", NO_METRIC},
	{"PUT", "snapshot", "load", VMM_PRE_BOOT, api_put_snapshot_load,
	 "Load snapshot error: ", NO_METRIC},
	{"PUT", "vm", "working-set", VMM_POST_BOOT, api_put_working_set,
	 "Working set error: ", NO_METRIC},
	{"PUT", "vm", "pre-fault-memory", VMM_POST_BOOT,
	 api_put_pre_fault_memory, "Pre-fault memory error: ", NO_METRIC},
	{"DELETE", "drives", NULL, VMM_POST_BOOT, api_delete_device,
	 "Drive config error: ", NO_METRIC},
	{"DELETE", "network-interfaces", NULL, VMM_POST_BOOT, api_delete_device,
	 "Network config error: ", NO_METRIC},
	{"DELETE", "pmem", NULL, VMM_POST_BOOT, api_delete_device,
	 "Pmem config error: ", NO_METRIC},
};

const size_t api_route_count = ARRAY_SIZE(api_routes);

/* --------------------------------------------------------------- responses */

/* The text may quote what a client sent, or be cut within a character: when it
 * is not UTF-8, all that is not ASCII goes. */
static json_t *text_to_json(char *text)
{
	json_t *string = json_string(text);

	for (char *c = text; !string && *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return string ? string : json_string(text);
}

static void answer_fault(struct api_response *response, struct error *err)
{
	/* Of files of the host it says something else. */
	bool too_large = err->code == EFBIG && err->complete;
	json_t *object =
		json_pack("{s:o}", "fault_message", text_to_json(err->text));

	log_error("Received Error. Status code: %s. Message: %s",
		  too_large ? "413 Payload Too Large" : "400 Bad Request",
		  err->text);
	response->status = too_large ? 413 : 400;
	free(response->body);
	response->body = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
}

/* Spaced as clients know it. */
void api_refuse(const char *why, struct api_response *ret_response)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "{ \"error\": \"%s\\nAll previous unanswered requests will "
		 "be dropped.\" }",
		 why);
	ret_response->status = 400;
	ret_response->body = strdup(text);
}

/* ------------------------------------------------------- help for handlers */

int api_submit(struct api_call *call, struct vmm_action *action)
{
	int ret;

	if (!action->when)
		action->when = call->route->when;
	ret = vmm_submit(call->vmm, action, &call->err);
	if (ret && !call->err.complete)
		error_prefix(&call->err, "%s", call->route->error_prefix);
	return ret;
}

void api_record_latency(struct metric_store *store, const char *what,
			uint64_t start_ns)
{
	uint64_t us = (monotonic_ns() - start_ns) / 1000;

	metric_set(store, us);
	log_info("'%s' API request took %lu us.", what, (unsigned long)us);
}

int api_valid_id(const char *id, struct error *err)
{
	if (!id || !*id)
		return error_set(err, EINVAL, "The ID cannot be empty.");
	/* Bytes from 0x80 on belong to letters of other alphabets. */
	for (const char *c = id; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '_' &&
		    (unsigned char)*c < 0x80)
			return error_set(err, EINVAL,
					 "API Resource IDs can only contain "
					 "alphanumeric characters and "
					 "underscores.");
	return 0;
}

int api_check_id(struct api_call *call, const char *body_id)
{
	int ret = api_valid_id(call->id, &call->err);

	if (!ret && body_id && strcmp(body_id, call->id) != 0)
		return error_set(&call->err, EINVAL,
				 "The id from the path does not match the id "
				 "from the body!");
	return ret;
}

static void view_nothing(const struct vmm_view *view, void *arg)
{
	(void)view;
	(void)arg;
}

/* Taking a device off needs PCI, which this machine does not have; the state is
 * checked first, as for every request. */
int api_delete_device(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_VIEW,
				    .view = {view_nothing, NULL}};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = api_submit(call, &action);
	return ret ? ret : error_set(&call->err, EPERM, "PCI is not enabled");
}

void api_deprecated(struct api_call *call, const char *what)
{
	call->response->deprecated = true;
	metric_inc(&vmm_metrics(call->vmm)->deprecated_http_api_calls);
	log_warn("%s", what);
}

/* ----------------------------------------------------------------- routing */

struct path {
	char text[PATH_MAX_LEN];
	const char *segments[3]; /* "" and NULL when absent */
};

/* `http://host/a/b` and `//a/b` are `/a/b`. */
static bool split_path(const char *text, struct path *path)
{
	static const char scheme[] = "http://";
	char *save = NULL;

	if (strncmp(text, scheme, sizeof(scheme) - 1) == 0) {
		text += sizeof(scheme) - 1;
		text += strcspn(text, "/");
	}
	if (strlen(text) >= sizeof(path->text))
		return false;
	strcpy(path->text, text + strspn(text, "/"));
	path->segments[0] = strtok_r(path->text, "/", &save);
	path->segments[1] = strtok_r(NULL, "/", &save);
	path->segments[2] = strtok_r(NULL, "/", &save);
	if (!path->segments[0])
		path->segments[0] = "";
	return true;
}

static const struct route *find_route(const char *method,
				      const struct path *path)
{
	const char *sub = path->segments[1];

	for (size_t i = 0; i < api_route_count; i++) {
		const struct route *route = &api_routes[i];

		if (strcmp(route->method, method) != 0 ||
		    strcmp(route->resource, path->segments[0]) != 0)
			continue;
		if (!route->sub || (sub && strcmp(route->sub, sub) == 0))
			return route;
	}
	return NULL;
}

static bool is_method(const struct api_request *request, const char *method)
{
	return strcmp(request->method, method) == 0;
}

/* Which methods come with a body is the same on every path but one. */
static int check_body(const struct api_request *request,
		      const struct route *route, struct error *err)
{
	bool optional = route && route->handle == api_change_hinting;

	if (is_method(request, "GET") && request->body_len)
		return error_set(err, EINVAL,
				 "GET request cannot have a body.");
	if (is_method(request, "PUT") && !request->body_len && !optional)
		return error_set(err, EINVAL, "Empty PUT request.");
	if (is_method(request, "PATCH") && !request->body_len && !optional)
		return error_set(err, EINVAL, "Empty PATCH request.");
	if (is_method(request, "DELETE") && request->body_len)
		return error_set(err, EINVAL, "Empty Delete request.");
	return 0;
}

static void count_call(const struct api_call *call, int ret)
{
	const struct route *route = call->route;
	char *base = (char *)vmm_metrics(call->vmm);
	struct request_metric *both;

	if (route->metric == NO_METRIC)
		return;
	if (strcmp(route->method, "GET") == 0) {
		metric_inc((void *)(base + route->metric));
		return;
	}
	both = (void *)(base + route->metric);
	metric_inc(&both->count);
	if (ret)
		metric_inc(&both->fails);
}

static int dispatch(struct api_call *call, const struct api_request *request)
{
	struct path path;
	int ret;

	if (split_path(request->path, &path)) {
		call->route = find_route(request->method, &path);
		call->id = path.segments[1];
		call->rest = path.segments[2];
	} else {
		path.segments[0] = "";
	}
	ret = check_body(request, call->route, &call->err);
	if (ret)
		return ret;
	if (!call->route)
		return error_set(&call->err, EINVAL,
				 "Invalid request method and/or path: %s %s.",
				 request->method, path.segments[0]);
	ret = call->route->handle(call);
	count_call(call, ret);
	return ret;
}

/* "Put", as the log writes methods. */
static const char *method_name(const char *method)
{
	static const struct {
		const char *method, *name;
	} names[] = {
		{"GET", "Get"},
		{"PUT", "Put"},
		{"PATCH", "Patch"},
		{"DELETE", "Delete"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i].method, method) == 0)
			return names[i].name;
	return method;
}

/* Metadata may be secret, also where a load brings some. */
static bool may_log_body(const struct api_request *request)
{
	static const char key[] = "metadata";
	struct path path;

	if (!split_path(request->path, &path) ||
	    strcmp(path.segments[0], "mmds") == 0)
		return false;
	return strcmp(path.segments[0], "snapshot") != 0 ||
	       !memmem(request->body, request->body_len, key, sizeof(key) - 1);
}

static void log_request(const struct api_request *request)
{
	json_t *quoted;
	char *body;

	if (!log_enabled(LOG_LEVEL_INFO))
		return;
	if (!request->body_len || !may_log_body(request)) {
		log_info("The API server received a %s request on \"%s\".",
			 method_name(request->method), request->path);
		return;
	}
	/* A JSON string is how the body is quoted in the log. */
	quoted = json_stringn_nocheck(request->body, request->body_len);
	body = json_dumps(quoted, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
	log_info("The API server received a %s request on \"%s\" with body %s.",
		 method_name(request->method), request->path,
		 body ? body : "that is not text");
	free(body);
	json_decref(quoted);
}

void api_route(struct vmm *vmm, const struct api_request *request,
	       struct api_response *ret_response)
{
	uint64_t start = monotonic_ns();
	struct api_call call = {
		.vmm = vmm,
		.body = {request->body, request->body_len},
		.response = ret_response,
	};

	*ret_response = (struct api_response){.status = 204};
	log_request(request);
	if (dispatch(&call, request)) {
		answer_fault(ret_response, &call.err);
	} else {
		ret_response->status = ret_response->body ? 200 : 204;
		log_info("The request was executed successfully. Status code: "
			 "%s.",
			 ret_response->body ? "200 OK" : "204 No Content");
	}
	log_debug("Total previous API call duration: %lu us.",
		  (unsigned long)((monotonic_ns() - start) / 1000));
}
