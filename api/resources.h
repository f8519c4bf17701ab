/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of single resources share with each other and with the
 * configuration file: shapes of bodies, and the way back from a struct to JSON.
 */
#ifndef EMBER_RESOURCES_H
#define EMBER_RESOURCES_H

#include "api/router.h"

extern const struct json_shape machine_put_shape; /* struct machine_update */
extern const struct json_shape boot_source_shape; /* boot_source_config */
extern const struct json_shape drive_put_shape;	  /* drive_config */
extern const struct json_shape net_put_shape;	  /* net_config */
extern const struct json_shape pmem_put_shape;	  /* pmem_config */
extern const struct json_shape vsock_shape;	  /* vsock_config */
extern const struct json_shape entropy_shape;	  /* entropy_config */
extern const struct json_shape balloon_shape;	  /* balloon_config */
extern const struct json_shape hotplug_shape;	  /* hotplug_config */
extern const struct json_shape mmds_config_shape; /* mmds_config */
extern const struct json_shape logger_shape;	  /* log_config */
extern const struct json_shape metrics_shape;	  /* metrics_config */

void machine_put_defaults(struct machine_update *update);
void hotplug_defaults(struct hotplug_config *config);
void logger_defaults(struct log_config *config);

/* For tables of fields: a struct rate_limiter_update. */
int limiter_parse(const struct json_text *text, const json_t *value,
		  void *field, struct error *err) must_check;

/* The same for a struct token_bucket_config. */
int bucket_parse(const struct json_text *text, const json_t *value, void *field,
		 struct error *err) must_check;

/* New references; the strings are copied. */
json_t *machine_to_json(const struct machine_config *config);
json_t *boot_source_to_json(const struct boot_source_config *config);
json_t *drive_to_json(const struct drive_config *config);
json_t *net_to_json(const struct net_config *config);
json_t *vsock_to_json(const struct vsock_config *config);
json_t *pmem_to_json(const struct pmem_config *config);
json_t *entropy_to_json(const struct entropy_config *config);
json_t *balloon_to_json(const struct balloon_config *config);
json_t *hotplug_to_json(const struct hotplug_config *config);
json_t *mmds_config_to_json(const struct mmds_config *config);
/* null if it limits nothing. */
json_t *limiter_to_json(const struct rate_limiter_config *config);

/* Answers a GET with what @make builds, on the loop thread, from the microVM's
 * state. */
int api_answer_view(struct api_call *call,
		    json_t *(*make)(const struct vmm_view *view)) must_check;

#endif
