/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service without its network, for tests with cmocka.
 */
#ifndef FAKE_MMDS_STORE_H
#define FAKE_MMDS_STORE_H

#include "vmm/mmds.h"
#include "vmm/nets.h"

#define LIMIT 51200
#define DOCUMENT                                                               \
	"{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-12345\",\"tags\":"       \
	"[\"a\",{\"b\":\"c\"}],\"count\":7,\"on\":true,\"none\":null,"         \
	"\"empty\":{}},\"dynamic\":{\"x\":\"1\"}},\"zone\":\"here\"}"

struct store {
	struct metrics metrics;
	struct nets *nets;
	struct mmds *mmds;
	struct mmds_metrics counters;
};

/* With DOCUMENT in it, version 2, for the interface eth0. */
int store_setup(void **state);
int store_teardown(void **state);

/* A new reference to what the JSON text says. */
json_t *store_json(const char *text);

int store_put(struct store *f, const char *text, struct error *err);
int store_patch(struct store *f, const char *text, struct error *err);

/* For the interface @id; 0 is the default address. */
int store_configure(struct store *f, enum mmds_version version,
		    bool imds_compat, uint32_t address, const char *id,
		    struct error *err);

#endif
