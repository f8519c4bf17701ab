/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/state.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#define TAG STATE_TAG('T', 'E', 'S', 'T')
#define HEAD_LEN 16
#define SECTION_HEAD_LEN 12
#define CRC_LEN 4

struct thing {
	uint8_t small;
	uint16_t middle;
	uint32_t large;
	uint64_t larger;
	bool yes;
	uint16_t several[3];
	uint32_t not_kept;
};

static const struct state_field thing_fields[] = {
	STATE_FIELD(struct thing, small), STATE_FIELD(struct thing, middle),
	STATE_FIELD(struct thing, large), STATE_FIELD(struct thing, larger),
	STATE_FIELD(struct thing, yes),	  STATE_ARRAY(struct thing, several),
};

static const struct thing example = {
	.small = 0xab,
	.middle = 0xcdef,
	.large = 0x12345678,
	.larger = UINT64_C(0x1122334455667788),
	.yes = true,
	.several = {1, 2, 65535},
	.not_kept = 7,
};

static void write_example(struct state_writer *writer)
{
	state_writer_init(writer);
	state_begin(writer, TAG, 2, 0);
	state_put_fields(writer, &example, thing_fields,
			 ARRAY_SIZE(thing_fields));
	state_end(writer);
	state_begin(writer, TAG, 1, 1);
	state_put_u8(writer, 1);
	state_put_u16(writer, 2);
	state_put_u32(writer, 3);
	state_put_u64(writer, 4);
	state_put_string(writer, "text");
	state_put_string(writer, "");
	state_put_string(writer, NULL);
	state_put_blob(writer, "blob", 4);
	state_end(writer);
	assert_int_equal(state_writer_finish(writer), 0);
}

static int parse_copy(struct state_file *file, const uint8_t *bytes, size_t len,
		      struct error *err)
{
	uint8_t *copy = malloc(len + 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return state_file_parse(file, copy, len, err);
}

static void test_what_was_put_is_got(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct state_file file;
	struct thing thing = {0};
	size_t len;
	char *text;

	(void)state;
	write_example(&writer);
	assert_int_equal(parse_copy(&file, writer.bytes, writer.len, NULL), 0);
	assert_int_equal(state_need(&file, TAG, 0, 2, &reader, NULL), 0);
	assert_int_equal(reader.version, 2);
	state_get_fields(&reader, &thing, thing_fields,
			 ARRAY_SIZE(thing_fields));
	assert_int_equal(state_reader_end(&reader, NULL), 0);
	assert_int_equal(thing.not_kept, 0);
	thing.not_kept = example.not_kept;
	assert_memory_equal(&thing.several, &example.several,
			    sizeof(thing.several));
	assert_int_equal(thing.larger, example.larger);
	assert_int_equal(thing.large, example.large);
	assert_int_equal(thing.middle, example.middle);
	assert_int_equal(thing.small, example.small);
	assert_true(thing.yes);
	assert_true(state_find(&file, TAG, 1, &reader));
	assert_int_equal(state_get_u8(&reader), 1);
	assert_int_equal(state_get_u16(&reader), 2);
	assert_int_equal(state_get_u32(&reader), 3);
	assert_int_equal(state_get_u64(&reader), 4);
	text = state_get_string(&reader);
	assert_string_equal(text, "text");
	free(text);
	text = state_get_string(&reader);
	assert_string_equal(text, "");
	free(text);
	assert_null(state_get_string(&reader));
	assert_memory_equal(state_get_blob(&reader, &len), "blob", 4);
	assert_int_equal(len, 4);
	assert_int_equal(state_reader_end(&reader, NULL), 0);
	assert_false(state_find(&file, TAG, 2, &reader));
	state_file_release(&file);
	state_writer_release(&writer);
}

static void test_file_cut_anywhere_is_refused(void **state)
{
	struct state_writer writer;
	struct state_file file;

	(void)state;
	write_example(&writer);
	for (size_t len = 0; len < writer.len; len++) {
		struct error err = {0};

		assert_int_equal(parse_copy(&file, writer.bytes, len, &err),
				 -EINVAL);
		assert_true(strlen(err.text) > 0);
	}
	state_writer_release(&writer);
}

static void test_any_flipped_bit_is_refused(void **state)
{
	struct state_writer writer;
	struct state_file file;

	(void)state;
	write_example(&writer);
	for (size_t i = 0; i < 8 * writer.len; i++) {
		writer.bytes[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(
			parse_copy(&file, writer.bytes, writer.len, NULL),
			-EINVAL);
		writer.bytes[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	state_writer_release(&writer);
}

/* Whoever writes the CRC can write any other byte as well. */
static void sign(struct state_writer *writer)
{
	size_t len = writer->len - CRC_LEN;
	const le32 crc = le32_make((uint32_t)crc32(
		crc32(0, NULL, 0), writer->bytes, (unsigned)len));

	memcpy(writer->bytes + len, &crc, sizeof(crc));
}

static void test_forged_structure_is_refused(void **state)
{
	static const struct {
		size_t off;
		uint8_t value;
		const char *text;
	} cases[] = {
		{0, 'X', "Magic value does not match"},
		{8, 9, "Invalid data version: 9.1"},
		{10, 200, "Invalid data version: 1.200"},
		{12, 0, "Bytes behind the last section"},
		{12, 1, "Bytes behind the last section"},
		{12, 3, "Section 2 of 3 does not fit"},
		{15, 0xff, "are too many"},
		{HEAD_LEN + 8, 0xff, "does not fit"},
		{HEAD_LEN + 11, 0xff, "does not fit"},
	};
	struct state_writer writer;
	struct state_file file;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};

		write_example(&writer);
		writer.bytes[cases[i].off] = cases[i].value;
		sign(&writer);
		assert_int_equal(
			parse_copy(&file, writer.bytes, writer.len, &err),
			-EINVAL);
		assert_non_null(strstr(err.text, cases[i].text));
		state_writer_release(&writer);
	}
}

static void test_section_twice_is_refused(void **state)
{
	struct state_writer writer;
	struct error err = {0};
	struct state_file file;

	(void)state;
	state_writer_init(&writer);
	for (int i = 0; i < 2; i++) {
		state_begin(&writer, TAG, 1, 5);
		state_end(&writer);
	}
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(parse_copy(&file, writer.bytes, writer.len, &err),
			 -EINVAL);
	assert_string_equal(err.text, "Section 1 occurs twice");
	state_writer_release(&writer);
}

static void test_sections_that_are_not_as_needed(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err = {0};
	struct state_file file;

	(void)state;
	write_example(&writer);
	assert_int_equal(parse_copy(&file, writer.bytes, writer.len, NULL), 0);
	assert_int_equal(state_need(&file, TAG, 0, 1, &reader, &err), -EINVAL);
	assert_string_equal(err.text, "Section TEST has version 2, this "
				      "program knows 1");
	err = (struct error){0};
	assert_int_equal(state_need(&file, TAG, 9, 1, &reader, &err), -EINVAL);
	assert_string_equal(err.text, "Section TEST 9 is missing");
	assert_true(state_find(&file, TAG, 1, &reader));
	err = (struct error){0};
	state_get_u8(&reader);
	assert_int_equal(state_reader_end(&reader, &err), -EINVAL);
	assert_non_null(strstr(err.text, "too long"));
	state_file_release(&file);
	state_writer_release(&writer);
}

/* Bytes a section may have, whatever wrote them. */
static struct state_reader reader_of(const char *bytes, size_t len)
{
	return (struct state_reader){
		.at = (const uint8_t *)bytes, .left = len, .tag = TAG};
}

static void test_reader_beyond_the_end_gives_zeros(void **state)
{
	struct state_reader reader = reader_of("abc", 3);
	uint8_t data[8];
	size_t len;

	(void)state;
	assert_int_equal(state_get_u32(&reader), 0);
	assert_true(reader.failed);
	assert_int_equal(state_get_u8(&reader), 0);
	reader = reader_of("\2", 1);
	assert_false(state_get_bool(&reader));
	assert_true(reader.failed);
	reader = reader_of("\5\0\0\0abcd", 8);
	assert_null(state_get_blob(&reader, &len));
	assert_true(reader.failed);
	reader = reader_of("\xff\xff\xff\xff", 4);
	assert_null(state_get_string(&reader));
	assert_true(reader.failed);
	reader = reader_of("\4\0\0\0abcd", 8); /* no zero at the end */
	assert_null(state_get_string(&reader));
	assert_true(reader.failed);
	reader = reader_of("\4\0\0\0a\0b\0", 8); /* and one too early */
	assert_null(state_get_string(&reader));
	assert_true(reader.failed);
	reader = reader_of("\4\0\0\0abcd", 8);
	state_get_blob_exact(&reader, data, 8);
	assert_true(reader.failed);
}

static void test_fields_that_cannot_be(void **state)
{
	struct state_writer writer;
	struct thing thing;
	struct state_reader reader;

	(void)state;
	state_writer_init(&writer);
	state_put_fields(&writer, &example, thing_fields,
			 ARRAY_SIZE(thing_fields));
	writer.bytes[HEAD_LEN + 15] = 2; /* the bool */
	reader = reader_of((const char *)writer.bytes + HEAD_LEN,
			   writer.len - HEAD_LEN);
	state_get_fields(&reader, &thing, thing_fields,
			 ARRAY_SIZE(thing_fields));
	assert_true(reader.failed);
	state_writer_release(&writer);
}

static void test_writer_has_a_limit(void **state)
{
	struct state_writer writer;
	uint8_t *block = calloc(1, MIB(1));

	(void)state;
	assert_non_null(block);
	state_writer_init(&writer);
	state_begin(&writer, TAG, 1, 0);
	for (int i = 0; i < 12; i++)
		state_put(&writer, block, MIB(1));
	state_end(&writer);
	assert_int_equal(state_writer_finish(&writer), -EFBIG);
	state_writer_release(&writer);
	free(block);
}

static void test_files_that_are_none(void **state)
{
	struct error err = {0};
	struct state_file file;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(state_file_read(&file, fd, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a file of at most"));
	close(fd);
	err = (struct error){0};
	assert_int_equal(state_file_read(&file, -1, &err), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_put_is_got),
		cmocka_unit_test(test_file_cut_anywhere_is_refused),
		cmocka_unit_test(test_any_flipped_bit_is_refused),
		cmocka_unit_test(test_forged_structure_is_refused),
		cmocka_unit_test(test_section_twice_is_refused),
		cmocka_unit_test(test_sections_that_are_not_as_needed),
		cmocka_unit_test(test_reader_beyond_the_end_gives_zeros),
		cmocka_unit_test(test_fields_that_cannot_be),
		cmocka_unit_test(test_writer_has_a_limit),
		cmocka_unit_test(test_files_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
