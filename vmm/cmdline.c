/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmdline.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char cmdline_default[] =
	"reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux "
	"i8042.dumbkbd swiotlb=noforce";

static int invalid(struct error *err, const char *why)
{
	return error_set(err, EINVAL, "The kernel command line is invalid: %s",
			 why);
}

static bool printable(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

int cmdline_init(struct cmdline *cmdline, const char *args, struct error *err)
{
	size_t len;

	if (!args)
		args = cmdline_default;
	len = strlen(args);
	if (len >= sizeof(cmdline->text))
		return invalid(err, "it is longer than 2047 characters");
	if (!printable(args))
		return invalid(err, "it has a character that is not printable "
				    "ASCII");
	memcpy(cmdline->text, args, len + 1);
	cmdline->len = len;
	return 0;
}

/* Where the kernel's part ends: at a `--` that stands alone, or at the end. */
static size_t kernel_part(const struct cmdline *cmdline)
{
	const char *text = cmdline->text;
	const char *at = text;

	while ((at = strstr(at, "--"))) {
		bool starts = at == text || at[-1] == ' ';
		bool ends = at[2] == '\0' || at[2] == ' ';

		if (starts && ends)
			return (size_t)(at - text);
		at += 2;
	}
	return cmdline->len;
}

/* Puts @len bytes into the text at @at. */
static int insert(struct cmdline *cmdline, size_t at, const char *text,
		  size_t len, struct error *err)
{
	if (len >= sizeof(cmdline->text) - cmdline->len)
		return invalid(err, "with what the monitor adds it is longer "
				    "than 2047 characters");
	memmove(cmdline->text + at + len, cmdline->text + at,
		cmdline->len - at + 1);
	memcpy(cmdline->text + at, text, len);
	cmdline->len += len;
	return 0;
}

int cmdline_append(struct cmdline *cmdline, struct error *err, const char *fmt,
		   ...)
{
	char word[256];
	size_t at = kernel_part(cmdline);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(word + 1, sizeof(word) - 2, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(word) - 2 || !printable(word + 1))
		return invalid(err, "a parameter that the monitor adds is too "
				    "long or not printable");
	/* In front of a separator the space belongs behind the word. */
	if (at < cmdline->len) {
		word[n + 1] = ' ';
		return insert(cmdline, at, word + 1, (size_t)n + 1, err);
	}
	word[0] = ' ';
	return insert(cmdline, at, cmdline->len ? word : word + 1,
		      (size_t)n + (cmdline->len ? 1 : 0), err);
}

bool cmdline_has(const struct cmdline *cmdline, const char *word)
{
	size_t end = kernel_part(cmdline);
	size_t len = strlen(word);
	const char *text = cmdline->text;
	const char *at = text;

	while ((at = strstr(at, word)) && (size_t)(at - text) + len <= end) {
		bool starts = at == text || at[-1] == ' ';
		bool ends = at[len] == '\0' || at[len] == ' ';

		if (starts && ends)
			return true;
		at += len;
	}
	return false;
}
