/* SPDX-License-Identifier: Apache-2.0 */
/* /snapshot/create and /snapshot/load */
#include "api/resources.h"

#include <errno.h>
#include <string.h>

/* ------------------------------------------------------------------ create */

#define CREATE(member) offsetof(struct snapshot_create_config, member)

static const struct json_choice type_choices[] = {
	{"Full", SNAPSHOT_FULL},
	{"Diff", SNAPSHOT_DIFF},
	{NULL, 0},
};

static const struct json_field create_fields[] = {
	{.name = "snapshot_path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = CREATE(snapshot_path),
	 .present = NO_PRESENT},
	{.name = "mem_file_path",
	 .kind = FIELD_STRING,
	 .offset = CREATE(mem_file_path),
	 .present = NO_PRESENT},
	{.name = "snapshot_type",
	 .kind = FIELD_CHOICE,
	 .offset = CREATE(type),
	 .present = NO_PRESENT,
	 .choices = type_choices},
	{.name = "sync",
	 .kind = FIELD_BOOL,
	 .offset = CREATE(sync),
	 .present = NO_PRESENT},
};

static const struct json_shape create_shape = {
	create_fields, ARRAY_SIZE(create_fields), false};

int api_put_snapshot_create(struct api_call *call)
{
	struct latency_metrics *latencies =
		&vmm_metrics(call->vmm)->latencies_us;
	struct vmm_action action = {
		.type = VMM_ACTION_CREATE_SNAPSHOT,
		.snapshot_create.sync = true,
	};
	uint64_t start = monotonic_ns();
	int ret = json_read_body(&call->body, &create_shape,
				 &action.snapshot_create, &call->err);
	bool full = action.snapshot_create.type == SNAPSHOT_FULL;

	if (!ret)
		ret = api_submit(call, &action);
	snapshot_create_config_release(&action.snapshot_create);
	if (!ret)
		api_record_latency(full ? &latencies->full_create_snapshot
					: &latencies->diff_create_snapshot,
				   full ? "create full snapshot"
					: "create diff snapshot",
				   start);
	return ret;
}

/* -------------------------------------------------------------------- load */

#define LOAD(member) offsetof(struct snapshot_load_config, member)

/* An array of objects with two strings each; unknown fields are ignored. */
static int parse_overrides(const struct json_text *text, const json_t *value,
			   struct snapshot_overrides *overrides,
			   const struct json_shape *shape, struct error *err)
{
	size_t count = json_array_size(value);

	if (!json_is_array(value))
		return error_set(err, EINVAL,
				 "invalid type: expected a sequence");
	overrides->list = calloc(count + 1, sizeof(*overrides->list));
	if (!overrides->list)
		return error_set_os(err, ENOMEM, "Cannot keep the list:");
	for (; overrides->count < count; overrides->count++) {
		int ret = json_read_object(
			text, json_array_get(value, overrides->count), shape,
			&overrides->list[overrides->count], err);

		if (ret) {
			overrides->count++; /* its strings are to be freed */
			return ret;
		}
	}
	return 0;
}

#define OVERRIDE(member) offsetof(struct snapshot_override, member)
#define STRING(field_name, at)                                                 \
	{                                                                      \
		.name = field_name, .kind = FIELD_STRING,                      \
		.flags = FIELD_REQUIRED, .offset = at, .present = NO_PRESENT   \
	}

static const struct json_field net_override_fields[] = {
	STRING("iface_id", OVERRIDE(id)),
	STRING("host_dev_name", OVERRIDE(target)),
};

static const struct json_field drive_override_fields[] = {
	STRING("drive_id", OVERRIDE(id)),
	STRING("path_on_host", OVERRIDE(target)),
};

static const struct json_field pmem_override_fields[] = {
	STRING("id", OVERRIDE(id)),
	STRING("path_on_host", OVERRIDE(target)),
};

static const struct json_field vsock_override_fields[] = {
	STRING("uds_path", 0),
};

static const struct json_shape net_override_shape = {
	net_override_fields, ARRAY_SIZE(net_override_fields), true};
static const struct json_shape drive_override_shape = {
	drive_override_fields, ARRAY_SIZE(drive_override_fields), true};
static const struct json_shape pmem_override_shape = {
	pmem_override_fields, ARRAY_SIZE(pmem_override_fields), true};
static const struct json_shape vsock_override_shape = {
	vsock_override_fields, ARRAY_SIZE(vsock_override_fields), true};

static int parse_net_overrides(const struct json_text *text,
			       const json_t *value, void *field,
			       struct error *err)
{
	return parse_overrides(text, value, field, &net_override_shape, err);
}

static int parse_drive_overrides(const struct json_text *text,
				 const json_t *value, void *field,
				 struct error *err)
{
	return parse_overrides(text, value, field, &drive_override_shape, err);
}

static int parse_pmem_overrides(const struct json_text *text,
				const json_t *value, void *field,
				struct error *err)
{
	return parse_overrides(text, value, field, &pmem_override_shape, err);
}

static int parse_vsock_override(const struct json_text *text,
				const json_t *value, void *field,
				struct error *err)
{
	return json_read_object(text, value, &vsock_override_shape, field, err);
}

static const struct json_choice backend_choices[] = {
	{"File", MEMORY_BACKEND_FILE},
	{"Uffd", MEMORY_BACKEND_UFFD},
	{NULL, 0},
};

static const struct json_field backend_fields[] = {
	{.name = "backend_type",
	 .kind = FIELD_CHOICE,
	 .flags = FIELD_REQUIRED,
	 .offset = LOAD(backend),
	 .present = NO_PRESENT,
	 .choices = backend_choices},
	STRING("backend_path", LOAD(backend_path)),
};

static const struct json_shape backend_shape = {
	backend_fields, ARRAY_SIZE(backend_fields), false};

/* Its fields are in the same struct as all others. */
static int parse_backend(const struct json_text *text, const json_t *value,
			 void *field, struct error *err)
{
	struct snapshot_load_config *config = container_of(
		(bool *)field, struct snapshot_load_config, has_backend);
	int ret = json_read_object(text, value, &backend_shape, config, err);

	config->has_backend = true;
	return ret;
}

static const struct json_choice pages_choices[] = {
	{"Snapshot", SNAPSHOT_PAGES_SAME},
	{"None", SNAPSHOT_PAGES_NONE},
	{"Transparent", SNAPSHOT_PAGES_TRANSPARENT},
	{"2M", SNAPSHOT_PAGES_2M},
	{NULL, 0},
};

static const struct json_choice prefetch_choices[] = {
	{"Beside", PREFETCH_BESIDE},
	{"Before", PREFETCH_BEFORE},
	{"Copy", PREFETCH_COPY},
	{NULL, 0},
};

static const struct json_choice record_choices[] = {
	{"FirstVsockAccept", RECORD_UNTIL_ACCEPT},
	{"Request", RECORD_UNTIL_ASKED},
	{NULL, 0},
};

static const struct json_field record_fields[] = {
	STRING("path", LOAD(record_path)),
	{.name = "at",
	 .kind = FIELD_CHOICE,
	 .offset = LOAD(record_at),
	 .present = NO_PRESENT,
	 .choices = record_choices},
};

static const struct json_shape record_shape = {
	record_fields, ARRAY_SIZE(record_fields), false};

/* Its fields are in the same struct as all others. */
static int parse_record(const struct json_text *text, const json_t *value,
			void *field, struct error *err)
{
	return json_read_object(text, value, &record_shape,
				container_of((char **)field,
					     struct snapshot_load_config,
					     record_path),
				err);
}

/* What a load request asks for, with the metadata that may come along. */
struct load_request {
	struct snapshot_load_config config;
	json_t *metadata; /* a reference of its own; NULL: none */
};

static int keep_metadata(const struct json_text *text, const json_t *value,
			 void *field, struct error *err)
{
	(void)text;
	(void)err;
	*(json_t **)field = json_incref((json_t *)(uintptr_t)value);
	return 0;
}

#define SWITCH(field_name, member)                                             \
	{                                                                      \
		.name = field_name, .kind = FIELD_BOOL,                        \
		.offset = LOAD(member), .present = NO_PRESENT                  \
	}
#define LIST(field_name, member, parser)                                       \
	{                                                                      \
		.name = field_name, .kind = FIELD_OBJECT,                      \
		.offset = LOAD(member), .present = NO_PRESENT, .parse = parser \
	}
#define PART(field_name, at, parser)                                           \
	{                                                                      \
		.name = field_name, .kind = FIELD_OBJECT,                      \
		.flags = FIELD_NULLABLE, .offset = at, .present = NO_PRESENT,  \
		.parse = parser                                                \
	}
#define OPTIONAL(field_name, member)                                           \
	{                                                                      \
		.name = field_name, .kind = FIELD_STRING,                      \
		.flags = FIELD_NULLABLE, .offset = LOAD(member),               \
		.present = NO_PRESENT                                          \
	}
#define CHOICE(field_name, member, list)                                       \
	{                                                                      \
		.name = field_name, .kind = FIELD_CHOICE,                      \
		.offset = LOAD(member), .present = NO_PRESENT, .choices = list \
	}

static const struct json_field load_fields[] = {
	STRING("snapshot_path", LOAD(snapshot_path)),
	PART("mem_backend", LOAD(has_backend), parse_backend),
	OPTIONAL("mem_file_path", mem_file_path),
	SWITCH("track_dirty_pages", track_dirty_pages),
	SWITCH("enable_diff_snapshots", enable_diff_snapshots),
	SWITCH("resume_vm", resume_vm),
	SWITCH("clock_realtime", clock_realtime),
	CHOICE("huge_pages", huge_pages, pages_choices),
	LIST("network_overrides", nets, parse_net_overrides),
	LIST("drive_overrides", drives, parse_drive_overrides),
	LIST("pmem_overrides", pmems, parse_pmem_overrides),
	PART("vsock_override", LOAD(vsock_uds_path), parse_vsock_override),
	OPTIONAL("working_set_path", working_set_path),
	{.name = "prefetch",
	 .kind = FIELD_CHOICE,
	 .offset = LOAD(prefetch),
	 .present = LOAD(has_prefetch),
	 .choices = prefetch_choices},
	PART("record_working_set", LOAD(record_path), parse_record),
	PART("metadata", offsetof(struct load_request, metadata),
	     keep_metadata),
};

static const struct json_shape load_shape = {load_fields,
					     ARRAY_SIZE(load_fields), false};

/* Memory comes from one place, and what is brought in early from a list. */
static int check_fields(struct snapshot_load_config *config, struct error *err)
{
	const char *which = NULL;

	if (config->has_backend && config->mem_file_path)
		which = "too many fields: either `mem_backend` or "
			"`mem_file_path` exclusively is required";
	if (!config->has_backend && !config->mem_file_path)
		which = "missing field: either `mem_backend` or "
			"`mem_file_path` is required";
	if (config->has_prefetch && !config->working_set_path)
		which = "missing field `working_set_path`: there is nothing "
			"that `prefetch` could bring in";
	if (which)
		return error_set(
			err, EINVAL,
			"An error occurred when deserializing the json "
			"body of a request: %s.",
			which);
	if (!config->has_backend)
		config->backend_path = take_ptr(config->mem_file_path);
	config->track_dirty_pages |= config->enable_diff_snapshots;
	return 0;
}

int api_put_snapshot_load(struct api_call *call)
{
	struct load_request request = {0};
	struct vmm_action action = {.type = VMM_ACTION_LOAD_SNAPSHOT};
	uint64_t start = monotonic_ns();
	int ret =
		json_read_body(&call->body, &load_shape, &request, &call->err);

	if (!ret && (request.config.mem_file_path ||
		     request.config.enable_diff_snapshots))
		api_deprecated(call,
			       "PUT /snapshot/load: mem_file_path and "
			       "enable_diff_snapshots fields are deprecated.");
	if (!ret)
		ret = check_fields(&request.config, &call->err);
	action.snapshot_load.config = &request.config;
	action.snapshot_load.metadata = request.metadata;
	if (!ret)
		ret = api_submit(call, &action);
	json_decref(request.metadata);
	snapshot_load_config_release(&request.config);
	if (!ret)
		api_record_latency(
			&vmm_metrics(call->vmm)->latencies_us.load_snapshot,
			"load snapshot", start);
	return ret;
}
