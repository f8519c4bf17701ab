/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/vmm.h"

#include <errno.h>

struct fake_vmm fake_vmm;

struct vmm {
	struct metrics metrics;
};

static struct vmm the_vmm;

struct vmm *fake_vmm_get(void)
{
	return &the_vmm;
}

struct metrics *vmm_metrics(struct vmm *vmm)
{
	return &vmm->metrics;
}

int vmm_submit(struct vmm *vmm, struct vmm_action *action, struct error *err)
{
	const struct drive_config *drives[1] = {&fake_vmm.drive};
	static const struct boot_source_config no_boot;
	const struct vmm_view view = {
		.id = "fake",
		.machine = &machine_config_default,
		.boot = &no_boot,
		.drives = drives,
		.drive_count = fake_vmm.drive.drive_id ? 1 : 0,
	};

	(void)vmm;
	fake_vmm.submitted++;
	fake_vmm.last = *action;
	if (fake_vmm.fail && fake_vmm.complete)
		return error_set_complete(err, fake_vmm.fail, "no");
	if (fake_vmm.fail)
		return error_set(err, fake_vmm.fail, "no");
	if (action->type == VMM_ACTION_VIEW)
		action->view.fn(&view, action->view.arg);
	if (action->type == VMM_ACTION_LEND_MEMORY)
		action->lent = fake_vmm.lent;
	return 0;
}

bool vmm_is_stopping(const struct vmm *vmm)
{
	(void)vmm;
	return fake_vmm.stopping;
}

void vmm_stop(struct vmm *vmm, int exit_code, const char *reason)
{
	(void)vmm;
	(void)exit_code;
	(void)reason;
	fake_vmm.stopping = true;
}

int vmm_act(struct vmm *vmm, struct vmm_action *action, struct error *err)
{
	return vmm_submit(vmm, action, err);
}
