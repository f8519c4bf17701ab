/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jailer's command line: words that end with a NUL. Whatever it accepts
 * must be safe to make paths and ids of.
 */
#include "jailer/args.h"
#include "jailer/cgroup.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#define WORDS_MAX 200
#define TEXT_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_id(const char *id)
{
	size_t len = strlen(id);

	assert(len >= 1 && len <= 64);
	for (size_t i = 0; i < len; i++)
		assert(isalnum((unsigned char)id[i]) || id[i] == '-');
}

static void check_cgroups(const struct jail_args *args)
{
	const char *parent = args->parent_cgroup;

	assert(args->cgroup_version == 1 || args->cgroup_version == 2);
	assert(!parent || (*parent != '/' && strcmp(parent, "..") != 0 &&
			   !strstr(parent, "/../")));
	for (size_t i = 0; i < args->cgroups.count; i++) {
		struct cgroup_value value;
		int ret = cgroup_parse_value(args->cgroups.values[i], &value,
					     NULL);

		assert(ret == 0 && *value.controller && *value.value);
		assert(!strchr(value.file, '/') && value.file[0] != '.');
	}
}

/* A name that the kernel does not see a pattern in, and numbers in bounds. */
static void check_taps(const struct jail_args *args)
{
	for (size_t i = 0; i < args->tap_list.count; i++) {
		const struct tap_spec *tap = &args->taps[i];
		size_t len = strnlen(tap->name, sizeof(tap->name));

		assert(len >= 1 && len < sizeof(tap->name));
		assert(!strpbrk(tap->name, "/%: \n") &&
		       strcmp(tap->name, ".") != 0 &&
		       strcmp(tap->name, "..") != 0);
		assert(tap->address_count <= TAP_ADDRESSES_MAX);
		for (size_t j = 0; j < tap->address_count; j++)
			assert(tap->addresses[j].prefix <= 128);
		assert(tap->mtu == 0 || (tap->mtu >= 68 && tap->mtu <= 65521));
		assert(!tap->has_mac || !(tap->mac[0] & 1));
	}
	assert(!args->new_user_ns || args->tap_list.count == 0 ||
	       args->new_net_ns);
	assert(!args->netns || !args->new_net_ns);
}

static void check_kept(const struct jail_args *args)
{
	for (size_t i = 0; i < args->keep_fds.count; i++)
		assert(args->keep[i] > (i ? args->keep[i - 1] : 2));
}

static void check(const struct jail_args *args, int argc)
{
	check_id(args->id);
	check_cgroups(args);
	check_taps(args);
	check_kept(args);
	assert(args->exec_file && args->chroot_base_dir);
	assert(args->uid < UINT32_MAX && args->gid < UINT32_MAX);
	assert(args->extra_count >= 0 && args->extra_count < argc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[TEXT_MAX + 1];
	char *argv[WORDS_MAX + 1] = {(char[]){"ember-jailer"}};
	struct error err = {0};
	struct jail_args args;
	int argc = 1;

	if (size > TEXT_MAX)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (size_t at = 0; at < size && argc < WORDS_MAX;
	     at += strlen(text + at) + 1)
		argv[argc++] = text + at;
	if (jail_args_parse(&args, argc, argv, &err))
		assert(err.code && *err.text);
	else if (!args.help && !args.version)
		check(&args, argc);
	return 0;
}
