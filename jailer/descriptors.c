/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <string.h>
#include <unistd.h>

static int parse_one(const char *text, int *ret_fd, struct error *err)
{
	uint64_t fd;

	if (arguments_number(text, &fd) || fd <= STDERR_FILENO || fd > INT_MAX)
		return error_set(err, EINVAL,
				 "'%s' of argument 'keep-fd' is no descriptor "
				 "from 3 on.",
				 text);
	if (fcntl((int)fd, F_GETFD) < 0)
		return error_set(err, EINVAL,
				 "Descriptor %s of argument 'keep-fd' is not "
				 "open.",
				 text);
	*ret_fd = (int)fd;
	return 0;
}

/* Puts @fd where it belongs among the @count that are sorted already. */
static int insert(int *fds, size_t count, int fd, struct error *err)
{
	size_t at = count;

	while (at > 0 && fds[at - 1] > fd)
		at--;
	if (at > 0 && fds[at - 1] == fd)
		return error_set(err, EINVAL,
				 "Descriptor %d was given to argument "
				 "'keep-fd' more than once.",
				 fd);
	memmove(&fds[at + 1], &fds[at], (count - at) * sizeof(*fds));
	fds[at] = fd;
	return 0;
}

int descriptors_parse(const struct argument_list *list, int *fds,
		      struct error *err)
{
	for (size_t i = 0; i < list->count; i++) {
		int fd = -1;
		int ret = parse_one(list->values[i], &fd, err);

		if (!ret)
			ret = insert(fds, i, fd, err);
		if (ret)
			return ret;
	}
	return 0;
}

static int close_span(unsigned int first, unsigned int last)
{
	if (first > last)
		return 0;
	return close_range(first, last, CLOSE_RANGE_UNSHARE) ? -errno : 0;
}

int descriptors_close(const int *fds, size_t count, struct error *err)
{
	unsigned int first = STDERR_FILENO + 1;
	int ret = 0;

	for (size_t i = 0; !ret && i < count; i++) {
		ret = close_span(first, (unsigned int)fds[i] - 1);
		first = (unsigned int)fds[i] + 1;
	}
	if (!ret)
		ret = close_span(first, UINT_MAX);
	if (ret)
		return error_set_os(err, -ret,
				    "Cannot close inherited descriptors:");
	return 0;
}
