/* SPDX-License-Identifier: Apache-2.0 */
/* /balloon, /balloon/statistics, /balloon/hinting/... */
#include "api/resources.h"

#include <errno.h>
#include <string.h>

#define AT(member) offsetof(struct balloon_config, member)
#define FLAG(key, off, required)                                               \
	{                                                                      \
		.name = (key), .kind = FIELD_BOOL, .flags = (required),        \
		.offset = (off), .present = NO_PRESENT                         \
	}
#define UINT(key, off, most, required)                                         \
	{                                                                      \
		.name = (key), .kind = FIELD_UINT, .flags = (required),        \
		.offset = (off), .present = NO_PRESENT, .max = (most)          \
	}

static const struct json_field put_fields[] = {
	UINT("amount_mib", AT(amount_mib), UINT32_MAX, FIELD_REQUIRED),
	FLAG("deflate_on_oom", AT(deflate_on_oom), FIELD_REQUIRED),
	UINT("stats_polling_interval_s", AT(stats_polling_interval_s),
	     UINT16_MAX, 0),
	FLAG("free_page_hinting", AT(free_page_hinting), 0),
	FLAG("free_page_reporting", AT(free_page_reporting), 0),
};

const struct json_shape balloon_shape = {put_fields, ARRAY_SIZE(put_fields),
					 false};

#define ACTION(member) offsetof(struct vmm_action, member)

static const struct json_field resize_fields[] = {
	UINT("amount_mib", ACTION(size_mib), UINT32_MAX, FIELD_REQUIRED),
};

static const struct json_field interval_fields[] = {
	UINT("stats_polling_interval_s", ACTION(interval_s), UINT16_MAX,
	     FIELD_REQUIRED),
};

static const struct json_field hinting_fields[] = {
	FLAG("acknowledge_on_stop", ACTION(acknowledge), 0),
};

static const struct json_shape resize_shape = {resize_fields, 1, false};
static const struct json_shape interval_shape = {interval_fields, 1, false};
static const struct json_shape hinting_shape = {hinting_fields, 1, true};

static int refuse_path(struct api_call *call)
{
	const char *rest = call->rest ? call->rest : "";
	bool hinting = strcmp(call->id, "hinting") == 0;

	return error_set(&call->err, EINVAL,
			 hinting ? "Unrecognized %s request path `/hinting/%s`."
				 : "Unrecognized %s request path `%s`.",
			 call->route->method, hinting ? rest : call->id);
}

static bool rest_is(const struct api_call *call, const char *name)
{
	return call->rest && strcmp(call->rest, name) == 0;
}

int api_put_balloon(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_BALLOON};
	int ret = json_read_body(&call->body, &balloon_shape, &action.balloon,
				 &call->err);

	return ret ? ret : api_submit(call, &action);
}

json_t *balloon_to_json(const struct balloon_config *config)
{
	return json_pack("{s:I, s:b, s:I, s:b, s:b}", "amount_mib",
			 (json_int_t)config->amount_mib, "deflate_on_oom",
			 config->deflate_on_oom, "stats_polling_interval_s",
			 (json_int_t)config->stats_polling_interval_s,
			 "free_page_hinting", config->free_page_hinting,
			 "free_page_reporting", config->free_page_reporting);
}

static int answer(struct api_call *call, json_t *object)
{
	call->response->body = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return call->response->body
		       ? 0
		       : error_set_os(&call->err, ENOMEM, "Cannot answer:");
}

struct balloon_view {
	json_t *object; /* NULL: there is none */
	bool started;
};

static void view_balloon(const struct vmm_view *view, void *arg)
{
	struct balloon_view *result = arg;

	result->started = view->state != VMM_NOT_STARTED;
	if (view->balloon)
		result->object = balloon_to_json(view->balloon);
}

int api_get_balloon(struct api_call *call)
{
	struct balloon_view view = {0};
	struct vmm_action action = {.type = VMM_ACTION_VIEW,
				    .view = {view_balloon, &view}};
	int ret;

	if (call->id)
		return refuse_path(call);
	ret = api_submit(call, &action);
	if (ret)
		return ret;
	if (!view.object)
		return error_set(&call->err, ENODEV, "%s",
				 view.started
					 ? "Internal VMM error: Failed perform "
					   "action on device: Device not found"
					 : "Balloon config error: No balloon "
					   "device found.");
	return answer(call, view.object);
}

int api_patch_balloon(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_RESIZE_BALLOON};
	int ret;

	if (call->id)
		return refuse_path(call);
	ret = json_read_body(&call->body, &resize_shape, &action, &call->err);
	return ret ? ret : api_submit(call, &action);
}

int api_patch_balloon_stats(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_BALLOON_INTERVAL};
	int ret = json_read_body(&call->body, &interval_shape, &action,
				 &call->err);

	return ret ? ret : api_submit(call, &action);
}

/* In the order of tags (virtio 1.2, 5.5.6.4; the last six are newer). */
static const char *const stat_names[BALLOON_STATS_MAX] = {
	"swap_in",	    "swap_out",	   "major_faults",
	"minor_faults",	    "free_memory", "total_memory",
	"available_memory", "disk_caches", "hugetlb_allocations",
	"hugetlb_failures", "oom_kill",	   "alloc_stall",
	"async_scan",	    "direct_scan", "async_reclaim",
	"direct_reclaim",
};

static json_t *stats_to_json(const struct balloon_stats *stats)
{
	const uint64_t per_mib = MIB(1) / PAGE_SIZE_4K;
	json_t *object = json_pack(
		"{s:I, s:I, s:I, s:I}", "target_pages",
		(json_int_t)stats->target_pages, "actual_pages",
		(json_int_t)stats->actual_pages, "target_mib",
		(json_int_t)(stats->target_pages / per_mib), "actual_mib",
		(json_int_t)(stats->actual_pages / per_mib));

	/* A guest can claim more than JSON can say. */
	for (size_t i = 0; i < BALLOON_STATS_MAX; i++)
		if (stats->known & BIT(i))
			json_object_set_new(object, stat_names[i],
					    json_integer((json_int_t)MIN(
						    stats->values[i],
						    (uint64_t)INT64_MAX)));
	return object;
}

int api_get_balloon_stats(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_GET_BALLOON_STATS};
	int ret = api_submit(call, &action);

	return ret ? ret : answer(call, stats_to_json(&action.balloon_stats));
}

static int start_hinting(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_START_HINTING,
				    .acknowledge = true};
	int ret = 0;

	if (call->body.len)
		ret = json_read_body(&call->body, &hinting_shape, &action,
				     &call->err);
	return ret ? ret : api_submit(call, &action);
}

/* By PATCH, and by PUT, which some clients take. */
int api_change_hinting(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_STOP_HINTING};

	if (rest_is(call, "start"))
		return start_hinting(call);
	if (rest_is(call, "stop"))
		return api_submit(call, &action);
	return refuse_path(call);
}

static json_t *hinting_to_json(const struct hinting_status *status)
{
	return json_pack("{s:I, s:o}", "host_cmd", (json_int_t)status->host_cmd,
			 "guest_cmd",
			 status->has_guest_cmd
				 ? json_integer((json_int_t)status->guest_cmd)
				 : json_null());
}

int api_get_hinting(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_GET_HINTING};
	int ret;

	if (!rest_is(call, "status"))
		return refuse_path(call);
	ret = api_submit(call, &action);
	return ret ? ret : answer(call, hinting_to_json(&action.hinting));
}
