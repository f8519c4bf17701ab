/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The line is made from tables (metrics_schema.h).
 *
 * Counters grow while the line is made. So each is looked at once before
 * (`seen`), the difference to the last flush that reached its target
 * (`flushed`) is printed, and only after a complete write does `flushed` become
 * `seen`. So a sum over devices is the sum of what is printed for them.
 */
#include "vmm/metrics_schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

/* They are in every line: bounded, so that a line is. */
#define PROPERTIES_MAX 4096

/* Room for all sections, METRICS_DEVICES_MAX devices and properties. Too much
 * for a thread's stack; of an allocation only what is used is ever there. */
#define LINE_SIZE KIB(192)

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

static const struct section *section_of(const struct metrics_device *device)
{
	return &metrics_device_sections[device->kind];
}

static void each_counter(struct metrics *metrics,
			 void (*fn)(struct metric *metric))
{
	for (size_t i = 0; i < metrics_section_count; i++)
		each_in_section(&metrics_sections[i],
				(char *)metrics + metrics_sections[i].offset,
				fn);
	for (size_t d = 0; d < metrics->device_count; d++)
		each_in_section(section_of(&metrics->devices[d]),
				metrics->devices[d].counters, fn);
}

/* ---------------------------------------------------------------- the line */

struct line {
	size_t len;
	bool overflow;
	char *text; /* LINE_SIZE bytes */
};

static void put_bytes(struct line *line, const char *bytes, size_t len)
{
	if (len > LINE_SIZE - line->len) {
		line->overflow = true;
		return;
	}
	memcpy(line->text + line->len, bytes, len);
	line->len += len;
}

static void put(struct line *line, const char *text)
{
	put_bytes(line, text, strlen(text));
}

/* A line has three hundred of them and is made while a guest waits for its
 * devices: ten times as fast as printf. */
static void put_number(struct line *line, uint64_t value)
{
	char digits[20]; /* of UINT64_MAX */
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	put_bytes(line, digits + at, sizeof(digits) - at);
}

static void put_agg(struct line *line, uint64_t min, uint64_t max, uint64_t sum)
{
	put(line, "{\"min_us\":");
	put_number(line, min);
	put(line, ",\"max_us\":");
	put_number(line, max);
	put(line, ",\"sum_us\":");
	put_number(line, sum);
	put(line, "}");
}

static void put_field(struct line *line, const struct field *field, void *base)
{
	void *at = (char *)base + field->offset;
	struct metric_agg *agg = at;

	put(line, "\"");
	put(line, field->name);
	put(line, "\":");
	switch (field->kind) {
	case COUNT:
		put_number(line, difference(at));
		return;
	case STORE:
		put_number(line,
			   load(&((const struct metric_store *)at)->value));
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
	put(line, ",\"");
	put(line, name);
	put(line, "\":{");
	for (size_t i = 0; i < section->count; i++) {
		if (i)
			put(line, ",");
		put_field(line, &section->fields[i], base);
	}
	put(line, "}");
}

static void add_to_sum(void *sum, const struct metrics_device *device)
{
	const struct section *section = section_of(device);

	for (size_t i = 0; i < section->count; i++) {
		const struct field *field = &section->fields[i];

		counter_of(field, sum)->seen +=
			difference(counter_of(field, device->counters));
	}
}

/* The sum over devices of a kind has no extremes: they read zero. */
static void put_sum(struct line *line, const struct metrics *metrics,
		    enum metrics_device_kind kind)
{
	union {
		struct block_metrics block;
		struct net_metrics net;
	} sum;

	memset(&sum, 0, sizeof(sum));
	for (size_t d = 0; d < metrics->device_count; d++)
		if (metrics->devices[d].kind == kind)
			add_to_sum(&sum, &metrics->devices[d]);
	put_section(line, metrics_device_sections[kind].name,
		    &metrics_device_sections[kind], &sum);
}

static void put_devices(struct line *line, const struct metrics *metrics)
{
	for (size_t kind = 0; kind < METRICS_DEVICE_KINDS; kind++)
		if (kind != METRICS_VHOST_USER_BLOCK)
			put_sum(line, metrics, (enum metrics_device_kind)kind);
	for (size_t d = 0; d < metrics->device_count; d++)
		put_section(line, metrics->devices[d].key,
			    section_of(&metrics->devices[d]),
			    metrics->devices[d].counters);
}

static void make_line(struct line *line, struct metrics *metrics)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	put(line, "{\"utc_timestamp_ms\":");
	put_number(line, (uint64_t)now.tv_sec * 1000 +
				 (uint64_t)now.tv_nsec / 1000000);
	if (metrics->emit_id) {
		put(line, ",\"id\":\"");
		put(line, metrics->id);
		put(line, "\"");
	}
	if (metrics->properties_json) {
		put(line, ",\"properties\":{");
		put(line, metrics->properties_json);
		put(line, "}");
	}
	for (size_t i = 0; i < metrics_section_count; i++)
		put_section(line, metrics_sections[i].name,
			    &metrics_sections[i],
			    (char *)metrics + metrics_sections[i].offset);
	put_devices(line, metrics);
	if (metrics->emit_snapshot_phases)
		put_section(line, metrics_phase_section.name,
			    &metrics_phase_section,
			    (char *)metrics + metrics_phase_section.offset);
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

static int flush(struct metrics *metrics, char *text)
{
	struct line line = {.text = text};
	int ret;

	if (metrics->fd < 0)
		return 0;
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

int metrics_flush(struct metrics *metrics)
{
	return flush(metrics, metrics->lines);
}

int metrics_flush_last(struct metrics *metrics)
{
	return flush(metrics, metrics->lines + LINE_SIZE);
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
	free(take_ptr(metrics->lines));
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
	if (!metrics->lines)
		metrics->lines = malloc(2 * LINE_SIZE);
	if (!metrics->lines)
		return error_set_os(err, ENOMEM,
				    "Cannot initialize the metrics system:");
	metrics->fd = open(config->path,
			   O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0644);
	if (metrics->fd < 0)
		return error_set_os(err, errno,
				    "Cannot initialize the metrics system due "
				    "to bad user input: Failed to open target "
				    "file:");
	metrics->configured = true;
	metrics->emit_id = config->emit_id;
	metrics->emit_snapshot_phases = config->emit_snapshot_phases;
	metrics->properties_json = take_ptr(config->properties_json);
	return 0;
}

/* Cuts a key that was too long at the end of a letter: half of one would be no
 * JSON. */
static void cut_key(char *key, size_t len)
{
	while (len && (key[len - 1] & 0xc0) == 0x80)
		len--;
	if (len && key[len - 1] & 0x80)
		key[len - 1] = '\0';
}

int metrics_add_device(struct metrics *metrics, enum metrics_device_kind kind,
		       const char *id, void *counters)
{
	struct metrics_device added = {.kind = kind, .counters = counters};
	size_t i = 0;

	if (snprintf(added.key, sizeof(added.key), "%s_%s",
		     metrics_device_sections[kind].name,
		     id) >= (int)sizeof(added.key))
		cut_key(added.key, sizeof(added.key) - 1);
	while (i < metrics->device_count &&
	       strcmp(metrics->devices[i].key, added.key) != 0)
		i++;
	if (i == METRICS_DEVICES_MAX)
		return -ENOSPC;
	metrics->devices[i] = added;
	metrics->device_count = MAX(metrics->device_count, i + 1);
	return 0;
}

void metrics_remove_device(struct metrics *metrics, const void *counters)
{
	size_t i = 0;

	while (i < metrics->device_count &&
	       metrics->devices[i].counters != counters)
		i++;
	if (i == metrics->device_count)
		return;
	metrics->device_count--;
	memmove(&metrics->devices[i], &metrics->devices[i + 1],
		(metrics->device_count - i) * sizeof(metrics->devices[0]));
}
