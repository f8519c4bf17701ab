/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/config_state.h"
#include "tests/fake/machine.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct vmm *vmm;
	struct error err;
	char state[32]; /* a state file of a machine without devices */
};

static void write_state(int fd)
{
	struct machine_config machine = machine_config_default;
	const struct boot_source_config boot = {0};
	struct state_writer writer;

	machine.mem_size_mib = 77;
	state_writer_init(&writer);
	config_state_save_machine(&writer, &machine);
	config_state_save_boot(&writer, &boot);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(write(fd, writer.bytes, writer.len), writer.len);
	state_writer_release(&writer);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct vmm_options options = {.id = "test"};
	int fd;

	assert_non_null(f);
	memset(&fake_machine, 0, sizeof(fake_machine));
	strcpy(f->state, "/tmp/ember-vmm-XXXXXX");
	fd = mkstemp(f->state);
	write_state(fd);
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
	unlink(f->state);
	free(f);
	return 0;
}

static char memory[] = "/nowhere/memory";

static int load(struct fixture *f, bool resume)
{
	struct snapshot_load_config config = {
		.snapshot_path = f->state,
		.backend_path = memory,
		.has_backend = true,
		.resume_vm = resume,
	};
	struct vmm_action action = {
		.type = VMM_ACTION_LOAD_SNAPSHOT,
		.when = VMM_PRE_BOOT,
		.snapshot_load.config = &config,
	};

	f->err = (struct error){0};
	return vmm_act(f->vmm, &action, &f->err);
}

static void test_load_makes_the_machine_that_was_saved(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(load(f, true), 0);
	assert_int_equal(fake_machine.restored, 1);
	assert_int_equal(fake_machine.running, 1);
	assert_int_equal(fake_machine.config.mem_size_mib, 77);
	assert_int_equal(load(f, true), -EPERM); /* only once */
	assert_int_equal(vmm_exit_code(f->vmm), EXIT_SUCCESS);
}

static void test_load_without_resume_is_paused(void **state)
{
	struct fixture *f = *state;
	struct vmm_action resume = {.type = VMM_ACTION_RESUME,
				    .when = VMM_POST_BOOT};

	assert_int_equal(load(f, false), 0);
	assert_int_equal(fake_machine.running, 0);
	assert_int_equal(vmm_act(f->vmm, &resume, &f->err), 0);
	assert_int_equal(fake_machine.resumed, 1);
}

static void test_load_that_fails_is_the_end(void **state)
{
	struct fixture *f = *state;

	fake_machine.fail_restore = EIO;
	assert_int_equal(load(f, true), -EIO);
	assert_string_equal(f->err.text, "Failed to restore from snapshot: "
					 "cannot restore");
	assert_int_equal(vmm_exit_code(f->vmm), EXIT_FAILURE);
}

static void test_load_never_runs_outside_of_its_cgroup(void **state)
{
	struct fixture *f = *state;
	const struct vmm_options options = {
		.id = "test",
		.cgroups = {.fds = {open("/dev/full", O_WRONLY)}, .count = 1}};

	vmm_destroy(f->vmm);
	assert_int_equal(vmm_create(&f->vmm, f->loop, &options, &f->err), 0);
	assert_int_equal(load(f, true), -ENOSPC);
	assert_non_null(strstr(f->err.text, "cannot be moved into its cgroup"));
	assert_int_equal(fake_machine.restored, 1);
	assert_int_equal(fake_machine.running, 0);
	assert_int_equal(vmm_exit_code(f->vmm), EXIT_FAILURE);
}

/* Its memory may be the other's by now. */
static void test_load_of_what_is_replaced_meanwhile_is_refused(void **state)
{
	struct fixture *f = *state;
	char other[] = "/tmp/ember-vmm-XXXXXX";
	int fd = mkstemp(other);

	write_state(fd);
	close(fd);
	fake_machine.moved[0] = other;
	fake_machine.moved[1] = f->state;
	assert_int_equal(load(f, true), -ESTALE);
	assert_non_null(strstr(f->err.text, "Another snapshot took the place"));
	assert_int_equal(fake_machine.running, 0);
}

static void test_load_of_what_is_removed_meanwhile_is_whole(void **state)
{
	struct fixture *f = *state;
	char other[48];

	snprintf(other, sizeof(other), "%s.moved", f->state);
	fake_machine.moved[0] = f->state;
	fake_machine.moved[1] = other;
	assert_int_equal(load(f, true), 0);
	unlink(other);
}

static void test_resume_of_a_load_that_fails_is_the_end(void **state)
{
	struct fixture *f = *state;

	fake_machine.fail_run = EAGAIN;
	assert_int_equal(load(f, true), -EAGAIN);
	assert_non_null(strstr(f->err.text, "cannot run"));
	assert_int_equal(vmm_exit_code(f->vmm), EXIT_FAILURE);
}

static void test_load_after_configuration_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct vmm_action action = {
		.type = VMM_ACTION_SET_MACHINE,
		.when = VMM_PRE_BOOT,
		.machine = {.has_vcpu_count = true, .values.vcpu_count = 1},
	};

	assert_int_equal(vmm_act(f->vmm, &action, &f->err), 0);
	assert_int_equal(load(f, true), -EBUSY);
	assert_string_equal(f->err.text,
			    "Loading a microVM snapshot not allowed after "
			    "configuring boot-specific resources.");
	assert_int_equal(vmm_exit_code(f->vmm), EXIT_SUCCESS);
	assert_int_equal(fake_machine.restored, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_load_makes_the_machine_that_was_saved),
		TEST(test_load_without_resume_is_paused),
		TEST(test_load_that_fails_is_the_end),
		TEST(test_load_never_runs_outside_of_its_cgroup),
		TEST(test_load_of_what_is_replaced_meanwhile_is_refused),
		TEST(test_load_of_what_is_removed_meanwhile_is_whole),
		TEST(test_resume_of_a_load_that_fails_is_the_end),
		TEST(test_load_after_configuration_costs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
