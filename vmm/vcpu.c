/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu.h"

#include "vmm/kvm.h"
#include "vmm/log.h"
#include "vmm/seccomp.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* The thread needs little stack; small stacks keep the monitor small. */
#define VCPU_STACK_SIZE KIB(128)

/* Linux 6.13 and later make a thread of the VM's in the first KVM_RUN, and say
 * ENOMEM where a signal came in between: not to be believed at once. */
#define NO_MEMORY_MAX 5

enum vcpu_request {
	REQUEST_RUN,
	REQUEST_PAUSE,
	REQUEST_STOP,
};

enum vcpu_state {
	STATE_RUNNING,
	STATE_PAUSED,
	STATE_STOPPED,
};

struct vcpu {
	uint32_t id;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	const struct vcpu_machine *machine;
	int no_memory; /* how often KVM_RUN said so */

	pthread_t thread;
	bool has_thread; /* it exists and was not joined yet */

	_Atomic int request; /* enum vcpu_request */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* request or state */
	enum vcpu_state state;	/* under lock */
	bool started;		/* the thread may go on; under lock */
};

/* ------------------------------------------------ getting out of the guest */

static int kick_signal(void)
{
	return SIGRTMIN + 1;
}

/* The handler has nothing to do: being interrupted is the point. */
static void kick_handler(int signum)
{
	(void)signum;
}

int vcpu_install_kick_handler(void)
{
	struct sigaction action = {.sa_handler = kick_handler};

	return sigaction(kick_signal(), &action, NULL) ? -errno : 0;
}

static void set_immediate_exit(struct vcpu *vcpu, uint8_t value)
{
	__atomic_store_n(&vcpu->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

/*
 * The request is stored first, then immediate_exit, then the signal is sent.
 * The thread clears immediate_exit first and reads the request after, so it
 * can't clear a flag whose request it misses.
 */
static void make_request(struct vcpu *vcpu, enum vcpu_request request)
{
	pthread_mutex_lock(&vcpu->lock);
	atomic_store(&vcpu->request, (int)request);
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	if (request == REQUEST_RUN || !vcpu->has_thread)
		return;
	set_immediate_exit(vcpu, 1);
	pthread_kill(vcpu->thread, kick_signal());
}

/* ----------------------------------------------------------- exit handling */

static uint64_t elapsed_us(uint64_t since_ns)
{
	return (monotonic_ns() - since_ns) / 1000;
}

static void handle_port_io(struct vcpu *vcpu)
{
	const struct vcpu_machine *machine = vcpu->machine;
	struct kvm_run *run = vcpu->run;
	bool in = run->io.direction == KVM_EXIT_IO_IN;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint64_t start = monotonic_ns();

	/* String instructions arrive as several accesses in one exit. */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		bool known = in ? bus_read(machine->pio, run->io.port, data,
					   run->io.size)
				: bus_write(machine->pio, run->io.port, data,
					    run->io.size);
		if (!known && in)
			log_guest("vCPU %u: read of unknown port %#x", vcpu->id,
				  run->io.port);
	}
	if (in) {
		metric_inc(&machine->metrics->exit_io_in);
		metric_agg_record(&machine->metrics->exit_io_in_agg,
				  elapsed_us(start));
	} else {
		metric_inc(&machine->metrics->exit_io_out);
		metric_agg_record(&machine->metrics->exit_io_out_agg,
				  elapsed_us(start));
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	const struct vcpu_machine *machine = vcpu->machine;
	struct kvm_run *run = vcpu->run;
	uint64_t start = monotonic_ns();

	if (run->mmio.is_write) {
		bus_write(machine->mmio, run->mmio.phys_addr, run->mmio.data,
			  run->mmio.len);
		metric_inc(&machine->metrics->exit_mmio_write);
		metric_agg_record(&machine->metrics->exit_mmio_write_agg,
				  elapsed_us(start));
		return;
	}
	if (!bus_read(machine->mmio, run->mmio.phys_addr, run->mmio.data,
		      run->mmio.len))
		log_guest("vCPU %u: read of unknown address %#llx", vcpu->id,
			  run->mmio.phys_addr);
	metric_inc(&machine->metrics->exit_mmio_read);
	metric_agg_record(&machine->metrics->exit_mmio_read_agg,
			  elapsed_us(start));
}

static void fail(struct vcpu *vcpu, const char *reason)
{
	metric_inc(&vcpu->machine->metrics->failures);
	log_error("vCPU %u: %s", vcpu->id, reason);
	vcpu->machine->failed(vcpu->machine->arg, reason);
}

static bool handle_failed_exit(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	char reason[128];

	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		fail(vcpu, "triple fault (KVM_EXIT_SHUTDOWN)");
		break;
	case KVM_EXIT_HLT:
		fail(vcpu, "unexpected KVM_EXIT_HLT");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(reason, sizeof(reason),
			 "KVM_EXIT_FAIL_ENTRY, hardware reason %#llx",
			 run->fail_entry.hardware_entry_failure_reason);
		fail(vcpu, reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(reason, sizeof(reason),
			 "KVM_EXIT_INTERNAL_ERROR, suberror %u",
			 run->internal.suberror);
		fail(vcpu, reason);
		break;
	default:
		snprintf(reason, sizeof(reason), "unexpected KVM exit %u",
			 run->exit_reason);
		fail(vcpu, reason);
		break;
	}
	return false;
}

/* True when the guest can go on. */
static bool handle_exit(struct vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		handle_port_io(vcpu);
		return true;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return true;
	case KVM_EXIT_SYSTEM_EVENT:
		vcpu->machine->stopped(vcpu->machine->arg,
				       "the guest asked KVM to stop it");
		return false;
	default:
		return handle_failed_exit(vcpu);
	}
}

/* One entry into the guest. True when the guest can go on. */
static bool run_once(struct vcpu *vcpu)
{
	char reason[160];

	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0)
		return handle_exit(vcpu);
	if (errno == EINTR)
		set_immediate_exit(vcpu, 0);
	/* EAGAIN: an AP that has not been sent its SIPI. */
	if (errno == EINTR || errno == EAGAIN)
		return true;
	if (errno == ENOMEM && vcpu->no_memory++ < NO_MEMORY_MAX)
		return true;
	/* What SIGBUS is to a process that touches such memory. */
	snprintf(reason, sizeof(reason), "KVM_RUN: %s (os error %d)%s",
		 os_error_text(errno), errno,
		 errno == EFAULT ? ": a file behind the guest's memory was "
				   "cut, or its disk is full"
				 : "");
	fail(vcpu, reason);
	return false;
}

/* -------------------------------------------------------------- the thread */

static enum vcpu_request requested(const struct vcpu *vcpu)
{
	return (enum vcpu_request)atomic_load(&vcpu->request);
}

static void set_state(struct vcpu *vcpu, enum vcpu_state state)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->state = state;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
}

/*
 * KVM completes a port or MMIO read only on the next entry: without this, the
 * registers of a paused vCPU would still be those of before the access.
 */
static void complete_pending_io(struct vcpu *vcpu)
{
	bool alive = true;

	set_immediate_exit(vcpu, 1);
	/* An access in several parts takes an exit for each. */
	while (alive && ioctl(vcpu->fd, KVM_RUN, 0) == 0)
		alive = handle_exit(vcpu);
}

/* Waits until the request is no longer to pause. */
static void stay_paused(struct vcpu *vcpu)
{
	complete_pending_io(vcpu);
	pthread_mutex_lock(&vcpu->lock);
	vcpu->state = STATE_PAUSED;
	pthread_cond_broadcast(&vcpu->changed);
	while (requested(vcpu) == REQUEST_PAUSE)
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	vcpu->state = STATE_RUNNING;
	pthread_mutex_unlock(&vcpu->lock);
	set_immediate_exit(vcpu, 0);
}

/* Made as early as can be, the thread has its filter when all else is there. */
static void wait_for_start(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	while (!vcpu->started && requested(vcpu) != REQUEST_STOP)
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	pthread_mutex_unlock(&vcpu->lock);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];
	bool alive;

	snprintf(name, sizeof(name), "ember_vcpu %u", vcpu->id);
	alive = seccomp_enter_as(vcpu->machine->filters, SECCOMP_VCPU, name) ==
		0;
	if (!alive)
		fail(vcpu, "it has no filter");
	wait_for_start(vcpu);
	while (alive && requested(vcpu) != REQUEST_STOP) {
		if (requested(vcpu) == REQUEST_PAUSE)
			stay_paused(vcpu);
		else
			alive = run_once(vcpu);
	}
	set_state(vcpu, STATE_STOPPED);
	return NULL;
}

/* -------------------------------------------------------------- life cycle */

static int open_vcpu(struct vcpu *vcpu, struct kvm *kvm, struct error *err)
{
	vcpu->fd = kvm_create_vcpu(kvm, vcpu->id, err);
	if (vcpu->fd < 0)
		return vcpu->fd;
	vcpu->run_size = kvm->run_size;
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return error_set_os(err, errno,
				    "Cannot map vCPU %u:", vcpu->id);
	}
	return 0;
}

int vcpu_create(struct vcpu **ret_vcpu, struct kvm *kvm, uint32_t id,
		const struct vcpu_machine *machine, struct error *err)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
	pthread_condattr_t attr;
	int ret;

	if (!vcpu)
		return error_set_os(err, ENOMEM, "Cannot create vCPU %u:", id);
	vcpu->id = id;
	vcpu->fd = -1;
	vcpu->machine = machine;
	vcpu->state = STATE_STOPPED;
	pthread_mutex_init(&vcpu->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vcpu->changed, &attr);
	pthread_condattr_destroy(&attr);
	ret = open_vcpu(vcpu, kvm, err);
	if (ret) {
		vcpu_destroy(vcpu);
		return ret;
	}
	*ret_vcpu = vcpu;
	return 0;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (!vcpu)
		return;
	vcpu_stop(vcpu);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	close_fd(&vcpu->fd);
	pthread_cond_destroy(&vcpu->changed);
	pthread_mutex_destroy(&vcpu->lock);
	free(vcpu);
}

int vcpu_fd(const struct vcpu *vcpu)
{
	return vcpu->fd;
}

uint32_t vcpu_id(const struct vcpu *vcpu)
{
	return vcpu->id;
}

int vcpu_make_thread(struct vcpu *vcpu, struct error *err)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK_SIZE);
	ret = pthread_create(&vcpu->thread, &attr, vcpu_thread, vcpu);
	pthread_attr_destroy(&attr);
	if (ret)
		return error_set_os(
			err, ret,
			"Cannot start the thread of vCPU %u:", vcpu->id);
	vcpu->has_thread = true;
	return 0;
}

int vcpu_start(struct vcpu *vcpu, struct error *err)
{
	int ret = vcpu->has_thread ? 0 : vcpu_make_thread(vcpu, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&vcpu->lock);
	vcpu->started = true;
	vcpu->state = STATE_RUNNING;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	return 0;
}

void vcpu_request_pause(struct vcpu *vcpu)
{
	make_request(vcpu, REQUEST_PAUSE);
}

int vcpu_wait_paused(struct vcpu *vcpu, uint64_t timeout_ns)
{
	uint64_t deadline = monotonic_ns() + timeout_ns;
	struct timespec until = {
		.tv_sec = (time_t)(deadline / 1000000000u),
		.tv_nsec = (long)(deadline % 1000000000u),
	};
	int ret = 0;

	pthread_mutex_lock(&vcpu->lock);
	while (vcpu->state == STATE_RUNNING && ret == 0)
		ret = pthread_cond_timedwait(&vcpu->changed, &vcpu->lock,
					     &until);
	if (vcpu->state != STATE_RUNNING)
		ret = 0;
	pthread_mutex_unlock(&vcpu->lock);
	return -ret;
}

void vcpu_resume(struct vcpu *vcpu)
{
	make_request(vcpu, REQUEST_RUN);
}

void vcpu_request_stop(struct vcpu *vcpu)
{
	if (vcpu->has_thread)
		make_request(vcpu, REQUEST_STOP);
}

void vcpu_stop(struct vcpu *vcpu)
{
	if (!vcpu->has_thread)
		return;
	make_request(vcpu, REQUEST_STOP);
	pthread_join(vcpu->thread, NULL);
	vcpu->has_thread = false;
}
