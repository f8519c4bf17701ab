/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/seccomp.h"

#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <zlib.h>

/* A program in the bytes that were read. */
struct program {
	uint16_t len;
	struct sock_filter *code;
};

struct seccomp_filters {
	struct program programs[SECCOMP_CLASSES];
	_Alignas(8) uint8_t bytes[];
};

struct file_head {
	char magic[8];
	le32 version;
	le32 count;
};

struct filter_head {
	char name[SECCOMP_NAME_LEN];
	le32 len; /* in instructions */
	le32 zero;
};

static const char *const class_names[] = SECCOMP_CLASS_NAMES;

/* From seccomp_builtin.S: the file, and the names of all system calls in the
 * order of their numbers, each with a zero behind it. */
extern const uint8_t seccomp_builtin[];
extern const char seccomp_calls[];
extern const uint32_t seccomp_builtin_len, seccomp_calls_len;

/* ----------------------------------------------------------------- reading */

/* What is left of a file. */
struct rest {
	uint8_t *at;
	size_t len;
};

/* The next @len bytes, or NULL. */
static void *take(struct rest *rest, size_t len)
{
	uint8_t *at = rest->at;

	if (len > rest->len)
		return NULL;
	rest->at += len;
	rest->len -= len;
	return at;
}

/* Only comparisons have a number in the place of SECCOMP_OWN_PID that means
 * itself. */
static void set_own_pid(struct program *program)
{
	const uint32_t pid = (uint32_t)getpid();

	for (size_t i = 0; i < program->len; i++)
		if (program->code[i].code == (BPF_JMP | BPF_JEQ | BPF_K) &&
		    program->code[i].k == SECCOMP_OWN_PID)
			program->code[i].k = pid;
}

static const char *parse_filter(struct rest *rest, const char *name,
				struct program *program)
{
	char padded[SECCOMP_NAME_LEN] = {0};
	const struct filter_head *head = take(rest, sizeof(*head));
	uint32_t len;

	memcpy(padded, name, strlen(name));
	if (!head)
		return "it is too short";
	len = le32_get(head->len);
	if (memcmp(head->name, padded, sizeof(padded)) != 0)
		return "a class of threads is missing";
	if (len == 0 || len > SECCOMP_INSTRUCTIONS_MAX || le32_get(head->zero))
		return "a filter is empty or too long";
	program->len = (uint16_t)len;
	program->code = take(rest, len * sizeof(*program->code));
	if (!program->code)
		return "it is too short";
	set_own_pid(program);
	return NULL;
}

static const char *check_frame(const uint8_t *bytes, size_t len)
{
	le32 crc;

	if (len < sizeof(struct file_head) + sizeof(crc))
		return "it is too short";
	if (len > SECCOMP_FILE_MAX)
		return "it is too long";
	memcpy(&crc, bytes + len - sizeof(crc), sizeof(crc));
	if (memcmp(bytes, SECCOMP_FILE_MAGIC, sizeof(SECCOMP_FILE_MAGIC) - 1))
		return "it is no file of filters";
	if (crc32(crc32(0, NULL, 0), bytes, (unsigned)(len - sizeof(crc))) !=
	    le32_get(crc))
		return "its checksum is wrong";
	return NULL;
}

static const char *parse_filters(struct seccomp_filters *filters, size_t len)
{
	struct rest rest = {filters->bytes, len};
	const struct file_head *head = take(&rest, sizeof(*head));
	const char *why = NULL;

	if (!head || le32_get(head->version) != SECCOMP_FILE_VERSION)
		return "it has another version";
	if (le32_get(head->count) != SECCOMP_CLASSES)
		return "it has not one filter for each class of threads";
	for (size_t i = 0; i < SECCOMP_CLASSES && !why; i++)
		why = parse_filter(&rest, class_names[i],
				   &filters->programs[i]);
	if (!why && rest.len)
		why = "something follows the filters";
	return why;
}

int seccomp_parse(const void *bytes, size_t len,
		  struct seccomp_filters **ret_filters, const char **ret_why)
{
	struct seccomp_filters *filters;
	const char *why = check_frame(bytes, len);

	if (why) {
		*ret_why = why;
		return -EINVAL;
	}
	len -= sizeof(le32);
	filters = malloc(sizeof(*filters) + len);
	if (!filters)
		return -ENOMEM;
	memcpy(filters->bytes, bytes, len);
	why = parse_filters(filters, len);
	if (why) {
		free(filters);
		*ret_why = why;
		return -EINVAL;
	}
	*ret_filters = filters;
	return 0;
}

static int parse_or_say(const void *bytes, size_t len,
			struct seccomp_filters **ret_filters, struct error *err)
{
	const char *why = NULL;
	int ret = seccomp_parse(bytes, len, ret_filters, &why);

	if (ret == -EINVAL)
		return error_set(err, EINVAL,
				 "Seccomp error: Filter deserialization "
				 "failed: %s",
				 why);
	return ret ? error_set_os(err, -ret, "Seccomp error:") : 0;
}

int seccomp_read_builtin(struct seccomp_filters **ret_filters,
			 struct error *err)
{
	*ret_filters = NULL;
	return seccomp_builtin_len
		       ? parse_or_say(seccomp_builtin, seccomp_builtin_len,
				      ret_filters, err)
		       : 0;
}

/* The bytes of a file up to @size; their number or -errno. */
static ssize_t read_some(const char *path, uint8_t *bytes, size_t size)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (len < size && n > 0) {
		n = read(fd, bytes + len, size - len);
		len += n > 0 ? (size_t)n : 0;
	}
	return n < 0 ? -errno : (ssize_t)len;
}

int seccomp_read_file(const char *path, struct seccomp_filters **ret_filters,
		      struct error *err)
{
	const size_t size = SECCOMP_FILE_MAX + 1;
	uint8_t *bytes = malloc(size);
	ssize_t len;
	int ret;

	if (!bytes)
		return error_set_os(err, ENOMEM, "Seccomp error:");
	len = read_some(path, bytes, size);
	ret = len < 0 ? error_set_os(err, (int)-len,
				     "Seccomp error: Filter file %s:", path)
		      : parse_or_say(bytes, (size_t)len, ret_filters, err);
	free(bytes);
	return ret;
}

void seccomp_free(struct seccomp_filters *filters)
{
	free(filters);
}

/* -------------------------------------------------------------- installing */

int seccomp_enter(const struct seccomp_filters *filters,
		  enum seccomp_class kind)
{
	struct sock_fprog program;

	if (!filters)
		return 0;
	program = (struct sock_fprog){
		.len = filters->programs[kind].len,
		.filter = filters->programs[kind].code,
	};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		return -errno;
	return 0;
}

int seccomp_enter_as(const struct seccomp_filters *filters,
		     enum seccomp_class kind, const char *name)
{
	int ret;

	prctl(PR_SET_NAME, name);
	ret = seccomp_enter(filters, kind);
	if (ret)
		log_error("Seccomp error: The filter of thread %s cannot be "
			  "installed: %s (os error %d)",
			  name, os_error_text(-ret), -ret);
	return ret;
}

/* ------------------------------------------------------------------- names */

const char *seccomp_call_name(int number)
{
	size_t at = 0;

	for (; number > 0 && at < seccomp_calls_len; number--)
		at += strlen(seccomp_calls + at) + 1;
	return number || at >= seccomp_calls_len || !seccomp_calls[at]
		       ? "unknown"
		       : seccomp_calls + at;
}
