/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the microVM boots: the client's configuration with the files it names,
 * which are opened at once, so that a bad path is refused by the request that
 * named it. Thread: loop.
 */
#ifndef EMBER_BOOT_SOURCE_H
#define EMBER_BOOT_SOURCE_H

#include "vmm/config.h"

struct boot_source {
	struct boot_source_config config;
	int kernel_fd, initrd_fd; /* -1: none */
};

void boot_source_init(struct boot_source *source);

/* Opens the files of @config and takes its strings. On failure the old source
 * stays. */
int boot_source_set(struct boot_source *source,
		    struct boot_source_config *config,
		    struct error *err) must_check;

/* The files have been read; the configuration stays for those who ask. */
void boot_source_close_files(struct boot_source *source);

void boot_source_release(struct boot_source *source);

#endif
