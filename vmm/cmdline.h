/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line: what the client gave (or the default), plus what
 * the monitor appends. Appended parameters go before a ` -- ` that separates
 * kernel from init arguments.
 */
#ifndef EMBER_CMDLINE_H
#define EMBER_CMDLINE_H

#include "vmm/error.h"
#include "vmm/memmap_x86.h"

#include <stdbool.h>

struct cmdline {
	char text[MEMMAP_CMDLINE_MAX];
	size_t len;
};

extern const char cmdline_default[];

/* @args NULL: the default. -EINVAL with a sentence for text that is too long
 * or has characters a command line cannot carry. */
int cmdline_init(struct cmdline *cmdline, const char *args,
		 struct error *err) must_check;

/* Appends one parameter, with a space in front. */
int cmdline_append(struct cmdline *cmdline, struct error *err, const char *fmt,
		   ...) printf_like(3, 4) must_check;

/* True when @word stands alone in the kernel's part, e.g. "acpi=off". */
bool cmdline_has(const struct cmdline *cmdline, const char *word);

#endif
