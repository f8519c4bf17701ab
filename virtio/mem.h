/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory device, virtio-mem (virtio 1.2, section 5.15): memory that the guest
 * gets and gives back while it runs, block by block, as the host asks for it.
 *
 * Life: mem_device_create -> per machine: [mem_device_load] -> gmem is made
 * with mem_device_pluggable in it -> mem_device_place -> the device is attached
 * and works as any other. Nothing is plugged at first; what is plugged stays so
 * when the driver resets the device. Sizes are in bytes where they are not said
 * to be in MiB.
 *
 * Threads: loop, but where virtio/device.h says otherwise.
 */
#ifndef EMBER_MEM_H
#define EMBER_MEM_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct kvm;
struct mem_device;
struct state_file;
struct state_writer;

/*
 * Where the region begins is a multiple of that, or of its block size if that
 * is larger (5.15.4): Linux puts memory to use in units of up to 2 GiB, the
 * more it has the larger, and whatever of a unit lies before the region is
 * lost.
 */
#define MEM_DEVICE_ALIGN GIB(2)

/* -EINVAL with the sentence of hotplug_config_check. */
int mem_device_create(struct mem_device **ret_device,
		      const struct hotplug_config *config,
		      struct metrics *metrics, struct error *err) must_check;

struct virtio_device *mem_device_virtio(struct mem_device *device);

/* Bytes of the region, and what its address is to be aligned to. */
uint64_t mem_device_size(const struct mem_device *device);
uint64_t mem_device_align(const struct mem_device *device);

/* What gmem_create has to know of it; borrows from the device. */
struct gmem_pluggable mem_device_pluggable(const struct mem_device *device);

/* The region is in @mem now, and slots of it are @kvm's. NULL: not any more;
 * the device is not attached then. */
void mem_device_place(struct mem_device *device, struct kvm *kvm,
		      struct gmem *mem);

/*
 * Section 'HPLG': what is plugged, and how much shall be. It is apart from the
 * device's own because it is needed before the machine has devices: the bits of
 * @file are borrowed until mem_device_place. -EINVAL with a sentence.
 */
void mem_device_save(struct mem_device *device, struct state_writer *writer);
int mem_device_load(struct mem_device *device, const struct state_file *file,
		    struct error *err) must_check;

/* Asks the driver to have @size_mib plugged, and does not wait for it. Takes
 * the lock. -EINVAL, -ENODEV with a sentence. */
int mem_device_resize(struct mem_device *device, uint64_t size_mib,
		      struct error *err) must_check;

/* Takes the lock. */
void mem_device_status(struct mem_device *device,
		       struct hotplug_status *ret_status);

#endif
