/* SPDX-License-Identifier: Apache-2.0 */
/* /actions and /vm */
#include "api/resources.h"

/* ----------------------------------------------------------------- actions */

static const struct json_choice action_choices[] = {
	{"FlushMetrics", VMM_ACTION_FLUSH_METRICS},
	{"InstanceStart", VMM_ACTION_START},
	{"SendCtrlAltDel", VMM_ACTION_CTRL_ALT_DEL},
	{NULL, 0},
};

static const struct json_field action_fields[] = {
	{.name = "action_type",
	 .kind = FIELD_CHOICE,
	 .flags = FIELD_REQUIRED,
	 .offset = 0,
	 .present = NO_PRESENT,
	 .choices = action_choices},
};

static const struct json_shape action_shape = {
	action_fields, ARRAY_SIZE(action_fields), false};

int api_put_actions(struct api_call *call)
{
	int type = 0;
	struct vmm_action action = {.when = VMM_POST_BOOT};
	int ret = json_read_body(&call->body, &action_shape, &type, &call->err);

	if (ret)
		return ret;
	action.type = (enum vmm_action_type)type;
	if (action.type == VMM_ACTION_START)
		action.when = VMM_PRE_BOOT;
	return api_submit(call, &action);
}

/* ---------------------------------------------------------------- vm state */

static const struct json_choice state_choices[] = {
	{"Paused", VMM_ACTION_PAUSE},
	{"Resumed", VMM_ACTION_RESUME},
	{NULL, 0},
};

static const struct json_field state_fields[] = {
	{.name = "state",
	 .kind = FIELD_CHOICE,
	 .flags = FIELD_REQUIRED,
	 .offset = 0,
	 .present = NO_PRESENT,
	 .choices = state_choices},
};

static const struct json_shape state_shape = {state_fields,
					      ARRAY_SIZE(state_fields), false};

int api_patch_vm(struct api_call *call)
{
	struct latency_metrics *latencies =
		&vmm_metrics(call->vmm)->latencies_us;
	uint64_t start = monotonic_ns();
	struct vmm_action action = {0};
	int type = 0;
	int ret = json_read_body(&call->body, &state_shape, &type, &call->err);
	bool pause = type == VMM_ACTION_PAUSE;

	if (ret)
		return ret;
	action.type = (enum vmm_action_type)type;
	ret = api_submit(call, &action);
	if (ret)
		return ret;
	api_record_latency(pause ? &latencies->pause_vm : &latencies->resume_vm,
			   pause ? "pause vm" : "resume vm", start);
	return 0;
}
