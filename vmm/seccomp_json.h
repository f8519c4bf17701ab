/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules as JSON text (docs/seccomp.md): an object with a list of rules for each
 * class of threads.
 *
 *   {"vcpu": [
 *     {"syscall": "ioctl",
 *      "args": [{"index": 1, "op": "eq", "value": "0xae80"}],
 *      "comment": "runs the guest"}, ...], ...}
 */
#ifndef EMBER_SECCOMP_JSON_H
#define EMBER_SECCOMP_JSON_H

#include "vmm/seccomp_rules.h"

#include <jansson.h>
#include <stdio.h>

/* The strings of the rules are those of @json, which must outlive them. -EINVAL
 * with a sentence that names class, rule and field. */
int rules_from_json(struct rule_set *ret_set, const json_t *json,
		    struct error *err) must_check;

/* One rule a line. -EIO. */
int rules_print(const struct rule_set *set, FILE *out) must_check;

#endif
