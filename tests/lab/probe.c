/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells how fast guests run on this machine: prints the microseconds that a
 * real-mode guest takes for a loop of 100,000 turns, or says on stderr why
 * there is none and exits 1. That /dev/kvm exists proves nothing: some hosts
 * interpret the guest's kernel mode, 50 times slower than hardware.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GUEST_MEM 0x10000
#define GUEST_START 0x1000
#define GIVE_UP_SECONDS 10

static const uint8_t guest[] = {
	0x66, 0xb9, 0xa0, 0x86, 0x01, 0x00, /* mov ecx, 100000 */
	0x66, 0x49,			    /* 1: dec ecx */
	0x75, 0xfc,			    /* jnz 1b */
	0xe6, 0x10,			    /* out 0x10, al */
};

static int fail(const char *what)
{
	perror(what);
	return -1;
}

/* Memory first, so that the guest's first instruction is there to run. */
static int vm_create(int kvm)
{
	void *mem = mmap(NULL, GUEST_MEM, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {
		.memory_size = GUEST_MEM,
		.userspace_addr = (uintptr_t)mem,
	};
	int vm = ioctl(kvm, KVM_CREATE_VM, 0UL);

	if (vm < 0 || mem == MAP_FAILED)
		return fail("KVM_CREATE_VM");
	memcpy((uint8_t *)mem + GUEST_START, guest, sizeof(guest));
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return fail("KVM_SET_USER_MEMORY_REGION");
	return vm;
}

static int vcpu_create(int vm)
{
	struct kvm_regs regs = {.rip = GUEST_START, .rflags = 2};
	struct kvm_sregs sregs;
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0UL);

	if (vcpu < 0 || ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return fail("KVM_CREATE_VCPU");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) ||
	    ioctl(vcpu, KVM_SET_REGS, &regs))
		return fail("KVM_SET_REGS");
	return vcpu;
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct kvm_run *run;
	int64_t start;
	int vm, vcpu;

	if (kvm < 0)
		return -fail("/dev/kvm");
	vm = vm_create(kvm);
	vcpu = vm < 0 ? -1 : vcpu_create(vm);
	if (vcpu < 0)
		return 1;
	run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL),
		   PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		return -fail("mmap");

	alarm(GIVE_UP_SECONDS);
	start = now_us();
	if (ioctl(vcpu, KVM_RUN, 0UL))
		return -fail("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO) {
		fprintf(stderr, "KVM_RUN: exit %u\n", run->exit_reason);
		return 1;
	}
	printf("%lld\n", (long long)(now_us() - start));
	return 0;
}
