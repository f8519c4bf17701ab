/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vmm that remembers the last action and does nothing, for tests of the API.
 */
#ifndef FAKE_VMM_H
#define FAKE_VMM_H

#include "vmm/vmm.h"

struct fake_vmm {
	int fail;      /* errno to fail with */
	bool complete; /* what it says then */
	int submitted;
	struct vmm_action last;	   /* its strings may be gone */
	struct drive_config drive; /* shown by views when it has an id */
	struct vmm_lent lent;	   /* what there is to lend */
	bool stopping;
};

/* One per test program; tests zero it. */
extern struct fake_vmm fake_vmm;

struct vmm *fake_vmm_get(void);

#endif
