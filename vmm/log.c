/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define ID_MAX 64
#define MODULE_MAX 64
#define LINE_MAX_BYTES 8192
#define THROTTLE_WINDOW_NS UINT64_C(5000000000)
#define THROTTLE_LINES 10

/* The process-wide sink. The lock guards what log_configure replaces. */
static struct {
	pthread_mutex_t lock;
	_Atomic int level;
	_Atomic int fd;
	bool show_level, show_origin;
	char module[MODULE_MAX];
	char id[ID_MAX + 1];
	_Atomic uint64_t missed, throttled;
} sink = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.level = LOG_LEVEL_INFO,
	.fd = STDOUT_FILENO,
};

static const struct {
	const char *name;
	enum log_level level;
} level_names[] = {
	{"OFF", LOG_LEVEL_OFF},	     {"ERROR", LOG_LEVEL_ERROR},
	{"WARN", LOG_LEVEL_WARN},    {"INFO", LOG_LEVEL_INFO},
	{"DEBUG", LOG_LEVEL_DEBUG},  {"TRACE", LOG_LEVEL_TRACE},
	{"WARNING", LOG_LEVEL_WARN},
};

void log_set_id(const char *id)
{
	pthread_mutex_lock(&sink.lock);
	snprintf(sink.id, sizeof(sink.id), "%s", id);
	pthread_mutex_unlock(&sink.lock);
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (strcasecmp(level_names[i].name, name) != 0)
			continue;
		*ret_level = level_names[i].level;
		return true;
	}
	return false;
}

/* O_RDWR: a FIFO opens without a reader, and never raises SIGPIPE. */
static int open_target(const char *path, struct error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0644);

	if (fd < 0)
		return error_set_os(err, errno, "Failed to open target file:");
	return fd;
}

int log_configure(const struct log_config *config, struct error *err)
{
	int fd = -1;
	int old = -1;

	if (config->module && strlen(config->module) >= MODULE_MAX)
		return error_set(err, EINVAL,
				 "module is longer than %d characters",
				 MODULE_MAX - 1);
	if (config->path) {
		fd = open_target(config->path, err);
		if (fd < 0)
			return fd;
	}
	pthread_mutex_lock(&sink.lock);
	if (fd >= 0)
		old = atomic_exchange(&sink.fd, fd);
	atomic_store(&sink.level, (int)config->level);
	sink.show_level = config->show_level;
	sink.show_origin = config->show_origin;
	snprintf(sink.module, sizeof(sink.module), "%s",
		 config->module ? config->module : "");
	pthread_mutex_unlock(&sink.lock);
	if (old > STDERR_FILENO)
		close(old);
	return 0;
}

uint64_t log_missed_count(void)
{
	return atomic_load(&sink.missed);
}

uint64_t log_throttled_count(void)
{
	return atomic_load(&sink.throttled);
}

bool log_enabled(enum log_level level)
{
	return (int)level <=
	       atomic_load_explicit(&sink.level, memory_order_relaxed);
}

/* Appends to a bounded line; what does not fit is cut. */
static size_t append(char *line, size_t len, const char *fmt, ...)
	printf_like(3, 4);

static size_t append(char *line, size_t len, const char *fmt, ...)
{
	size_t room = LINE_MAX_BYTES - 1 - len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line + len, room, fmt, ap);
	va_end(ap);
	return n < 0 ? len : len + MIN((size_t)n, room - 1);
}

/* `2026-01-31T12:00:00.123456789 [id:thread:LEVEL:file:line] ` */
static size_t append_head(char *line, enum log_level level, const char *file,
			  int number)
{
	char thread[16] = "";
	struct timespec now;
	struct tm local;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	pthread_getname_np(pthread_self(), thread, sizeof(thread));
	len = strftime(line, LINE_MAX_BYTES, "%Y-%m-%dT%H:%M:%S", &local);
	len = append(line, len, ".%09ld [%s:%s", now.tv_nsec, sink.id, thread);
	if (sink.show_level)
		len = append(line, len, ":%s", level_names[level].name);
	if (sink.show_origin)
		len = append(line, len, ":%s:%d", file, number);
	return append(line, len, "] ");
}

/* One write per line, so that lines of several processes don't mix. */
static void emit(const char *line, size_t len)
{
	if (write(atomic_load(&sink.fd), line, len) != (ssize_t)len)
		atomic_fetch_add(&sink.missed, 1);
}

void log_write(enum log_level level, const char *file, int line,
	       const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;
	size_t len, room;
	int n;

	pthread_mutex_lock(&sink.lock);
	if (strncmp(file, sink.module, strlen(sink.module)) == 0) {
		len = append_head(text, level, file, line);
		room = sizeof(text) - 1 - len;
		va_start(ap, fmt);
		n = vsnprintf(text + len, room, fmt, ap);
		va_end(ap);
		len += n < 0 ? 0 : MIN((size_t)n, room - 1);
		text[len++] = '\n';
		emit(text, len);
	}
	pthread_mutex_unlock(&sink.lock);
}

bool log_throttle_pass(struct log_throttle *throttle, const char *file,
		       int line)
{
	uint64_t now = monotonic_ns();
	uint64_t start = atomic_load(&throttle->window_start_ns);
	uint32_t count;

	if (start == 0 || now - start >= THROTTLE_WINDOW_NS) {
		/* Whoever moves the window reports what the last one ate. */
		if (!atomic_compare_exchange_strong(&throttle->window_start_ns,
						    &start, now))
			return false;
		count = atomic_exchange(&throttle->count, 1);
		if (count > THROTTLE_LINES)
			log_write(LOG_LEVEL_WARN, file, line,
				  "%u messages were suppressed here",
				  count - THROTTLE_LINES);
		return true;
	}
	if (atomic_fetch_add(&throttle->count, 1) < THROTTLE_LINES)
		return true;
	atomic_fetch_add(&sink.throttled, 1);
	return false;
}

void log_write_raw(const char *text)
{
	size_t len = strlen(text);

	if (write(atomic_load(&sink.fd), text, len) != (ssize_t)len)
		atomic_fetch_add(&sink.missed, 1);
}
