/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a line of metrics consists of: sections with fields, as data. Private to
 * metrics.c, which makes the line, and metrics_schema.c, which has the tables.
 */
#ifndef EMBER_METRICS_SCHEMA_H
#define EMBER_METRICS_SCHEMA_H

#include "vmm/metrics.h"

enum kind {
	COUNT,	/* struct metric */
	STORE,	/* struct metric_store */
	AGG,	/* struct metric_agg */
	ABSENT, /* no storage: a counter of what is not there */
	NO_AGG, /* no storage: latencies of what is not there */
};

#define FIELD_NAME_SIZE 32

/* Without pointers: what has to be relocated costs every start a page of
 * private memory for each 4 KiB of it. */
struct field {
	char name[FIELD_NAME_SIZE];
	enum kind kind : 8;
	uint16_t offset; /* in the section's struct */
};

struct section {
	const char *name;
	size_t offset; /* in struct metrics */
	const struct field *fields;
	size_t count;
};

/* All sections but those of devices, in the order of the line. */
extern const struct section metrics_sections[];
extern const size_t metrics_section_count;

/* Only there when it is asked for: clients check that there is nothing that
 * they don't know. */
extern const struct section metrics_phase_section;

/* By enum metrics_device_kind: sections that exist once for each device
 * (`block_<id>`) and once as the sum over them (`block`). */
extern const struct section metrics_device_sections[METRICS_DEVICE_KINDS];

#endif
