/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a microVM as bytes: what is in a snapshot's state file.
 *
 *   magic "EMBERVM\n" | le16 major | le16 minor | le32 section count
 *   sections, each:  le32 tag | le16 version | le16 instance | le32 length |
 *                    that many bytes
 *   le32 CRC (zlib's) of all before it
 *
 * Sections hold fields one after the other, little-endian, without padding. A
 * reader accepts its own major version and minor versions up to its own; what a
 * section lacks compared to the reader's version is the business of whoever
 * loads it. Structures of KVM's interface are kept as the kernel defines them,
 * with their size in front.
 *
 * A writer grows and remembers that it ran out of memory; a reader gives zeros
 * once it ran out of bytes, and remembers that. Either is asked once, at the
 * end. Bytes come from an adversary: nothing here trusts a length. Any thread.
 */
#ifndef EMBER_STATE_H
#define EMBER_STATE_H

#include "vmm/error.h"

#include <stdbool.h>

#define STATE_VERSION_MAJOR 1
#define STATE_VERSION_MINOR 1

/* A state file is at most this long. */
#define STATE_SIZE_MAX MIB(10)

/* Tags are four letters. */
#define STATE_TAG(a, b, c, d)                                                  \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 |            \
	 (uint32_t)(d) << 24)

/* ------------------------------------------------------------------ writing */

struct state_writer {
	uint8_t *bytes;
	size_t len, size;
	size_t section; /* start of the open one */
	uint32_t section_count;
	bool failed; /* no memory, or longer than STATE_SIZE_MAX */
};

void state_writer_init(struct state_writer *writer);
void state_writer_release(struct state_writer *writer);

/* Sections do not nest. @instance: 0 where there is only one of a kind. */
void state_begin(struct state_writer *writer, uint32_t tag, uint16_t version,
		 uint16_t instance);
void state_end(struct state_writer *writer);

void state_put(struct state_writer *writer, const void *data, size_t len);
void state_put_u8(struct state_writer *writer, uint8_t value);
void state_put_u16(struct state_writer *writer, uint16_t value);
void state_put_u32(struct state_writer *writer, uint32_t value);
void state_put_u64(struct state_writer *writer, uint64_t value);
/* le32 length in front; NULL is told from "" */
void state_put_string(struct state_writer *writer, const char *text);
/* le32 length in front */
void state_put_blob(struct state_writer *writer, const void *data, size_t len);

/* Adds head and CRC. 0 or -ENOMEM, -EFBIG. */
int state_writer_finish(struct state_writer *writer) must_check;

/* ------------------------------------------------------------------ reading */

/* One section, read from front to back. */
struct state_reader {
	const uint8_t *at;
	size_t left;
	uint32_t tag;
	uint16_t version, instance;
	bool failed;
};

struct state_file {
	uint8_t *bytes;
	size_t len;
	uint16_t major, minor;
	uint32_t section_count;
};

/* Checks magic, version, CRC and the lengths of all sections. Takes @bytes
 * (malloc) in any case. -EINVAL with a sentence. */
int state_file_parse(struct state_file *file, uint8_t *bytes, size_t len,
		     struct error *err) must_check;

/* The same for an open file, read from its start. */
int state_file_read(struct state_file *file, int fd,
		    struct error *err) must_check;
void state_file_release(struct state_file *file);

/* The section with that tag and instance; false if there is none. */
bool state_find(const struct state_file *file, uint32_t tag, uint16_t instance,
		struct state_reader *ret_reader) must_check;

/* -EINVAL with a sentence if there is none, or it is newer than @version. */
int state_need(const struct state_file *file, uint32_t tag, uint16_t instance,
	       uint16_t version, struct state_reader *ret_reader,
	       struct error *err) must_check;

void state_get(struct state_reader *reader, void *data, size_t len);
uint8_t state_get_u8(struct state_reader *reader);
uint16_t state_get_u16(struct state_reader *reader);
uint32_t state_get_u32(struct state_reader *reader);
uint64_t state_get_u64(struct state_reader *reader);
bool state_get_bool(struct state_reader *reader); /* fails unless 0 or 1 */
/* Owned by the caller; NULL as it was put, and on failure. */
char *state_get_string(struct state_reader *reader);
/* Borrowed from the file. Its length in *@ret_len; NULL on failure. */
const void *state_get_blob(struct state_reader *reader, size_t *ret_len);
/* A blob of exactly @len bytes. */
void state_get_blob_exact(struct state_reader *reader, void *data, size_t len);

/* All bytes read, and no more than there were? -EINVAL with a sentence that
 * names the section. */
int state_reader_end(const struct state_reader *reader,
		     struct error *err) must_check;

/* ------------------------------------------------- structures, by a table */

/* Which fields of a structure are kept, in order: unsigned integers of 1, 2, 4
 * or 8 bytes, bools, and arrays of them. */
struct state_field {
	uint16_t offset;
	uint8_t size; /* of one element */
	bool is_bool;
	uint16_t count;
};

#define STATE_FIELD(type, member)                                              \
	{                                                                      \
		offsetof(type, member), sizeof(((type *)0)->member),           \
			__builtin_types_compatible_p(                          \
				__typeof__(((type *)0)->member), _Bool),       \
			1                                                      \
	}
#define STATE_ARRAY(type, member)                                              \
	{                                                                      \
		offsetof(type, member), sizeof(((type *)0)->member[0]), false, \
			ARRAY_SIZE(((type *)0)->member)                        \
	}

void state_put_fields(struct state_writer *writer, const void *object,
		      const struct state_field *fields, size_t count);
void state_get_fields(struct state_reader *reader, void *object,
		      const struct state_field *fields, size_t count);

#endif
