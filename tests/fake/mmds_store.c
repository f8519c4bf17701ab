/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/mmds_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

json_t *store_json(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	return value;
}

int store_put(struct store *f, const char *text, struct error *err)
{
	json_t *value = store_json(text);
	int ret = mmds_put(f->mmds, value, err);

	json_decref(value);
	return ret;
}

int store_patch(struct store *f, const char *text, struct error *err)
{
	json_t *value = store_json(text);
	int ret = mmds_patch(f->mmds, value, err);

	json_decref(value);
	return ret;
}

int store_configure(struct store *f, enum mmds_version version,
		    bool imds_compat, uint32_t address, const char *id,
		    struct error *err)
{
	struct mmds_config config = {
		.version = version,
		.imds_compat = imds_compat,
		.has_ipv4_address = address != 0,
		.ipv4_address = address,
		.interfaces = id ? calloc(1, sizeof(char *)) : NULL,
		.interface_count = id ? 1 : 0,
	};
	int ret;

	if (id)
		config.interfaces[0] = strdup(id);
	ret = mmds_configure(f->mmds, &config, f->nets, err);
	mmds_config_release(&config);
	return ret;
}

int store_setup(void **state)
{
	struct store *f = calloc(1, sizeof(*f));
	struct net_config config = {.iface_id = strdup("eth0"),
				    .host_dev_name = strdup("tap0")};

	assert_non_null(f);
	metrics_init(&f->metrics, "test");
	assert_int_equal(nets_create(&f->nets, &f->metrics), 0);
	assert_int_equal(nets_set(f->nets, &config, NULL), 0);
	assert_int_equal(mmds_create(&f->mmds, "vm-1", LIMIT, &f->counters), 0);
	assert_int_equal(store_configure(f, MMDS_V2, false, 0, "eth0", NULL),
			 0);
	assert_int_equal(store_put(f, DOCUMENT, NULL), 0);
	*state = f;
	return 0;
}

int store_teardown(void **state)
{
	struct store *f = *state;

	mmds_destroy(f->mmds);
	nets_destroy(f->nets);
	metrics_release(&f->metrics);
	free(f);
	return 0;
}
