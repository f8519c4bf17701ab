/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/phases.h"

#include <stdio.h>

void phases_begin(struct phases *phases, struct snapshot_phase_metrics *metrics)
{
	*phases = (struct phases){
		.metrics = metrics,
		.last_ns = monotonic_ns(),
	};
}

static void note(struct phases *phases, struct metric_store *store,
		 const char *name, uint64_t us)
{
	size_t room = sizeof(phases->text) - phases->len;
	int n = snprintf(phases->text + phases->len, room, "%s%s %lu",
			 phases->len ? ", " : "", name, (unsigned long)us);

	metric_set(store, us);
	if (n > 0 && (size_t)n < room)
		phases->len += (size_t)n;
	else
		phases->text[phases->len] = '\0';
}

void phases_end(struct phases *phases, struct metric_store *store,
		const char *name)
{
	uint64_t now = monotonic_ns();

	note(phases, store, name, (now - phases->last_ns) / 1000);
	phases->last_ns = now;
}

void phases_set(struct phases *phases, struct metric_store *store,
		const char *name, uint64_t us)
{
	note(phases, store, name, us);
	phases->last_ns = monotonic_ns();
}
