/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/perf/floor.h"

#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE MIB(128)
#define CODE 0x1000

/* COM1, COM2, a drive, the two notifiers of a copy; and what the drive and its
 * queue wait for. */
#define IRQFDS 5
#define IOEVENTFDS 1

/* Real mode: mov $0x3f8, %dx; mov $'c', %al; out %al, %dx; hlt */
static const uint8_t code[] = {0xba, 0xf8, 0x03, 0xb0, 'c', 0xee, 0xf4};

static void call(int fd, unsigned long request, const void *arg,
		 const char *name)
{
	if (ioctl(fd, request, arg) < 0)
		die(name);
}

static uint8_t *create_memory(int vm)
{
	uint8_t *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct kvm_userspace_memory_region slot = {
		.memory_size = RAM_SIZE,
		.userspace_addr = (uintptr_t)ram,
	};

	if (ram == MAP_FAILED)
		die("mmap");
	memcpy(ram + CODE, code, sizeof(code));
	call(vm, KVM_SET_USER_MEMORY_REGION, &slot, "memory");
	return ram;
}

static void create_events(int vm)
{
	struct kvm_irqfd irqfd = {.gsi = 4};
	struct kvm_ioeventfd ioeventfd = {
		.addr = 0xc0001050,
		.len = 4,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	for (uint32_t i = 0; i < IRQFDS; i++, irqfd.gsi++) {
		irqfd.fd = (uint32_t)eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		call(vm, KVM_IRQFD, &irqfd, "irqfd");
	}
	for (uint32_t i = 0; i < IOEVENTFDS; i++, ioeventfd.datamatch++) {
		ioeventfd.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		call(vm, KVM_IOEVENTFD, &ioeventfd, "ioeventfd");
	}
}

static void set_registers(int vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};

	call(vcpu, KVM_GET_SREGS, &sregs, "sregs");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	call(vcpu, KVM_SET_SREGS, &sregs, "sregs");
	call(vcpu, KVM_SET_REGS, &regs, "regs");
}

int floor_run(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu;
	size_t size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run;

	if (vm < 0)
		die("/dev/kvm");
	create_memory(vm);
	call(vm, KVM_CREATE_IRQCHIP, NULL, "irqchip");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (vcpu < 0 || run == MAP_FAILED)
		die("vcpu");
	set_registers(vcpu);
	create_events(vm);
	while (ioctl(vcpu, KVM_RUN, 0) < 0)
		if (errno != EINTR && errno != EAGAIN)
			die("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO ||
	    write(STDOUT_FILENO, (uint8_t *)run + run->io.data_offset, 1) != 1)
		die("the guest wrote nothing");
	pause();
	return EXIT_SUCCESS;
}
