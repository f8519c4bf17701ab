/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/machine.h"

#include <errno.h>
#include <stdio.h>

struct machine {
	char unused;
};

struct fake_machine fake_machine;

int machine_create(struct machine **ret_machine, struct error *err)
{
	if (fake_machine.fail_create)
		return error_set(err, fake_machine.fail_create, "no KVM");
	*ret_machine = calloc(1, sizeof(**ret_machine));
	fake_machine.created++;
	return *ret_machine ? 0 : -ENOMEM;
}

int machine_build(struct machine *machine,
		  const struct machine_request *request, struct error *err)
{
	(void)machine;
	if (fake_machine.fail_build)
		return error_set(err, fake_machine.fail_build, "cannot build");
	snprintf(fake_machine.cmdline, sizeof(fake_machine.cmdline), "%s",
		 request->cmdline->text);
	fake_machine.device_count = request->device_count;
	fake_machine.config = *request->config;
	fake_machine.events = request->events;
	fake_machine.built++;
	return 0;
}

int machine_restore(struct machine *machine,
		    const struct machine_request *request,
		    const struct machine_snapshot *snapshot, struct error *err)
{
	(void)machine;
	(void)snapshot;
	if (fake_machine.fail_restore)
		return error_set(err, fake_machine.fail_restore,
				 "cannot restore");
	if (fake_machine.moved[0] &&
	    rename(fake_machine.moved[0], fake_machine.moved[1]))
		return error_set_os(err, errno, "cannot rename:");
	fake_machine.config = *request->config;
	fake_machine.restored++;
	return 0;
}

int machine_save(struct machine *machine, struct state_writer *writer,
		 struct error *err)
{
	(void)machine;
	(void)writer;
	return error_set(err, ENOTSUP, "nothing to save");
}

int machine_open_memory_file(struct machine *machine,
			     const struct memory_file_request *request,
			     struct memory_file **ret_file, struct error *err)
{
	(void)machine;
	(void)request;
	(void)ret_file;
	return error_set(err, ENOTSUP, "no memory");
}

int machine_fill_memory_file(struct machine *machine, struct memory_file *file,
			     struct phases *phases, struct error *err)
{
	(void)machine;
	(void)file;
	(void)phases;
	return error_set(err, ENOTSUP, "no memory");
}

void machine_end_snapshot(struct machine *machine, bool done)
{
	(void)machine;
	(void)done;
}

int machine_run(struct machine *machine, bool run, struct error *err)
{
	(void)machine;
	if (fake_machine.fail_run)
		return error_set(err, fake_machine.fail_run, "cannot run");
	fake_machine.running += run;
	return 0;
}

int machine_pause(struct machine *machine, struct error *err)
{
	(void)machine;
	if (fake_machine.fail_pause)
		return error_set(err, fake_machine.fail_pause, "no answer");
	fake_machine.paused++;
	return 0;
}

void machine_resume(struct machine *machine)
{
	(void)machine;
	fake_machine.resumed++;
}

struct gmem *machine_memory(const struct machine *machine)
{
	(void)machine;
	return NULL;
}

struct recorder *machine_recorder(const struct machine *machine)
{
	(void)machine;
	return NULL;
}

void machine_stop(struct machine *machine)
{
	(void)machine;
}

int machine_ctrl_alt_del(struct machine *machine)
{
	(void)machine;
	fake_machine.ctrl_alt_del++;
	return 0;
}

void machine_destroy(struct machine *machine)
{
	if (machine)
		fake_machine.destroyed++;
	free(machine);
}
