/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MAGIC "EMBERVM\n"
#define MAGIC_LEN 8
#define SIZE_MIN KIB(16)
/* Far more than a machine has parts; keeps the search for duplicates short. */
#define SECTIONS_MAX 1024

struct __attribute__((packed)) file_head {
	char magic[MAGIC_LEN];
	le16 major, minor;
	le32 section_count;
};

struct __attribute__((packed)) section_head {
	le32 tag;
	le16 version, instance;
	le32 len;
};

#define CRC_LEN sizeof(le32)

static uint32_t crc_of(const void *bytes, size_t len)
{
	return (uint32_t)crc32_z(crc32_z(0, NULL, 0), bytes, len);
}

/* ------------------------------------------------------------------ writing */

void state_writer_init(struct state_writer *writer)
{
	const struct file_head head = {.magic = MAGIC};

	*writer = (struct state_writer){0};
	state_put(writer, &head, sizeof(head)); /* filled in at the end */
}

void state_writer_release(struct state_writer *writer)
{
	free(take_ptr(writer->bytes));
	writer->len = writer->size = 0;
}

static bool make_room(struct state_writer *writer, size_t len)
{
	size_t size = MAX(writer->size, (size_t)SIZE_MIN);
	uint8_t *bytes;

	if (writer->failed || len > STATE_SIZE_MAX - writer->len)
		return false;
	while (size < writer->len + len)
		size *= 2;
	if (size == writer->size)
		return true;
	bytes = realloc(writer->bytes, size);
	if (!bytes)
		return false;
	writer->bytes = bytes;
	writer->size = size;
	return true;
}

void state_put(struct state_writer *writer, const void *data, size_t len)
{
	if (!make_room(writer, len)) {
		writer->failed = true;
		return;
	}
	if (len)
		memcpy(writer->bytes + writer->len, data, len);
	writer->len += len;
}

void state_begin(struct state_writer *writer, uint32_t tag, uint16_t version,
		 uint16_t instance)
{
	const struct section_head head = {
		.tag = le32_make(tag),
		.version = le16_make(version),
		.instance = le16_make(instance),
	};

	writer->section = writer->len;
	state_put(writer, &head, sizeof(head));
}

void state_end(struct state_writer *writer)
{
	size_t start = writer->section + sizeof(struct section_head);
	struct section_head *head;

	if (writer->failed)
		return;
	head = (void *)(writer->bytes + writer->section);
	head->len = le32_make((uint32_t)(writer->len - start));
	writer->section_count++;
}

void state_put_u8(struct state_writer *writer, uint8_t value)
{
	state_put(writer, &value, sizeof(value));
}

void state_put_u16(struct state_writer *writer, uint16_t value)
{
	const le16 bytes = le16_make(value);

	state_put(writer, &bytes, sizeof(bytes));
}

void state_put_u32(struct state_writer *writer, uint32_t value)
{
	const le32 bytes = le32_make(value);

	state_put(writer, &bytes, sizeof(bytes));
}

void state_put_u64(struct state_writer *writer, uint64_t value)
{
	const le64 bytes = le64_make(value);

	state_put(writer, &bytes, sizeof(bytes));
}

void state_put_blob(struct state_writer *writer, const void *data, size_t len)
{
	state_put_u32(writer, (uint32_t)len);
	state_put(writer, data, len);
}

void state_put_string(struct state_writer *writer, const char *text)
{
	/* With its final zero: an absent one has no bytes at all. */
	state_put_blob(writer, text, text ? strlen(text) + 1 : 0);
}

int state_writer_finish(struct state_writer *writer)
{
	struct file_head *head;

	if (!writer->failed) {
		head = (void *)writer->bytes;
		head->major = le16_make(STATE_VERSION_MAJOR);
		head->minor = le16_make(STATE_VERSION_MINOR);
		head->section_count = le32_make(writer->section_count);
		state_put_u32(writer, crc_of(writer->bytes, writer->len));
	}
	if (!writer->failed)
		return 0;
	return writer->len >= STATE_SIZE_MAX / 2 ? -EFBIG : -ENOMEM;
}

/* ------------------------------------------------------------------ reading */

static int check_head(struct state_file *file, struct error *err)
{
	const struct file_head *head = (const void *)file->bytes;

	if (file->len < sizeof(*head) + CRC_LEN)
		return error_set(err, EINVAL,
				 "IO Error: File too short to contain CRC");
	if (memcmp(head->magic, MAGIC, MAGIC_LEN) != 0)
		return error_set(err, EINVAL,
				 "Magic value does not match: this is no state "
				 "file of ember");
	file->major = le16_get(head->major);
	file->minor = le16_get(head->minor);
	file->section_count = le32_get(head->section_count);
	if (file->major != STATE_VERSION_MAJOR ||
	    file->minor > STATE_VERSION_MINOR)
		return error_set(err, EINVAL,
				 "Invalid data version: %u.%u, this program "
				 "reads %u.0 to %u.%u",
				 file->major, file->minor, STATE_VERSION_MAJOR,
				 STATE_VERSION_MAJOR, STATE_VERSION_MINOR);
	return 0;
}

static int check_crc(const struct state_file *file, struct error *err)
{
	size_t len = file->len - CRC_LEN;
	le32 stored;

	memcpy(&stored, file->bytes + len, sizeof(stored));
	if (le32_get(stored) == crc_of(file->bytes, len))
		return 0;
	return error_set(err, EINVAL, "CRC validation failed");
}

/* The section at @off, whose head and bytes lie in the file; its end. */
static size_t open_section(const struct state_file *file, size_t off,
			   struct state_reader *ret_reader)
{
	size_t end = file->len - CRC_LEN;
	const struct section_head *head = (const void *)(file->bytes + off);
	size_t len;

	if (end - off < sizeof(*head))
		return 0;
	off += sizeof(*head);
	len = le32_get(head->len);
	if (len > end - off)
		return 0;
	*ret_reader = (struct state_reader){
		.at = file->bytes + off,
		.left = len,
		.tag = le32_get(head->tag),
		.version = le16_get(head->version),
		.instance = le16_get(head->instance),
	};
	return off + len;
}

static int check_sections(const struct state_file *file, struct error *err)
{
	struct state_reader reader, other;
	size_t off = sizeof(struct file_head);

	if (file->section_count > SECTIONS_MAX)
		return error_set(err, EINVAL, "%u sections are too many",
				 file->section_count);
	for (uint32_t i = 0; i < file->section_count; i++) {
		off = open_section(file, off, &reader);
		if (!off)
			return error_set(err, EINVAL,
					 "Section %u of %u does not fit", i,
					 file->section_count);
		/* The first of its kind must be this one. */
		if (!state_find(file, reader.tag, reader.instance, &other) ||
		    other.at != reader.at)
			return error_set(err, EINVAL, "Section %u occurs twice",
					 i);
	}
	if (off != file->len - CRC_LEN)
		return error_set(err, EINVAL, "Bytes behind the last section");
	return 0;
}

int state_file_parse(struct state_file *file, uint8_t *bytes, size_t len,
		     struct error *err)
{
	int ret;

	*file = (struct state_file){.bytes = bytes, .len = len};
	ret = check_head(file, err);
	if (!ret)
		ret = check_crc(file, err);
	if (!ret)
		ret = check_sections(file, err);
	if (ret)
		state_file_release(file);
	return ret;
}

/* Exactly the bytes the file has now. -errno, or their number. */
static ssize_t read_whole(int fd, uint8_t *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, bytes + done, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int state_file_read(struct state_file *file, int fd, struct error *err)
{
	AUTO_FREE uint8_t *bytes = NULL;
	struct stat st;
	ssize_t len;

	*file = (struct state_file){0};
	if (fstat(fd, &st))
		return error_set_os(err, errno, "IO Error:");
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)STATE_SIZE_MAX)
		return error_set(err, EINVAL,
				 "IO Error: not a file of at most %lu bytes",
				 (unsigned long)STATE_SIZE_MAX);
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes)
		return error_set_os(err, ENOMEM, "IO Error:");
	len = read_whole(fd, bytes, (size_t)st.st_size);
	if (len < 0)
		return error_set_os(err, (int)-len, "IO Error:");
	return state_file_parse(file, take_ptr(bytes), (size_t)len, err);
}

void state_file_release(struct state_file *file)
{
	free(take_ptr(file->bytes));
	file->len = 0;
}

bool state_find(const struct state_file *file, uint32_t tag, uint16_t instance,
		struct state_reader *ret_reader)
{
	size_t off = sizeof(struct file_head);

	for (uint32_t i = 0; i < file->section_count; i++) {
		off = open_section(file, off, ret_reader);
		if (!off)
			return false;
		if (ret_reader->tag == tag && ret_reader->instance == instance)
			return true;
	}
	return false;
}

/* A tag's letters, for people. */
#define TAG_FORMAT "%c%c%c%c"
#define TAG_LETTERS(tag)                                                       \
	(char)((tag)&0x7f), (char)((tag) >> 8 & 0x7f),                         \
		(char)((tag) >> 16 & 0x7f), (char)((tag) >> 24 & 0x7f)

int state_need(const struct state_file *file, uint32_t tag, uint16_t instance,
	       uint16_t version, struct state_reader *ret_reader,
	       struct error *err)
{
	if (!state_find(file, tag, instance, ret_reader))
		return error_set(err, EINVAL,
				 "Section " TAG_FORMAT " %u is missing",
				 TAG_LETTERS(tag), instance);
	if (ret_reader->version > version)
		return error_set(err, EINVAL,
				 "Section " TAG_FORMAT
				 " has version %u, this program knows %u",
				 TAG_LETTERS(tag), ret_reader->version,
				 version);
	return 0;
}

void state_get(struct state_reader *reader, void *data, size_t len)
{
	if (reader->failed || len > reader->left) {
		reader->failed = true;
		memset(data, 0, len);
		return;
	}
	memcpy(data, reader->at, len);
	reader->at += len;
	reader->left -= len;
}

uint8_t state_get_u8(struct state_reader *reader)
{
	uint8_t value;

	state_get(reader, &value, sizeof(value));
	return value;
}

uint16_t state_get_u16(struct state_reader *reader)
{
	le16 value;

	state_get(reader, &value, sizeof(value));
	return le16_get(value);
}

uint32_t state_get_u32(struct state_reader *reader)
{
	le32 value;

	state_get(reader, &value, sizeof(value));
	return le32_get(value);
}

uint64_t state_get_u64(struct state_reader *reader)
{
	le64 value;

	state_get(reader, &value, sizeof(value));
	return le64_get(value);
}

bool state_get_bool(struct state_reader *reader)
{
	uint8_t value = state_get_u8(reader);

	if (value > 1)
		reader->failed = true;
	return value == 1;
}

const void *state_get_blob(struct state_reader *reader, size_t *ret_len)
{
	size_t len = state_get_u32(reader);
	const void *data = reader->at;

	if (reader->failed || len > reader->left) {
		reader->failed = true;
		*ret_len = 0;
		return NULL;
	}
	reader->at += len;
	reader->left -= len;
	*ret_len = len;
	return data;
}

void state_get_blob_exact(struct state_reader *reader, void *data, size_t len)
{
	size_t has;
	const void *blob = state_get_blob(reader, &has);

	if (!blob || has != len) {
		reader->failed = true;
		memset(data, 0, len);
		return;
	}
	memcpy(data, blob, len);
}

char *state_get_string(struct state_reader *reader)
{
	size_t len;
	const char *text = state_get_blob(reader, &len);

	if (!text || len == 0)
		return NULL;
	if (memchr(text, '\0', len) != text + len - 1) {
		reader->failed = true;
		return NULL;
	}
	return strdup(text);
}

int state_reader_end(const struct state_reader *reader, struct error *err)
{
	if (!reader->failed && reader->left == 0)
		return 0;
	return error_set(err, EINVAL,
			 "Section " TAG_FORMAT " %u is malformed%s",
			 TAG_LETTERS(reader->tag), reader->instance,
			 reader->failed ? "" : ": it is too long");
}

/* ------------------------------------------------- structures, by a table */

static uint64_t load_element(const void *at, uint8_t size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)at;
	case 2:
		return *(const uint16_t *)at;
	case 4:
		return *(const uint32_t *)at;
	default:
		return *(const uint64_t *)at;
	}
}

static void store_element(void *at, uint8_t size, uint64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)at = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)at = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)at = (uint32_t)value;
		break;
	default:
		*(uint64_t *)at = value;
	}
}

void state_put_fields(struct state_writer *writer, const void *object,
		      const struct state_field *fields, size_t count)
{
	for (const struct state_field *field = fields; field < fields + count;
	     field++) {
		const uint8_t *at = (const uint8_t *)object + field->offset;

		for (uint16_t i = 0; i < field->count; i++, at += field->size) {
			const le64 value =
				le64_make(load_element(at, field->size));

			state_put(writer, &value, field->size);
		}
	}
}

void state_get_fields(struct state_reader *reader, void *object,
		      const struct state_field *fields, size_t count)
{
	for (const struct state_field *field = fields; field < fields + count;
	     field++) {
		uint8_t *at = (uint8_t *)object + field->offset;

		for (uint16_t i = 0; i < field->count; i++, at += field->size) {
			le64 value = le64_make(0);

			state_get(reader, &value, field->size);
			if (field->is_bool && le64_get(value) > 1)
				reader->failed = true;
			store_element(at, field->size, le64_get(value));
		}
	}
}
