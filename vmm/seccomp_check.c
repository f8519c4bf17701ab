/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/seccomp_check.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>

#define ARGUMENTS 6
#define CHOICES_MAX 256
#define COMBINATIONS_MAX 10000000

/* Of a call's argument: what its rules compare it with, and what differs from
 * that in one half. */
struct choices {
	uint64_t values[CHOICES_MAX];
	size_t count;
};

/* ------------------------------------------------------------- the verdicts */

static uint32_t jump(const struct sock_filter *at, uint32_t accumulator)
{
	switch (BPF_OP(at->code)) {
	case BPF_JEQ:
		return accumulator == at->k ? at->jt : at->jf;
	case BPF_JGT:
		return accumulator > at->k ? at->jt : at->jf;
	case BPF_JGE:
		return accumulator >= at->k ? at->jt : at->jf;
	case BPF_JA:
	default:
		return at->k;
	}
}

/* What libseccomp makes: loads from @data, AND, jumps, and verdicts. */
static bool passes(const struct sock_filter *code, uint32_t len,
		   const struct seccomp_data *data)
{
	uint32_t accumulator = 0;

	for (uint32_t pc = 0; pc < len; pc++) {
		const struct sock_filter *at = &code[pc];

		switch (BPF_CLASS(at->code)) {
		case BPF_LD:
			memcpy(&accumulator, (const char *)data + at->k,
			       sizeof(accumulator));
			break;
		case BPF_ALU:
			accumulator &= at->k;
			break;
		case BPF_JMP:
			pc += jump(at, accumulator);
			break;
		default:
			return at->k == SECCOMP_RET_ALLOW;
		}
	}
	return false;
}

static bool holds(const struct rule_condition *when,
		  const struct seccomp_data *data)
{
	switch (when->op) {
	case RULE_EQ:
		return data->args[when->arg] == when->value;
	case RULE_MASKED:
		return (data->args[when->arg] & when->mask) == when->value;
	case RULE_ANY:
	default:
		return true;
	}
}

static bool allowed(const struct rule_list *list, const char *call,
		    const struct seccomp_data *data)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct rule *rule = &list->rules[i];
		bool all = strcmp(rule->syscall, call) == 0;

		for (size_t c = 0; c < RULE_CONDITIONS_MAX; c++)
			all = all && holds(&rule->when[c], data);
		if (all)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------- the arguments
 */

static bool add_choice(struct choices *choices, uint64_t value)
{
	for (size_t i = 0; i < choices->count; i++)
		if (choices->values[i] == value)
			return true;
	if (choices->count == CHOICES_MAX)
		return false;
	choices->values[choices->count++] = value;
	return true;
}

static bool add_choices_of(struct choices all[ARGUMENTS],
			   const struct rule *rule)
{
	bool room = true;

	for (size_t c = 0; c < RULE_CONDITIONS_MAX; c++) {
		const struct rule_condition *when = &rule->when[c];
		struct choices *choices = &all[when->arg];

		if (when->op == RULE_ANY)
			continue;
		room = room && add_choice(choices, when->value) &&
		       add_choice(choices, when->value ^ BIT(32)) &&
		       add_choice(choices, ~when->value);
	}
	return room;
}

/* The number of their combinations; 0: too many. */
static size_t find_choices(const struct rule_list *list, const char *call,
			   struct choices all[ARGUMENTS])
{
	size_t combinations = 1;

	for (size_t i = 0; i < ARGUMENTS; i++)
		all[i] = (struct choices){.count = 1}; /* 0 */
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->rules[i].syscall, call) == 0 &&
		    !add_choices_of(all, &list->rules[i]))
			return 0;
	for (size_t i = 0; i < ARGUMENTS; i++)
		combinations *= all[i].count;
	return combinations <= COMBINATIONS_MAX ? combinations : 0;
}

static void choose(const struct choices all[ARGUMENTS], size_t number,
		   struct seccomp_data *data)
{
	for (size_t i = 0; i < ARGUMENTS; i++) {
		data->args[i] = all[i].values[number % all[i].count];
		number /= all[i].count;
	}
}

static int check_call(const struct rule_list *list, const char *call,
		      const struct sock_filter *code, uint32_t len,
		      struct error *err)
{
	struct choices all[ARGUMENTS];
	struct seccomp_data data = {
		.nr = seccomp_syscall_resolve_name(call),
		.arch = AUDIT_ARCH_X86_64,
	};
	const size_t combinations = find_choices(list, call, all);

	if (!combinations)
		return error_set(err, E2BIG,
				 "the conditions on %s are too many to be "
				 "checked",
				 call);
	for (size_t n = 0; n < combinations; n++) {
		choose(all, n, &data);
		if (passes(code, len, &data) != allowed(list, call, &data))
			return error_set(err, ENOTSUP,
					 "libseccomp gets the conditions on %s "
					 "wrong; other ones, or in another "
					 "order, may do",
					 call);
	}
	return 0;
}

int seccomp_check(const struct rule_list *list, const struct sock_filter *code,
		  uint32_t len, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; i < list->count && !ret; i++)
		if (i == 0 || strcmp(list->rules[i].syscall,
				     list->rules[i - 1].syscall) != 0)
			ret = check_call(list, list->rules[i].syscall, code,
					 len, err);
	return ret;
}
