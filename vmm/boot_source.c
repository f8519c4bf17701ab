/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_source.h"

#include "vmm/cmdline.h"

#include <errno.h>
#include <fcntl.h>

void boot_source_init(struct boot_source *source)
{
	*source = (struct boot_source){.kernel_fd = -1, .initrd_fd = -1};
}

/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

int boot_source_set(struct boot_source *source,
		    struct boot_source_config *config, struct error *err)
{
	AUTO_CLOSE int kernel = open_file(config->kernel_image_path);
	AUTO_CLOSE int initrd = -1;
	struct cmdline unused;
	int ret;

	if (kernel < 0)
		return error_set_os(err, -kernel,
				    "The kernel file cannot be opened:");
	if (config->initrd_path) {
		initrd = open_file(config->initrd_path);
		if (initrd < 0)
			return error_set_os(err, -initrd,
					    "The initrd file cannot be opened "
					    "due to invalid path or invalid "
					    "permissions.");
	}
	ret = cmdline_init(&unused, config->boot_args, err);
	if (ret)
		return ret;
	boot_source_release(source);
	source->kernel_fd = take_fd(&kernel);
	source->initrd_fd = take_fd(&initrd);
	source->config = *config;
	*config = (struct boot_source_config){0};
	return 0;
}

void boot_source_close_files(struct boot_source *source)
{
	close_fd(&source->kernel_fd);
	close_fd(&source->initrd_fd);
}

void boot_source_release(struct boot_source *source)
{
	boot_source_close_files(source);
	boot_source_config_release(&source->config);
	source->config = (struct boot_source_config){0};
}
