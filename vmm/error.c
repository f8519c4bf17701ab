/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Where musl's wording differs from glibc's. */
static const struct {
	int code;
	const char *text;
} musl_texts[] = {
	{ENOMEM, "Out of memory"},
	{EMFILE, "No file descriptors available"},
	{EBUSY, "Resource busy"},
	{ENOTTY, "Not a tty"},
	{ENXIO, "No such device or address"},
	{EADDRINUSE, "Address in use"},
	{EADDRNOTAVAIL, "Address not available"},
	{ENOTCONN, "Socket not connected"},
	{EIO, "I/O error"},
	{ELOOP, "Symbolic link loop"},
	{ENAMETOOLONG, "Filename too long"},
	{ESPIPE, "Invalid seek"},
	{ETIMEDOUT, "Operation timed out"},
	{ENOTSUP, "Not supported"},
	{EOVERFLOW, "Value too large for data type"},
	{EXDEV, "Cross-device link"},
};

const char *os_error_text(int code)
{
	const char *text;

	for (size_t i = 0; i < ARRAY_SIZE(musl_texts); i++)
		if (musl_texts[i].code == code)
			return musl_texts[i].text;
	text = strerrordesc_np(code);
	return text ? text : "No error information";
}

/* Appends to err->text; an over-long text is cut, never overrun. */
static void append(struct error *err, const char *fmt, va_list ap)
	printf_like(2, 0);

static void append(struct error *err, const char *fmt, va_list ap)
{
	size_t len = strlen(err->text);

	vsnprintf(err->text + len, sizeof(err->text) - len, fmt, ap);
}

static void append_os(struct error *err, const char *fmt, ...)
	printf_like(2, 3);

static void append_os(struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	append(err, fmt, ap);
	va_end(ap);
}

static void set(struct error *err, int code, const char *fmt, va_list ap)
	printf_like(3, 0);

static void set(struct error *err, int code, const char *fmt, va_list ap)
{
	err->code = code;
	err->complete = false;
	err->text[0] = '\0';
	append(err, fmt, ap);
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -code;
	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	return -code;
}

int error_set_complete(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -code;
	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	err->complete = true;
	return -code;
}

int error_set_os(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -code;
	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	append_os(err, " %s (os error %d)", os_error_text(code), code);
	return -code;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char rest[ERROR_TEXT_MAX];
	va_list ap;

	if (!err)
		return -EINVAL;
	memcpy(rest, err->text, sizeof(rest));
	err->complete = false;
	err->text[0] = '\0';
	va_start(ap, fmt);
	append(err, fmt, ap);
	va_end(ap);
	append_os(err, "%s", rest);
	return -err->code;
}
