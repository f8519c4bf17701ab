/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients do with guest memory as a whole: make parts of it present,
 * record which are needed. That takes a while and needs nothing of the vmm's
 * state, so it is not done on the loop: the thread that asks gets the memory
 * lent and does the work itself (struct vmm_lent).
 */
#include "snapshot/recorder.h"
#include "vmm/vmm_private.h"

void vmm_lend_memory(const struct vmm *vmm, struct vmm_lent *ret_lent)
{
	*ret_lent = (struct vmm_lent){
		.mem = machine_memory(vmm->machine),
		.recorder = machine_recorder(vmm->machine),
		.loaded = vmm->parent != NULL,
	};
}

/* The guest has taken what a host had to ask: it is at work. */
static void on_accept(void *arg)
{
	struct vmm *vmm = arg;

	recorder_finish(machine_recorder(vmm->machine));
}

void vmm_record_until_accept(struct vmm *vmm)
{
	vsock_on_accept(vmm->vsock, on_accept, vmm);
}

void vmm_quiesce(struct vmm *vmm)
{
	if (vmm)
		machine_stop(vmm->machine);
}
