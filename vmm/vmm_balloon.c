/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm_private.h"

#include <errno.h>

int vmm_set_balloon(struct vmm *vmm, const struct balloon_config *config,
		    struct error *err)
{
	struct balloon *device;
	int ret = balloon_create(&device, config, &vmm->metrics, err);

	if (ret)
		return ret;
	if (vmm->balloon)
		virtio_device_destroy(balloon_virtio(vmm->balloon));
	vmm->balloon = device;
	vmm->balloon_config = *config;
	return 0;
}

int act_set_balloon(struct vmm *vmm, struct vmm_action *action,
		    struct error *err)
{
	return vmm_set_balloon(vmm, &action->balloon, err);
}

int act_resize_balloon(struct vmm *vmm, struct vmm_action *action,
		       struct error *err)
{
	(void)vmm;
	(void)action;
	return error_set(err, ENOTSUP, "not yet");
}

int act_set_balloon_interval(struct vmm *vmm, struct vmm_action *action,
			     struct error *err)
{
	(void)vmm;
	(void)action;
	return error_set(err, ENOTSUP, "not yet");
}

int act_get_balloon_stats(struct vmm *vmm, struct vmm_action *action,
			  struct error *err)
{
	(void)vmm;
	(void)action;
	return error_set(err, ENOTSUP, "not yet");
}

int act_start_hinting(struct vmm *vmm, struct vmm_action *action,
		      struct error *err)
{
	(void)vmm;
	(void)action;
	return error_set(err, ENOTSUP, "not yet");
}

int act_stop_hinting(struct vmm *vmm, struct vmm_action *action,
		     struct error *err)
{
	(void)vmm;
	(void)action;
	return error_set(err, ENOTSUP, "not yet");
}

int act_get_hinting(struct vmm *vmm, struct vmm_action *action,
		    struct error *err)
{
	(void)vmm;
	(void)action;
	return error_set(err, ENOTSUP, "not yet");
}
