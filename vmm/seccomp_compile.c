/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/seccomp_compile.h"

#include "vmm/seccomp_check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>

/* Numbers of system calls end well below; there are gaps. */
#define CALLS_MAX 1024

static const char *const class_names[] = SECCOMP_CLASS_NAMES;

/* A binary search for the number: as the kernel runs a program for every number
 * there is when it is installed, that takes half of the time that it takes with
 * one comparison after the other. */
#define OPTIMIZE_TREE 2
#define OPTIMIZE_LIST 1

/*
 * What the kernel finds out so are calls that pass whatever their arguments,
 * for which it need not run the program later. It gives up on a program that
 * has looked at something else than the number before: as it shall, where
 * threads are many and their calls few, or look at arguments anyhow, as the one
 * that runs a guest does.
 */
static const struct sock_filter look_elsewhere =
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		 offsetof(struct seccomp_data, instruction_pointer));

static const bool tried_by_kernel[SECCOMP_CLASSES] = {[SECCOMP_LOOP] = true};

/* ------------------------------------------------------- one class's program
 */

static struct scmp_arg_cmp comparison(const struct rule_condition *condition)
{
	const bool masked = condition->op == RULE_MASKED;

	return (struct scmp_arg_cmp){
		.arg = condition->arg,
		.op = masked ? SCMP_CMP_MASKED_EQ : SCMP_CMP_EQ,
		.datum_a = masked ? condition->mask : condition->value,
		.datum_b = condition->value,
	};
}

static int add_rule(scmp_filter_ctx filter, const struct rule *rule)
{
	struct scmp_arg_cmp when[RULE_CONDITIONS_MAX];
	unsigned count = 0;
	int number = seccomp_syscall_resolve_name(rule->syscall);

	if (number < 0)
		return -ENOENT;
	for (size_t i = 0; i < RULE_CONDITIONS_MAX; i++)
		if (rule->when[i].op != RULE_ANY)
			when[count++] = comparison(&rule->when[i]);
	return seccomp_rule_add_exact_array(filter, SCMP_ACT_ALLOW, number,
					    count, when);
}

static int add_rules(scmp_filter_ctx filter, enum seccomp_class kind,
		     const struct rule_list *list, struct error *err)
{
	for (size_t i = 0; i < list->count; i++) {
		int ret = add_rule(filter, &list->rules[i]);

		if (ret == -ENOENT)
			return error_set(err, ENOENT,
					 "class \"%s\", rule %zu: there is no "
					 "system call \"%s\"",
					 class_names[kind], i,
					 list->rules[i].syscall);
		if (ret && ret != -EEXIST)
			return error_set_os(
				err, -ret, "class \"%s\", rule %zu (%s):",
				class_names[kind], i, list->rules[i].syscall);
	}
	return 0;
}

static int set_shape(scmp_filter_ctx filter, uint32_t shape)
{
	int ret = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
				   SCMP_ACT_TRAP);

	return ret ? ret
		   : seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, shape);
}

/* For the half of an argument that a mask leaves out: "it, AND 0, is 0". */
static bool says_nothing(const struct sock_filter *code, size_t left)
{
	return left > 2 && code[0].code == (BPF_LD | BPF_W | BPF_ABS) &&
	       code[1].code == (BPF_ALU | BPF_AND | BPF_K) && code[1].k == 0 &&
	       code[2].code == (BPF_JMP | BPF_JEQ | BPF_K) && code[2].k == 0 &&
	       code[2].jt == 0;
}

/* Where each instruction comes to be without those; the number of them. */
static uint32_t find_places(const struct sock_filter *code, uint32_t len,
			    uint16_t *ret_places)
{
	uint32_t skip = 0, count = 0;

	for (uint32_t i = 0; i < len; i++) {
		if (!skip && says_nothing(code + i, len - i))
			skip = 3;
		ret_places[i] = (uint16_t)count;
		if (skip)
			skip--;
		else
			count++;
	}
	return count;
}

/* Leaves them out. Whoever jumped there comes to what follows, which loads
 * something itself. */
static uint32_t shorten(struct sock_filter *code, uint32_t len)
{
	uint16_t places[SECCOMP_INSTRUCTIONS_MAX + 1];
	const uint32_t count = find_places(code, len, places);

	places[len] = (uint16_t)count;
	for (uint32_t i = 0; i < len; i++) {
		struct sock_filter at = code[i];
		const uint32_t next = places[i] + 1u;

		if (places[i + 1] == places[i])
			continue;
		if (at.code == (BPF_JMP | BPF_JA)) {
			at.k = places[i + 1 + at.k] - next;
		} else if (BPF_CLASS(at.code) == BPF_JMP) {
			at.jt = (uint8_t)(places[i + 1 + at.jt] - next);
			at.jf = (uint8_t)(places[i + 1 + at.jf] - next);
		}
		code[places[i]] = at;
	}
	return count;
}

/* libseccomp writes programs to files only. */
static int export(scmp_filter_ctx filter, struct sock_filter *code,
		  uint32_t *ret_len)
{
	const size_t most = (SECCOMP_INSTRUCTIONS_MAX - 1) * sizeof(*code);
	AUTO_CLOSE int fd = memfd_create("filter", MFD_CLOEXEC);
	struct stat st;
	int ret;

	if (fd < 0)
		return -errno;
	ret = seccomp_export_bpf(filter, fd);
	if (ret)
		return ret;
	if (fstat(fd, &st))
		return -errno;
	if ((size_t)st.st_size > most)
		return -E2BIG;
	if (pread(fd, code, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	*ret_len =
		shorten(code, (uint32_t)((size_t)st.st_size / sizeof(*code)));
	return 0;
}

/* Jumps are relative: what comes first moves nothing. */
static int export_for(enum seccomp_class kind, scmp_filter_ctx filter,
		      struct sock_filter *code, uint32_t *ret_len)
{
	int ret;

	if (tried_by_kernel[kind])
		return export(filter, code, ret_len);
	code[0] = look_elsewhere;
	ret = export(filter, code + 1, ret_len);
	*ret_len += 1;
	return ret;
}

static int compile_shape(enum seccomp_class kind, const struct rule_list *list,
			 uint32_t shape, struct sock_filter *code,
			 uint32_t *ret_len, struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int ret = filter ? set_shape(filter, shape) : -ENOMEM;

	if (ret)
		error_set_os(err, -ret, "libseccomp:");
	else
		ret = add_rules(filter, kind, list, err);
	if (!ret) {
		ret = export_for(kind, filter, code, ret_len);
		if (ret)
			error_set_os(err, -ret,
				     "class \"%s\":", class_names[kind]);
	}
	if (filter)
		seccomp_release(filter);
	return ret;
}

/* A program that does what the rules say, or none. */
static int compile_class(enum seccomp_class kind, const struct rule_list *list,
			 struct sock_filter *code, uint32_t *ret_len,
			 struct error *err)
{
	static const uint32_t shapes[] = {OPTIMIZE_TREE, OPTIMIZE_LIST};
	int ret = -ENOTSUP;

	for (size_t i = 0; i < ARRAY_SIZE(shapes) && ret == -ENOTSUP; i++) {
		ret = compile_shape(kind, list, shapes[i], code, ret_len, err);
		if (ret)
			return ret;
		ret = seccomp_check(list, code, *ret_len, err);
	}
	if (ret)
		error_prefix(err, "class \"%s\": ", class_names[kind]);
	return ret;
}

/* ----------------------------------------------------------------- the file */

static void put(FILE *out, const void *bytes, size_t len)
{
	fwrite(bytes, 1, len, out); /* ferror is looked at in the end */
}

static void put_number(FILE *out, uint32_t number)
{
	const le32 value = le32_make(number);

	put(out, &value, sizeof(value));
}

static int put_filters(FILE *out, const struct rule_set *set, struct error *err)
{
	struct sock_filter code[SECCOMP_INSTRUCTIONS_MAX];

	put(out, SECCOMP_FILE_MAGIC, sizeof(SECCOMP_FILE_MAGIC) - 1);
	put_number(out, SECCOMP_FILE_VERSION);
	put_number(out, SECCOMP_CLASSES);
	for (unsigned kind = 0; kind < SECCOMP_CLASSES; kind++) {
		char name[SECCOMP_NAME_LEN] = {0};
		uint32_t len = 0;
		int ret =
			compile_class(kind, &set->lists[kind], code, &len, err);

		if (ret)
			return ret;
		memcpy(name, class_names[kind], strlen(class_names[kind]));
		put(out, name, sizeof(name));
		put_number(out, len);
		put_number(out, 0);
		put(out, code, len * sizeof(*code));
	}
	return 0;
}

/* Closes a stream over memory, which has all that was written then. */
static int finish(FILE *out)
{
	int failed = ferror(out);

	failed |= fclose(out);
	return failed ? -ENOMEM : 0;
}

int seccomp_compile(const struct rule_set *set, struct seccomp_file *ret_file,
		    struct error *err)
{
	struct seccomp_file file = {0};
	FILE *out = open_memstream((char **)&file.bytes, &file.len);
	int ret;

	if (!out)
		return error_set_os(err, errno, "No memory:");
	ret = put_filters(out, set, err);
	fflush(out);
	if (!ret && file.len + sizeof(le32) > SECCOMP_FILE_MAX)
		ret = error_set(err, E2BIG,
				"the filters are longer than %d bytes in all",
				SECCOMP_FILE_MAX);
	if (!ret)
		put_number(out, (uint32_t)crc32(crc32(0, NULL, 0), file.bytes,
						(unsigned)file.len));
	if (finish(out) && !ret)
		ret = error_set_os(err, ENOMEM, "No memory:");
	if (ret)
		free(file.bytes);
	else
		*ret_file = file;
	return ret;
}

/* ---------------------------------------------------------------- the names */

static void put_name(FILE *out, int number)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);

	if (name)
		put(out, name, strlen(name));
	put(out, "", 1);
	free(name);
}

static bool has_name(int number)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);

	free(name);
	return name != NULL;
}

int seccomp_list_calls(struct seccomp_file *ret_file)
{
	struct seccomp_file file = {0};
	FILE *out = open_memstream((char **)&file.bytes, &file.len);
	int count = CALLS_MAX;

	if (!out)
		return -ENOMEM;
	while (count > 0 && !has_name(count - 1))
		count--;
	for (int number = 0; number < count; number++)
		put_name(out, number);
	if (finish(out)) {
		free(file.bytes);
		return -ENOMEM;
	}
	*ret_file = file;
	return 0;
}
