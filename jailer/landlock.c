/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/landlock.h"

#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>

/* Newer than the headers that this is built with. */
#define FS_TRUNCATE BIT(14)
#define FS_IOCTL_DEV BIT(15)
#define NET_BIND_TCP BIT(0)
#define NET_CONNECT_TCP BIT(1)
#define SCOPE_ABSTRACT_UNIX_SOCKET BIT(0)
#define SCOPE_SIGNAL BIT(1)

#define FS_FIRST_ABI (BIT(13) - 1) /* EXECUTE to MAKE_SYM */
#define FS_MAKE_NODES                                                          \
	(LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

/* What came with which ABI (7 brought nothing to withhold). */
static const struct {
	int abi;
	struct landlock_rights rights;
} history[] = {
	{1, {.files = FS_FIRST_ABI}},
	{2, {.files = LANDLOCK_ACCESS_FS_REFER}},
	{3, {.files = FS_TRUNCATE}},
	{4, {.network = NET_BIND_TCP | NET_CONNECT_TCP}},
	{5, {.files = FS_IOCTL_DEV}},
	{6, {.scopes = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL}},
};

struct landlock_rights landlock_known(int abi)
{
	struct landlock_rights all = {0};

	for (size_t i = 0; i < ARRAY_SIZE(history); i++) {
		if (history[i].abi > abi)
			break;
		all.files |= history[i].rights.files;
		all.network |= history[i].rights.network;
		all.scopes |= history[i].rights.scopes;
	}
	return all;
}

uint64_t landlock_root_files(int abi)
{
	return landlock_known(abi).files & ~(FS_MAKE_NODES | FS_IOCTL_DEV);
}

uint64_t landlock_dev_files(int abi)
{
	return landlock_root_files(abi) |
	       (landlock_known(abi).files & FS_IOCTL_DEV);
}

/* 0: the kernel has none, or it was turned off at boot. */
static int kernel_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
			   LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

static int allow_beneath(int ruleset, const char *path, uint64_t files)
{
	AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
	const struct landlock_path_beneath_attr rule = {
		.allowed_access = files,
		.parent_fd = fd,
	};

	if (fd < 0 || syscall(SYS_landlock_add_rule, ruleset,
			      LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		return -errno;
	return 0;
}

int jail_restrict_access(struct jail *jail, struct error *err)
{
	int abi = jail->args.no_landlock ? 0 : kernel_abi();
	const struct landlock_rights rights = landlock_known(abi);
	AUTO_CLOSE int ruleset = -1;
	int ret;

	if (abi == 0)
		return 0;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &rights,
			       sizeof(rights), 0);
	ret = ruleset < 0 ? -errno : 0;
	if (!ret)
		ret = allow_beneath(ruleset, "/", landlock_root_files(abi));
	if (!ret)
		ret = allow_beneath(ruleset, "/dev", landlock_dev_files(abi));
	if (!ret && syscall(SYS_landlock_restrict_self, ruleset, 0))
		ret = -errno;
	if (ret)
		return error_set_os(err, -ret,
				    "Failed to restrict access by Landlock:");
	return 0;
}
