/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long each part of taking or loading a snapshot took, in microseconds, for
 * the metrics and as a line for the log. The names are those of the metrics.
 * Thread: loop.
 */
#ifndef EMBER_PHASES_H
#define EMBER_PHASES_H

#include "vmm/metrics.h"

struct phases {
	struct snapshot_phase_metrics *metrics;
	uint64_t last_ns; /* end of the phase before */
	size_t len;
	char text[400]; /* `name 12, name 3` */
};

void phases_begin(struct phases *phases,
		  struct snapshot_phase_metrics *metrics);

/* What has passed since the phase before was @member of the metrics. */
#define PHASE_END(phases, member)                                              \
	phases_end((phases), &(phases)->metrics->member, #member)
void phases_end(struct phases *phases, struct metric_store *store,
		const char *name);

/* The same where somebody else has looked at the clock: the next phase begins
 * now. */
#define PHASE_SET(phases, member, us)                                          \
	phases_set((phases), &(phases)->metrics->member, #member, (us))
void phases_set(struct phases *phases, struct metric_store *store,
		const char *name, uint64_t us);

#endif
