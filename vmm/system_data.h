/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address of what a device keeps in the guest's system area (MEMMAP_SYSTEM)
 * as a section of the state: a guest was told the address at boot and goes on
 * with it, whatever the next version of this program would choose. Thread:
 * loop.
 */
#ifndef EMBER_SYSTEM_DATA_H
#define EMBER_SYSTEM_DATA_H

#include "vmm/error.h"

struct gmem;
struct state_file;
struct state_writer;

struct system_data {
	const char *name; /* as in "The NAME cannot be at 0x0" */
	uint32_t tag;
	uint32_t len;
	uint32_t align;
};

/* A section of version 1: the guest-physical address. */
void system_data_save(const struct system_data *data, uint64_t gpa,
		      struct state_writer *writer);

/* -EINVAL with a sentence unless all of it is RAM within the system area. */
int system_data_load(const struct system_data *data, const struct gmem *mem,
		     const struct state_file *file, uint64_t *ret_gpa,
		     struct error *err) must_check;

#endif
