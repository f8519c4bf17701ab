/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Messages ("Front-end message types"). */
enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
};

#define PROTOCOL_F_CONFIG 9

/* Flags of a message: the protocol's version, and what it is. */
#define VERSION 1
#define VERSION_MASK 3
#define IS_REPLY 4

/* All numbers are in the machine's own byte order. */
struct header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of what follows */
};

struct vring_state {
	uint32_t index, num;
};

struct vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log; /* addresses of this process */
};

struct memory_region {
	uint64_t guest_addr, size, user_addr, mmap_offset;
};

struct memory_table {
	uint32_t count, padding;
	struct memory_region regions[GMEM_REGIONS_MAX];
};

struct config_head {
	uint32_t offset, size, flags;
};

struct message {
	struct header header;
	union {
		uint64_t u64;
		struct vring_state state;
		struct vring_addr addr;
		struct memory_table memory;
		struct {
			struct config_head head;
			uint8_t bytes[VIRTIO_CONFIG_MAX];
		} config;
	};
};

#define FDS_MAX GMEM_REGIONS_MAX

/* The union is aligned to 8 bytes, the header in front of it is not. */
#define PAYLOAD(message) ((uint8_t *)&(message)->u64)

static const struct message empty = {.header = {0}};

/* ------------------------------------------------------------------ sending */

/* All at once or not at all: the buffer of a socket whose other end reads has
 * room for far more than we ever send. */
static int send_message(const struct vhost_user *vhost, struct message *message,
			uint32_t request, size_t size, const int *fds,
			size_t fd_count)
{
	union {
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov[] = {
		{&message->header, sizeof(message->header)},
		{PAYLOAD(message), size},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = size ? 2 : 1};
	ssize_t n;

	message->header = (struct header){request, VERSION, (uint32_t)size};
	if (fd_count) {
		struct cmsghdr *cmsg = &control.align;

		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, fd_count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	n = sendmsg(vhost->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	return (size_t)n == sizeof(message->header) + size ? 0 : -EAGAIN;
}

static int send_u64(const struct vhost_user *vhost, uint32_t request,
		    uint64_t value)
{
	struct message message = {.u64 = value};

	return send_message(vhost, &message, request, sizeof(value), NULL, 0);
}

static int send_state(const struct vhost_user *vhost, uint32_t request,
		      uint32_t num)
{
	struct message message = {.state = {0, num}};

	return send_message(vhost, &message, request, sizeof(message.state),
			    NULL, 0);
}

/* Queue 0 is kicked, or interrupts, over @fd. */
static int send_fd(const struct vhost_user *vhost, uint32_t request, int fd)
{
	struct message message = empty;

	return send_message(vhost, &message, request, sizeof(message.u64), &fd,
			    1);
}

/* ---------------------------------------------------------------- receiving */

/* Until there is something to read. Never before @deadline_ns has passed does
 * it say -ETIMEDOUT. */
static int wait_readable(int fd, uint64_t deadline_ns)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	for (;;) {
		uint64_t now = monotonic_ns();
		uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
		int n = poll(&poll_fd, 1, (int)((left + 999999) / 1000000));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!left)
			return -ETIMEDOUT;
	}
}

static int receive_bytes(const struct vhost_user *vhost, void *buf, size_t len,
			 uint64_t deadline_ns)
{
	size_t done = 0;

	while (done < len) {
		/* Not recvmsg: descriptors that come along are not wanted. */
		ssize_t n = read(vhost->fd, (uint8_t *)buf + done, len - done);
		int ret;

		if (n == 0)
			return -ECONNRESET;
		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		ret = wait_readable(vhost->fd, deadline_ns);
		if (ret)
			return ret;
	}
	return 0;
}

/* The answer to @request, whose payload must have @size bytes. */
static int receive(const struct vhost_user *vhost, struct message *message,
		   uint32_t request, size_t size, uint64_t deadline_ns)
{
	int ret = receive_bytes(vhost, &message->header,
				sizeof(message->header), deadline_ns);

	if (ret)
		return ret;
	if (message->header.request != request ||
	    (message->header.flags & VERSION_MASK) != VERSION ||
	    !(message->header.flags & IS_REPLY) || message->header.size != size)
		return -EPROTO;
	return receive_bytes(vhost, PAYLOAD(message), size, deadline_ns);
}

static int ask_u64(const struct vhost_user *vhost, uint32_t request,
		   uint64_t deadline_ns, uint64_t *ret_value)
{
	struct message message = empty;
	int ret = send_message(vhost, &message, request, 0, NULL, 0);

	if (!ret)
		ret = receive(vhost, &message, request, sizeof(message.u64),
			      deadline_ns);
	if (!ret)
		*ret_value = message.u64;
	return ret;
}

/* ---------------------------------------------------------------- agreement */

/* What it was doing, and what came of it. */
static int failed(int ret, const char *what, struct error *err)
{
	if (ret == -EPROTO)
		return error_set(err, EPROTO,
				 "The back end's answer to %s is not one",
				 what);
	if (ret == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT,
				 "The back end does not answer %s within a "
				 "second",
				 what);
	return error_set_os(err, -ret,
			    "The back end does not answer %s:", what);
}

static int agree_on_features(struct vhost_user *vhost, uint64_t wanted,
			     uint64_t deadline_ns, struct error *err)
{
	const uint64_t needed =
		BIT(VIRTIO_F_VERSION_1) | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	struct message message = empty;
	uint64_t offered = 0;
	int ret = send_message(vhost, &message, SET_OWNER, 0, NULL, 0);

	if (!ret)
		ret = ask_u64(vhost, GET_FEATURES, deadline_ns, &offered);
	if (ret)
		return failed(ret, "GET_FEATURES", err);
	if ((offered & needed) != needed)
		return error_set(err, ENOTSUP,
				 "The back end has features %#lx, without "
				 "VERSION_1 or PROTOCOL_FEATURES",
				 (unsigned long)offered);
	vhost->features = offered & (wanted | needed);
	return 0;
}

static int agree_on_protocol(const struct vhost_user *vhost,
			     uint64_t deadline_ns, struct error *err)
{
	uint64_t offered = 0;
	int ret = ask_u64(vhost, GET_PROTOCOL_FEATURES, deadline_ns, &offered);

	if (!ret && !(offered & BIT(PROTOCOL_F_CONFIG)))
		return error_set(err, ENOTSUP,
				 "The back end has protocol features %#lx, "
				 "without CONFIG",
				 (unsigned long)offered);
	if (!ret)
		ret = send_u64(vhost, SET_PROTOCOL_FEATURES,
			       BIT(PROTOCOL_F_CONFIG));
	return ret ? failed(ret, "GET_PROTOCOL_FEATURES", err) : 0;
}

static int adopt(struct vhost_user *ret_vhost, int fd, uint64_t wanted,
		 uint64_t deadline_ns, struct error *err)
{
	struct vhost_user vhost = {.fd = fd};
	int ret = agree_on_features(&vhost, wanted, deadline_ns, err);

	if (!ret)
		ret = agree_on_protocol(&vhost, deadline_ns, err);
	if (ret)
		vhost_user_close(&vhost);
	else
		*ret_vhost = vhost;
	return ret;
}

int vhost_user_adopt(struct vhost_user *ret_vhost, int fd, uint64_t wanted,
		     struct error *err)
{
	return adopt(ret_vhost, fd, wanted,
		     monotonic_ns() + VHOST_USER_TIMEOUT_NS, err);
}

/* A full queue of connections is waited for, like an answer. */
static int connect_to(const struct sockaddr_un *addr, int *ret_fd)
{
	const struct timeval limit = {
		.tv_usec = (suseconds_t)(VHOST_USER_TIMEOUT_NS / 1000 - 1)};
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)))
		return -errno;
	while (connect(fd, (const void *)addr, sizeof(*addr)))
		if (errno != EINTR)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int vhost_user_connect(struct vhost_user *ret_vhost, const char *path,
		       uint64_t wanted, struct error *err)
{
	uint64_t deadline_ns = monotonic_ns() + VHOST_USER_TIMEOUT_NS;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = -1;
	int ret;

	if (!*path || strlen(path) >= sizeof(addr.sun_path))
		return error_set(err, EINVAL,
				 "Cannot connect to %s: a socket's path has 1 "
				 "to %zu characters",
				 path, sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	ret = connect_to(&addr, &fd);
	if (ret)
		return error_set_os(err, -ret, "Cannot connect to %s:", path);
	return adopt(ret_vhost, fd, wanted, deadline_ns, err);
}

void vhost_user_close(struct vhost_user *vhost)
{
	close_fd(&vhost->fd);
}

/* The answer to GET_CONFIG, @len bytes. */
static int receive_config(const struct vhost_user *vhost,
			  struct message *message, size_t len,
			  uint64_t deadline_ns)
{
	const struct config_head *head = &message->config.head;
	int ret = receive(vhost, message, GET_CONFIG, sizeof(*head) + len,
			  deadline_ns);

	return !ret && (head->offset || head->size != len) ? -EPROTO : ret;
}

/* Once there is something to read. */
static int receive_owed(struct vhost_user *vhost, uint64_t deadline_ns)
{
	struct message message = empty;
	int ret = receive_config(vhost, &message, vhost->owed, deadline_ns);

	/* Half an answer is not one that may still come. */
	vhost->owed = 0;
	return ret == -ETIMEDOUT ? -EPROTO : ret;
}

static int ask_config(struct vhost_user *vhost, struct message *message,
		      size_t len)
{
	uint64_t deadline_ns = monotonic_ns() + VHOST_USER_TIMEOUT_NS;
	int ret;

	if (vhost->owed) {
		ret = wait_readable(vhost->fd, deadline_ns);
		if (!ret)
			ret = receive_owed(vhost, deadline_ns);
		if (ret)
			return ret;
	}
	message->config.head.size = (uint32_t)len;
	ret = send_message(vhost, message, GET_CONFIG,
			   sizeof(message->config.head) + len, NULL, 0);
	if (ret)
		return ret;
	vhost->owed = len;
	ret = wait_readable(vhost->fd, deadline_ns);
	if (ret)
		return ret;
	vhost->owed = 0;
	ret = receive_config(vhost, message, len, deadline_ns);
	return ret == -ETIMEDOUT ? -EPROTO : ret;
}

int vhost_user_get_config(struct vhost_user *vhost, void *config, size_t len,
			  struct error *err)
{
	struct message message = empty;
	int ret = ask_config(vhost, &message, len);

	if (ret)
		return failed(ret, "GET_CONFIG", err);
	memcpy(config, message.config.bytes, len);
	return 0;
}

/* ----------------------------------------------------------- start and stop */

static int send_memory(const struct vhost_user *vhost, const struct gmem *mem)
{
	struct message message = empty;
	struct memory_table *table = &message.memory;
	int fds[FDS_MAX];
	size_t count = gmem_region_count(mem);

	for (size_t i = 0; i < count; i++) {
		const struct gmem_region *region = gmem_region(mem, i);

		if (gmem_backing(mem) != GMEM_MEMFD)
			return -ENOTSUP;
		fds[i] = region->fd;
		table->regions[i] = (struct memory_region){
			.guest_addr = region->gpa,
			.size = region->len,
			.user_addr = (uintptr_t)region->hva,
			.mmap_offset = region->fd_off,
		};
	}
	table->count = (uint32_t)count;
	return send_message(vhost, &message, SET_MEM_TABLE,
			    offsetof(struct memory_table, regions) +
				    count * sizeof(table->regions[0]),
			    fds, count);
}

static int send_addresses(const struct vhost_user *vhost,
			  const struct queue *queue)
{
	struct message message = {
		.addr =
			{
				.desc = (uintptr_t)queue->desc,
				.used = (uintptr_t)queue->device,
				.avail = (uintptr_t)queue->driver,
			},
	};

	return send_message(vhost, &message, SET_VRING_ADDR,
			    sizeof(message.addr), NULL, 0);
}

int vhost_user_start(struct vhost_user *vhost, const struct virtio_device *dev,
		     struct error *err)
{
	const struct queue *queue = &dev->queues[0];
	uint64_t features = (dev->driver_features & vhost->features) |
			    BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	int ret = send_u64(vhost, SET_FEATURES, features);

	if (!ret)
		ret = send_memory(vhost, dev->mem);
	if (!ret)
		ret = send_state(vhost, SET_VRING_NUM, queue->size);
	if (!ret)
		ret = send_state(vhost, SET_VRING_BASE, queue->next_avail);
	if (!ret)
		ret = send_addresses(vhost, queue);
	if (!ret)
		ret = send_fd(vhost, SET_VRING_CALL, dev->irq.fd);
	if (!ret)
		ret = send_fd(vhost, SET_VRING_KICK, dev->kicks[0]->fd);
	if (!ret)
		ret = send_state(vhost, SET_VRING_ENABLE, 1);
	return ret ? error_set_os(err, -ret,
				  "The back end cannot be told where the "
				  "queue is:")
		   : 0;
}

int vhost_user_ask_stop(struct vhost_user *vhost)
{
	const struct {
		struct header header;
		struct vring_state state;
	} request = {
		.header = {GET_VRING_BASE, VERSION, sizeof(request.state)},
	};
	ssize_t n;

	if (vhost->owed)
		return -EBUSY;
	/* Not sendmsg: this is what vCPU threads may do with descriptors. */
	n = write(vhost->fd, &request, sizeof(request));
	if (n < 0)
		return -errno;
	if ((size_t)n != sizeof(request))
		return -EAGAIN;
	return wait_readable(vhost->fd, monotonic_ns() + VHOST_USER_TIMEOUT_NS);
}

int vhost_user_end_stop(struct vhost_user *vhost)
{
	struct message message = empty;

	return receive(vhost, &message, GET_VRING_BASE, sizeof(message.state),
		       monotonic_ns() + VHOST_USER_TIMEOUT_NS);
}

int vhost_user_check_idle(struct vhost_user *vhost)
{
	for (;;) {
		uint8_t byte;
		ssize_t n = recv(vhost->fd, &byte, 1, MSG_PEEK);
		int ret;

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return -ECONNRESET;
		if (!vhost->owed)
			return -EPROTO;
		/* Some write a header and what follows apart. */
		ret = receive_owed(vhost,
				   monotonic_ns() + VHOST_USER_TIMEOUT_NS);
		if (ret)
			return ret;
	}
}
