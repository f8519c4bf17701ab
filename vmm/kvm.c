/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm.h"

#include "vmm/log.h"

#include "vmm/gmem.h"
#include "vmm/gmem_blocks.h"
#include "vmm/memmap_x86.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

/* A signal may interrupt the creation of a VM; the kernel then wants us to
 * try again, but not for ever. */
#define CREATE_VM_ATTEMPTS 5

static const struct {
	long cap;
	const char *name;
} required_caps[] = {
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
	{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
	{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
	{KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
	{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
	{KVM_CAP_XCRS, "KVM_CAP_XCRS"},
	{KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

void kvm_init(struct kvm *kvm)
{
	*kvm = (struct kvm){.fd = -1, .vm_fd = -1};
}

void kvm_close(struct kvm *kvm)
{
	close_fd(&kvm->vm_fd);
	close_fd(&kvm->fd);
	free(kvm->cpuid);
	free(kvm->host);
	free(kvm->msrs);
	kvm_init(kvm);
}

static int check_host(const struct kvm *kvm, struct error *err)
{
	int version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION)
		return error_set(err, ENOTSUP, "KVM API version is %d, need %d",
				 version, KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(required_caps); i++)
		if (ioctl(kvm->fd, KVM_CHECK_EXTENSION, required_caps[i].cap) <=
		    0)
			return error_set(err, ENOTSUP,
					 "This host's KVM lacks %s",
					 required_caps[i].name);
	return 0;
}

static int create_vm(const struct kvm *kvm)
{
	int fd = -1;

	for (int i = 0; i < CREATE_VM_ATTEMPTS; i++) {
		fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
		if (fd >= 0 || errno != EINTR)
			break;
	}
	return fd;
}

static int open_checked(struct kvm *kvm, struct error *err)
{
	int run_size;
	int ret;

	kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->fd < 0)
		return error_set_os(err, errno, "Error opening /dev/kvm:");
	ret = check_host(kvm, err);
	if (ret)
		return ret;
	run_size = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_size < (int)sizeof(struct kvm_run))
		return error_set(err, ENOTSUP,
				 "KVM_GET_VCPU_MMAP_SIZE gave %d bytes",
				 run_size);
	kvm->run_size = (size_t)run_size;
	kvm->vm_fd = create_vm(kvm);
	if (kvm->vm_fd < 0)
		return error_set_os(err, errno, "KVM_CREATE_VM:");
	return 0;
}

int kvm_open(struct kvm *kvm, struct error *err)
{
	int ret;

	kvm_init(kvm);
	ret = open_checked(kvm, err);
	if (ret)
		kvm_close(kvm);
	return ret;
}

static int read_cpuid(struct kvm *kvm, struct error *err)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + KVM_CPUID_ENTRIES_MAX *
						   sizeof(cpuid->entries[0]));

	if (!cpuid)
		return error_set_os(err, ENOMEM, "Could not read CPUID:");
	cpuid->nent = KVM_CPUID_ENTRIES_MAX;
	if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		int code = errno;

		free(cpuid);
		return error_set_os(err, code, "KVM_GET_SUPPORTED_CPUID:");
	}
	kvm->cpuid = cpuid;
	return 0;
}

int kvm_supported_cpuid(struct kvm *kvm, const struct kvm_cpuid2 **ret_cpuid,
			struct error *err)
{
	int ret = kvm->cpuid ? 0 : read_cpuid(kvm, err);

	if (!ret)
		*ret_cpuid = kvm->cpuid;
	return ret;
}

static int set_slot(const struct kvm *kvm,
		    const struct kvm_userspace_memory_region *slot,
		    struct error *err)
{
	/* A slot registered now would wait for an SRCU grace period. */
	assert(!kvm->has_irqchip);
	if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, slot))
		return error_set_os(
			err, errno,
			"KVM_SET_USER_MEMORY_REGION of slot %u:", slot->slot);
	return 0;
}

static struct kvm_userspace_memory_region
pluggable_slot(const struct kvm *kvm, const struct gmem_region *region,
	       uint64_t n)
{
	return (struct kvm_userspace_memory_region){
		.slot = KVM_SLOT_HOTPLUG + (uint32_t)n,
		.flags = kvm->logs_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = region->gpa + n * region->slot_len,
		.memory_size = region->slot_len,
		.userspace_addr = (uintptr_t)region->hva + n * region->slot_len,
	};
}

int kvm_plug_slot(struct kvm *kvm, const struct gmem_region *region, uint64_t n,
		  bool there)
{
	struct kvm_userspace_memory_region slot =
		pluggable_slot(kvm, region, n);

	if (!there)
		slot.memory_size = 0;
	return ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) ? -errno
								    : 0;
}

/* The next slot from *@n on in which anything is plugged. */
static bool next_plugged_slot(const struct gmem_region *region, uint64_t *n)
{
	uint64_t off = *n * region->slot_len, len;

	if (off >= region->len || !gmem_blocks_next(region->blocks, &off, &len))
		return false;
	*n = off / region->slot_len;
	return true;
}

static int check_slot_count(const struct kvm *kvm,
			    const struct gmem_region *region, struct error *err)
{
	uint64_t slots = region->len / region->slot_len;
	int most = ioctl(kvm->fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);

	if (most > KVM_SLOT_HOTPLUG &&
	    slots <= (uint64_t)(most - KVM_SLOT_HOTPLUG))
		return 0;
	return error_set(err, EINVAL,
			 "slot_size_mib: %lu slots of %lu MiB are more than "
			 "the %d that this host's KVM has left; make them "
			 "larger",
			 (unsigned long)slots,
			 (unsigned long)(region->slot_len >> 20),
			 MAX(most - KVM_SLOT_HOTPLUG, 0));
}

static int set_pluggable(struct kvm *kvm, const struct gmem_region *region,
			 struct error *err)
{
	int ret = check_slot_count(kvm, region, err);

	for (uint64_t n = 0; !ret && next_plugged_slot(region, &n); n++) {
		const struct kvm_userspace_memory_region slot =
			pluggable_slot(kvm, region, n);

		ret = set_slot(kvm, &slot, err);
	}
	return ret;
}

int kvm_set_memory(struct kvm *kvm, const struct gmem *mem, bool log_dirty,
		   struct error *err)
{
	const struct gmem_region *pluggable = gmem_pluggable(mem);

	kvm->logs_dirty = log_dirty;
	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);
		struct kvm_userspace_memory_region slot = {
			.slot = (uint32_t)i,
			.flags = log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.guest_phys_addr = region->gpa,
			.memory_size = region->len,
			.userspace_addr = (uintptr_t)region->hva,
		};
		int ret = region->blocks ? 0 : set_slot(kvm, &slot, err);

		if (ret)
			return ret;
	}
	return pluggable ? set_pluggable(kvm, pluggable, err) : 0;
}

int kvm_set_window(struct kvm *kvm, uint32_t slot,
		   const struct kvm_window *window, struct error *err)
{
	const struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = window->read_only ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = window->gpa,
		.memory_size = window->len,
		.userspace_addr = (uintptr_t)window->hva,
	};

	return set_slot(kvm, &region, err);
}

/* Leaf 0x80000008: bits 7-0 of EAX are the width of addresses, bits 23-16, when
 * not zero, how much of it can be mapped for a guest. */
int kvm_address_end(struct kvm *kvm, uint64_t *ret_end, struct error *err)
{
	const struct kvm_cpuid2 *cpuid;
	uint32_t bits = 36, guest_bits;
	int ret = kvm_supported_cpuid(kvm, &cpuid, err);

	if (ret)
		return ret;
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function != 0x80000008)
			continue;
		bits = entry->eax & 0xff;
		guest_bits = entry->eax >> 16 & 0xff;
		if (guest_bits && guest_bits < bits)
			bits = guest_bits;
	}
	*ret_end = BIT(MIN(bits, 63));
	return 0;
}

/* ORs @count words of @from into @to from bit @first on. Bits behind the last
 * page are zero: no word is touched that holds no page. */
static void or_bits(uint64_t *to, uint64_t first, const uint64_t *from,
		    size_t count)
{
	unsigned shift = first % 64;

	to += first / 64;
	for (size_t i = 0; i < count; i++) {
		to[i] |= from[i] << shift;
		if (shift && from[i] >> (64 - shift))
			to[i + 1] |= from[i] >> (64 - shift);
	}
}

static int collect_slot(const struct kvm *kvm, uint32_t slot, uint64_t pages,
			uint64_t first, uint64_t *bitmap)
{
	size_t words = (pages + 63) / 64;
	uint64_t *bits = calloc(words, sizeof(*bits));
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bits};
	int ret;

	if (!bits)
		return -ENOMEM;
	ret = ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) ? -errno : 0;
	if (!ret)
		or_bits(bitmap, first, bits, words);
	free(bits);
	return ret;
}

static int collect_pluggable(const struct kvm *kvm,
			     const struct gmem_region *region, uint64_t *bitmap)
{
	const uint64_t pages = region->slot_len / PAGE_SIZE_4K;
	int ret = 0;

	for (uint64_t n = 0; !ret && next_plugged_slot(region, &n); n++)
		ret = collect_slot(kvm, KVM_SLOT_HOTPLUG + (uint32_t)n, pages,
				   region->fd_off / PAGE_SIZE_4K + n * pages,
				   bitmap);
	return ret;
}

int kvm_collect_dirty(const struct kvm *kvm, const struct gmem *mem,
		      uint64_t *bitmap)
{
	int ret = 0;

	if (!kvm->logs_dirty)
		return -ENOENT;
	for (size_t i = 0; i < gmem_region_count(mem) && !ret; i++) {
		const struct gmem_region *region = gmem_region(mem, i);

		if (region->blocks)
			ret = collect_pluggable(kvm, region, bitmap);
		else
			ret = collect_slot(
				kvm, (uint32_t)i, region->len / PAGE_SIZE_4K,
				region->fd_off / PAGE_SIZE_4K, bitmap);
	}
	return ret;
}

static int create_pit(struct kvm *kvm, struct error *err)
{
	/* Port 0x61 is answered by KVM then, not by an exit. */
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit))
		return error_set_os(err, errno, "KVM_CREATE_PIT2:");
	kvm->has_pit = true;
	return 0;
}

int kvm_create_irqchip(struct kvm *kvm, bool with_pit, struct error *err)
{
	uint64_t identity_map = MEMMAP_KVM_IDENTITY_MAP;

	if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map))
		return error_set_os(err, errno, "KVM_SET_IDENTITY_MAP_ADDR:");
	if (ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, MEMMAP_KVM_TSS))
		return error_set_os(err, errno, "KVM_SET_TSS_ADDR:");
	if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0))
		return error_set_os(err, errno, "KVM_CREATE_IRQCHIP:");
	kvm->has_irqchip = true;
	return with_pit ? create_pit(kvm, err) : 0;
}

int kvm_create_vcpu(struct kvm *kvm, uint32_t id, struct error *err)
{
	int fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);

	if (fd < 0)
		return error_set_os(err, errno, "KVM_CREATE_VCPU %u:", id);
	return fd;
}

int kvm_add_ioeventfd(struct kvm *kvm, uint64_t addr, uint32_t value, int fd,
		      struct error *err)
{
	struct kvm_ioeventfd event = {
		.datamatch = value,
		.addr = addr,
		.len = sizeof(uint32_t),
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	if (ioctl(kvm->vm_fd, KVM_IOEVENTFD, &event))
		return error_set_os(err, errno, "KVM_IOEVENTFD at %#lx:",
				    (unsigned long)addr);
	return 0;
}

void kvm_set_irq(const struct kvm *kvm, uint32_t gsi, bool high)
{
	struct kvm_irq_level level = {.irq = gsi, .level = high};

	if (ioctl(kvm->vm_fd, KVM_IRQ_LINE, &level))
		log_error("KVM_IRQ_LINE for GSI %u: %s (os error %d)", gsi,
			  os_error_text(errno), errno);
}

int kvm_add_irqfd(struct kvm *kvm, uint32_t gsi, int fd, struct error *err)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};

	if (ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd))
		return error_set_os(err, errno, "KVM_IRQFD for GSI %u:", gsi);
	return 0;
}
