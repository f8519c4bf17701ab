/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/seccomp_json.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define OWN_PID "own_pid"
#define ARGS_MAX 6
#define WHERE_MAX 128

static const char *const class_names[] = SECCOMP_CLASS_NAMES;

static const char *const op_names[] = {
	[RULE_EQ] = "eq",
	[RULE_MASKED] = "masked_eq",
};

/* ----------------------------------------------------------------- reading */

/* Keys that an object may have; the list ends with NULL. */
static int check_keys(const json_t *object, const char *const *known,
		      const char *where, struct error *err)
{
	void *at = json_object_iter((json_t *)(uintptr_t)object);

	for (; at;
	     at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
		const char *key = json_object_iter_key(at);
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return error_set(err, EINVAL,
					 "%s: unknown field \"%s\"", where,
					 key);
	}
	return 0;
}

/* A number of 64 bits: JSON's own end at 63, hence strings too. */
static int read_number(const json_t *object, const char *key, const char *where,
		       uint64_t *ret, struct error *err)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);
	char *end = NULL;

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*ret = (uint64_t)json_integer_value(value);
		return 0;
	}
	if (text && strcmp(text, OWN_PID) == 0 && strcmp(key, "value") == 0) {
		*ret = SECCOMP_OWN_PID;
		return 0;
	}
	errno = 0;
	if (text && *text >= '0' && *text <= '9') {
		*ret = strtoull(text, &end, 0);
		if (!*end && !errno)
			return 0;
	}
	return error_set(err, EINVAL,
			 "%s: field \"%s\" is no number, nor a string with "
			 "one",
			 where, key);
}

static int read_op(const json_t *object, const char *where, enum rule_op *ret,
		   struct error *err)
{
	const char *text = json_string_value(json_object_get(object, "op"));

	for (unsigned op = RULE_EQ; text && op <= RULE_MASKED; op++)
		if (strcmp(text, op_names[op]) == 0) {
			*ret = op;
			return 0;
		}
	return error_set(err, EINVAL,
			 "%s: field \"op\" is neither \"eq\" nor \"masked_eq\"",
			 where);
}

static int read_condition(const json_t *json, const char *where,
			  struct rule_condition *condition, struct error *err)
{
	static const char *const known[] = {"index", "op", "value", "mask",
					    NULL};
	uint64_t index = 0;
	int ret;

	if (!json_is_object(json))
		return error_set(err, EINVAL, "%s: it is no object", where);
	ret = check_keys(json, known, where, err);
	if (!ret)
		ret = read_number(json, "index", where, &index, err);
	if (!ret && index >= ARGS_MAX)
		ret = error_set(err, EINVAL,
				"%s: field \"index\" is not 0 to 5", where);
	if (!ret)
		ret = read_op(json, where, &condition->op, err);
	if (!ret)
		ret = read_number(json, "value", where, &condition->value, err);
	if (!ret && condition->op == RULE_MASKED)
		ret = read_number(json, "mask", where, &condition->mask, err);
	else if (!ret && json_object_get(json, "mask"))
		ret = error_set(err, EINVAL,
				"%s: field \"mask\" is for \"masked_eq\" only",
				where);
	if (!ret && condition->op == RULE_MASKED &&
	    condition->value & ~condition->mask)
		ret = error_set(err, EINVAL,
				"%s: field \"value\" has bits that are not in "
				"\"mask\"",
				where);
	condition->arg = (unsigned)index;
	return ret;
}

static int read_conditions(const json_t *args, const char *where,
			   struct rule *rule, struct error *err)
{
	unsigned seen = 0;

	if (!args)
		return 0;
	if (!json_is_array(args) || json_array_size(args) > RULE_CONDITIONS_MAX)
		return error_set(err, EINVAL,
				 "%s: field \"args\" is no list of at most %d "
				 "conditions",
				 where, RULE_CONDITIONS_MAX);
	for (size_t i = 0; i < json_array_size(args); i++) {
		char deeper[WHERE_MAX + 32];
		int ret;

		snprintf(deeper, sizeof(deeper), "%s, condition %zu", where, i);
		ret = read_condition(json_array_get(args, i), deeper,
				     &rule->when[i], err);
		if (ret)
			return ret;
		if (seen & 1u << rule->when[i].arg)
			return error_set(err, EINVAL,
					 "%s: a second one of argument %u",
					 deeper, rule->when[i].arg);
		seen |= 1u << rule->when[i].arg;
	}
	return 0;
}

static int read_text(const json_t *json, const char *key, const char *where,
		     const char **ret, struct error *err)
{
	const json_t *value = json_object_get(json, key);

	if (value && !json_is_string(value))
		return error_set(err, EINVAL, "%s: field \"%s\" is no string",
				 where, key);
	*ret = json_string_value(value);
	return 0;
}

static int read_rule(const json_t *json, const char *where, struct rule *rule,
		     struct error *err)
{
	static const char *const known[] = {"syscall", "args", "comment",
					    "untested", NULL};
	char deeper[WHERE_MAX];
	int ret;

	if (!json_is_object(json))
		return error_set(err, EINVAL, "%s: it is no object", where);
	ret = check_keys(json, known, where, err);
	if (!ret)
		ret = read_text(json, "syscall", where, &rule->syscall, err);
	if (!ret && !rule->syscall)
		ret = error_set(err, EINVAL, "%s: field \"syscall\" is missing",
				where);
	if (ret)
		return ret;
	snprintf(deeper, sizeof(deeper), "%s (%.32s)", where, rule->syscall);
	ret = read_text(json, "comment", deeper, &rule->reason, err);
	if (!ret)
		ret = read_text(json, "untested", deeper, &rule->untested, err);
	return ret ? ret
		   : read_conditions(json_object_get(json, "args"), deeper,
				     rule, err);
}

static int read_list(const json_t *json, const char *name,
		     struct rule_list *list, struct error *err)
{
	if (!json_is_array(json))
		return error_set(err, EINVAL,
				 json ? "class \"%s\": it is no list of rules"
				      : "class \"%s\" is missing",
				 name);
	list->rules = calloc(json_array_size(json) + 1, sizeof(*list->rules));
	if (!list->rules)
		return error_set_os(err, ENOMEM, "No memory:");
	list->count = json_array_size(json);
	for (size_t i = 0; i < list->count; i++) {
		char where[64];
		int ret;

		snprintf(where, sizeof(where), "class \"%s\", rule %zu", name,
			 i);
		ret = read_rule(json_array_get(json, i), where, &list->rules[i],
				err);
		if (ret)
			return ret;
	}
	return 0;
}

static int check_classes(const json_t *json, struct error *err)
{
	const char *known[SECCOMP_CLASSES + 1] = {0};

	if (!json_is_object(json))
		return error_set(err, EINVAL,
				 "The rules are no object of lists, class by "
				 "class");
	for (size_t i = 0; i < SECCOMP_CLASSES; i++)
		known[i] = class_names[i];
	return check_keys(json, known, "The rules", err);
}

int rules_from_json(struct rule_set *ret_set, const json_t *json,
		    struct error *err)
{
	struct rule_set set = {0};
	int ret = check_classes(json, err);

	for (size_t i = 0; i < SECCOMP_CLASSES && !ret; i++)
		ret = read_list(json_object_get(json, class_names[i]),
				class_names[i], &set.lists[i], err);
	if (ret)
		rules_release(&set);
	else
		*ret_set = set;
	return ret;
}

/* ---------------------------------------------------------------- printing */

static json_t *number_text(uint64_t number)
{
	return number == SECCOMP_OWN_PID ? json_string(OWN_PID)
					 : json_sprintf("0x%" PRIx64, number);
}

static json_t *condition_json(const struct rule_condition *condition)
{
	json_t *json = json_pack("{s:i, s:s}", "index", (int)condition->arg,
				 "op", op_names[condition->op]);

	if (condition->op == RULE_MASKED)
		json_object_set_new(json, "mask", number_text(condition->mask));
	json_object_set_new(json, "value", number_text(condition->value));
	return json;
}

static json_t *rule_json(const struct rule *rule)
{
	json_t *json = json_pack("{s:s}", "syscall", rule->syscall);
	json_t *args = json_array();

	for (size_t i = 0; i < RULE_CONDITIONS_MAX; i++)
		if (rule->when[i].op != RULE_ANY)
			json_array_append_new(args,
					      condition_json(&rule->when[i]));
	if (json_array_size(args))
		json_object_set(json, "args", args);
	json_decref(args);
	if (rule->reason)
		json_object_set_new(json, "comment", json_string(rule->reason));
	if (rule->untested)
		json_object_set_new(json, "untested",
				    json_string(rule->untested));
	return json;
}

static void print_list(const struct rule_list *list, FILE *out)
{
	for (size_t i = 0; i < list->count; i++) {
		json_t *json = rule_json(&list->rules[i]);

		fputs(i ? ",\n    " : "\n    ", out);
		json_dumpf(json, out, JSON_PRESERVE_ORDER);
		json_decref(json);
	}
}

int rules_print(const struct rule_set *set, FILE *out)
{
	for (size_t i = 0; i < SECCOMP_CLASSES; i++) {
		fprintf(out, "%s\n  \"%s\": [", i ? "," : "{", class_names[i]);
		print_list(&set->lists[i], out);
		fputs("\n  ]", out);
	}
	fputs("\n}\n", out);
	return fflush(out) || ferror(out) ? -EIO : 0;
}
