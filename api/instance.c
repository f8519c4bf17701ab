/* SPDX-License-Identifier: Apache-2.0 */
/* /, /version and /vm/config */
#include "api/resources.h"

#include <errno.h>

static const char *const state_names[] = {
	[VMM_NOT_STARTED] = "Not started",
	[VMM_RUNNING] = "Running",
	[VMM_PAUSED] = "Paused",
};

struct view_request {
	json_t *(*make)(const struct vmm_view *view);
	json_t *result;
};

static void run_view(const struct vmm_view *view, void *arg)
{
	struct view_request *request = arg;

	request->result = request->make(view);
}

int api_answer_view(struct api_call *call,
		    json_t *(*make)(const struct vmm_view *view))
{
	struct view_request request = {.make = make};
	struct vmm_action action = {.type = VMM_ACTION_VIEW,
				    .view = {run_view, &request}};
	int ret = api_submit(call, &action);

	if (ret)
		return ret;
	return api_answer(call, request.result);
}

static json_t *view_instance(const struct vmm_view *view)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "id", view->id, "state",
			 state_names[view->state], "vmm_version", VMM_API_LEVEL,
			 "app_name", "Firecracker");
}

int api_get_instance(struct api_call *call)
{
	return api_answer_view(call, view_instance);
}

static json_t *view_version(const struct vmm_view *view)
{
	(void)view;
	return json_pack("{s:s}", "firecracker_version", VMM_API_LEVEL);
}

int api_get_version(struct api_call *call)
{
	return api_answer_view(call, view_version);
}

/* Every section is there, also those of devices that do not exist: readers of
 * the document look for them. */
static json_t *view_config(const struct vmm_view *view)
{
	json_t *drives = json_array();
	json_t *nets = json_array();
	json_t *pmems = json_array();

	for (size_t i = 0; i < view->drive_count; i++)
		json_array_append_new(drives, drive_to_json(view->drives[i]));
	for (size_t i = 0; i < view->net_count; i++)
		json_array_append_new(nets, net_to_json(view->nets[i]));
	for (size_t i = 0; i < view->pmem_count; i++)
		json_array_append_new(pmems, pmem_to_json(view->pmems[i]));
	return json_pack(
		"{s:o, s:o, s:o, s:n, s:n, s:o, s:n, s:o, s:o, s:o, "
		"s:o, s:o, s:o}",
		"balloon",
		view->balloon ? balloon_to_json(view->balloon) : json_null(),
		"drives", drives, "boot-source",
		boot_source_to_json(view->boot), "cpu-config", "logger",
		"machine-config", machine_to_json(view->machine), "metrics",
		"mmds-config",
		view->mmds ? mmds_config_to_json(view->mmds) : json_null(),
		"network-interfaces", nets, "vsock",
		view->vsock ? vsock_to_json(view->vsock) : json_null(),
		"entropy",
		view->entropy ? entropy_to_json(view->entropy) : json_null(),
		"pmem", pmems, "memory-hotplug",
		view->hotplug ? hotplug_to_json(view->hotplug) : json_null());
}

int api_get_config(struct api_call *call)
{
	return api_answer_view(call, view_config);
}
