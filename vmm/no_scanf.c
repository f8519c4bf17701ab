/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where TZ is set, libc reads its rules ("CET-1CEST,M3.5.0,M10.5.0/3") with
 * sscanf, which nothing else in the monitor uses. libc's own knows four kinds
 * of floating point numbers and is 80 KB of a static program; this one knows
 * the two conversions that are wanted, %hu and %n.
 */
#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>

/* What <stdio.h> calls sscanf in the version of the C standard we use. */
int __isoc99_sscanf(const char *text, const char *format, ...)
	__attribute__((visibility("default")));

/* The number at *@text, at most USHRT_MAX; false if there is none. */
static _Bool read_number(const char **text, unsigned short *ret_number)
{
	unsigned number = 0;

	if (!isdigit((unsigned char)**text))
		return 0;
	for (; isdigit((unsigned char)**text); (*text)++) {
		number = number * 10 + (unsigned)(**text - '0');
		if (number > USHRT_MAX)
			number = USHRT_MAX;
	}
	*ret_number = (unsigned short)number;
	return 1;
}

int __isoc99_sscanf(const char *text, const char *format, ...)
{
	const char *at = text;
	int count = 0;
	va_list args;

	va_start(args, format);
	while (*format) {
		if (!strncmp(format, "%hu", 3)) {
			if (!read_number(&at, va_arg(args, unsigned short *)))
				break;
			format += 3;
			count++;
		} else if (!strncmp(format, "%n", 2)) {
			*va_arg(args, int *) = (int)(at - text);
			format += 2;
		} else if (*format++ != *at++) {
			break;
		}
	}
	va_end(args);
	return count;
}
