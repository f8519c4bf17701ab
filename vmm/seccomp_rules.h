/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules behind the filters: lists of system calls that are allowed, class
 * by class. For programs that make filters; the monitor has none of this.
 */
#ifndef EMBER_SECCOMP_RULES_H
#define EMBER_SECCOMP_RULES_H

#include "vmm/seccomp.h"

#define RULE_CONDITIONS_MAX 3

/* What vmm/vcpu.c sends: SIGRTMIN + 1, which libc makes no constant of. */
#define RULES_KICK_SIGNAL 35

enum rule_op {
	RULE_ANY,    /* no condition */
	RULE_EQ,     /* the whole argument is value */
	RULE_MASKED, /* argument & mask is value */
};

struct rule_condition {
	enum rule_op op;
	unsigned arg; /* 0 to 5 */
	uint64_t mask;
	uint64_t value;
};

/* One way in which a system call may be made: all conditions hold. */
struct rule {
	const char *syscall;
	const char *reason;
	struct rule_condition when[RULE_CONDITIONS_MAX];
	const char *untested; /* why no test comes here; NULL: one does */
};

struct rule_list {
	struct rule *rules;
	size_t count;
};

/* The rules of all classes. */
struct rule_set {
	struct rule_list lists[SECCOMP_CLASSES];
};

/* The default rules; -ENOMEM. */
int rules_default(struct rule_set *ret_set) must_check;

/* Frees the lists, not what the rules point to. */
void rules_release(struct rule_set *set);

#endif
