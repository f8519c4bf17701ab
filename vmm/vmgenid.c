/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmgenid.h"

#include "snapshot/state.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"
#include "vmm/memmap_x86.h"
#include "vmm/system_data.h"

#include <errno.h>
#include <sys/random.h>

static const struct system_data vmgenid_data = {
	.name = "generation id",
	.tag = STATE_TAG('G', 'E', 'N', 'I'),
	.len = VMGENID_LEN,
	.align = VMGENID_ALIGN,
};

/* The host's pool is seeded within its first second; a loop that waited for it
 * would be deaf for as long. */
static int draw_id(uint8_t id[VMGENID_LEN], struct error *err)
{
	ssize_t n = getrandom(id, VMGENID_LEN, GRND_NONBLOCK);

	if (n == VMGENID_LEN)
		return 0;
	return error_set_os(err, n < 0 ? errno : EAGAIN,
			    "Cannot draw a generation id:");
}

static int write_new_id(const struct vmgenid *vmgenid, struct error *err)
{
	uint8_t id[VMGENID_LEN];
	int ret = draw_id(id, err);

	if (ret)
		return ret;
	ret = gmem_write(vmgenid->mem, vmgenid->gpa, id, sizeof(id));
	if (ret)
		return error_set_os(err, -ret,
				    "Cannot write the generation id:");
	return 0;
}

int vmgenid_create(struct vmgenid *vmgenid, struct gmem *mem,
		   const struct kvm *kvm, struct error *err)
{
	*vmgenid = (struct vmgenid){
		.mem = mem,
		.kvm = kvm,
		.gpa = MEMMAP_VMGENID,
	};
	return write_new_id(vmgenid, err);
}

void vmgenid_save(const struct vmgenid *vmgenid, struct state_writer *writer)
{
	system_data_save(&vmgenid_data, vmgenid->gpa, writer);
}

int vmgenid_load(struct vmgenid *vmgenid, struct gmem *mem,
		 const struct kvm *kvm, const struct state_file *file,
		 struct error *err)
{
	uint64_t gpa;
	int ret = system_data_load(&vmgenid_data, mem, file, &gpa, err);

	if (!ret)
		*vmgenid = (struct vmgenid){.mem = mem, .kvm = kvm, .gpa = gpa};
	return ret;
}

int vmgenid_renew(const struct vmgenid *vmgenid, struct error *err)
{
	int ret = write_new_id(vmgenid, err);

	if (!ret)
		irq_pulse(vmgenid->kvm, IRQ_GSI_VMGENID);
	return ret;
}
