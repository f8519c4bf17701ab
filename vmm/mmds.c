/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds.h"

#include "virtio/net.h"
#include "vmm/json_text.h"
#include "vmm/mmds_sort.h"
#include "vmm/mmds_stack.h"
#include "vmm/mmds_token.h"
#include "vmm/nets.h"

#include <errno.h>
#include <string.h>

#define ADDRESS_DEFAULT UINT32_C(0xa9fea9fe) /* 169.254.169.254 */

/* 169.254.1.0 - 169.254.254.255: link-local without what RFC 3927 reserves. */
#define ADDRESS_FIRST UINT32_C(0xa9fe0100)
#define ADDRESS_LAST UINT32_C(0xa9fefeff)

struct mmds {
	json_t *document; /* NULL: never set */
	size_t limit;
	struct mmds_tokens tokens;
	struct mmds_config config;
	bool configured;
	struct mmds_stack *stack;
	struct mmds_metrics *metrics;
};

int mmds_create(struct mmds **ret_mmds, const char *id, size_t limit,
		struct mmds_metrics *metrics)
{
	struct mmds *mmds = calloc(1, sizeof(*mmds));

	if (!mmds)
		return -ENOMEM;
	mmds->limit = limit;
	mmds->metrics = metrics;
	mmds_tokens_init(&mmds->tokens, id);
	*ret_mmds = mmds;
	return 0;
}

void mmds_destroy(struct mmds *mmds)
{
	if (!mmds)
		return;
	mmds_stack_destroy(mmds->stack);
	json_decref(mmds->document);
	mmds_config_release(&mmds->config);
	free(mmds);
}

/* ------------------------------------------------------------ the document */

/* Replaces the document by @value, whose reference it takes, if that is not too
 * large. */
static int set_document(struct mmds *mmds, json_t *value, struct error *err)
{
	AUTO_FREE char *text = json_text(value);
	json_t *sorted = text ? mmds_sort(value) : NULL;

	json_decref(value);
	if (!sorted)
		return error_set_os(err, ENOMEM, "Cannot keep the metadata:");
	if (strlen(text) > mmds->limit) {
		json_decref(sorted);
		return error_set_complete(
			err, EFBIG,
			"MMDS limit exceeded error: The MMDS patch request "
			"doesn't fit.");
	}
	json_decref(mmds->document);
	mmds->document = sorted;
	return 0;
}

int mmds_put(struct mmds *mmds, json_t *value, struct error *err)
{
	return set_document(mmds, json_incref(value), err);
}

/* RFC 7396, section 2. A new reference; @target is not changed. */
static json_t *merge(json_t *target, json_t *patch)
{
	json_t *result;
	const char *key;
	json_t *value;

	if (!json_is_object(patch))
		return json_incref(patch);
	result = json_is_object(target) ? json_copy(target) : json_object();
	json_object_foreach(patch, key, value)
	{
		if (json_is_null(value))
			json_object_del(result, key);
		else
			json_object_set_new(
				result, key,
				merge(json_object_get(result, key), value));
	}
	return result;
}

int mmds_patch(struct mmds *mmds, json_t *value, struct error *err)
{
	if (!mmds->document)
		return error_set(err, EINVAL,
				 "The MMDS data store is not initialized.");
	return set_document(mmds, merge(mmds->document, value), err);
}

json_t *mmds_get(const struct mmds *mmds)
{
	return mmds->document ? json_incref(mmds->document) : json_object();
}

json_t *mmds_document(const struct mmds *mmds)
{
	return mmds->document;
}

struct mmds_metrics *mmds_metrics(struct mmds *mmds)
{
	return mmds->metrics;
}

struct mmds_tokens *mmds_tokens(struct mmds *mmds)
{
	return &mmds->tokens;
}

/* ----------------------------------------------------------- configuration */

const struct mmds_config *mmds_config(const struct mmds *mmds)
{
	return mmds->configured ? &mmds->config : NULL;
}

static int check(const struct mmds_config *config, const struct nets *nets,
		 struct error *err)
{
	if (config->interface_count == 0)
		return error_set(err, EINVAL,
				 "The list of network interface IDs that allow "
				 "forwarding MMDS requests is empty.");
	if (config->ipv4_address < ADDRESS_FIRST ||
	    config->ipv4_address > ADDRESS_LAST)
		return error_set(err, EINVAL,
				 "The MMDS IPv4 address is not link local.");
	for (size_t i = 0; i < config->interface_count; i++)
		if (!nets_find(nets, config->interfaces[i]))
			return error_set(err, ENOENT,
					 "The list of network interface IDs "
					 "provided contains at least one ID "
					 "that does not correspond to any "
					 "existing network interface.");
	return 0;
}

/* Frames of an interface with vhost don't pass through here. */
static int check_frames_seen(const struct mmds_config *config,
			     const struct nets *nets, struct error *err)
{
	for (size_t i = 0; i < config->interface_count; i++) {
		const struct net *net = nets_find(nets, config->interfaces[i]);

		if (net && net_has_vhost(net))
			return error_set(err, EINVAL,
					 "The interface %s has vhost, which "
					 "the metadata service cannot be "
					 "combined with.",
					 config->interfaces[i]);
	}
	return 0;
}

int mmds_configure(struct mmds *mmds, struct mmds_config *config,
		   const struct nets *nets, struct error *err)
{
	int ret;

	if (!config->has_ipv4_address)
		config->ipv4_address = ADDRESS_DEFAULT;
	ret = check(config, nets, err);
	if (!ret)
		ret = check_frames_seen(config, nets, err);
	if (ret)
		return ret;
	mmds_config_release(&mmds->config);
	mmds->config = *config;
	mmds->configured = true;
	*config = (struct mmds_config){0};
	return 0;
}

static bool is_listed(const struct mmds_config *config, const char *iface_id)
{
	for (size_t i = 0; i < config->interface_count; i++)
		if (strcmp(config->interfaces[i], iface_id) == 0)
			return true;
	return false;
}

/* Goes by the interfaces, not by the list: that may name one twice, or one that
 * has been lost since. */
static int add_interfaces(struct mmds *mmds, const struct nets *nets)
{
	int ret = 0;

	for (size_t i = 0; i < nets_count(nets) && !ret; i++) {
		const char *id = nets_config(nets, i)->iface_id;

		if (is_listed(&mmds->config, id))
			ret = mmds_stack_add(mmds->stack, nets_find(nets, id));
	}
	return ret;
}

int mmds_start(struct mmds *mmds, struct loop *loop, const struct nets *nets,
	       struct error *err)
{
	int ret;

	if (!mmds->configured)
		return 0;
	ret = check_frames_seen(&mmds->config, nets, err);
	if (ret)
		return ret;
	ret = mmds_stack_create(&mmds->stack, mmds, loop,
				mmds->config.ipv4_address);
	if (!ret)
		ret = add_interfaces(mmds, nets);
	if (ret)
		return error_set_os(err, -ret,
				    "Cannot start the metadata service:");
	return 0;
}

void mmds_stop(struct mmds *mmds)
{
	mmds_stack_destroy(take_ptr(mmds->stack));
}
