/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a program does what rules say. libseccomp 2.5.4 compiles one set of
 * conditions in a thousand so that calls pass that no rule lets pass.
 */
#ifndef EMBER_SECCOMP_CHECK_H
#define EMBER_SECCOMP_CHECK_H

#include "vmm/seccomp_rules.h"

struct sock_filter;

/* Tries every call that has rules, with all combinations of the arguments that
 * make a difference to them. -ENOTSUP with a sentence that names the call, if
 * the program's verdict is not the rules'; -E2BIG if there are too many
 * combinations. */
int seccomp_check(const struct rule_list *list, const struct sock_filter *code,
		  uint32_t len, struct error *err) must_check;

#endif
