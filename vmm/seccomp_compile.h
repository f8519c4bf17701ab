/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules into the file that vmm/seccomp.h describes, by libseccomp. The same
 * rules in the same order give the same bytes.
 */
#ifndef EMBER_SECCOMP_COMPILE_H
#define EMBER_SECCOMP_COMPILE_H

#include "vmm/seccomp_rules.h"

struct seccomp_file {
	uint8_t *bytes; /* malloc */
	size_t len;
};

/* -errno with a sentence that names class and rule. */
int seccomp_compile(const struct rule_set *set, struct seccomp_file *ret_file,
		    struct error *err) must_check;

/* The names of system calls by number, each with a zero behind it. */
int seccomp_list_calls(struct seccomp_file *ret_file) must_check;

#endif
