/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taps for the monitor, made while there are rights to do so: it then opens
 * them as their owner. They stay when this process has let go of them, for as
 * long as the network namespace does.
 */
#include "jailer/tap.h"

#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_tun.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>

#define TUN_DEVICE "/dev/net/tun"

/* As virtio/tap.c opens it. */
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

/* --------------------------------------------------------- the tap itself */

static int attach(const char *name, int flags, int *ret_fd)
{
	struct ifreq request = {.ifr_flags = (short)flags};
	AUTO_CLOSE int fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

void tap_remove(const char *name)
{
	AUTO_CLOSE int fd = -1;

	if (attach(name, TAP_FLAGS, &fd) == 0)
		ioctl(fd, TUNSETPERSIST, 0);
}

static int create(struct jail *jail, const struct tap_spec *spec,
		  struct error *err)
{
	AUTO_CLOSE int fd = -1;
	int ret = attach(spec->name, TAP_FLAGS | IFF_TUN_EXCL, &fd);

	if (ret == -EBUSY)
		return error_set(err, EEXIST,
				 "Failed to create tap %s: there is an "
				 "interface of this name already.",
				 spec->name);
	if (!ret && (ioctl(fd, TUNSETOWNER, jail->args.uid) ||
		     ioctl(fd, TUNSETGROUP, jail->args.gid) ||
		     ioctl(fd, TUNSETPERSIST, 1)))
		ret = -errno;
	if (!ret)
		ret = undo_note(&jail->undo, UNDO_TAP, -1, spec->name);
	if (ret)
		return error_set_os(err, -ret,
				    "Failed to create tap %s:", spec->name);
	return 0;
}

/* ---------------------------------------------------------------- netlink */

static void free_socket(struct nl_sock **socket)
{
	nl_socket_free(*socket);
}

static void free_link(struct rtnl_link **link)
{
	rtnl_link_put(*link);
}

static void free_rtnl_addr(struct rtnl_addr **address)
{
	rtnl_addr_put(*address);
}

static void free_nl_addr(struct nl_addr **address)
{
	nl_addr_put(*address);
}

#define AUTO(free) __attribute__((cleanup(free)))

/* libnl has numbers for errors of its own. */
static int failed(int ret, const char *what, const char *name,
		  struct error *err)
{
	return error_set(err, EIO, "Failed to %s %s: %s.", what, name,
			 nl_geterror(ret));
}

static int set_link(struct nl_sock *socket, const struct tap_spec *spec)
{
	AUTO(free_link) struct rtnl_link *which = rtnl_link_alloc();
	AUTO(free_link) struct rtnl_link *change = rtnl_link_alloc();
	AUTO(free_nl_addr) struct nl_addr *mac = NULL;

	if (!which || !change)
		return -NLE_NOMEM;
	rtnl_link_set_ifindex(which, (int)if_nametoindex(spec->name));
	rtnl_link_set_flags(change, IFF_UP);
	if (spec->mtu)
		rtnl_link_set_mtu(change, spec->mtu);
	if (spec->has_mac) {
		mac = nl_addr_build(AF_LLC, spec->mac, TAP_MAC_LEN);
		if (!mac)
			return -NLE_NOMEM;
		rtnl_link_set_addr(change, mac);
	}
	return rtnl_link_change(socket, which, change, 0);
}

/* Without detection of duplicates: it would wait for a guest to listen. */
static int add_address(struct nl_sock *socket, const struct tap_spec *spec,
		       const struct tap_address *address)
{
	AUTO(free_rtnl_addr) struct rtnl_addr *request = rtnl_addr_alloc();
	AUTO(free_nl_addr)
	struct nl_addr *local =
		nl_addr_build(address->family, address->bytes,
			      address->family == AF_INET ? 4 : 16);
	int ret;

	if (!request || !local)
		return -NLE_NOMEM;
	nl_addr_set_prefixlen(local, (int)address->prefix);
	rtnl_addr_set_ifindex(request, (int)if_nametoindex(spec->name));
	ret = rtnl_addr_set_local(request, local);
	if (ret)
		return ret;
	if (address->family == AF_INET6)
		rtnl_addr_set_flags(request, IFA_F_NODAD);
	return rtnl_addr_add(socket, request, 0);
}

static int set_up(struct nl_sock *socket, const struct tap_spec *spec,
		  struct error *err)
{
	int ret = set_link(socket, spec);

	if (ret)
		return failed(ret, "set up tap", spec->name, err);
	for (size_t i = 0; i < spec->address_count; i++) {
		ret = add_address(socket, spec, &spec->addresses[i]);
		if (ret)
			return failed(ret, "add an address to tap", spec->name,
				      err);
	}
	return 0;
}

/* ----------------------------------------------------------------- stages */

int jail_make_net_ns(struct jail *jail, struct error *err)
{
	if (jail->args.new_net_ns && unshare(CLONE_NEWNET))
		return error_set_os(err, errno,
				    "Failed to make a network namespace:");
	return 0;
}

static int make_all(struct jail *jail, struct nl_sock *socket,
		    struct error *err)
{
	static const struct tap_spec loopback = {.name = "lo"};
	int ret = 0;

	if (jail->args.new_net_ns)
		ret = set_up(socket, &loopback, err);
	for (size_t i = 0; !ret && i < jail->args.tap_list.count; i++) {
		const struct tap_spec *spec = &jail->args.taps[i];

		ret = create(jail, spec, err);
		if (!ret)
			ret = set_up(socket, spec, err);
	}
	return ret;
}

int jail_make_taps(struct jail *jail, struct error *err)
{
	AUTO(free_socket) struct nl_sock *socket = NULL;
	int ret;

	if (!jail->args.new_net_ns && jail->args.tap_list.count == 0)
		return 0;
	socket = nl_socket_alloc();
	ret = socket ? nl_connect(socket, NETLINK_ROUTE) : -NLE_NOMEM;
	if (ret)
		return failed(ret, "open a socket for", "rtnetlink", err);
	return make_all(jail, socket, err);
}
