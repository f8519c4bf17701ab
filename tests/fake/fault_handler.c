/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/fault_handler.h"
#include "vmm/util.h"

#include <errno.h>
#include <jansson.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

int fault_handler_listen(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	if (fd < 0 || bind(fd, (const void *)&addr, sizeof(addr)) ||
	    listen(fd, 8))
		return -errno;
	return take_fd(&fd);
}

/* One message with one descriptor. */
static int receive(struct fault_handler *handler)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {handler->message, sizeof(handler->message) - 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(handler->stream, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *rights = n < 0 ? NULL : CMSG_FIRSTHDR(&message);

	if (n < 0)
		return -errno;
	if (!rights || rights->cmsg_type != SCM_RIGHTS ||
	    rights->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EPROTO;
	memcpy(&handler->uffd, CMSG_DATA(rights), sizeof(int));
	return 0;
}

static bool get_region(json_t *entry, struct fault_region *region)
{
	json_int_t base, size, offset, page_size, page_size_kib;

	if (json_unpack(entry, "{s:I, s:I, s:I, s:I, s:I !}",
			"base_host_virt_addr", &base, "size", &size, "offset",
			&offset, "page_size", &page_size, "page_size_kib",
			&page_size_kib) ||
	    page_size != page_size_kib || size <= 0 || offset < 0 ||
	    (page_size != (json_int_t)PAGE_SIZE_4K &&
	     page_size != (json_int_t)MIB(2)))
		return false;
	*region = (struct fault_region){(uint64_t)base, (uint64_t)size,
					(uint64_t)offset, (uint64_t)page_size};
	return true;
}

static int parse(struct fault_handler *handler)
{
	json_t *root = json_loads(handler->message, 0, NULL);
	int ret = json_is_array(root) && json_array_size(root) > 0 &&
				  json_array_size(root) <= FAULT_REGIONS_MAX
			  ? 0
			  : -EPROTO;

	for (size_t i = 0; !ret && i < json_array_size(root); i++) {
		struct fault_region *region = &handler->regions[i];

		if (!get_region(json_array_get(root, i), region) ||
		    region->offset > handler->memory_size ||
		    region->size > handler->memory_size - region->offset)
			ret = -EPROTO;
		handler->region_count++;
	}
	json_decref(root);
	return ret;
}

static int map_memory(struct fault_handler *handler)
{
	struct stat st;
	void *memory;

	if (fstat(handler->memory_fd, &st))
		return -errno;
	memory = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE,
		      handler->memory_fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	handler->memory = memory;
	handler->memory_size = (uint64_t)st.st_size;
	handler->removed = calloc(1, handler->memory_size / PAGE_SIZE_4K + 1);
	return handler->removed ? 0 : -ENOMEM;
}

int fault_handler_accept(struct fault_handler *handler, int listener,
			 int memory_fd)
{
	int ret;

	*handler = (struct fault_handler){
		.memory_fd = memory_fd,
		.uffd = -1,
		.stream = accept4(listener, NULL, NULL, SOCK_CLOEXEC),
	};
	if (handler->stream < 0)
		return -errno;
	ret = map_memory(handler);
	if (!ret)
		ret = receive(handler);
	if (!ret)
		ret = parse(handler);
	if (ret)
		fault_handler_release(handler);
	return ret;
}

static const struct fault_region *find(const struct fault_handler *handler,
				       uint64_t address)
{
	for (size_t i = 0; i < handler->region_count; i++)
		if (address - handler->regions[i].base <
		    handler->regions[i].size)
			return &handler->regions[i];
	return NULL;
}

static int copy(const struct fault_handler *handler, uint64_t address,
		const void *from, uint64_t len)
{
	struct uffdio_copy request = {
		.dst = address,
		.src = (uintptr_t)from,
		.len = len,
	};

	/* EAGAIN: pages are being removed; that event has to be read first, and
	 * the guest asks again when it is woken. */
	if (!ioctl(handler->uffd, UFFDIO_COPY, &request) || errno == EEXIST)
		return 0;
	if (errno == EAGAIN) {
		struct uffdio_range range = {address, len};

		ioctl(handler->uffd, UFFDIO_WAKE, &range);
		return 0;
	}
	return -errno;
}

/* What the page at @off of the memory file has become; followed by what those
 * of the same kind have. */
static const void *contents(const struct fault_handler *handler, uint64_t off)
{
	static const uint8_t zeros[MIB(2)];

	return handler->removed[off / PAGE_SIZE_4K] ? zeros
						    : handler->memory + off;
}

/* The pages behind @address, up to the first that is of another kind: the
 * file's, or removed. Those that are there already end the copy, too. */
static int fill_ahead(const struct fault_handler *handler,
		      const struct fault_region *region, uint64_t address)
{
	uint64_t start = address + region->page_size - region->base;
	uint64_t most = MIN(start + MIB(2), region->size);
	uint64_t end = start;
	const uint8_t *removed =
		handler->removed + region->offset / PAGE_SIZE_4K;

	for (uint64_t i = 0; i < handler->ahead && end < most; i++) {
		if (removed[end / PAGE_SIZE_4K] !=
		    removed[start / PAGE_SIZE_4K])
			break;
		end += region->page_size;
	}
	if (start == end)
		return 0;
	return copy(handler, region->base + start,
		    contents(handler, region->offset + start), end - start);
}

static int on_fault(struct fault_handler *handler, uint64_t address)
{
	const struct fault_region *region = find(handler, address);
	uint64_t off;
	int ret;

	if (!region)
		return -EFAULT;
	address = ALIGN_DOWN(address, region->page_size);
	off = region->offset + (address - region->base);
	handler->served++;
	ret = copy(handler, address, contents(handler, off), region->page_size);
	return ret ? ret : fill_ahead(handler, region, address);
}

static void on_remove(struct fault_handler *handler, uint64_t start,
		      uint64_t end)
{
	handler->removes++;
	for (; start < end; start += PAGE_SIZE_4K) {
		const struct fault_region *region = find(handler, start);

		if (region)
			handler->removed[(region->offset + start -
					  region->base) /
					 PAGE_SIZE_4K] = 1;
	}
}

/* All that there is to read. */
static int handle_events(struct fault_handler *handler)
{
	struct uffd_msg event;
	int ret = 0;

	while (!ret && read(handler->uffd, &event, sizeof(event)) ==
			       (ssize_t)sizeof(event)) {
		if (event.event == UFFD_EVENT_PAGEFAULT)
			ret = on_fault(handler, event.arg.pagefault.address);
		else if (event.event == UFFD_EVENT_REMOVE)
			on_remove(handler, event.arg.remove.start,
				  event.arg.remove.end);
	}
	return ret;
}

int fault_handler_serve(struct fault_handler *handler)
{
	struct pollfd fds[] = {
		{.fd = handler->uffd, .events = POLLIN},
		{.fd = handler->stream, .events = POLLIN},
	};
	int ret = 0;

	while (!ret && !(fds[1].revents & (POLLIN | POLLHUP))) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return -errno;
		ret = handle_events(handler);
	}
	return ret == -ESRCH ? 0 : ret; /* its memory is gone */
}

void fault_handler_release(struct fault_handler *handler)
{
	if (handler->memory)
		munmap(handler->memory, handler->memory_size);
	handler->memory = NULL;
	free(take_ptr(handler->removed));
	close_fd(&handler->uffd);
	close_fd(&handler->stream);
}
