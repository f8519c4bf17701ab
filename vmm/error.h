/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sentence a client reads when a request fails.
 *
 * Functions reachable from the API take a caller-allocated struct error, which
 * is filled once, by the deepest function that knows the story; callers above
 * may put a prefix in front. Functions still return 0 or -errno; the struct
 * only carries the text. No allocation, no thread rules.
 */
#ifndef EMBER_ERROR_H
#define EMBER_ERROR_H

#include "vmm/util.h"

#include <stdbool.h>

#define ERROR_TEXT_MAX 1024

struct error {
	int code;      /* positive errno, 0 while nothing went wrong */
	bool complete; /* clients know the sentence as it stands */
	char text[ERROR_TEXT_MAX];
};

/* Sets text and code; returns -@code, so `return error_set(err, EINVAL, ...)`.
 * A NULL @err is allowed: the text is dropped. Too long a text is cut. */
int error_set(struct error *err, int code, const char *fmt, ...)
	printf_like(3, 4);

/* As error_set, for a sentence that the API must not put its prefix in front
 * of. No errno says so: any of them may as well come from the host. */
int error_set_complete(struct error *err, int code, const char *fmt, ...)
	printf_like(3, 4);

/* As error_set, followed by ` TEXT (os error N)` for @code, in the wording
 * that clients compare with (see os_error_text). End @fmt with a colon. */
int error_set_os(struct error *err, int code, const char *fmt, ...)
	printf_like(3, 4);

/* Puts text in front of what is already there, which is not complete then;
 * returns -err->code. */
int error_prefix(struct error *err, const char *fmt, ...) printf_like(2, 3);

/* The musl libc wording of an errno (`Out of memory`, `Resource busy`), which
 * the contract's clients look for; falls back to the host's strerror. */
const char *os_error_text(int code);

#endif
