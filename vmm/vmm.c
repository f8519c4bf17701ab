/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The vmm holds what the client configured, and once started a machine. Before
 * the start actions only change the configuration (files are opened at once, so
 * that a bad path is refused by the request that named it); the start builds a
 * machine from it. If that fails the machine is thrown away, the configuration
 * stays, and the client may mend it and try again.
 *
 * vCPU threads reach into this module in one place: vmm_stop, which notes the
 * exit code and ends the loop.
 */
#include "vmm/vmm_private.h"

#include "vmm/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define METRICS_PERIOD_NS UINT64_C(60000000000)

/* exit_code while nobody has asked for the end. */
#define EXIT_CODE_NONE (-1)

/* ------------------------------------------------------ end of the microVM */

void vmm_stop(struct vmm *vmm, int exit_code, const char *reason)
{
	int none = EXIT_CODE_NONE;

	if (!atomic_compare_exchange_strong(&vmm->exit_code, &none, exit_code))
		return;
	log_info("Vmm is stopping: %s.", reason);
	loop_stop(vmm->loop);
}

bool vmm_is_stopping(const struct vmm *vmm)
{
	return atomic_load(&vmm->exit_code) != EXIT_CODE_NONE;
}

int vmm_exit_code(const struct vmm *vmm)
{
	int code = atomic_load(&vmm->exit_code);

	return code == EXIT_CODE_NONE ? EXIT_SUCCESS : code;
}

static void on_power_off(void *arg, const char *reason)
{
	vmm_stop(arg, EXIT_SUCCESS, reason);
}

static void on_failure(void *arg, const char *reason)
{
	vmm_stop(arg, EXIT_FAILURE, reason);
}

struct machine_events vmm_machine_events(struct vmm *vmm)
{
	return (struct machine_events){on_power_off, on_failure, vmm};
}

/* ----------------------------------------------------------------- metrics */

static void flush_metrics(struct vmm *vmm)
{
	int ret = metrics_flush(&vmm->metrics);

	if (ret)
		log_error("Cannot write metrics: %s (os error %d)",
			  os_error_text(-ret), -ret);
}

static void on_metrics_timer(struct loop_timer *timer)
{
	struct vmm *vmm = container_of(timer, struct vmm, metrics_timer);

	flush_metrics(vmm);
	loop_timer_arm(vmm->loop, timer, METRICS_PERIOD_NS);
}

struct metrics *vmm_metrics(struct vmm *vmm)
{
	return &vmm->metrics;
}

/* ----------------------------------------------------------- configuration */

static int act_view(struct vmm *vmm, struct vmm_action *action,
		    struct error *err)
{
	const struct drive_config *drives[CONFIG_DRIVES_MAX];
	const struct net_config *nets[CONFIG_NETS_MAX];
	const struct pmem_config *pmems[CONFIG_PMEMS_MAX];
	const struct vmm_view view = {
		.id = vmm->id,
		.state = vmm->state,
		.machine = &vmm->machine_config,
		.boot = &vmm->boot.config,
		.drives = drives,
		.drive_count = drives_count(vmm->drives),
		.nets = nets,
		.net_count = nets_count(vmm->nets),
		.vsock = vmm->vsock ? &vmm->vsock_config : NULL,
		.pmems = pmems,
		.pmem_count = pmems_count(vmm->pmems),
		.entropy = vmm->entropy ? &vmm->entropy_config : NULL,
		.balloon = vmm->balloon ? &vmm->balloon_config : NULL,
		.hotplug = vmm->hotplug ? &vmm->hotplug_config : NULL,
		.mmds = mmds_config(vmm->mmds),
	};

	(void)err;
	for (size_t i = 0; i < view.net_count; i++)
		nets[i] = nets_config(vmm->nets, i);
	for (size_t i = 0; i < view.drive_count; i++)
		drives[i] = drives_config(vmm->drives, i);
	for (size_t i = 0; i < view.pmem_count; i++)
		pmems[i] = pmems_config(vmm->pmems, i);
	action->view.fn(&view, action->view.arg);
	return 0;
}

static int act_set_machine(struct vmm *vmm, struct vmm_action *action,
			   struct error *err)
{
	struct machine_config next = vmm->machine_config;
	int ret = machine_config_update(&next, &action->machine, err);

	if (!ret && vmm->balloon &&
	    next.mem_size_mib < vmm->balloon_config.amount_mib)
		return error_set(err, EINVAL,
				 "The memory size (MiB) is smaller than the "
				 "previously set balloon device target size.");
	if (!ret)
		vmm->machine_config = next;
	return ret;
}

/* The VM object needs no configuration: making it now takes it off the path of
 * InstanceStart. A failure is reported there, when it matters. */
static void prepare_machine(struct vmm *vmm)
{
	struct error ignored;

	if (!vmm->machine && machine_create(&vmm->machine, &ignored))
		vmm->machine = NULL;
}

static int act_set_boot_source(struct vmm *vmm, struct vmm_action *action,
			       struct error *err)
{
	int ret = boot_source_set(&vmm->boot, &action->boot, err);

	if (!ret)
		prepare_machine(vmm);
	return ret;
}

/* Hot-plug is a PCI matter, and there is no PCI here. */
static int check_not_started(const struct vmm *vmm, struct error *err)
{
	if (vmm->state != VMM_NOT_STARTED)
		return error_set_complete(err, EPERM, "PCI is not enabled");
	return 0;
}

static int act_set_drive(struct vmm *vmm, struct vmm_action *action,
			 struct error *err)
{
	int ret = check_not_started(vmm, err);

	if (!ret && action->drive.is_root_device && pmems_have_root(vmm->pmems))
		ret = error_set(err, EEXIST,
				"Attempt to add block as a root device while "
				"the root device defined as a pmem device");
	return ret ? ret : drives_set(vmm->drives, &action->drive, err);
}

static int act_update_drive(struct vmm *vmm, struct vmm_action *action,
			    struct error *err)
{
	return drives_update(vmm->drives, &action->drive_update, err);
}

static int act_set_pmem(struct vmm *vmm, struct vmm_action *action,
			struct error *err)
{
	int ret = check_not_started(vmm, err);

	return ret ? ret
		   : pmems_set(vmm->pmems, &action->pmem,
			       drives_have_root(vmm->drives), err);
}

static int act_update_pmem(struct vmm *vmm, struct vmm_action *action,
			   struct error *err)
{
	return pmems_update(vmm->pmems, &action->pmem_update, err);
}

/* O_RDWR: a FIFO opens without a reader, and never raises SIGPIPE. */
static int open_serial(const char *path, int *ret_fd, struct error *err)
{
	*ret_fd =
		open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		     0644);
	if (*ret_fd < 0)
		return error_set_os(
			err, errno,
			"The serial output file %s cannot be opened:", path);
	return 0;
}

static int act_set_serial(struct vmm *vmm, struct vmm_action *action,
			  struct error *err)
{
	const char *path = action->serial.out_path;
	int fd = -1;
	int ret = path ? open_serial(path, &fd, err) : 0;

	if (ret)
		return ret;
	close_fd(&vmm->serial_fd);
	vmm->serial_fd = fd;
	serial_config_release(&vmm->serial_config);
	vmm->serial_config = action->serial;
	action->serial = (struct serial_config){0};
	return 0;
}

static int act_set_net(struct vmm *vmm, struct vmm_action *action,
		       struct error *err)
{
	int ret = check_not_started(vmm, err);

	return ret ? ret : nets_set(vmm->nets, &action->net, err);
}

static int act_update_net(struct vmm *vmm, struct vmm_action *action,
			  struct error *err)
{
	return nets_update(vmm->nets, &action->net_update, err);
}

/* Takes the device away, with its socket in the file system. */
static void remove_vsock(struct vmm *vmm)
{
	if (!vmm->vsock)
		return;
	virtio_device_destroy(vsock_virtio(take_ptr(vmm->vsock)));
	unlink(vmm->vsock_config.uds_path);
	vsock_config_release(&vmm->vsock_config);
	vmm->vsock_config = (struct vsock_config){0};
}

int vmm_set_vsock(struct vmm *vmm, struct vsock_config *config,
		  struct error *err)
{
	int ret;

	remove_vsock(vmm);
	ret = vsock_create(&vmm->vsock, config, &vmm->metrics.vsock, err);
	if (ret)
		return ret;
	vmm->vsock_config = *config;
	*config = (struct vsock_config){0};
	return 0;
}

static int act_set_vsock(struct vmm *vmm, struct vmm_action *action,
			 struct error *err)
{
	return vmm_set_vsock(vmm, &action->vsock, err);
}

static int act_set_mmds_config(struct vmm *vmm, struct vmm_action *action,
			       struct error *err)
{
	return mmds_configure(vmm->mmds, &action->mmds, vmm->nets, err);
}

/* Once started, a service that was not configured stays out of reach. */
static int check_metadata(const struct vmm *vmm, struct error *err)
{
	if (vmm->state != VMM_NOT_STARTED && !mmds_config(vmm->mmds))
		return error_set(err, EINVAL,
				 "The MMDS data store is not initialized.");
	return 0;
}

static int act_put_metadata(struct vmm *vmm, struct vmm_action *action,
			    struct error *err)
{
	int ret = check_metadata(vmm, err);

	return ret ? ret : mmds_put(vmm->mmds, action->metadata, err);
}

static int act_patch_metadata(struct vmm *vmm, struct vmm_action *action,
			      struct error *err)
{
	int ret = check_metadata(vmm, err);

	return ret ? ret : mmds_patch(vmm->mmds, action->metadata, err);
}

static int act_get_metadata(struct vmm *vmm, struct vmm_action *action,
			    struct error *err)
{
	int ret = check_metadata(vmm, err);

	if (!ret)
		action->metadata = mmds_get(vmm->mmds);
	return ret;
}

static int act_set_logger(struct vmm *vmm, struct vmm_action *action,
			  struct error *err)
{
	(void)vmm;
	return log_configure(&action->logger, err);
}

static int act_set_metrics(struct vmm *vmm, struct vmm_action *action,
			   struct error *err)
{
	return metrics_configure(&vmm->metrics, &action->metrics, err);
}

/* ------------------------------------------------------- starting, pausing */

static int make_cmdline(const struct vmm *vmm, struct cmdline *cmdline,
			struct error *err)
{
	int ret = cmdline_init(cmdline, vmm->boot.config.boot_args, err);

	if (!ret)
		ret = cmdline_append(cmdline, err, "pci=off");
	if (!ret)
		ret = drives_append_root(vmm->drives, cmdline, err);
	if (!ret)
		ret = pmems_append_root(vmm->pmems, cmdline, err);
	return ret;
}

size_t vmm_list_devices(const struct vmm *vmm,
			struct virtio_device *devices[VMM_DEVICES_MAX])
{
	size_t count = 0;

	if (vmm->balloon)
		devices[count++] = balloon_virtio(vmm->balloon);
	for (size_t i = 0; i < drives_count(vmm->drives); i++)
		devices[count++] = drives_device(vmm->drives, i);
	for (size_t i = 0; i < nets_count(vmm->nets); i++)
		devices[count++] = nets_device(vmm->nets, i);
	for (size_t i = 0; i < pmems_count(vmm->pmems); i++)
		devices[count++] = pmems_device(vmm->pmems, i);
	if (vmm->vsock)
		devices[count++] = vsock_virtio(vmm->vsock);
	if (vmm->entropy)
		devices[count++] = entropy_virtio(vmm->entropy);
	if (vmm->hotplug)
		devices[count++] = mem_device_virtio(vmm->hotplug);
	return count;
}

/* Back ends of drives share it. */
static enum gmem_backing memory_backing(const struct vmm *vmm)
{
	for (size_t i = 0; i < drives_count(vmm->drives); i++)
		if (drives_vhost_user(vmm->drives, i))
			return GMEM_MEMFD;
	return vmm->options.memory_backing;
}

static int build_machine(struct vmm *vmm, struct error *err)
{
	struct virtio_device *devices[VMM_DEVICES_MAX];
	struct machine_window windows[CONFIG_PMEMS_MAX];
	struct cmdline cmdline;
	const struct machine_request request = {
		.config = &vmm->machine_config,
		.backing = memory_backing(vmm),
		.boot_timer = vmm->options.boot_timer,
		.kernel_fd = vmm->boot.kernel_fd,
		.initrd_fd = vmm->boot.initrd_fd,
		.cmdline = &cmdline,
		.devices = devices,
		.device_count = vmm_list_devices(vmm, devices),
		.windows = windows,
		.window_count = pmems_count(vmm->pmems),
		.hotplug = vmm->hotplug,
		.loop = vmm->loop,
		.metrics = &vmm->metrics,
		.events = vmm_machine_events(vmm),
		.serial_fd = vmm->serial_fd,
		.serial_limit = &vmm->serial_config.rate_limiter,
		.filters = vmm->options.filters,
	};
	int ret;

	if (vmm->machine_config.cpu_template != CPU_TEMPLATE_NONE)
		return error_set(err, ENOTSUP,
				 "The current CPU model is not permitted to "
				 "apply the CPU template.");
	ret = make_cmdline(vmm, &cmdline, err);
	if (!ret)
		ret = pmems_open(vmm->pmems, windows, err);
	if (!ret)
		ret = mmds_start(vmm->mmds, vmm->loop, vmm->nets, err);
	if (!ret && !vmm->machine)
		ret = machine_create(&vmm->machine, err);
	if (!ret)
		ret = cgroups_join(&vmm->options.cgroups, err);
	if (!ret)
		ret = machine_build(vmm->machine, &request, err);
	return ret ? ret : machine_run(vmm->machine, true, err);
}

static int act_start(struct vmm *vmm, struct vmm_action *action,
		     struct error *err)
{
	int ret;

	(void)action;
	if (vmm->boot.kernel_fd < 0)
		return error_set(err, EINVAL,
				 "Cannot start microvm without kernel "
				 "configuration.");
	log_debug("event_start: build microvm for boot");
	ret = build_machine(vmm, err);
	if (ret) {
		machine_destroy(take_ptr(vmm->machine));
		pmems_close(vmm->pmems);
		mmds_stop(vmm->mmds);
		return ret;
	}
	log_debug("event_end: build microvm for boot");
	boot_source_close_files(&vmm->boot);
	vmm_begin(vmm, VMM_RUNNING);
	return 0;
}

/* Who started us may be waiting: once, and nobody polls. */
static void tell_ready(struct vmm *vmm)
{
	static const char line[] = "READY\n";

	if (vmm->options.ready_fd <= 0)
		return;
	if (write(vmm->options.ready_fd, line, sizeof(line) - 1) < 0)
		log_warn("Nobody hears that the guest runs: %s",
			 os_error_text(errno));
	close_fd(&vmm->options.ready_fd);
}

void vmm_begin(struct vmm *vmm, enum vmm_state state)
{
	vmm->state = state;
	if (state == VMM_RUNNING)
		tell_ready(vmm);
	flush_metrics(vmm);
	loop_timer_arm(vmm->loop, &vmm->metrics_timer, METRICS_PERIOD_NS);
}

void vmm_record_latency(struct metric_store *store, const char *what,
			uint64_t start_ns)
{
	uint64_t us = (monotonic_ns() - start_ns) / 1000;

	metric_set(store, us);
	log_info("'%s' VMM action took %lu us.", what, (unsigned long)us);
}

static int act_pause(struct vmm *vmm, struct vmm_action *action,
		     struct error *err)
{
	uint64_t start = monotonic_ns();
	int ret;

	(void)action;
	if (vmm->state == VMM_PAUSED)
		return 0;
	ret = machine_pause(vmm->machine, err);
	if (ret)
		return ret;
	vmm->state = VMM_PAUSED;
	vmm_record_latency(&vmm->metrics.latencies_us.vmm_pause_vm, "pause vm",
			   start);
	return 0;
}

static int act_resume(struct vmm *vmm, struct vmm_action *action,
		      struct error *err)
{
	uint64_t start = monotonic_ns();

	(void)action;
	(void)err;
	if (vmm->state == VMM_RUNNING)
		return 0;
	machine_resume(vmm->machine);
	vmm->state = VMM_RUNNING;
	tell_ready(vmm);
	vmm_record_latency(&vmm->metrics.latencies_us.vmm_resume_vm,
			   "resume vm", start);
	return 0;
}

static int act_flush_metrics(struct vmm *vmm, struct vmm_action *action,
			     struct error *err)
{
	int ret = metrics_flush(&vmm->metrics);

	(void)action;
	if (ret)
		return error_set_os(err, -ret, "Cannot write metrics:");
	return 0;
}

static int act_ctrl_alt_del(struct vmm *vmm, struct vmm_action *action,
			    struct error *err)
{
	int ret = machine_ctrl_alt_del(vmm->machine);

	(void)action;
	if (ret)
		return error_set_os(err, -ret, "The keyboard buffer is full:");
	return 0;
}

/* --------------------------------------------------------------- snapshots */

static int act_create_snapshot(struct vmm *vmm, struct vmm_action *action,
			       struct error *err)
{
	return vmm_create_snapshot(vmm, &action->snapshot_create, err);
}

/* Half a microVM is of no use to anyone: a load that failed is the end. */
static int act_load_snapshot(struct vmm *vmm, struct vmm_action *action,
			     struct error *err)
{
	int ret;

	if (vmm->configured)
		return error_set(err, EBUSY,
				 "Loading a microVM snapshot not allowed after "
				 "configuring boot-specific resources.");
	ret = vmm_load_snapshot(vmm, action->snapshot_load.config,
				action->snapshot_load.metadata, err);
	if (ret)
		vmm_stop(vmm, EXIT_FAILURE, "the snapshot was not loaded");
	return ret;
}

static int act_lend_memory(struct vmm *vmm, struct vmm_action *action,
			   struct error *err)
{
	(void)err;
	vmm_lend_memory(vmm, &action->lent);
	return 0;
}

/* ----------------------------------------------------------------- actions */

typedef int (*action_fn)(struct vmm *vmm, struct vmm_action *action,
			 struct error *err);

static const struct {
	action_fn fn;
	bool configures; /* a microVM to boot: then none can be loaded */
} action_table[] = {
	[VMM_ACTION_VIEW] = {act_view, false},
	[VMM_ACTION_SET_MACHINE] = {act_set_machine, true},
	[VMM_ACTION_SET_BOOT_SOURCE] = {act_set_boot_source, true},
	[VMM_ACTION_SET_DRIVE] = {act_set_drive, true},
	[VMM_ACTION_UPDATE_DRIVE] = {act_update_drive, false},
	[VMM_ACTION_SET_NET] = {act_set_net, true},
	[VMM_ACTION_UPDATE_NET] = {act_update_net, false},
	[VMM_ACTION_SET_VSOCK] = {act_set_vsock, true},
	[VMM_ACTION_SET_PMEM] = {act_set_pmem, true},
	[VMM_ACTION_UPDATE_PMEM] = {act_update_pmem, false},
	[VMM_ACTION_SET_ENTROPY] = {act_set_entropy, true},
	[VMM_ACTION_SET_SERIAL] = {act_set_serial, false},
	[VMM_ACTION_SET_BALLOON] = {act_set_balloon, true},
	[VMM_ACTION_RESIZE_BALLOON] = {act_resize_balloon, false},
	[VMM_ACTION_SET_BALLOON_INTERVAL] = {act_set_balloon_interval, false},
	[VMM_ACTION_GET_BALLOON_STATS] = {act_get_balloon_stats, false},
	[VMM_ACTION_START_HINTING] = {act_start_hinting, false},
	[VMM_ACTION_STOP_HINTING] = {act_stop_hinting, false},
	[VMM_ACTION_GET_HINTING] = {act_get_hinting, false},
	[VMM_ACTION_SET_HOTPLUG] = {act_set_hotplug, true},
	[VMM_ACTION_RESIZE_HOTPLUG] = {act_resize_hotplug, false},
	[VMM_ACTION_GET_HOTPLUG] = {act_get_hotplug, false},
	[VMM_ACTION_SET_MMDS_CONFIG] = {act_set_mmds_config, true},
	[VMM_ACTION_PUT_METADATA] = {act_put_metadata, false},
	[VMM_ACTION_PATCH_METADATA] = {act_patch_metadata, false},
	[VMM_ACTION_GET_METADATA] = {act_get_metadata, false},
	[VMM_ACTION_SET_LOGGER] = {act_set_logger, false},
	[VMM_ACTION_SET_METRICS] = {act_set_metrics, false},
	[VMM_ACTION_START] = {act_start, false},
	[VMM_ACTION_PAUSE] = {act_pause, false},
	[VMM_ACTION_RESUME] = {act_resume, false},
	[VMM_ACTION_FLUSH_METRICS] = {act_flush_metrics, false},
	[VMM_ACTION_CTRL_ALT_DEL] = {act_ctrl_alt_del, false},
	[VMM_ACTION_CREATE_SNAPSHOT] = {act_create_snapshot, false},
	[VMM_ACTION_LOAD_SNAPSHOT] = {act_load_snapshot, false},
	[VMM_ACTION_LEND_MEMORY] = {act_lend_memory, false},
};

int vmm_act(struct vmm *vmm, struct vmm_action *action, struct error *err)
{
	bool started = vmm->state != VMM_NOT_STARTED;
	int ret;

	if (!(action->when & (started ? VMM_POST_BOOT : VMM_PRE_BOOT)))
		return error_set_complete(err, EPERM,
					  "The requested operation is not "
					  "supported %s starting the microVM.",
					  started ? "after" : "before");
	ret = action_table[action->type].fn(vmm, action, err);
	if (!ret && action_table[action->type].configures)
		vmm->configured = true;
	return ret;
}

int vmm_confine(struct vmm *vmm, struct error *err)
{
	int ret;

	if (vmm->confined || vmm->state == VMM_NOT_STARTED)
		return 0;
	ret = seccomp_enter(vmm->options.filters, SECCOMP_LOOP);
	vmm->confined = !ret;
	if (!ret)
		return 0;
	vmm_stop(vmm, EXIT_FAILURE, "the loop thread cannot be filtered");
	return error_set_os(err, -ret,
			    "Seccomp error: The filter of the loop thread "
			    "cannot be installed:");
}

struct submission {
	struct vmm *vmm;
	struct vmm_action *action;
	struct error *err;
	int ret;
};

static void run_submission(void *arg)
{
	struct submission *sub = arg;

	sub->ret = vmm_act(sub->vmm, sub->action, sub->err);
	if (!sub->ret)
		sub->ret = vmm_confine(sub->vmm, sub->err);
}

int vmm_submit(struct vmm *vmm, struct vmm_action *action, struct error *err)
{
	struct submission sub = {vmm, action, err, 0};
	int ret = loop_call(vmm->loop, run_submission, &sub);

	if (ret)
		return error_set(err, -ret, "The microVM is shutting down.");
	return sub.ret;
}

/* -------------------------------------------------------------- life cycle */

/* Start-up times as the jailer's clock readings give them. */
static void record_startup(struct vmm *vmm)
{
	const struct vmm_options *options = &vmm->options;
	struct api_server_metrics *api = &vmm->metrics.api_server;
	uint64_t now_us = monotonic_ns() / 1000;
	struct timespec cpu;
	uint64_t cpu_us;

	if (options->start_time_us && now_us > options->start_time_us)
		metric_set(&api->process_startup_time_us,
			   now_us - options->start_time_us);
	if (!options->start_time_cpu_us)
		return;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	cpu_us = (uint64_t)cpu.tv_sec * 1000000 + (uint64_t)cpu.tv_nsec / 1000 +
		 options->parent_cpu_time_us;
	if (cpu_us > options->start_time_cpu_us)
		metric_set(&api->process_startup_time_cpu_us,
			   cpu_us - options->start_time_cpu_us);
}

int vmm_create(struct vmm **ret_vmm, struct loop *loop,
	       const struct vmm_options *options, struct error *err)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));
	int ret;

	if (!vmm)
		return error_set_os(err, ENOMEM, "Cannot create the microVM:");
	vmm->loop = loop;
	vmm->options = *options;
	vmm->options.id = vmm->id;
	snprintf(vmm->id, sizeof(vmm->id), "%s", options->id);
	vmm->exit_code = EXIT_CODE_NONE;
	vmm->serial_fd = -1;
	vmm->machine_config = machine_config_default;
	boot_source_init(&vmm->boot);
	vmm->metrics_timer.fn = on_metrics_timer;
	metrics_init(&vmm->metrics, vmm->id);
	ret = drives_create(&vmm->drives, &vmm->metrics);
	if (!ret)
		ret = nets_create(&vmm->nets, &vmm->metrics);
	if (!ret)
		ret = pmems_create(&vmm->pmems, &vmm->metrics);
	if (!ret)
		ret = mmds_create(&vmm->mmds, vmm->id, options->metadata_limit,
				  &vmm->metrics.mmds);
	if (ret) {
		vmm_destroy(vmm);
		return error_set_os(err, -ret, "Cannot create the microVM:");
	}
	record_startup(vmm);
	*ret_vmm = vmm;
	return 0;
}

void vmm_destroy(struct vmm *vmm)
{
	if (!vmm)
		return;
	machine_destroy(vmm->machine);
	flush_metrics(vmm);
	mmds_destroy(vmm->mmds);
	drives_destroy(vmm->drives);
	nets_destroy(vmm->nets);
	pmems_destroy(vmm->pmems);
	if (vmm->vsock)
		virtio_device_destroy(vsock_virtio(vmm->vsock));
	if (vmm->entropy)
		virtio_device_destroy(entropy_virtio(vmm->entropy));
	if (vmm->balloon)
		virtio_device_destroy(balloon_virtio(vmm->balloon));
	if (vmm->hotplug)
		virtio_device_destroy(mem_device_virtio(vmm->hotplug));
	vsock_config_release(&vmm->vsock_config);
	serial_config_release(&vmm->serial_config);
	close_fd(&vmm->serial_fd);
	boot_source_release(&vmm->boot);
	free(vmm->parent);
	metrics_release(&vmm->metrics);
	free(vmm);
}
