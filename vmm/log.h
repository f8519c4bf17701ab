/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line per event, in the format log readers already parse:
 *
 *   2026-01-31T12:00:00.123456789 [id:thread[:LEVEL][:file:line]] message
 *
 * Local time. Lines go to stdout until a target is set, then only there. The
 * target is opened non-blocking; a line that does not fit is dropped and
 * counted. The sink is the one piece of process-wide mutable state (a signal
 * handler needs it too). Any thread may log; lines are written with one write.
 */
#ifndef EMBER_LOG_H
#define EMBER_LOG_H

#include "vmm/error.h"

#include <stdatomic.h>
#include <stdbool.h>

enum log_level {
	LOG_LEVEL_OFF,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE,
};

/* What PUT /logger and the command line may set. NULL strings are absent. */
struct log_config {
	char *path;
	enum log_level level;
	bool show_level;
	bool show_origin;
	char *module; /* only origins with this prefix, e.g. "virtio/block" */
};

/* Names this process in every line. @id is copied (at most 64 bytes). */
void log_set_id(const char *id);

/* Case-insensitive name to level; false when there is no such level. */
bool log_level_parse(const char *name, enum log_level *ret_level);

/* Applies @config. On failure (the target cannot be opened) nothing changes
 * and @err says why. Thread: loop, or main before the loop runs. */
int log_configure(const struct log_config *config,
		  struct error *err) must_check;

/* Lines lost because the target was full, and suppressed by throttles. */
uint64_t log_missed_count(void);
uint64_t log_throttled_count(void);

bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *file, int line,
	       const char *fmt, ...) printf_like(4, 5);

#define log_at(level, ...)                                                     \
	do {                                                                   \
		if (log_enabled(level))                                        \
			log_write(level, __FILE__, __LINE__, __VA_ARGS__);     \
	} while (0)
#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * For messages a guest can provoke: at most 10 lines per 5 s and call site,
 * then one line says how many were left out. The throttle is per call site and
 * lives beside it.
 */
struct log_throttle {
	_Atomic uint64_t window_start_ns;
	_Atomic uint32_t count;
};
bool log_throttle_pass(struct log_throttle *throttle, const char *file,
		       int line);
#define log_guest_at(level, ...)                                               \
	do {                                                                   \
		static struct log_throttle throttle_;                          \
		if (log_enabled(level) &&                                      \
		    log_throttle_pass(&throttle_, __FILE__, __LINE__))         \
			log_write(level, __FILE__, __LINE__, __VA_ARGS__);     \
	} while (0)
#define log_guest(...) log_guest_at(LOG_LEVEL_WARN, __VA_ARGS__)

/* Async-signal-safe: writes @text, which must end in a newline, to the
 * target without a time stamp. For fatal signal handlers only. */
void log_write_raw(const char *text);

#endif
