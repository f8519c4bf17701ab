/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The line is made from tables: a section is a name and a list of fields, a
 * field is a name, a kind and an offset. Sections of devices that do not exist
 * here yet have fields without storage: nothing was counted, so they are zero,
 * and clients that check the schema find what they look for.
 *
 * Counters grow while the line is made. So each is looked at once before
 * (`seen`), the difference to the last flush that reached its target
 * (`flushed`) is printed, and only after a complete write does `flushed` become
 * `seen`. So a sum over devices is the sum of what is printed for them.
 */
#include "vmm/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

/* They are in every line: bounded, so that a line is. */
#define PROPERTIES_MAX 4096

/* Room for all sections, METRICS_DEVICES_MAX devices and properties. */
#define LINE_SIZE 49152

enum kind {
	COUNT,	/* struct metric */
	STORE,	/* struct metric_store */
	AGG,	/* struct metric_agg */
	ABSENT, /* no storage: a counter of what is not there */
	NO_AGG, /* no storage: latencies of what is not there */
};

struct field {
	const char *name;
	enum kind kind;
	size_t offset; /* in the section's struct */
};

struct section {
	const char *name;
	size_t offset; /* in struct metrics */
	const struct field *fields;
	size_t count;
};

/* clang-format takes a `#` behind a brace for a directive. */
#define FIELD(text, kind, offset)                                              \
	{                                                                      \
		text, kind, offset                                             \
	}

/* One row per field; the struct's member has the field's name. */
#define C(type, name) FIELD(#name, COUNT, offsetof(struct type, name))
#define S(type, name) FIELD(#name, STORE, offsetof(struct type, name))
#define G(type, name) FIELD(#name, AGG, offsetof(struct type, name))
#define Z(name) FIELD(#name, ABSENT, 0)
#define ZG(name) FIELD(#name, NO_AGG, 0)

static const struct field api_server_fields[] = {
	S(api_server_metrics, process_startup_time_us),
	S(api_server_metrics, process_startup_time_cpu_us),
};

static const struct field balloon_fields[] = {
	Z(activate_fails),	   Z(inflate_count),
	Z(stats_updates_count),	   Z(stats_update_fails),
	Z(deflate_count),	   Z(event_fails),
	Z(free_page_report_count), Z(free_page_report_freed),
	Z(free_page_report_fails), Z(free_page_hint_count),
	Z(free_page_hint_freed),   Z(free_page_hint_fails),
};

#define B(name) C(block_metrics, name)
static const struct field block_fields[] = {
	B(activate_fails),
	B(cfg_fails),
	B(no_avail_buffer),
	B(event_fails),
	B(execute_fails),
	B(invalid_reqs_count),
	B(flush_count),
	B(queue_event_count),
	B(rate_limiter_event_count),
	B(update_count),
	B(update_fails),
	B(read_bytes),
	B(write_bytes),
	B(read_count),
	B(write_count),
	B(rate_limiter_throttled_events),
	B(io_engine_throttled_events),
	B(remaining_reqs_count),
	G(block_metrics, read_agg),
	G(block_metrics, write_agg),
};

static const struct field deprecated_fields[] = {
	{"deprecated_http_api_calls", COUNT, 0},
};

static const struct field get_api_fields[] = {
	C(get_api_metrics, instance_info_count),
	C(get_api_metrics, machine_cfg_count),
	C(get_api_metrics, mmds_count),
	C(get_api_metrics, vmm_version_count),
	C(get_api_metrics, hotplug_memory_count),
};

#define R(type, name)                                                          \
	FIELD(#name "_count", COUNT, offsetof(struct type, name.count)),       \
		FIELD(#name "_fails", COUNT,                                   \
		      offsetof(struct type, name.fails))
static const struct field put_api_fields[] = {
	R(put_api_metrics, actions),	    R(put_api_metrics, boot_source),
	R(put_api_metrics, drive),	    R(put_api_metrics, logger),
	R(put_api_metrics, machine_cfg),    R(put_api_metrics, cpu_cfg),
	R(put_api_metrics, metrics),	    R(put_api_metrics, network),
	R(put_api_metrics, mmds),	    R(put_api_metrics, vsock),
	R(put_api_metrics, pmem),	    R(put_api_metrics, serial),
	R(put_api_metrics, hotplug_memory),
};

static const struct field patch_api_fields[] = {
	R(patch_api_metrics, drive),	      R(patch_api_metrics, network),
	R(patch_api_metrics, machine_cfg),    R(patch_api_metrics, mmds),
	R(patch_api_metrics, hotplug_memory), R(patch_api_metrics, pmem),
};

static const struct field i8042_fields[] = {
	C(i8042_metrics, error_count),
	C(i8042_metrics, missed_read_count),
	C(i8042_metrics, missed_write_count),
	C(i8042_metrics, read_count),
	C(i8042_metrics, reset_count),
	C(i8042_metrics, write_count),
};

static const struct field uart_fields[] = {
	C(uart_metrics, error_count),
	C(uart_metrics, flush_count),
	C(uart_metrics, missed_read_count),
	C(uart_metrics, missed_write_count),
	C(uart_metrics, read_count),
	C(uart_metrics, write_count),
	C(uart_metrics, rate_limiter_dropped_bytes),
};

#define L(name) S(latency_metrics, name)
static const struct field latency_fields[] = {
	L(full_create_snapshot),
	L(diff_create_snapshot),
	L(load_snapshot),
	L(pause_vm),
	L(resume_vm),
	L(vmm_full_create_snapshot),
	L(vmm_diff_create_snapshot),
	L(vmm_load_snapshot),
	L(vmm_pause_vm),
	L(vmm_resume_vm),
};

static const struct field logger_fields[] = {
	C(logger_metrics, missed_metrics_count),
	C(logger_metrics, metrics_fails),
	C(logger_metrics, missed_log_count),
	C(logger_metrics, rate_limited_log_count),
};

static const struct field mmds_fields[] = {
	Z(rx_accepted),
	Z(rx_accepted_err),
	Z(rx_accepted_unusual),
	Z(rx_bad_eth),
	Z(rx_invalid_token),
	Z(rx_no_token),
	Z(rx_count),
	Z(tx_bytes),
	Z(tx_count),
	Z(tx_errors),
	Z(tx_frames),
	Z(connections_created),
	Z(connections_destroyed),
};

static const struct field net_fields[] = {
	Z(activate_fails),
	Z(cfg_fails),
	Z(no_rx_avail_buffer),
	Z(no_tx_avail_buffer),
	Z(event_fails),
	Z(rx_queue_event_count),
	Z(rx_event_rate_limiter_count),
	Z(rx_rate_limiter_throttled),
	Z(rx_tap_event_count),
	Z(rx_bytes_count),
	Z(rx_packets_count),
	Z(rx_fails),
	Z(rx_count),
	Z(tap_read_fails),
	Z(tap_write_fails),
	Z(tx_bytes_count),
	Z(tx_malformed_frames),
	Z(tx_fails),
	Z(tx_count),
	Z(tx_packets_count),
	Z(tx_queue_event_count),
	Z(tx_rate_limiter_event_count),
	Z(tx_rate_limiter_throttled),
	Z(tx_spoofed_mac_count),
	Z(tx_remaining_reqs_count),
	ZG(tap_write_agg),
};

static const struct field seccomp_fields[] = {
	{"num_faults", STORE, 0},
};

static const struct field signal_fields[] = {
	S(signal_metrics, sigbus),  S(signal_metrics, sigsegv),
	S(signal_metrics, sigxfsz), S(signal_metrics, sigxcpu),
	S(signal_metrics, sigpipe), S(signal_metrics, sighup),
	S(signal_metrics, sigill),
};

static const struct field vcpu_fields[] = {
	C(vcpu_metrics, exit_io_in),
	C(vcpu_metrics, exit_io_out),
	C(vcpu_metrics, exit_mmio_read),
	C(vcpu_metrics, exit_mmio_write),
	C(vcpu_metrics, failures),
	C(vcpu_metrics, kvmclock_ctrl_fails),
	G(vcpu_metrics, exit_io_in_agg),
	G(vcpu_metrics, exit_io_out_agg),
	G(vcpu_metrics, exit_mmio_read_agg),
	G(vcpu_metrics, exit_mmio_write_agg),
};

static const struct field vmm_fields[] = {
	{"panic_count", STORE, 0},
};

static const struct field vsock_fields[] = {
	Z(activate_fails),	 Z(cfg_fails),
	Z(rx_queue_event_fails), Z(tx_queue_event_fails),
	Z(ev_queue_event_fails), Z(muxer_event_fails),
	Z(conn_event_fails),	 Z(rx_queue_event_count),
	Z(tx_queue_event_count), Z(rx_bytes_count),
	Z(tx_bytes_count),	 Z(rx_packets_count),
	Z(tx_packets_count),	 Z(conns_added),
	Z(conns_killed),	 Z(conns_removed),
	Z(killq_resync),	 Z(tx_flush_fails),
	Z(tx_write_fails),	 Z(rx_read_fails),
};

static const struct field entropy_fields[] = {
	Z(activate_fails),	     Z(entropy_event_fails),
	Z(entropy_event_count),	     Z(entropy_bytes),
	Z(host_rng_fails),	     Z(entropy_rate_limiter_throttled),
	Z(rate_limiter_event_count),
};

static const struct field interrupt_fields[] = {
	C(interrupt_metrics, triggers),
	C(interrupt_metrics, config_updates),
};

static const struct field pmem_fields[] = {
	Z(activate_fails),
	Z(cfg_fails),
	Z(event_fails),
	Z(queue_event_count),
	Z(rate_limiter_throttled_events),
	Z(rate_limiter_event_count),
};

static const struct field hotplug_fields[] = {
	Z(activate_fails),   Z(queue_event_fails), Z(queue_event_count),
	Z(plug_count),	     Z(plug_bytes),	   Z(plug_fails),
	ZG(plug_agg),	     Z(unplug_count),	   Z(unplug_bytes),
	Z(unplug_fails),     ZG(unplug_agg),	   Z(unplug_discard_fails),
	Z(state_count),	     Z(state_fails),	   ZG(state_agg),
	Z(unplug_all_count), Z(unplug_all_fails),  ZG(unplug_all_agg),
};

#define SECTION(name, member, fields)                                          \
	{                                                                      \
		name, offsetof(struct metrics, member), fields,                \
			ARRAY_SIZE(fields)                                     \
	}
#define ABSENT_SECTION(name, fields)                                           \
	{                                                                      \
		name, 0, fields, ARRAY_SIZE(fields)                            \
	}

/* Of one device, and of the sum over all: printed apart from the others. */
static const struct section block_section = {
	"block",
	0,
	block_fields,
	ARRAY_SIZE(block_fields),
};

static const struct section sections[] = {
	SECTION("api_server", api_server, api_server_fields),
	ABSENT_SECTION("balloon", balloon_fields),
	SECTION("deprecated_api", deprecated_http_api_calls, deprecated_fields),
	SECTION("get_api_requests", get_api, get_api_fields),
	SECTION("put_api_requests", put_api, put_api_fields),
	SECTION("patch_api_requests", patch_api, patch_api_fields),
	SECTION("i8042", i8042, i8042_fields),
	SECTION("uart", uart, uart_fields),
	SECTION("latencies_us", latencies_us, latency_fields),
	SECTION("logger", logger, logger_fields),
	ABSENT_SECTION("mmds", mmds_fields),
	ABSENT_SECTION("net", net_fields),
	SECTION("seccomp", seccomp_num_faults, seccomp_fields),
	SECTION("signals", signals, signal_fields),
	SECTION("vcpu", vcpu, vcpu_fields),
	SECTION("vmm", vmm_panic_count, vmm_fields),
	ABSENT_SECTION("vsock", vsock_fields),
	ABSENT_SECTION("entropy", entropy_fields),
	SECTION("interrupts", interrupts, interrupt_fields),
	ABSENT_SECTION("pmem", pmem_fields),
	ABSENT_SECTION("memory_hotplug", hotplug_fields),
};

/* ----------------------------------------------------------- taking values */

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

/* Shrinks or grows an extreme until it is as far out as @us. */
static void widen(_Atomic uint64_t *extreme, uint64_t us, bool lower)
{
	uint64_t old = load(extreme);

	while ((old == 0 || (lower ? us < old : us > old)) &&
	       !atomic_compare_exchange_weak(extreme, &old, us))
		;
}

void metric_agg_record(struct metric_agg *agg, uint64_t us)
{
	widen(&agg->min_us, us, true);
	widen(&agg->max_us, us, false);
	metric_add(&agg->sum_us, us);
}

static void look(struct metric *metric)
{
	metric->seen = load(&metric->value);
}

static uint64_t difference(const struct metric *metric)
{
	return metric->seen - metric->flushed;
}

static void mark_flushed(struct metric *metric)
{
	metric->flushed = metric->seen;
}

static bool has_counter(const struct field *field)
{
	return field->kind == COUNT || field->kind == AGG;
}

/* @field must have one. */
static struct metric *counter_of(const struct field *field, void *base)
{
	char *at = (char *)base + field->offset;

	if (field->kind == AGG)
		at += offsetof(struct metric_agg, sum_us);
	return (void *)at;
}

static void each_in_section(const struct section *section, void *base,
			    void (*fn)(struct metric *metric))
{
	for (size_t i = 0; i < section->count; i++)
		if (has_counter(&section->fields[i]))
			fn(counter_of(&section->fields[i], base));
}

static void each_counter(struct metrics *metrics,
			 void (*fn)(struct metric *metric))
{
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		each_in_section(&sections[i],
				(char *)metrics + sections[i].offset, fn);
	for (size_t d = 0; d < metrics->device_count; d++)
		each_in_section(&block_section, metrics->devices[d].block, fn);
}

/* ---------------------------------------------------------------- the line */

struct line {
	size_t len;
	bool overflow;
	char text[LINE_SIZE];
};

static void put(struct line *line, const char *fmt, ...) printf_like(2, 3);

static void put(struct line *line, const char *fmt, ...)
{
	size_t room = sizeof(line->text) - line->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line->text + line->len, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room)
		line->overflow = true;
	else
		line->len += (size_t)n;
}

static void put_agg(struct line *line, uint64_t min, uint64_t max, uint64_t sum)
{
	put(line, "{\"min_us\":%lu,\"max_us\":%lu,\"sum_us\":%lu}",
	    (unsigned long)min, (unsigned long)max, (unsigned long)sum);
}

static void put_field(struct line *line, const struct field *field, void *base)
{
	void *at = (char *)base + field->offset;
	struct metric_agg *agg = at;

	put(line, "\"%s\":", field->name);
	switch (field->kind) {
	case COUNT:
		put(line, "%lu", (unsigned long)difference(at));
		return;
	case STORE:
		put(line, "%lu",
		    (unsigned long)load(
			    &((const struct metric_store *)at)->value));
		return;
	case AGG:
		put_agg(line, load(&agg->min_us), load(&agg->max_us),
			difference(&agg->sum_us));
		return;
	case NO_AGG:
		put_agg(line, 0, 0, 0);
		return;
	case ABSENT:
	default:
		put(line, "0");
		return;
	}
}

static void put_section(struct line *line, const char *name,
			const struct section *section, void *base)
{
	put(line, ",\"%s\":{", name);
	for (size_t i = 0; i < section->count; i++) {
		if (i)
			put(line, ",");
		put_field(line, &section->fields[i], base);
	}
	put(line, "}");
}

static void add_block(struct block_metrics *sum, struct block_metrics *block)
{
	for (size_t i = 0; i < block_section.count; i++) {
		const struct field *field = &block_section.fields[i];

		counter_of(field, sum)->seen +=
			difference(counter_of(field, block));
	}
}

/* The sum over devices has no extremes: they read zero. */
static void put_blocks(struct line *line, const struct metrics *metrics)
{
	struct block_metrics sum;

	memset(&sum, 0, sizeof(sum));
	for (size_t d = 0; d < metrics->device_count; d++)
		add_block(&sum, metrics->devices[d].block);
	put_section(line, "block", &block_section, &sum);
	for (size_t d = 0; d < metrics->device_count; d++)
		put_section(line, metrics->devices[d].key, &block_section,
			    metrics->devices[d].block);
}

static void make_line(struct line *line, struct metrics *metrics)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	put(line, "{\"utc_timestamp_ms\":%lu",
	    (unsigned long)now.tv_sec * 1000 +
		    (unsigned long)now.tv_nsec / 1000000);
	if (metrics->emit_id)
		put(line, ",\"id\":\"%s\"", metrics->id);
	if (metrics->properties_json)
		put(line, ",\"properties\":{%s}", metrics->properties_json);
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		put_section(line, sections[i].name, &sections[i],
			    (char *)metrics + sections[i].offset);
	put_blocks(line, metrics);
	put(line, "}\n");
}

/* ------------------------------------------------------------------- flush */

/*
 * A FIFO takes more than PIPE_BUF bytes in pieces, and half a line would be
 * worse than none. What it can take is counted in pages, and a page is closed
 * when what comes next does not fit into it: two pages may hold as little as
 * one byte more than one. So half a page per page used is what can be counted
 * on.
 */
static bool has_room(int fd, size_t len)
{
	int size = fcntl(fd, F_GETPIPE_SZ);
	int used = 0;
	size_t pages;

	if (size < 0 || ioctl(fd, FIONREAD, &used))
		return true; /* not a FIFO */
	if (used == 0)
		return len <= (size_t)size;
	pages = (size_t)used / (PAGE_SIZE_4K / 2) + len / PAGE_SIZE_4K + 2;
	return pages <= (size_t)size / PAGE_SIZE_4K;
}

static int write_line(struct metrics *metrics, struct line *line)
{
	ssize_t n;

	each_counter(metrics, look);
	make_line(line, metrics);
	if (line->overflow)
		return -EOVERFLOW;
	if (!has_room(metrics->fd, line->len))
		return -EAGAIN;
	n = write(metrics->fd, line->text, line->len);
	if (n < 0)
		return -errno;
	return (size_t)n == line->len ? 0 : -EAGAIN;
}

/* The log keeps its own counts: take them over. */
static void collect_log_counts(struct logger_metrics *logger)
{
	atomic_store(&logger->missed_log_count.value, log_missed_count());
	atomic_store(&logger->rate_limited_log_count.value,
		     log_throttled_count());
}

int metrics_flush(struct metrics *metrics)
{
	struct line line;
	int ret;

	if (metrics->fd < 0)
		return 0;
	line.len = 0;
	line.overflow = false;
	collect_log_counts(&metrics->logger);
	ret = write_line(metrics, &line);
	if (ret == 0)
		each_counter(metrics, mark_flushed);
	else
		metric_inc(ret == -EAGAIN
				   ? &metrics->logger.missed_metrics_count
				   : &metrics->logger.metrics_fails);
	return ret == -EAGAIN ? 0 : ret;
}

/* -------------------------------------------------------------- life cycle */

void metrics_init(struct metrics *metrics, const char *id)
{
	memset(metrics, 0, sizeof(*metrics));
	metrics->fd = -1;
	snprintf(metrics->id, sizeof(metrics->id), "%s", id);
}

void metrics_release(struct metrics *metrics)
{
	close_fd(&metrics->fd);
	free(take_ptr(metrics->properties_json));
}

int metrics_configure(struct metrics *metrics, struct metrics_config *config,
		      struct error *err)
{
	if (metrics->configured)
		return error_set(err, EEXIST,
				 "Cannot initialize the metrics system due to "
				 "bad user input: Reinitialization of metrics "
				 "not allowed.");
	if (config->properties_json &&
	    strlen(config->properties_json) > PROPERTIES_MAX)
		return error_set(err, EINVAL,
				 "Cannot initialize the metrics system due to "
				 "bad user input: properties are longer than "
				 "%d bytes.",
				 PROPERTIES_MAX);
	metrics->fd = open(config->path,
			   O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0644);
	if (metrics->fd < 0)
		return error_set_os(err, errno,
				    "Cannot initialize the metrics system due "
				    "to bad user input: Failed to open target "
				    "file:");
	metrics->configured = true;
	metrics->emit_id = config->emit_id;
	metrics->properties_json = take_ptr(config->properties_json);
	return 0;
}

int metrics_add_block(struct metrics *metrics, const char *id,
		      struct block_metrics *block)
{
	struct metrics_device added = {.block = block};
	size_t i = 0;

	snprintf(added.key, sizeof(added.key), "block_%s", id);
	while (i < metrics->device_count &&
	       strcmp(metrics->devices[i].key, added.key) != 0)
		i++;
	if (i == METRICS_DEVICES_MAX)
		return -ENOSPC;
	metrics->devices[i] = added;
	metrics->device_count = MAX(metrics->device_count, i + 1);
	return 0;
}

void metrics_remove_block(struct metrics *metrics,
			  const struct block_metrics *block)
{
	size_t i = 0;

	while (i < metrics->device_count && metrics->devices[i].block != block)
		i++;
	if (i == metrics->device_count)
		return;
	metrics->device_count--;
	memmove(&metrics->devices[i], &metrics->devices[i + 1],
		(metrics->device_count - i) * sizeof(metrics->devices[0]));
}
