/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /vm/working-set and /vm/pre-fault-memory. Both may take long: this thread
 * does the work, with memory that the vmm lends, so that only the client waits.
 */
#include "api/resources.h"
#include "snapshot/populate.h"
#include "snapshot/recorder.h"

#include <errno.h>
#include <string.h>

static int borrow_memory(struct api_call *call, struct vmm_lent *ret_lent)
{
	struct vmm_action action = {.type = VMM_ACTION_LEND_MEMORY};
	int ret = api_submit(call, &action);

	if (!ret)
		*ret_lent = action.lent;
	return ret;
}

static int fail(struct api_call *call, int ret)
{
	if (ret)
		error_prefix(&call->err, "%s", call->route->error_prefix);
	return ret;
}

/* ------------------------------------------------------------- working set */

struct working_set_request {
	char *path;
};

static const struct json_field working_set_fields[] = {
	{.name = "path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = offsetof(struct working_set_request, path),
	 .present = NO_PRESENT},
};

static const struct json_shape working_set_shape = {
	working_set_fields, ARRAY_SIZE(working_set_fields), false};

static int write_working_set(const struct vmm_lent *lent, const char *path,
			     struct error *err)
{
	if (!lent->loaded)
		return error_set(err, EINVAL,
				 "Only a microVM that was loaded from a "
				 "snapshot has a working set: one that was "
				 "booted has touched all that it has.");
	if (lent->recorder)
		return recorder_write(lent->recorder, path, err);
	if (!path)
		return error_set(err, EINVAL,
				 "missing field `path`: the load named no file "
				 "for it");
	if (gmem_backing(lent->mem) == GMEM_ANONYMOUS)
		return error_set(err, ENOTSUP,
				 "The memory was copied into 2 MiB pages: all "
				 "of it is there.");
	return recorder_write_once(lent->mem, path, err);
}

int api_put_working_set(struct api_call *call)
{
	struct working_set_request request = {0};
	struct vmm_lent lent = {0};
	int ret = json_read_body(&call->body, &working_set_shape, &request,
				 &call->err);

	if (!ret)
		ret = borrow_memory(call, &lent);
	if (!ret)
		ret = fail(call,
			   write_working_set(&lent, request.path, &call->err));
	free(request.path);
	return ret;
}

/* --------------------------------------------------------------- pre-fault */

struct prefault_range {
	uint64_t gpa, size;
};

struct prefault_request {
	struct prefault_range *ranges;
	size_t count;
	bool write;
};

static const struct json_field range_fields[] = {
	{.name = "gpa",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = offsetof(struct prefault_range, gpa),
	 .present = NO_PRESENT},
	{.name = "size",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = offsetof(struct prefault_range, size),
	 .present = NO_PRESENT},
};

static const struct json_shape range_shape = {range_fields,
					      ARRAY_SIZE(range_fields), false};

static int parse_ranges(const struct json_text *text, const json_t *value,
			void *field, struct error *err)
{
	struct prefault_request *request =
		container_of((struct prefault_range **)field,
			     struct prefault_request, ranges);
	size_t count = json_array_size(value);

	if (!json_is_array(value))
		return error_set(err, EINVAL,
				 "invalid type: expected a sequence");
	request->ranges = calloc(count + 1, sizeof(*request->ranges));
	if (!request->ranges)
		return error_set_os(err, ENOMEM, "Cannot keep the list:");
	for (; request->count < count; request->count++) {
		int ret = json_read_object(
			text, json_array_get(value, request->count),
			&range_shape, &request->ranges[request->count], err);

		if (ret)
			return ret;
	}
	return 0;
}

static const struct json_field prefault_fields[] = {
	{.name = "ranges",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_REQUIRED,
	 .offset = offsetof(struct prefault_request, ranges),
	 .present = NO_PRESENT,
	 .parse = parse_ranges},
	{.name = "write",
	 .kind = FIELD_BOOL,
	 .offset = offsetof(struct prefault_request, write),
	 .present = NO_PRESENT},
};

static const struct json_shape prefault_shape = {
	prefault_fields, ARRAY_SIZE(prefault_fields), false};

static int check_range(const struct gmem *mem,
		       const struct prefault_request *request, size_t i,
		       struct error *err)
{
	const struct prefault_range *range = &request->ranges[i];

	if (range->size == 0)
		return error_set(err, EINVAL, "ranges[%zu]: size is 0", i);
	if ((range->gpa | range->size) % PAGE_SIZE_4K)
		return error_set(err, EINVAL,
				 "ranges[%zu]: gpa and size must be multiples "
				 "of 4096",
				 i);
	if (!gmem_contains(mem, range->gpa, range->size))
		return error_set(err, EINVAL,
				 "ranges[%zu]: not all of 0x%jx bytes at 0x%jx "
				 "is guest memory",
				 i, (uintmax_t)range->size,
				 (uintmax_t)range->gpa);
	return 0;
}

/* All of them before anything is done: half an answer helps nobody. */
static int check_ranges(const struct gmem *mem,
			const struct prefault_request *request,
			struct error *err)
{
	int ret = 0;

	if (!request->count)
		return error_set(err, EINVAL,
				 "ranges must have at least one element");
	for (size_t i = 0; !ret && i < request->count; i++)
		ret = check_range(mem, request, i, err);
	return ret;
}

static bool is_stopping(const void *arg)
{
	return vmm_is_stopping(arg);
}

static int prefault(struct populate *populate,
		    const struct prefault_request *request, struct error *err)
{
	for (size_t i = 0; i < request->count; i++) {
		const struct prefault_range *range = &request->ranges[i];
		int ret = populate_range(populate, range->gpa, range->size,
					 request->write);

		if (ret == -ECANCELED)
			return error_set(err, ECANCELED,
					 "The microVM is shutting down.");
		if (ret)
			return error_set_os(
				err, -ret,
				"ranges[%zu] cannot be brought in:", i);
	}
	return 0;
}

/* As clients know it. One worker did it, this thread; the workers they know
 * are vCPUs. */
static int answer(struct api_call *call, const struct populate *populate,
		  const struct prefault_request *request, uint64_t us)
{
	const json_int_t ranges = (json_int_t)request->count;
	const json_int_t bytes = (json_int_t)populate->bytes;
	const json_int_t calls = (json_int_t)populate->calls;
	const json_int_t wall = (json_int_t)us;
	json_t *worker =
		json_pack("{s:i, s:I, s:I, s:I, s:i, s:I, s:I}", "vcpu_id", 0,
			  "range_count", ranges, "requested_bytes", bytes,
			  "completed_bytes", bytes, "remaining_bytes", 0,
			  "ioctl_count", calls, "wall_time_us", wall);
	json_t *stats = json_pack("{s:I, s:I, s:I, s:i, s:I, s:I, s:[o]}",
				  "range_count", ranges, "requested_bytes",
				  bytes, "completed_bytes", bytes,
				  "remaining_bytes", 0, "ioctl_count", calls,
				  "wall_time_us", wall, "workers", worker);

	return api_answer(call, stats);
}

static int serve_prefault(struct api_call *call,
			  const struct prefault_request *request)
{
	struct populate populate = {.cancelled = is_stopping, .arg = call->vmm};
	struct vmm_lent lent = {0};
	uint64_t start = monotonic_ns();
	int ret = borrow_memory(call, &lent);

	if (ret)
		return ret;
	populate.mem = lent.mem;
	ret = check_ranges(lent.mem, request, &call->err);
	if (!ret)
		ret = prefault(&populate, request, &call->err);
	if (!ret)
		ret = answer(call, &populate, request,
			     (monotonic_ns() - start) / 1000);
	return fail(call, ret);
}

int api_put_pre_fault_memory(struct api_call *call)
{
	struct prefault_request request = {0};
	int ret = json_read_body(&call->body, &prefault_shape, &request,
				 &call->err);

	if (!ret)
		ret = serve_prefault(call, &request);
	free(request.ranges);
	return ret;
}
