/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory balloon device (virtio 1.2, section 5.5): the guest gives pages back
 * to the host, and says how it fares.
 *
 *   inflate   pages that the guest does without until it deflates, to come near
 *             the target
 *   reports   pages that are free; they are the guest's again when the device
 *             has dealt with them (5.5.6.7)
 *   hints     the same, but only while the host asks for them (5.5.6.5)
 *   statistics
 *
 * What is given back reads as zeros and costs no memory until the guest writes
 * there. A guest whose driver lies hurts nobody but itself; and nobody can make
 * it give anything back.
 *
 * Thread: loop, for all functions here; they take the device's lock. Errors are
 * sentences that begin with `Balloon: `.
 */
#ifndef EMBER_BALLOON_H
#define EMBER_BALLOON_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct balloon;

/* The target must be checked by the caller. -ENOMEM with a sentence. */
int balloon_create(struct balloon **ret_device,
		   const struct balloon_config *config, struct metrics *metrics,
		   struct error *err) must_check;

struct virtio_device *balloon_virtio(struct balloon *device);

/* Another target, which the driver is told; @memory_mib is the most there can
 * be. -ENODEV: no driver is there yet; -EINVAL: more than that. */
int balloon_resize(struct balloon *balloon, uint64_t mib, uint64_t memory_mib,
		   struct error *err) must_check;

/* Seconds between two reports, the next of which is asked for at once. -EINVAL:
 * there are no statistics, or this would be the end of them. */
int balloon_set_interval(struct balloon *balloon, uint64_t seconds,
			 struct error *err) must_check;

/* What the driver said last. -EINVAL: there are no statistics. */
int balloon_get_stats(struct balloon *balloon, struct balloon_stats *ret_stats,
		      struct error *err) must_check;

/* Asks for hints; @acknowledge: lets the guest have its pages back as soon as
 * it has no more to hint at, and not only when hinting is stopped. -EINVAL:
 * hinting is not enabled; -ENODEV: no driver is there yet. */
int balloon_start_hinting(struct balloon *balloon, bool acknowledge,
			  struct error *err) must_check;
int balloon_stop_hinting(struct balloon *balloon, struct error *err) must_check;
int balloon_get_hinting(struct balloon *balloon,
			struct hinting_status *ret_status,
			struct error *err) must_check;

#endif
