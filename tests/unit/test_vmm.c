/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/machine.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NBS                                                                    \
	"The requested operation is not supported before starting the "        \
	"microVM."
#define NAS                                                                    \
	"The requested operation is not supported after starting the microVM."

struct fixture {
	struct loop *loop;
	struct vmm *vmm;
	struct error err;
	char file[32]; /* an existing file, for kernels and drives */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct vmm_options options = {.id = "test"};
	int fd;

	assert_non_null(f);
	memset(&fake_machine, 0, sizeof(fake_machine));
	strcpy(f->file, "/tmp/ember-vmm-XXXXXX");
	fd = mkstemp(f->file);
	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(vmm_create(&f->vmm, f->loop, &options, &f->err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vmm_destroy(f->vmm);
	loop_destroy(f->loop);
	unlink(f->file);
	free(f);
	return 0;
}

static int act(struct fixture *f, enum vmm_action_type type, enum vmm_when when)
{
	struct vmm_action action = {.type = type, .when = when};

	f->err = (struct error){0};
	return vmm_act(f->vmm, &action, &f->err);
}

static int set_kernel(struct fixture *f, const char *path, const char *args)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_BOOT_SOURCE,
				    .when = VMM_PRE_BOOT};
	int ret;

	action.boot.kernel_image_path = strdup(path);
	action.boot.boot_args = args ? strdup(args) : NULL;
	ret = vmm_act(f->vmm, &action, &f->err);
	boot_source_config_release(&action.boot);
	return ret;
}

static int set_drive(struct fixture *f, const char *id, bool root)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_DRIVE,
				    .when = VMM_ALWAYS};
	int ret;

	action.drive.drive_id = strdup(id);
	action.drive.path_on_host = strdup(f->file);
	action.drive.is_root_device = root;
	ret = vmm_act(f->vmm, &action, &f->err);
	drive_config_release(&action.drive);
	return ret;
}

static int set_vsock(struct fixture *f, const char *path)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_VSOCK,
				    .when = VMM_PRE_BOOT};
	int ret;

	action.vsock.guest_cid = 3;
	action.vsock.uds_path = strdup(path);
	ret = vmm_act(f->vmm, &action, &f->err);
	vsock_config_release(&action.vsock);
	return ret;
}

static void start(struct fixture *f)
{
	assert_int_equal(set_kernel(f, f->file, "quiet"), 0);
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), 0);
}

static void test_vmm_act_in_wrong_state_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(act(f, VMM_ACTION_PAUSE, VMM_POST_BOOT), -EPERM);
	assert_string_equal(f->err.text, NBS);
	start(f);
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), -EPERM);
	assert_string_equal(f->err.text, NAS);
}

static void test_vmm_start_without_kernel_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), -EINVAL);
	assert_string_equal(
		f->err.text,
		"Cannot start microvm without kernel configuration.");
	assert_int_equal(fake_machine.built, 0);
}

static void test_vmm_start_failure_leaves_configuration(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set_kernel(f, f->file, NULL), 0);
	fake_machine.fail_build = ENOMEM;
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), -ENOMEM);
	assert_int_equal(fake_machine.destroyed, fake_machine.created);
	fake_machine.fail_build = 0;
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), 0);
	assert_int_equal(fake_machine.running, 1);
}

/* A machine of the fixture's, which has to go into a cgroup first. */
static void replace_vmm(struct fixture *f, int cgroup_fd)
{
	const struct vmm_options options = {
		.id = "test", .cgroups = {.fds = {cgroup_fd}, .count = 1}};

	vmm_destroy(f->vmm);
	f->vmm = NULL;
	assert_int_equal(vmm_create(&f->vmm, f->loop, &options, &f->err), 0);
}

static void test_vmm_start_is_refused_outside_of_its_cgroup(void **state)
{
	struct fixture *f = *state;
	int fd = open("/dev/full", O_WRONLY);
	int null = open("/dev/null", O_WRONLY);

	replace_vmm(f, fd);
	assert_int_equal(set_kernel(f, f->file, NULL), 0);
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), -ENOSPC);
	assert_non_null(strstr(f->err.text, "cannot be moved into its cgroup"));
	assert_int_equal(fake_machine.created, 1);
	assert_int_equal(fake_machine.built + fake_machine.running, 0);
	assert_int_equal(dup2(null, fd), fd);
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), 0);
	assert_int_equal(fake_machine.running, 1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	close(null);
}

static void test_vmm_boot_source_missing_file_keeps_the_old(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set_kernel(f, f->file, NULL), 0);
	assert_int_equal(set_kernel(f, "/nonexistent", NULL), -ENOENT);
	assert_string_equal(f->err.text,
			    "The kernel file cannot be opened: No such file or "
			    "directory (os error 2)");
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), 0);
}

static void test_vmm_boot_source_survives_missing_kvm(void **state)
{
	struct fixture *f = *state;

	fake_machine.fail_create = ENOENT;
	assert_int_equal(set_kernel(f, f->file, NULL), 0);
	assert_int_equal(act(f, VMM_ACTION_START, VMM_PRE_BOOT), -ENOENT);
	assert_string_equal(f->err.text, "no KVM");
}

static void test_vmm_start_root_drive_comes_first(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set_drive(f, "data", false), 0);
	assert_int_equal(set_drive(f, "rootfs", true), 0);
	start(f);
	assert_int_equal(fake_machine.device_count, 2);
	assert_string_equal(fake_machine.cmdline,
			    "quiet pci=off root=/dev/vda rw");
}

static void test_vmm_second_root_drive_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set_drive(f, "a", true), 0);
	assert_int_equal(set_drive(f, "a", true), 0); /* replaced */
	assert_int_equal(set_drive(f, "b", true), -EEXIST);
	assert_string_equal(f->err.text, "A root block device already exists!");
}

static void test_vmm_drive_after_start_needs_pci(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_int_equal(set_drive(f, "late", false), -EPERM);
	assert_string_equal(f->err.text, "PCI is not enabled");
}

static void test_vmm_update_drive_explains_itself(void **state)
{
	struct fixture *f = *state;
	struct vmm_action action = {.type = VMM_ACTION_UPDATE_DRIVE,
				    .when = VMM_POST_BOOT};

	assert_int_equal(set_drive(f, "a", false), 0);
	start(f);
	action.drive_update.drive_id = strdup("b");
	assert_int_equal(vmm_act(f->vmm, &action, &f->err), -ENOENT);
	assert_non_null(strstr(f->err.text, "Device not found Please verify"));
	free(action.drive_update.drive_id);
	action.drive_update.drive_id = strdup("a");
	assert_int_equal(vmm_act(f->vmm, &action, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.text, "Running method expected different "
					    "backend."));
	action.drive_update.path_on_host = strdup(f->file);
	assert_int_equal(vmm_act(f->vmm, &action, &f->err), 0);
	drive_update_release(&action.drive_update);
}

static void test_vmm_refused_vsock_leaves_none(void **state)
{
	struct fixture *f = *state;
	char path[sizeof(f->file) + 2];

	snprintf(path, sizeof(path), "%s.v", f->file);
	assert_int_equal(set_vsock(f, path), 0);
	assert_int_equal(set_vsock(f, f->file), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(set_vsock(f, "/nonexistent/v"), -ENOENT);
	start(f);
	assert_int_equal(fake_machine.device_count, 0);
}

static void test_vmm_pause_and_resume_are_idempotent(void **state)
{
	struct fixture *f = *state;

	start(f);
	for (int i = 0; i < 2; i++)
		assert_int_equal(act(f, VMM_ACTION_PAUSE, VMM_POST_BOOT), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(act(f, VMM_ACTION_RESUME, VMM_POST_BOOT), 0);
	assert_int_equal(fake_machine.paused, 1);
	assert_int_equal(fake_machine.resumed, 1);
}

static void test_vmm_failed_pause_leaves_it_running(void **state)
{
	struct fixture *f = *state;

	start(f);
	fake_machine.fail_pause = ETIMEDOUT;
	assert_int_equal(act(f, VMM_ACTION_PAUSE, VMM_POST_BOOT), -ETIMEDOUT);
	assert_int_equal(act(f, VMM_ACTION_RESUME, VMM_POST_BOOT), 0);
	assert_int_equal(fake_machine.resumed, 0);
}

static void test_vmm_first_stop_decides_the_exit_code(void **state)
{
	struct fixture *f = *state;

	start(f);
	fake_machine.events.failed(fake_machine.events.arg, "triple fault");
	fake_machine.events.power_off(fake_machine.events.arg, "reset");
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(vmm_exit_code(f->vmm), EXIT_FAILURE);
}

static void read_view(const struct vmm_view *view, void *arg)
{
	*(struct vmm_view *)arg = *view;
}

static void test_vmm_view_shows_configuration_and_state(void **state)
{
	struct fixture *f = *state;
	struct vmm_view view;
	struct vmm_action action = {.type = VMM_ACTION_VIEW,
				    .when = VMM_ALWAYS,
				    .view = {read_view, &view}};

	assert_int_equal(vmm_act(f->vmm, &action, &f->err), 0);
	assert_string_equal(view.id, "test");
	assert_int_equal(view.state, VMM_NOT_STARTED);
	assert_null(view.boot->kernel_image_path);
	start(f);
	assert_int_equal(vmm_act(f->vmm, &action, &f->err), 0);
	assert_int_equal(view.state, VMM_RUNNING);
	assert_string_equal(view.boot->kernel_image_path, f->file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_vmm_act_in_wrong_state_is_refused),
		CASE(test_vmm_start_without_kernel_is_refused),
		CASE(test_vmm_start_failure_leaves_configuration),
		CASE(test_vmm_start_is_refused_outside_of_its_cgroup),
		CASE(test_vmm_boot_source_missing_file_keeps_the_old),
		CASE(test_vmm_boot_source_survives_missing_kvm),
		CASE(test_vmm_start_root_drive_comes_first),
		CASE(test_vmm_second_root_drive_is_refused),
		CASE(test_vmm_drive_after_start_needs_pci),
		CASE(test_vmm_update_drive_explains_itself),
		CASE(test_vmm_refused_vsock_leaves_none),
		CASE(test_vmm_pause_and_resume_are_idempotent),
		CASE(test_vmm_failed_pause_leaves_it_running),
		CASE(test_vmm_first_stop_decides_the_exit_code),
		CASE(test_vmm_view_shows_configuration_and_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
