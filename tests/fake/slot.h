/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place on a bus for one virtio device, to save it there and to load it into
 * another; and what that needs: copies of guest memory, damaged files.
 */
#ifndef FAKE_SLOT_H
#define FAKE_SLOT_H

#include "snapshot/state.h"
#include "tests/fake/kvm.h"
#include "tests/fake/ring.h"
#include "virtio/mmio.h"

#define SLOT_BASE UINT64_C(0xc0001000)
#define SLOT_GSI 5

struct slot {
	struct kvm kvm;
	struct bus bus;
	struct loop *loop;
	struct virtio_mmio *mmio;
	struct virtio_device *dev;
};

/* Borrows @loop and @mem. Interrupts of slots made before are not seen. */
void slot_create(struct slot *slot, struct virtio_device *dev,
		 struct loop *loop, struct gmem *mem);
/* Destroys the device too. */
void slot_destroy(struct slot *slot);

/* As a driver would; queue n is @rings[n]. */
void slot_activate(struct slot *slot, struct ring *const *rings,
		   uint64_t features);
void slot_kick(struct slot *slot, uint16_t q);

/* Interrupts since the last call. */
uint64_t slot_edges(struct slot *slot);

/* As the machine does: pauses, saves, and leaves it paused. */
void slot_save(struct slot *slot, struct state_file *ret_file);
/* Loads; once that went well, goes on. */
int slot_load(struct slot *slot, const struct state_file *file,
	      struct error *err) must_check;
/* Goes on after slot_save. */
void slot_resume(struct slot *slot);

struct gmem *memory_copy(const struct gmem *mem);

/* The file with byte @off changed to @value and signed again. False: it is
 * refused as a whole. */
bool file_damage(const struct state_file *file, size_t off, uint8_t value,
		 struct state_file *ret_file);

/* Puts the CRC of @len bytes right. */
void file_sign(uint8_t *bytes, size_t len);

#endif
