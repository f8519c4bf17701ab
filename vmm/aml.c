/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/aml.h"

#include <string.h>

/* Op codes (20.3). */
enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME_PREFIX = 0x2e,
	OP_EXTENDED = 0x5b,
	OP_ARG0 = 0x68,
	OP_NOTIFY = 0x86,
	OP_EQUAL = 0x93,
	OP_IF = 0xa0,
	OP_EXTENDED_DEVICE = 0x82,
};

/* Resource descriptors (6.4.2, 6.4.3). */
enum {
	RESOURCE_IRQ_NO_FLAGS = 0x22,
	RESOURCE_IO = 0x47,
	RESOURCE_END_TAG = 0x79,
	RESOURCE_MEMORY32_FIXED = 0x86,
	RESOURCE_INTERRUPT = 0x89,
};

#define NAME_SEGMENT_LEN 4

/* A package length takes 1 to 4 bytes. It is not known when an object begins,
 * so three are kept free: enough for 1 MiB. */
#define PKG_LENGTH_BYTES 3

void aml_init(struct aml *aml, void *buf, size_t size)
{
	*aml = (struct aml){.buf = buf, .size = size};
}

static void put_bytes(struct aml *aml, const void *bytes, size_t len)
{
	if (len > aml->size - aml->len) {
		aml->overflow = true;
		return;
	}
	memcpy(aml->buf + aml->len, bytes, len);
	aml->len += len;
}

static void put8(struct aml *aml, uint8_t value)
{
	put_bytes(aml, &value, sizeof(value));
}

static void put16(struct aml *aml, uint16_t value)
{
	le16 le = le16_make(value);

	put_bytes(aml, &le, sizeof(le));
}

static void put32(struct aml *aml, uint32_t value)
{
	le32 le = le32_make(value);

	put_bytes(aml, &le, sizeof(le));
}

static void put64(struct aml *aml, uint64_t value)
{
	le64 le = le64_make(value);

	put_bytes(aml, &le, sizeof(le));
}

/* Padded with underscores (5.3). */
static void put_name_segment(struct aml *aml, const char *name, size_t len)
{
	char segment[NAME_SEGMENT_LEN] = {'_', '_', '_', '_'};

	memcpy(segment, name, MIN(len, sizeof(segment)));
	put_bytes(aml, segment, sizeof(segment));
}

/* A root prefix and one or two segments (20.2.2). */
static void put_name(struct aml *aml, const char *name)
{
	const char *dot;

	if (*name == '\\') {
		put8(aml, '\\');
		name++;
	}
	dot = strchr(name, '.');
	if (dot) {
		put8(aml, OP_DUAL_NAME_PREFIX);
		put_name_segment(aml, name, (size_t)(dot - name));
		name = dot + 1;
	}
	put_name_segment(aml, name, strlen(name));
}

/* ----------------------------------------------------------------- objects */

static size_t begin_package(struct aml *aml)
{
	static const uint8_t room[PKG_LENGTH_BYTES];
	size_t mark = aml->len;

	put_bytes(aml, room, sizeof(room));
	return mark;
}

size_t aml_begin_scope(struct aml *aml, const char *name)
{
	size_t mark;

	put8(aml, OP_SCOPE);
	mark = begin_package(aml);
	put_name(aml, name);
	return mark;
}

size_t aml_begin_device(struct aml *aml, const char *name)
{
	size_t mark;

	put8(aml, OP_EXTENDED);
	put8(aml, OP_EXTENDED_DEVICE);
	mark = begin_package(aml);
	put_name(aml, name);
	return mark;
}

/* 20.2.4: the lead byte has the number of bytes that follow in its upper two
 * bits and the lowest four of the length; the length counts itself. */
void aml_end(struct aml *aml, size_t mark)
{
	size_t len = aml->len - mark;

	if (aml->overflow)
		return;
	if (len >> 20) {
		aml->overflow = true;
		return;
	}
	aml->buf[mark] = (uint8_t)((PKG_LENGTH_BYTES - 1) << 6 | (len & 0xf));
	aml->buf[mark + 1] = (uint8_t)(len >> 4);
	aml->buf[mark + 2] = (uint8_t)(len >> 12);
}

/* ------------------------------------------------------------------ values */

static void put_integer(struct aml *aml, uint64_t value)
{
	if (value <= 1) {
		put8(aml, value ? OP_ONE : OP_ZERO);
	} else if (value <= UINT8_MAX) {
		put8(aml, OP_BYTE);
		put8(aml, (uint8_t)value);
	} else if (value <= UINT16_MAX) {
		put8(aml, OP_WORD);
		put16(aml, (uint16_t)value);
	} else if (value <= UINT32_MAX) {
		put8(aml, OP_DWORD);
		put32(aml, (uint32_t)value);
	} else {
		put8(aml, OP_QWORD);
		put64(aml, value);
	}
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
	put8(aml, OP_NAME);
	put_name(aml, name);
	put_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *value)
{
	put8(aml, OP_NAME);
	put_name(aml, name);
	put8(aml, OP_STRING);
	put_bytes(aml, value, strlen(value) + 1);
}

static uint32_t hex_digit(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits and four digits of four, big-endian. */
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
	uint32_t value = (uint32_t)(id[0] - '@') << 26 |
			 (uint32_t)(id[1] - '@') << 21 |
			 (uint32_t)(id[2] - '@') << 16 |
			 hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 |
			 hex_digit(id[5]) << 4 | hex_digit(id[6]);

	put8(aml, OP_NAME);
	put_name(aml, name);
	put8(aml, OP_DWORD);
	put32(aml, __builtin_bswap32(value));
}

void aml_name_package(struct aml *aml, const char *name, const uint32_t *values,
		      uint8_t count)
{
	size_t mark;

	put8(aml, OP_NAME);
	put_name(aml, name);
	put8(aml, OP_PACKAGE);
	mark = begin_package(aml);
	put8(aml, count);
	for (uint8_t i = 0; i < count; i++)
		put_integer(aml, values[i]);
	aml_end(aml, mark);
}

/* ----------------------------------------------------------------- methods */

size_t aml_begin_method(struct aml *aml, const char *name, uint8_t arg_count)
{
	enum { SERIALIZED = 1 << 3 };
	size_t mark;

	put8(aml, OP_METHOD);
	mark = begin_package(aml);
	put_name(aml, name);
	put8(aml, arg_count | SERIALIZED);
	return mark;
}

size_t aml_begin_if_arg0(struct aml *aml, uint64_t value)
{
	size_t mark;

	put8(aml, OP_IF);
	mark = begin_package(aml);
	put8(aml, OP_EQUAL);
	put8(aml, OP_ARG0);
	put_integer(aml, value);
	return mark;
}

void aml_notify(struct aml *aml, const char *name, uint8_t value)
{
	put8(aml, OP_NOTIFY);
	put_name(aml, name);
	put_integer(aml, value);
}

/* --------------------------------------------------------------- resources */

/* The buffer's size comes before its bytes: kept free as a word, too. */
#define BUFFER_SIZE_BYTES (1 + sizeof(uint16_t))

size_t aml_begin_resources(struct aml *aml)
{
	size_t mark;

	put8(aml, OP_NAME);
	put_name(aml, "_CRS");
	put8(aml, OP_BUFFER);
	mark = begin_package(aml);
	put8(aml, OP_WORD);
	put16(aml, 0);
	return mark;
}

void aml_end_resources(struct aml *aml, size_t mark)
{
	size_t start = mark + PKG_LENGTH_BYTES + BUFFER_SIZE_BYTES;
	le16 size;

	put8(aml, RESOURCE_END_TAG);
	put8(aml, 0); /* no checksum */
	if (aml->overflow)
		return;
	size = le16_make((uint16_t)(aml->len - start));
	memcpy(aml->buf + start - sizeof(size), &size, sizeof(size));
	aml_end(aml, mark);
}

void aml_memory32_fixed(struct aml *aml, uint32_t base, uint32_t len)
{
	put8(aml, RESOURCE_MEMORY32_FIXED);
	put16(aml, 9);
	put8(aml, 1); /* read and write */
	put32(aml, base);
	put32(aml, len);
}

void aml_io(struct aml *aml, uint16_t base, uint8_t len)
{
	put8(aml, RESOURCE_IO);
	put8(aml, 1); /* decodes 16 bits */
	put16(aml, base);
	put16(aml, base);
	put8(aml, 1); /* alignment */
	put8(aml, len);
}

void aml_irq_no_flags(struct aml *aml, unsigned irq)
{
	put8(aml, RESOURCE_IRQ_NO_FLAGS);
	put16(aml, (uint16_t)(1u << irq));
}

void aml_interrupt(struct aml *aml, uint32_t gsi)
{
	put8(aml, RESOURCE_INTERRUPT);
	put16(aml, 6);
	put8(aml, 3); /* consumer, edge; active high, exclusive are zero */
	put8(aml, 1); /* one interrupt */
	put32(aml, gsi);
}
