/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm_private.h"

int vmm_set_entropy(struct vmm *vmm, const struct entropy_config *config,
		    struct error *err)
{
	struct entropy *device;
	int ret = entropy_create(&device, config, &vmm->metrics, err);

	if (ret)
		return ret;
	if (vmm->entropy)
		virtio_device_destroy(entropy_virtio(vmm->entropy));
	vmm->entropy = device;
	vmm->entropy_config = *config;
	return 0;
}

int act_set_entropy(struct vmm *vmm, struct vmm_action *action,
		    struct error *err)
{
	return vmm_set_entropy(vmm, &action->entropy, err);
}
