/* SPDX-License-Identifier: Apache-2.0 */
/* Files of filters, and what becomes of a thread that is held to one. */
#include "vmm/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <zlib.h>

/* Last: it is not self-contained. */
#include <cmocka.h>

struct fixture {
	uint8_t bytes[1024];
	size_t len;
};

static void add(struct fixture *f, const void *bytes, size_t len)
{
	memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}

static void add_number(struct fixture *f, uint32_t number)
{
	add(f, &number, sizeof(number));
}

static void add_filter(struct fixture *f, const char *name,
		       const struct sock_filter *code, size_t count)
{
	char padded[SECCOMP_NAME_LEN] = {0};

	memcpy(padded, name, strlen(name));
	add(f, padded, sizeof(padded));
	add_number(f, (uint32_t)count);
	add_number(f, 0);
	add(f, code, count * sizeof(*code));
}

static void seal(struct fixture *f)
{
	add_number(f, (uint32_t)crc32(crc32(0, NULL, 0), f->bytes,
				      (unsigned)f->len));
}

static void unseal(struct fixture *f)
{
	f->len -= sizeof(uint32_t);
}

/* A file with the same filter four times. */
static void make(struct fixture *f, const struct sock_filter *code,
		 size_t count)
{
	static const char *const names[] = SECCOMP_CLASS_NAMES;

	f->len = 0;
	add(f, SECCOMP_FILE_MAGIC, 8);
	add_number(f, SECCOMP_FILE_VERSION);
	add_number(f, SECCOMP_CLASSES);
	for (size_t i = 0; i < SECCOMP_CLASSES; i++)
		add_filter(f, names[i], code, count);
	seal(f);
}

static const struct sock_filter allow[] = {
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	make(f, allow, 1);
	return 0;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

static void refused(const struct fixture *f, const char *story)
{
	struct seccomp_filters *filters = NULL;
	const char *why = NULL;

	assert_int_equal(seccomp_parse(f->bytes, f->len, &filters, &why),
			 -EINVAL);
	assert_string_equal(why, story);
	assert_null(filters);
}

/* ----------------------------------------------------------------- reading */

static void test_parse_a_good_file_succeeds(void **state)
{
	const struct fixture *f = *state;
	struct seccomp_filters *filters = NULL;
	const char *why = NULL;

	assert_int_equal(seccomp_parse(f->bytes, f->len, &filters, &why), 0);
	assert_non_null(filters);
	assert_null(why);
	seccomp_free(filters);
	seccomp_free(NULL);
}

static void test_parse_every_shorter_file_is_refused(void **state)
{
	const struct fixture *f = *state;
	struct seccomp_filters *filters = NULL;
	const char *why = NULL;

	for (size_t len = 0; len < f->len; len++)
		assert_int_equal(seccomp_parse(f->bytes, len, &filters, &why),
				 -EINVAL);
}

/* Also where the checksum is made to fit. */
static void test_parse_every_shorter_body_is_refused(void **state)
{
	const struct fixture *f = *state;
	struct fixture cut;

	for (size_t len = 16; len < f->len - 4; len++) {
		struct seccomp_filters *filters = NULL;
		const char *why = NULL;

		cut = *f;
		cut.len = len;
		seal(&cut);
		assert_int_equal(
			seccomp_parse(cut.bytes, cut.len, &filters, &why),
			-EINVAL);
	}
}

static void test_parse_a_turned_bit_is_refused(void **state)
{
	struct fixture *f = *state;

	f->bytes[20] ^= 1;
	refused(f, "its checksum is wrong");
}

/* What is written where, and what is said about it. */
static const struct {
	size_t at;
	uint32_t number;
	const char *why;
} bad_numbers[] = {
	{0, 0x464c457f, "it is no file of filters"},
	{8, 2, "it has another version"},
	{12, 3, "it has not one filter for each class of threads"},
	{12, 5, "it has not one filter for each class of threads"},
	{12, 0, "it has not one filter for each class of threads"},
	{16, 0x706f6f6d, "a class of threads is missing"},
	{20, 1, "a class of threads is missing"},
	{24, 0, "a filter is empty or too long"},
	{24, 4097, "a filter is empty or too long"},
	{24, UINT32_MAX, "a filter is empty or too long"},
	{24, 4096, "it is too short"},
	{28, 1, "a filter is empty or too long"},
};

static void test_parse_bad_numbers_are_refused(void **state)
{
	const struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad_numbers); i++) {
		struct fixture bad = *f;

		unseal(&bad);
		memcpy(bad.bytes + bad_numbers[i].at, &bad_numbers[i].number,
		       sizeof(uint32_t));
		seal(&bad);
		refused(&bad, bad_numbers[i].why);
	}
}

static void test_parse_something_behind_is_refused(void **state)
{
	struct fixture *f = *state;

	unseal(f);
	add_number(f, 0);
	seal(f);
	refused(f, "something follows the filters");
}

static void test_parse_too_long_a_file_is_refused(void **state)
{
	uint8_t *bytes = calloc(1, SECCOMP_FILE_MAX + 1);
	struct seccomp_filters *filters = NULL;
	const char *why = NULL;

	(void)state;
	assert_int_equal(
		seccomp_parse(bytes, SECCOMP_FILE_MAX + 1, &filters, &why),
		-EINVAL);
	assert_string_equal(why, "it is too long");
	free(bytes);
}

static void test_read_file_says_what_is_wrong(void **state)
{
	char path[] = "/tmp/ember-seccomp-XXXXXX";
	int fd = mkstemp(path);
	struct seccomp_filters *filters = NULL;
	struct error err = {0};

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "nonsense", 8), 8);
	close_fd(&fd);
	assert_int_equal(seccomp_read_file(path, &filters, &err), -EINVAL);
	assert_string_equal(err.text, "Seccomp error: Filter deserialization "
				      "failed: it is too short");
	unlink(path);
	assert_int_equal(seccomp_read_file(path, &filters, &err), -ENOENT);
	assert_non_null(strstr(err.text, "No such file or directory"));
}

static void test_read_builtin_is_a_good_file(void **state)
{
	struct seccomp_filters *filters = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(seccomp_read_builtin(&filters, &err), 0);
	seccomp_free(filters);
}

/* -------------------------------------------------------------- installing */

#define LOAD(field)                                                            \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(number, skip)                                                   \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, skip)

/* Kills for getppid, and for tgkill of others. */
static const struct sock_filter strict[] = {
	LOAD(nr),
	UNLESS(SYS_getppid, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	UNLESS(SYS_tgkill, 3),
	LOAD(args[0]),
	UNLESS(SECCOMP_OWN_PID, 2),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

/* How a process ends that is held to the filter and makes a call. */
static int end_of(const struct fixture *f, long number, long pid)
{
	pid_t child = fork();
	int status = 0;

	assert_true(child >= 0);
	if (child == 0) {
		struct seccomp_filters *filters = NULL;
		const char *why;

		if (seccomp_parse(f->bytes, f->len, &filters, &why) ||
		    seccomp_enter(filters, SECCOMP_API))
			syscall(SYS_exit_group, 1);
		syscall(number, pid ? pid : getpid(), gettid(), 0);
		syscall(SYS_exit_group, 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void test_enter_holds_to_the_filter(void **state)
{
	struct fixture *f = *state;
	int status;

	make(f, strict, ARRAY_SIZE(strict));
	status = end_of(f, SYS_getppid, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void test_enter_knows_its_own_process(void **state)
{
	struct fixture *f = *state;
	int status;

	make(f, strict, ARRAY_SIZE(strict));
	status = end_of(f, SYS_tgkill, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	status = end_of(f, SYS_tgkill, 1);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void test_enter_what_the_kernel_refuses_fails(void **state)
{
	static const struct sock_filter nonsense[] = {
		{.code = 0xffff},
	};
	struct fixture *f = *state;
	struct seccomp_filters *filters = NULL;
	const char *why;

	make(f, nonsense, 1);
	assert_int_equal(seccomp_parse(f->bytes, f->len, &filters, &why), 0);
	assert_int_equal(seccomp_enter(filters, SECCOMP_LOOP), -EINVAL);
	seccomp_free(filters);
	assert_int_equal(seccomp_enter(NULL, SECCOMP_LOOP), 0);
}

/* ------------------------------------------------------------------- names */

static void test_call_name_of_any_number_is_text(void **state)
{
	(void)state;
	assert_string_equal(seccomp_call_name(SYS_read), "read");
	assert_string_equal(seccomp_call_name(SYS_pread64), "pread64");
	assert_string_equal(seccomp_call_name(SYS_exit_group), "exit_group");
	assert_string_equal(seccomp_call_name(SYS_clone3), "clone3");
	assert_string_equal(seccomp_call_name(400), "unknown"); /* a gap */
	assert_string_equal(seccomp_call_name(100000), "unknown");
	assert_string_equal(seccomp_call_name(0x40000000), "unknown");
	assert_string_equal(seccomp_call_name(-1), "unknown");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_parse_a_good_file_succeeds),
		TEST(test_parse_every_shorter_file_is_refused),
		TEST(test_parse_every_shorter_body_is_refused),
		TEST(test_parse_a_turned_bit_is_refused),
		TEST(test_parse_bad_numbers_are_refused),
		TEST(test_parse_something_behind_is_refused),
		TEST(test_parse_too_long_a_file_is_refused),
		TEST(test_read_file_says_what_is_wrong),
		TEST(test_read_builtin_is_a_good_file),
		TEST(test_enter_holds_to_the_filter),
		TEST(test_enter_knows_its_own_process),
		TEST(test_enter_what_the_kernel_refuses_fails),
		TEST(test_call_name_of_any_number_is_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
