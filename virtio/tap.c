/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/tap.h"

#include "virtio/net_frame.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static int refuse(struct error *err, int os_error, const char *what,
		  const char *name)
{
	return error_set(err, os_error,
			 "Open tap device failed: %s: %s (os error %d). "
			 "Invalid TUN/TAP Backend provided by %s. Check our "
			 "documentation on setting up the network devices.",
			 what, os_error_text(os_error), os_error, name);
}

int tap_refuse_busy(const char *name, struct error *err)
{
	return refuse(err, EBUSY, "Error while creating ifreq structure", name);
}

/* The header's size belongs to the open file: the 12 bytes of virtio 1. */
static int set_header(struct tap *tap, struct error *err)
{
	int size = sizeof(struct net_header);

	if (ioctl(tap->fd, TUNSETVNETHDRSZ, &size) == 0)
		return 0;
	return refuse(err, errno, "Error while setting the header size",
		      tap->name);
}

int tap_open(struct tap *tap, const char *name, struct error *err)
{
	struct ifreq request = {.ifr_flags = TAP_FLAGS};
	AUTO_CLOSE int fd = -1;
	int ret;

	if (!*name || strlen(name) > TAP_NAME_MAX)
		return refuse(err, EINVAL, "Invalid interface name", name);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return refuse(err, errno, "Couldn't open /dev/net/tun", name);
	strcpy(request.ifr_name, name);
	if (ioctl(fd, TUNSETIFF, &request))
		return refuse(err, errno,
			      "Error while creating ifreq structure", name);
	strcpy(tap->name, name);
	tap->fd = take_fd(&fd);
	tap->offloads = TAP_OFFLOADS_UNKNOWN;
	ret = set_header(tap, err);
	if (ret)
		tap_close(tap);
	return ret;
}

/* The kernel's answer tells what kind of descriptor it is. */
static int inspect(int fd, struct ifreq *ret_request, struct error *err)
{
	if (ioctl(fd, TUNGETIFF, ret_request))
		return error_set_os(err, errno,
				    "Open tap device failed: descriptor %d is "
				    "not a tap:",
				    fd);
	if ((ret_request->ifr_flags & TAP_FLAGS) != TAP_FLAGS)
		return error_set(err, EINVAL,
				 "Open tap device failed: descriptor %d must "
				 "have been opened with IFF_TAP, IFF_NO_PI and "
				 "IFF_VNET_HDR",
				 fd);
	return 0;
}

int tap_adopt(struct tap *tap, int fd, struct error *err)
{
	struct ifreq request = {0};
	int ret = inspect(fd, &request, err);

	if (ret)
		return ret;
	tap->offloads = TAP_OFFLOADS_UNKNOWN;
	tap->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (tap->fd < 0 || fcntl(tap->fd, F_SETFL, O_RDWR | O_NONBLOCK))
		ret = error_set_os(err, errno, "Open tap device failed:");
	memcpy(tap->name, request.ifr_name, TAP_NAME_MAX);
	tap->name[TAP_NAME_MAX] = '\0';
	if (!ret)
		ret = set_header(tap, err);
	if (ret)
		tap_close(tap);
	return ret;
}

int tap_set_offloads(struct tap *tap, unsigned flags)
{
	if (tap->offloads == flags)
		return 0;
	if (ioctl(tap->fd, TUNSETOFFLOAD, flags))
		return -errno;
	tap->offloads = flags;
	return 0;
}

void tap_close(struct tap *tap)
{
	close_fd(&tap->fd);
}
