/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets. */
#include "tests/attacks/attack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NEW_SOCKET(name, family, type)                                         \
	static int name(const struct target *target)                           \
	{                                                                      \
		(void)target;                                                  \
		return outcome(socket(family, type, 0));                       \
	}

NEW_SOCKET(packet, AF_PACKET, SOCK_RAW)
NEW_SOCKET(netlink, AF_NETLINK, SOCK_RAW)
NEW_SOCKET(udp, AF_INET, SOCK_DGRAM)
NEW_SOCKET(host_vsock, AF_VSOCK, SOCK_STREAM)

static int raw(const struct target *target)
{
	(void)target;
	return outcome(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static int tcp_connect(const struct target *target)
{
	const struct sockaddr_in address = loopback(target->port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		return -errno;
	return outcome(connect(fd, (const struct sockaddr *)&address,
			       sizeof(address)));
}

static int tcp_bind(const struct target *target)
{
	const struct sockaddr_in address = loopback(0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)target;
	if (fd < 0)
		return -errno;
	return outcome(
		bind(fd, (const struct sockaddr *)&address, sizeof(address)));
}

static int abstract_connect(const struct target *target)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(target->abstract);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path + 1, target->abstract, len);
	return outcome(connect(
		fd, (const struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)));
}

static int path_connect(const struct target *target)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s.sock",
		 target->secret);
	return outcome(connect(fd, (const struct sockaddr *)&address,
			       sizeof(address)));
}

/* Takes the loopback interface down, and up again. */
static int change_link(int fd, unsigned int flags)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
	} request = {
		.head = {.nlmsg_len = sizeof(request),
			 .nlmsg_type = RTM_NEWLINK,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.info = {.ifi_index = 1,
			 .ifi_flags = flags,
			 .ifi_change = IFF_UP},
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char more[512];
	} answer;

	if (send(fd, &request, sizeof(request), 0) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) < 0)
		return -errno;
	return answer.error.error;
}

static int configure(const struct target *target)
{
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	int ret;

	(void)target;
	if (fd < 0)
		return -errno;
	ret = change_link(fd, 0);
	return ret ? ret : change_link(fd, IFF_UP);
}

static const struct attack attacks[] = {
	{"packet socket", packet, JAIL, 0, {EPERM}},
	{"raw socket", raw, JAIL, 0, {EPERM}},
	{"configure the network", configure, JAIL, 0, {EPERM}},
	{"connect by TCP",
	 tcp_connect,
	 LANDLOCK_4 | NETNS | FILTER,
	 0,
	 {EACCES, ECONNREFUSED}},
	{"bind a TCP port", tcp_bind, LANDLOCK_4 | FILTER, 0, {EACCES}},
	{"abstract socket outside",
	 abstract_connect,
	 LANDLOCK_6 | NETNS,
	 0,
	 {EPERM, ECONNREFUSED}},
	{"socket outside", path_connect, JAIL, 0, {ENOENT}},
	/* Kernel code that nobody needs rights to reach. */
	{"netlink socket", netlink, FILTER, 0, {0}},
	{"UDP socket", udp, FILTER, 0, {0}},
	{"vsock of the host", host_vsock, FILTER, HOST_DECIDES, {0}},
};

const struct attack_table network_attacks = {
	attacks, sizeof(attacks) / sizeof(attacks[0])};
