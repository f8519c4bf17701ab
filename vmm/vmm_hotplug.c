/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm_private.h"

#include <errno.h>

int vmm_set_hotplug(struct vmm *vmm, const struct hotplug_config *config,
		    struct error *err)
{
	struct mem_device *device;
	int ret = mem_device_create(&device, config, &vmm->metrics, err);

	if (ret)
		return ret;
	if (vmm->hotplug)
		virtio_device_destroy(mem_device_virtio(vmm->hotplug));
	vmm->hotplug = device;
	vmm->hotplug_config = *config;
	return 0;
}

int act_set_hotplug(struct vmm *vmm, struct vmm_action *action,
		    struct error *err)
{
	return vmm_set_hotplug(vmm, &action->hotplug, err);
}

static int check_device(const struct vmm *vmm, struct error *err)
{
	if (vmm->hotplug)
		return 0;
	return error_set(err, ENODEV,
			 "Failed perform action on device: Device not found");
}

int act_resize_hotplug(struct vmm *vmm, struct vmm_action *action,
		       struct error *err)
{
	int ret = check_device(vmm, err);

	if (ret)
		return ret;
	ret = mem_device_resize(vmm->hotplug, action->size_mib, err);
	if (ret)
		error_prefix(err, "Failed to create memory hotplug device: ");
	return ret;
}

int act_get_hotplug(struct vmm *vmm, struct vmm_action *action,
		    struct error *err)
{
	int ret = check_device(vmm, err);

	if (!ret)
		mem_device_status(vmm->hotplug, &action->hotplug_status);
	return ret;
}
