/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that only remembers what it was asked, for tests of vmm.c.
 */
#ifndef FAKE_MACHINE_H
#define FAKE_MACHINE_H

#include "vmm/machine.h"

struct fake_machine {
	/* errno to fail with */
	int fail_create, fail_build, fail_pause, fail_restore, fail_run;
	int created, destroyed, built, restored, running, paused, resumed,
		ctrl_alt_del;
	char cmdline[MEMMAP_CMDLINE_MAX];
	size_t device_count;
	struct machine_config config;
	struct machine_events events;
	const char *moved[2]; /* a restore renames the first to the second */
};

/* One per test program; tests zero it. */
extern struct fake_machine fake_machine;

#endif
