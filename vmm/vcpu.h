/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual CPU and its thread. The thread does KVM_RUN and bus dispatch, and
 * nothing else; it owns no VM state.
 *
 *        vcpu_start            vcpu_pause                 vcpu_stop
 * created ---------> running ------------> paused --------------> stopped
 *                       ^   <------------                           ^
 *                       |    vcpu_resume                            |
 *                       +-------- guest error, told to the owner ---+
 *
 * Requests are a flag that the thread looks at before every entry into the
 * guest. To get it out of the guest the requester sets kvm_run.immediate_exit
 * and sends a signal: whichever side of the entry the thread is on, one of the
 * two is seen.
 *
 * Except where noted, functions are for the loop thread.
 */
#ifndef EMBER_VCPU_H
#define EMBER_VCPU_H

#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/metrics.h"

struct kvm;
struct seccomp_filters;
struct vcpu;

/* What a vCPU needs of the machine it belongs to; must outlive it. */
struct vcpu_machine {
	const struct bus *pio;
	const struct bus *mmio;
	struct vcpu_metrics *metrics;
	/* The guest can't go on (triple fault, KVM error). vCPU thread. */
	void (*failed)(void *arg, const char *reason);
	/* The guest asked KVM for shutdown or reset. vCPU thread. */
	void (*stopped)(void *arg, const char *reason);
	void *arg;
	const struct seccomp_filters *filters; /* NULL: none */
};

/* Installs the handler of the signal that gets threads out of the guest. Once
 * per process, before the first thread is made. */
int vcpu_install_kick_handler(void) must_check;

int vcpu_create(struct vcpu **ret_vcpu, struct kvm *kvm, uint32_t id,
		const struct vcpu_machine *machine,
		struct error *err) must_check;

/* Stops the thread if it runs, then releases. Accepts NULL. */
void vcpu_destroy(struct vcpu *vcpu);

/* For vcpu_x86.c and snapshots; not while the thread is in the guest. */
int vcpu_fd(const struct vcpu *vcpu);
uint32_t vcpu_id(const struct vcpu *vcpu);

/* Makes the thread `ember_vcpu N`, which gets its filter and waits. While it
 * does that the loop thread can do something else. */
int vcpu_make_thread(struct vcpu *vcpu, struct error *err) must_check;

/* Lets the thread run the guest, and makes it if it is not there. */
int vcpu_start(struct vcpu *vcpu, struct error *err) must_check;

/* Asks for a pause without waiting; vcpu_wait_paused waits until the thread is
 * out of the guest with its last I/O completed, at most @timeout_ns
 * (-ETIMEDOUT). A stopped vCPU counts as paused. */
void vcpu_request_pause(struct vcpu *vcpu);
int vcpu_wait_paused(struct vcpu *vcpu, uint64_t timeout_ns) must_check;
void vcpu_resume(struct vcpu *vcpu);

/* Asks for the end without waiting; vcpu_stop or vcpu_destroy follows. */
void vcpu_request_stop(struct vcpu *vcpu);

/* Ends the thread and waits for it. Idempotent. */
void vcpu_stop(struct vcpu *vcpu);

#endif
