/* SPDX-License-Identifier: Apache-2.0 */
/* /machine-config */
#include "api/resources.h"

#include <errno.h>

static const struct json_choice huge_pages_choices[] = {
	{"None", HUGE_PAGES_NONE},
	{"Transparent", HUGE_PAGES_TRANSPARENT},
	{"2M", HUGE_PAGES_2M},
	{NULL, 0},
};

static const struct json_choice cpu_template_choices[] = {
	{"C3", CPU_TEMPLATE_C3},
	{"T2", CPU_TEMPLATE_T2},
	{"T2S", CPU_TEMPLATE_T2S},
	{"T2CL", CPU_TEMPLATE_T2CL},
	{"T2A", CPU_TEMPLATE_T2A},
	{"None", CPU_TEMPLATE_NONE},
	{NULL, 0},
};

#define VALUE(member) offsetof(struct machine_update, values.member)
#define GIVEN(member) offsetof(struct machine_update, has_##member)
#define MACHINE_FIELDS(required, nullable)                                     \
	{.name = "vcpu_count",                                                 \
	 .kind = FIELD_UINT,                                                   \
	 .flags = (required),                                                  \
	 .offset = VALUE(vcpu_count),                                          \
	 .present = GIVEN(vcpu_count),                                         \
	 .max = UINT8_MAX},                                                    \
		{.name = "mem_size_mib",                                       \
		 .kind = FIELD_UINT,                                           \
		 .flags = (required),                                          \
		 .offset = VALUE(mem_size_mib),                                \
		 .present = GIVEN(mem_size_mib)},                              \
		{.name = "smt",                                                \
		 .kind = FIELD_BOOL,                                           \
		 .flags = (nullable),                                          \
		 .offset = VALUE(smt),                                         \
		 .present = GIVEN(smt)},                                       \
		{.name = "cpu_template",                                       \
		 .kind = FIELD_CHOICE,                                         \
		 .flags = FIELD_NULLABLE,                                      \
		 .offset = VALUE(cpu_template),                                \
		 .present = GIVEN(cpu_template),                               \
		 .choices = cpu_template_choices},                             \
		{.name = "track_dirty_pages",                                  \
		 .kind = FIELD_BOOL,                                           \
		 .flags = (nullable),                                          \
		 .offset = VALUE(track_dirty_pages),                           \
		 .present = GIVEN(track_dirty_pages)},                         \
	{                                                                      \
		.name = "huge_pages", .kind = FIELD_CHOICE,                    \
		.flags = (nullable), .offset = VALUE(huge_pages),              \
		.present = GIVEN(huge_pages), .choices = huge_pages_choices    \
	}

static const struct json_field put_fields[] = {
	MACHINE_FIELDS(FIELD_REQUIRED, 0),
};

static const struct json_field patch_fields[] = {
	MACHINE_FIELDS(FIELD_NULLABLE, FIELD_NULLABLE),
};

const struct json_shape machine_put_shape = {put_fields, ARRAY_SIZE(put_fields),
					     false};
static const struct json_shape patch_shape = {patch_fields,
					      ARRAY_SIZE(patch_fields), false};

/* A PUT replaces: what was not given goes back to its default. */
void machine_put_defaults(struct machine_update *update)
{
	*update = (struct machine_update){
		.values = machine_config_default,
		.has_smt = true,
		.has_track_dirty_pages = true,
		.has_huge_pages = true,
	};
}

int api_put_machine(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_MACHINE};
	int ret;

	machine_put_defaults(&action.machine);
	ret = json_read_body(&call->body, &machine_put_shape, &action.machine,
			     &call->err);
	if (ret)
		return ret;
	if (action.machine.has_cpu_template)
		api_deprecated(call, "PUT /machine-config: cpu_template field "
				     "is deprecated.");
	return api_submit(call, &action);
}

int api_patch_machine(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_MACHINE};
	const struct machine_update *update = &action.machine;
	int ret = json_read_body(&call->body, &patch_shape, &action.machine,
				 &call->err);

	if (ret)
		return ret;
	if (!update->has_vcpu_count && !update->has_mem_size_mib &&
	    !update->has_smt && !update->has_track_dirty_pages &&
	    !update->has_huge_pages && !update->has_cpu_template)
		return error_set(&call->err, EINVAL, "Empty PATCH request.");
	if (update->has_cpu_template)
		api_deprecated(call, "PATCH /machine-config: cpu_template "
				     "field is deprecated.");
	return api_submit(call, &action);
}

static const char *choice_name(const struct json_choice *choices, int value)
{
	while (choices->value != value)
		choices++;
	return choices->name;
}

json_t *machine_to_json(const struct machine_config *config)
{
	json_t *object =
		json_pack("{s:I, s:I, s:b}", "vcpu_count",
			  (json_int_t)config->vcpu_count, "mem_size_mib",
			  (json_int_t)config->mem_size_mib, "smt", config->smt);

	if (config->cpu_template != CPU_TEMPLATE_NONE)
		json_object_set_new(
			object, "cpu_template",
			json_string(choice_name(cpu_template_choices,
						(int)config->cpu_template)));
	json_object_set_new(object, "track_dirty_pages",
			    json_boolean(config->track_dirty_pages));
	json_object_set_new(object, "huge_pages",
			    json_string(choice_name(huge_pages_choices,
						    (int)config->huge_pages)));
	return object;
}

static json_t *view_machine(const struct vmm_view *view)
{
	return machine_to_json(view->machine);
}

int api_get_machine(struct api_call *call)
{
	return api_answer_view(call, view_machine);
}
