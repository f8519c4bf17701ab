/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images of any content, loaded into a small guest memory.
 */
#include "vmm/kernel_image.h"
#include "vmm/memmap_x86.h"

#include <assert.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct gmem_range range = {0, MIB(4)};
	const struct gmem_request request = {.ranges = &range, .count = 1};
	struct kernel_image image;
	struct error err = {0};
	struct gmem *mem = NULL;
	int fd = memfd_create("kernel", 0);
	int ret;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size ||
	    gmem_create(&mem, &request, NULL))
		abort();
	ret = kernel_image_load(mem, fd, &image, &err);
	if (ret) {
		assert(ret < 0 && err.text[0]);
	} else {
		assert(image.entry.rip >= MEMMAP_KERNEL);
		assert(image.entry.rip < image.end);
		assert(image.end <= MIB(4));
	}
	gmem_destroy(mem);
	close(fd);
	return 0;
}
