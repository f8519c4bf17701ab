/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/uffd.h"
#include "vmm/log.h"
#include "vmm/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#ifndef USERFAULTFD_IOC_NEW /* headers before 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define CONNECT_SECONDS 1

/* Five names and as many numbers of up to 20 digits. */
#define REGION_TEXT_MAX 256
#define MESSAGE_MAX (GMEM_REGIONS_MAX * REGION_TEXT_MAX)

/* The device needs no more than the right to open it; the system call needs
 * CAP_SYS_PTRACE or a sysctl, since the kernel's own faults are wanted too. */
static int create(void)
{
	AUTO_CLOSE int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	const int flags = O_CLOEXEC | O_NONBLOCK;
	int fd = -1;

	if (device >= 0)
		fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, flags);
	return fd < 0 ? -errno : fd;
}

static int register_memory(const struct gmem *mem, int uffd, struct error *err)
{
	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);
		struct uffdio_register range = {
			.range = {(uintptr_t)region->hva, region->len},
			.mode = UFFDIO_REGISTER_MODE_MISSING,
		};

		if (ioctl(uffd, UFFDIO_REGISTER, &range))
			return error_set_os(err, errno,
					    "Failed to register memory address "
					    "range with the userfaultfd "
					    "object:");
	}
	return 0;
}

static int open_uffd(const struct gmem *mem, int *ret_uffd, struct error *err)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_REMOVE,
	};
	AUTO_CLOSE int uffd = create();
	int ret;

	if (uffd < 0)
		return error_set_os(err, -uffd, "Failed to create UFFD:");
	if (ioctl(uffd, UFFDIO_API, &api))
		return error_set_os(err, errno, "Failed to create UFFD:");
	ret = register_memory(mem, uffd, err);
	if (!ret)
		*ret_uffd = take_fd(&uffd);
	return ret;
}

static int connect_error(int code, struct error *err)
{
	error_set_os(err, code, "Failed to connect to UDS Unix stream:");
	if (code == EAGAIN)
		error_prefix(err, "The page-fault handler does not accept "
				  "connections. ");
	return -code;
}

static int connect_handler(const char *path, int *ret_socket, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const struct timeval timeout = {.tv_sec = CONNECT_SECONDS};
	AUTO_CLOSE int fd = -1;

	if (strlen(path) >= sizeof(addr.sun_path))
		return error_set(err, EINVAL,
				 "Failed to connect to UDS Unix stream: path "
				 "must be shorter than SUN_LEN");
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* It bounds the wait for a place in the handler's queue. */
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)))
		return connect_error(errno, err);
	while (connect(fd, (const void *)&addr, sizeof(addr)))
		if (errno != EINTR)
			return connect_error(errno, err);
	*ret_socket = take_fd(&fd);
	return 0;
}

/* The number of bytes; @text has MESSAGE_MAX. */
static size_t describe(const struct gmem *mem, char *text)
{
	/* "page_size_kib" is in bytes, too: handlers know it that way. */
	uint64_t page_size =
		gmem_pages(mem) == GMEM_PAGES_2M ? MIB(2) : PAGE_SIZE_4K;
	size_t len = 0;

	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);

		len += (size_t)snprintf(
			text + len, MESSAGE_MAX - len,
			"%c{\"base_host_virt_addr\":%" PRIuPTR
			",\"size\":%" PRIu64 ",\"offset\":%" PRIu64
			",\"page_size\":%" PRIu64 ",\"page_size_kib\":%" PRIu64
			"}",
			i ? ',' : '[', (uintptr_t)region->hva, region->len,
			region->fd_off, page_size, page_size);
	}
	text[len++] = ']';
	return len;
}

static int send_uffd(const struct gmem *mem, int socket, int uffd,
		     struct error *err)
{
	char text[MESSAGE_MAX];
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {text, describe(mem, text)};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	ssize_t n;

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(uffd));
	memcpy(CMSG_DATA(rights), &uffd, sizeof(uffd));
	do
		n = sendmsg(socket, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)iov.iov_len)
		return 0;
	return error_set_os(err, n < 0 ? errno : EIO,
			    "Failed to send file descriptor:");
}

int uffd_attach(struct gmem *mem, const char *socket_path, int *ret_uffd,
		int *ret_socket, struct error *err)
{
	AUTO_CLOSE int uffd = -1, socket = -1;
	int ret = open_uffd(mem, &uffd, err);

	if (!ret)
		ret = connect_handler(socket_path, &socket, err);
	if (!ret)
		ret = send_uffd(mem, socket, uffd, err);
	if (ret)
		return ret;
	*ret_uffd = take_fd(&uffd);
	*ret_socket = take_fd(&socket);
	return 0;
}

/* -------------------------------------------------- handlers that don't serve
 */

void uffd_detach(const struct gmem *mem, int uffd)
{
	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);
		struct uffdio_range range = {(uintptr_t)region->hva,
					     region->len};

		/* Fails only for what is not registered any more. */
		(void)ioctl(uffd, UFFDIO_UNREGISTER, &range);
	}
}

static void wait_for_end(struct uffd_watch *watch)
{
	uint64_t deadline = monotonic_ns() + watch->patience_ns;
	const struct timespec until = {
		.tv_sec = (time_t)(deadline / 1000000000u),
		.tv_nsec = (long)(deadline % 1000000000u),
	};
	int ret = 0;

	pthread_mutex_lock(&watch->lock);
	while (!watch->done && ret == 0)
		ret = pthread_cond_timedwait(&watch->changed, &watch->lock,
					     &until);
	watch->expired = !watch->done;
	if (watch->expired)
		uffd_detach(watch->mem, watch->uffd);
	pthread_mutex_unlock(&watch->lock);
}

/* Without its filter it has no patience. */
static void *watch_thread(void *arg)
{
	struct uffd_watch *watch = arg;

	if (seccomp_enter_as(watch->filters, SECCOMP_MEMORY, "ember_uffd"))
		watch->patience_ns = 0;
	wait_for_end(watch);
	return NULL;
}

static int init_locks(struct uffd_watch *watch)
{
	pthread_condattr_t attr;
	int ret = pthread_condattr_init(&attr);

	if (ret)
		return ret;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	ret = pthread_cond_init(&watch->changed, &attr);
	pthread_condattr_destroy(&attr);
	return ret ? ret : pthread_mutex_init(&watch->lock, NULL);
}

int uffd_watch_begin(struct uffd_watch *watch, const struct gmem *mem, int uffd,
		     unsigned seconds, const struct seccomp_filters *filters,
		     struct error *err)
{
	int ret;

	*watch = (struct uffd_watch){
		.mem = mem,
		.uffd = uffd,
		.filters = filters,
		.patience_ns = seconds * UINT64_C(1000000000),
	};
	if (uffd < 0)
		return 0;
	ret = init_locks(watch);
	if (!ret)
		ret = pthread_create(&watch->thread, NULL, watch_thread, watch);
	if (!ret)
		return 0;
	watch->uffd = -1;
	return error_set_os(err, ret,
			    "Cannot watch over the page-fault handler:");
}

int uffd_watch_end(struct uffd_watch *watch, struct error *err)
{
	if (watch->uffd < 0)
		return 0;
	pthread_mutex_lock(&watch->lock);
	watch->done = true;
	pthread_cond_signal(&watch->changed);
	pthread_mutex_unlock(&watch->lock);
	pthread_join(watch->thread, NULL);
	pthread_cond_destroy(&watch->changed);
	pthread_mutex_destroy(&watch->lock);
	if (!watch->expired)
		return 0;
	return error_set(err, ETIMEDOUT,
			 "The page-fault handler did not serve what a load "
			 "needs within %u seconds",
			 (unsigned)(watch->patience_ns / 1000000000u));
}
