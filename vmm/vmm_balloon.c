/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm_private.h"

#include <errno.h>

int vmm_set_balloon(struct vmm *vmm, const struct balloon_config *config,
		    struct error *err)
{
	struct balloon *device;
	int ret;

	if (config->amount_mib > vmm->machine_config.mem_size_mib)
		return error_set(err, EINVAL,
				 "Amount of pages requested is too large.");
	ret = balloon_create(&device, config, &vmm->metrics, err);
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

static int check_balloon(const struct vmm *vmm, struct error *err)
{
	if (!vmm->balloon)
		return error_set(err, ENODEV,
				 "Failed perform action on device: Device not "
				 "found");
	return 0;
}

int act_resize_balloon(struct vmm *vmm, struct vmm_action *action,
		       struct error *err)
{
	int ret = check_balloon(vmm, err);

	if (!ret)
		ret = balloon_resize(vmm->balloon, action->size_mib,
				     vmm->machine_config.mem_size_mib, err);
	if (!ret)
		vmm->balloon_config.amount_mib = action->size_mib;
	return ret;
}

int act_set_balloon_interval(struct vmm *vmm, struct vmm_action *action,
			     struct error *err)
{
	int ret = check_balloon(vmm, err);

	if (!ret)
		ret = balloon_set_interval(vmm->balloon, action->interval_s,
					   err);
	if (!ret)
		vmm->balloon_config.stats_polling_interval_s =
			action->interval_s;
	return ret;
}

int act_get_balloon_stats(struct vmm *vmm, struct vmm_action *action,
			  struct error *err)
{
	int ret = check_balloon(vmm, err);

	return ret ? ret
		   : balloon_get_stats(vmm->balloon, &action->balloon_stats,
				       err);
}

int act_start_hinting(struct vmm *vmm, struct vmm_action *action,
		      struct error *err)
{
	int ret = check_balloon(vmm, err);

	return ret ? ret
		   : balloon_start_hinting(vmm->balloon, action->acknowledge,
					   err);
}

int act_stop_hinting(struct vmm *vmm, struct vmm_action *action,
		     struct error *err)
{
	int ret = check_balloon(vmm, err);

	(void)action;
	return ret ? ret : balloon_stop_hinting(vmm->balloon, err);
}

int act_get_hinting(struct vmm *vmm, struct vmm_action *action,
		    struct error *err)
{
	int ret = check_balloon(vmm, err);

	return ret ? ret
		   : balloon_get_hinting(vmm->balloon, &action->hinting, err);
}
