/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_private.h"

#include "virtio/mem.h"
#include "vmm/log.h"
#include "vmm/vcpu_x86.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

/* How long a vCPU may take to leave the guest. */
#define PAUSE_TIMEOUT_NS UINT64_C(30000000000)

int machine_create(struct machine **ret_machine, struct error *err)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	int ret;

	if (!machine)
		return error_set_os(err, ENOMEM, "Cannot create the machine:");
	machine->serial_irq.fd = machine->i8042_irq.fd = -1;
	machine->uffd = machine->uffd_socket = -1;
	machine->gsis.next = IRQ_GSI_FIRST_DEVICE;
	machine->device_memory_next = MEMMAP_DEVICE_MEMORY;
	ret = kvm_open(&machine->kvm, err);
	if (ret) {
		machine_destroy(machine);
		return ret;
	}
	*ret_machine = machine;
	return 0;
}

void machine_destroy(struct machine *machine)
{
	if (!machine)
		return;
	machine_stop(machine);
	machine_end_restore(machine);
	free(machine->dirty);
	for (size_t i = 0; i < machine->vcpu_count; i++)
		vcpu_destroy(machine->vcpus[i]);
	for (size_t i = 0; i < machine->virtio_count; i++)
		virtio_mmio_destroy(machine->virtio[i]);
	if (machine->hotplug)
		mem_device_place(machine->hotplug, NULL, NULL);
	serial_destroy(machine->serial);
	i8042_destroy(machine->i8042);
	irq_line_close(&machine->serial_irq);
	irq_line_close(&machine->i8042_irq);
	kvm_close(&machine->kvm);
	gmem_destroy(machine->mem);
	free(machine);
}

/* ------------------------------------------------ events from vCPU threads */

static void on_keyboard_reset(void *arg)
{
	struct machine *machine = arg;

	machine->events.power_off(machine->events.arg,
				  "the guest reset the machine (i8042)");
}

static void on_acpi_reset(void *arg)
{
	struct machine *machine = arg;

	machine->events.power_off(machine->events.arg,
				  "the guest reset the machine (ACPI)");
}

static void on_acpi_power_off(void *arg)
{
	struct machine *machine = arg;

	machine->events.power_off(machine->events.arg,
				  "the guest powered off (ACPI S5)");
}

/* --------------------------------------------------------- building blocks */

static enum gmem_pages pages_of(enum huge_pages pages)
{
	switch (pages) {
	case HUGE_PAGES_TRANSPARENT:
		return GMEM_PAGES_TRANSPARENT;
	case HUGE_PAGES_2M:
		return GMEM_PAGES_2M;
	case HUGE_PAGES_NONE:
	default:
		return GMEM_PAGES_4K;
	}
}

uint64_t machine_memory_size(const struct machine_request *request)
{
	return MIB(request->config->mem_size_mib) +
	       (request->hotplug ? mem_device_size(request->hotplug) : 0);
}

/* The ranges of RAM, and behind them what can be plugged in. Returns how many
 * or -errno. */
static int lay_out_memory(struct machine *machine,
			  const struct machine_request *request,
			  struct gmem_range ranges[3], struct error *err)
{
	uint64_t mib = request->config->mem_size_mib, gpa;
	int count = mib <= MEMMAP_HIGH_RAM_END >> 20
			    ? boot_ram_layout(MIB(mib), ranges)
			    : -EINVAL;
	int ret;

	if (count < 0)
		return error_set_os(err, ENOMEM, "Cannot create mmap region:");
	if (!request->hotplug)
		return count;
	ret = machine_take_addresses(
		machine, "memory-hotplug", mem_device_size(request->hotplug),
		mem_device_align(request->hotplug), &gpa, err);
	if (ret)
		return ret;
	ranges[count] =
		(struct gmem_range){gpa, mem_device_size(request->hotplug)};
	return count + 1;
}

int machine_map_memory(struct machine *machine,
		       const struct machine_request *request,
		       enum gmem_backing backing, int fd, struct error *err)
{
	const struct machine_config *config = request->config;
	struct gmem_range ranges[3] = {0};
	struct gmem_pluggable pluggable;
	struct gmem_request memory = {
		.ranges = ranges,
		.backing = backing,
		.pages = pages_of(config->huge_pages),
		.fd = fd,
	};
	int count, ret;

	machine->tracks_dirty = config->track_dirty_pages;
	count = lay_out_memory(machine, request, ranges, err);
	if (count < 0) {
		close_fd(&fd);
		return count;
	}
	memory.count = (size_t)count;
	if (request->hotplug) {
		pluggable = mem_device_pluggable(request->hotplug);
		memory.pluggable = &pluggable;
	}
	ret = gmem_create(&machine->mem, &memory, err);
	if (ret)
		return ret;
	if (request->hotplug)
		mem_device_place(request->hotplug, &machine->kvm, machine->mem);
	if (config->track_dirty_pages) {
		ret = gmem_track_dirty(machine->mem);
		if (ret)
			return error_set_os(err, -ret,
					    "Cannot track dirty pages:");
	}
	return kvm_set_memory(&machine->kvm, machine->mem,
			      config->track_dirty_pages, err);
}

int machine_take_addresses(struct machine *machine, const char *what,
			   uint64_t len, uint64_t align, uint64_t *ret_gpa,
			   struct error *err)
{
	uint64_t gpa = ALIGN_UP(machine->device_memory_next, align);
	int ret = machine->address_end
			  ? 0
			  : kvm_address_end(&machine->kvm,
					    &machine->address_end, err);

	if (ret)
		return ret;
	if (gpa >= machine->address_end || len > machine->address_end - gpa)
		return error_set(err, ENOSPC,
				 "%s: %lu MiB at guest address %#lx do not fit "
				 "below %#lx, where its addresses end",
				 what, (unsigned long)(len >> 20),
				 (unsigned long)gpa,
				 (unsigned long)machine->address_end);
	machine->device_memory_next = gpa + len;
	*ret_gpa = gpa;
	return 0;
}

static int place_window(struct machine *machine, uint32_t slot,
			const struct machine_window *window, struct error *err)
{
	struct kvm_window mapped = {
		.len = window->len,
		.hva = window->hva,
		.read_only = window->read_only,
	};
	int ret = machine_take_addresses(machine, "persistent memory",
					 window->len, MACHINE_WINDOW_ALIGN,
					 &mapped.gpa, err);

	if (!ret)
		ret = kvm_set_window(&machine->kvm, slot, &mapped, err);
	if (ret) {
		error_prefix(err, "Pmem device %s: ", window->name);
		return ret;
	}
	window->placed(window->arg, mapped.gpa);
	return 0;
}

int machine_place_windows(struct machine *machine,
			  const struct machine_request *request,
			  struct error *err)
{
	int ret = 0;

	for (size_t i = 0; i < request->window_count && !ret; i++)
		ret = place_window(machine, KVM_SLOT_PMEM + (uint32_t)i,
				   &request->windows[i], err);
	return ret;
}

static int build_memory(struct machine *machine,
			const struct machine_request *request,
			struct error *err)
{
	int ret =
		machine_map_memory(machine, request, request->backing, -1, err);

	if (ret && !machine->mem)
		error_prefix(err, "Invalid Memory Configuration: ");
	return ret;
}

/*
 * What takes away the guest's replacement for the PIT: without kvmclock there
 * is no known TSC frequency, without a TSC deadline timer the LAPIC timer has
 * to be calibrated, without ACPI the kernel insists on checking IRQ 0.
 */
static const char *const pit_words[] = {
	"acpi=off",
	"noapic",
	"nolapic",
	"no-kvmclock",
	"notsc",
	"nolapic_timer",
	"lapic=notscdeadline",
	"clocksource=pit",
	"clocksource=jiffies",
};

static bool needs_pit(const struct cmdline *cmdline)
{
	for (size_t i = 0; i < ARRAY_SIZE(pit_words); i++)
		if (cmdline_has(cmdline, pit_words[i]))
			return true;
	return false;
}

int machine_build_vcpus(struct machine *machine,
			const struct machine_request *request,
			struct error *err)
{
	machine->vcpu_machine = (struct vcpu_machine){
		.pio = &machine->pio,
		.mmio = &machine->mmio,
		.metrics = &request->metrics->vcpu,
		.failed = request->events.failed,
		.stopped = request->events.power_off,
		.arg = request->events.arg,
		.filters = request->filters,
	};
	for (uint32_t i = 0; i < request->config->vcpu_count; i++) {
		int ret = vcpu_create(&machine->vcpus[i], &machine->kvm, i,
				      &machine->vcpu_machine, err);

		if (ret)
			return ret;
		machine->vcpu_count++;
	}
	return 0;
}

static int build_serial(struct machine *machine,
			const struct machine_request *request,
			struct error *err)
{
	int ret = irq_line_open(&machine->serial_irq, &machine->kvm,
				IRQ_GSI_SERIAL, err);

	if (ret)
		return ret;
	ret = serial_create(&machine->serial,
			    request->serial_fd < 0 ? STDOUT_FILENO
						   : request->serial_fd,
			    &request->metrics->uart);
	if (ret)
		return error_set_os(err, -ret, "Cannot create COM1:");
	serial_limit_output(machine->serial, request->serial_limit);
	serial_set_irq(machine->serial, &machine->serial_irq);
	ret = serial_attach_input(machine->serial, request->loop, STDIN_FILENO);
	if (ret)
		return error_set_os(err, -ret, "Cannot read standard input:");
	return 0;
}

static int build_keyboard(struct machine *machine,
			  const struct machine_request *request,
			  struct error *err)
{
	int ret = irq_line_open(&machine->i8042_irq, &machine->kvm,
				IRQ_GSI_I8042, err);

	if (ret)
		return ret;
	ret = i8042_create(&machine->i8042, on_keyboard_reset, machine,
			   &request->metrics->i8042);
	if (ret)
		return error_set_os(err, -ret, "Cannot create the i8042:");
	i8042_set_irq(machine->i8042, &machine->i8042_irq);
	return 0;
}

static int build_buses(struct machine *machine, bool boot_timer,
		       struct error *err)
{
	const struct bus_range ports[] = {
		{"i8042", I8042_PORT, I8042_PORT_COUNT, &i8042_bus_ops,
		 machine->i8042},
		{"serial", SERIAL_PORT, SERIAL_PORT_COUNT, &serial_bus_ops,
		 machine->serial},
		{"acpi_power", ACPI_POWER_PORT, ACPI_POWER_PORT_COUNT,
		 &acpi_power_bus_ops, &machine->power},
	};
	const struct bus_range timer = {
		"boot_timer",	     BOOT_TIMER_BASE,	   BOOT_TIMER_LEN,
		&boot_timer_bus_ops, &machine->boot_timer,
	};
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(ports) && !ret; i++)
		ret = bus_add(&machine->pio, &ports[i]);
	if (!ret && boot_timer)
		ret = bus_add(&machine->mmio, &timer);
	if (ret)
		return error_set_os(err, -ret, "Cannot lay out the buses:");
	return 0;
}

static int attach_device(struct machine *machine,
			 const struct machine_request *request,
			 struct virtio_device *dev, struct error *err)
{
	uint64_t base =
		MEMMAP_MMIO_VIRTIO + machine->virtio_count * VIRTIO_MMIO_WINDOW;
	struct virtio_mmio *mmio;
	uint32_t gsi;
	int ret = irq_pool_take(&machine->gsis, &gsi, err);

	if (ret) {
		/* Clients know it from a monitor where this one comes last. */
		error_prefix(err, "Error while registering ACPI with KVM: "
				  "VMClock: ");
		return ret;
	}
	ret = virtio_mmio_create(&mmio, dev, base, gsi);
	if (ret)
		return error_set_os(err, -ret, "Cannot create a transport:");
	machine->virtio[machine->virtio_count++] = mmio;
	ret = virtio_mmio_attach(mmio, &machine->kvm, &machine->mmio,
				 request->loop, machine->mem, err);
	if (ret)
		return ret;
	if (!request->cmdline)
		return 0;
	return cmdline_append(request->cmdline, err,
			      "virtio_mmio.device=4K@0x%lx:%u",
			      (unsigned long)base, gsi);
}

int machine_build_devices(struct machine *machine,
			  const struct machine_request *request,
			  struct error *err)
{
	int ret = build_serial(machine, request, err);

	if (!ret)
		ret = build_keyboard(machine, request, err);
	if (!ret)
		ret = build_buses(machine, request->boot_timer, err);
	if (ret)
		return ret;
	for (size_t i = 0; i < request->device_count; i++) {
		ret = attach_device(machine, request, request->devices[i], err);
		if (ret) {
			error_prefix(err, "Could not attach device: ");
			return ret;
		}
	}
	return 0;
}

/* A restored machine finds these in its memory. */
static int create_generation(struct machine *machine, struct error *err)
{
	int ret = vmgenid_create(&machine->vmgenid, machine->mem, &machine->kvm,
				 err);

	return ret ? ret
		   : vmclock_create(&machine->vmclock, machine->mem,
				    &machine->kvm, err);
}

static int load_kernel(struct machine *machine,
		       const struct machine_request *request,
		       struct boot_entry *ret_entry, struct error *err)
{
	struct boot_device devices[MACHINE_DEVICES_MAX];
	struct boot_request boot = {
		.mem = machine->mem,
		.kernel_fd = request->kernel_fd,
		.initrd_fd = request->initrd_fd,
		.cmdline = request->cmdline->text,
		.vcpu_count = (uint32_t)machine->vcpu_count,
		.devices = devices,
		.device_count = machine->virtio_count,
	};

	for (size_t i = 0; i < machine->virtio_count; i++)
		devices[i] = (struct boot_device){
			.base = virtio_mmio_base(machine->virtio[i]),
			.gsi = virtio_mmio_gsi(machine->virtio[i]),
		};
	return boot_load(&boot, ret_entry, err);
}

static int setup_vcpus(struct machine *machine,
		       const struct machine_config *config,
		       const struct boot_entry *entry, struct error *err)
{
	const struct cpu_topology topology = {
		.vcpu_count = (uint32_t)config->vcpu_count,
		.smt = config->smt,
	};

	for (size_t i = 0; i < machine->vcpu_count; i++) {
		int ret = vcpu_x86_setup(machine->vcpus[i], &machine->kvm,
					 &topology, entry, err);

		if (ret)
			return ret;
	}
	return 0;
}

/* -------------------------------------------------------------- life cycle */

void machine_init(struct machine *machine,
		  const struct machine_request *request)
{
	machine->loop = request->loop;
	machine->events = request->events;
	machine->vcpu_metrics = &request->metrics->vcpu;
	machine->hotplug = request->hotplug;
	machine->power = (struct acpi_power){
		.power_off = on_acpi_power_off,
		.reset = on_acpi_reset,
		.arg = machine,
	};
	boot_timer_start(&machine->boot_timer);
}

int machine_build(struct machine *machine,
		  const struct machine_request *request, struct error *err)
{
	struct boot_entry entry;
	int ret;

	machine_init(machine, request);
	/* Memory slots before anything that lives on a KVM bus: law 1. */
	ret = machine_place_windows(machine, request, err);
	if (ret)
		return ret;
	ret = build_memory(machine, request, err);
	if (ret)
		return ret;
	ret = kvm_create_irqchip(&machine->kvm, needs_pit(request->cmdline),
				 err);
	if (ret)
		return ret;
	ret = machine_build_vcpus(machine, request, err);
	if (ret)
		return ret;
	ret = machine_build_devices(machine, request, err);
	if (ret)
		return ret;
	ret = create_generation(machine, err);
	if (ret)
		return ret;
	ret = load_kernel(machine, request, &entry, err);
	if (ret)
		return ret;
	return setup_vcpus(machine, request->config, &entry, err);
}

static void hold_devices(struct machine *machine, bool on)
{
	for (size_t i = 0; i < machine->virtio_count; i++)
		virtio_device_hold(virtio_mmio_device(machine->virtio[i]), on);
}

/* Around a snapshot kicks and interrupts may get lost; more of them than there
 * were do no harm. */
static void rekick(struct machine *machine)
{
	if (!machine->rekick)
		return;
	machine->rekick = false;
	for (size_t i = 0; i < machine->virtio_count; i++)
		virtio_mmio_rekick(machine->virtio[i]);
	serial_rekick(machine->serial);
	i8042_rekick(machine->i8042);
}

int machine_run(struct machine *machine, bool run, struct error *err)
{
	if (run) {
		hold_devices(machine, false);
		rekick(machine);
	} else {
		loop_enable_devices(machine->loop, false);
	}
	for (size_t i = 0; i < machine->vcpu_count && !run; i++)
		vcpu_request_pause(machine->vcpus[i]);
	for (size_t i = 0; i < machine->vcpu_count; i++) {
		int ret = vcpu_start(machine->vcpus[i], err);

		if (ret)
			return ret;
	}
	machine_begin_prefetch(machine);
	machine_start_watch(machine);
	if (run)
		machine_begin_watch(machine);
	return 0;
}

/* Tells guests with kvmclock that they were stopped, so that their watchdogs
 * don't take the gap for a lockup. Others (EINVAL) need no telling. */
void machine_mark_clock_stopped(struct machine *machine)
{
	for (size_t i = 0; i < machine->vcpu_count; i++)
		if (ioctl(vcpu_fd(machine->vcpus[i]), KVM_KVMCLOCK_CTRL, 0) &&
		    errno != EINVAL)
			metric_inc(&machine->vcpu_metrics->kvmclock_ctrl_fails);
}

int machine_pause(struct machine *machine, struct error *err)
{
	for (size_t i = 0; i < machine->vcpu_count; i++)
		vcpu_request_pause(machine->vcpus[i]);
	for (size_t i = 0; i < machine->vcpu_count; i++) {
		if (vcpu_wait_paused(machine->vcpus[i], PAUSE_TIMEOUT_NS) == 0)
			continue;
		for (size_t j = 0; j < machine->vcpu_count; j++)
			vcpu_resume(machine->vcpus[j]);
		return error_set(err, ETIMEDOUT,
				 "vCPU %zu did not pause within 30 s", i);
	}
	machine_mark_clock_stopped(machine);
	loop_enable_devices(machine->loop, false);
	hold_devices(machine, true);
	return 0;
}

void machine_resume(struct machine *machine)
{
	hold_devices(machine, false);
	rekick(machine);
	loop_enable_devices(machine->loop, true);
	for (size_t i = 0; i < machine->vcpu_count; i++)
		vcpu_resume(machine->vcpus[i]);
	machine_begin_watch(machine);
}

struct gmem *machine_memory(const struct machine *machine)
{
	return machine->mem;
}

struct recorder *machine_recorder(const struct machine *machine)
{
	return machine->recorder;
}

int machine_ctrl_alt_del(struct machine *machine)
{
	return i8042_ctrl_alt_del(machine->i8042);
}
