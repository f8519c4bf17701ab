/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cgroups that a microVM is moved into when it is there (--cgroup-fd).
 *
 * The process is started outside of them: inside, making a VM object may wait
 * for the kernel to move a thread, and the limits that are meant for the guest
 * would slow down its restore. It is moved before the guest runs: a guest never
 * runs outside its limits. Thread: loop.
 */
#ifndef EMBER_CGROUPS_H
#define EMBER_CGROUPS_H

#include "vmm/error.h"

#include <stddef.h>

#define CGROUPS_MAX 64

/* Open cgroup.procs files, of one hierarchy each. */
struct cgroups {
	int fds[CGROUPS_MAX];
	size_t count;
};

/* Whether an open descriptor is of a cgroup's directory (v1 or v2). */
bool cgroups_has(int fd);

/* Moves the process and closes the files. What fails stays in @cgroups, to be
 * tried again; what was joined before stays joined. -errno with a sentence. */
int cgroups_join(struct cgroups *cgroups, struct error *err) must_check;

#endif
