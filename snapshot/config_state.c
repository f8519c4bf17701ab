/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/config_state.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAG_MACHINE STATE_TAG('M', 'A', 'C', 'H')
#define TAG_BOOT STATE_TAG('B', 'O', 'O', 'T')
#define TAG_DRIVE STATE_TAG('D', 'R', 'I', 'V')
#define TAG_NET STATE_TAG('N', 'E', 'T', 'I')
#define TAG_VSOCK STATE_TAG('V', 'S', 'O', 'K')
#define TAG_PMEM STATE_TAG('P', 'M', 'E', 'M')
#define TAG_ENTROPY STATE_TAG('E', 'N', 'T', 'R')
#define TAG_BALLOON STATE_TAG('B', 'A', 'L', 'C')
#define TAG_HOTPLUG STATE_TAG('H', 'P', 'L', 'C')
#define TAG_MMDS STATE_TAG('M', 'M', 'D', 'S')

/* The version of all these sections. From 2 on drives say whether they discard,
 * and have a config space that the devices of older files do not fit. */
#define VERSION 2
#define VERSION_DRIVES 2

/* ------------------------------------------------------------------ tables */

static const struct state_field machine_fields[] = {
	STATE_FIELD(struct machine_config, vcpu_count),
	STATE_FIELD(struct machine_config, mem_size_mib),
	STATE_FIELD(struct machine_config, smt),
	STATE_FIELD(struct machine_config, track_dirty_pages),
	STATE_FIELD(struct machine_config, huge_pages),
};

static const struct state_field drive_fields[] = {
	STATE_FIELD(struct drive_config, is_root_device),
	STATE_FIELD(struct drive_config, is_read_only),
	STATE_FIELD(struct drive_config, cache_type),
	STATE_FIELD(struct drive_config, io_engine),
	STATE_FIELD(struct drive_config, has_discard),
	STATE_FIELD(struct drive_config, discard),
};

static const struct state_field net_fields[] = {
	STATE_FIELD(struct net_config, has_guest_mac),
	STATE_ARRAY(struct net_config, guest_mac),
	STATE_FIELD(struct net_config, mtu),
	STATE_FIELD(struct net_config, vhost),
};

#define BUCKET(bucket)                                                         \
	STATE_FIELD(struct rate_limiter_update, values.bucket.size),           \
		STATE_FIELD(struct rate_limiter_update,                        \
			    values.bucket.one_time_burst),                     \
		STATE_FIELD(struct rate_limiter_update,                        \
			    values.bucket.refill_time_ms)

static const struct state_field limiter_fields[] = {
	BUCKET(bandwidth),
	BUCKET(ops),
	STATE_FIELD(struct rate_limiter_update, has_bandwidth),
	STATE_FIELD(struct rate_limiter_update, has_ops),
};

static const struct state_field vsock_fields[] = {
	STATE_FIELD(struct vsock_config, guest_cid),
	STATE_FIELD(struct vsock_config, max_connections),
};

static const struct state_field pmem_fields[] = {
	STATE_FIELD(struct pmem_config, root_device),
	STATE_FIELD(struct pmem_config, read_only),
};

static const struct state_field balloon_fields[] = {
	STATE_FIELD(struct balloon_config, amount_mib),
	STATE_FIELD(struct balloon_config, deflate_on_oom),
	STATE_FIELD(struct balloon_config, stats_polling_interval_s),
	STATE_FIELD(struct balloon_config, free_page_hinting),
	STATE_FIELD(struct balloon_config, free_page_reporting),
};

static const struct state_field hotplug_fields[] = {
	STATE_FIELD(struct hotplug_config, total_size_mib),
	STATE_FIELD(struct hotplug_config, block_size_mib),
	STATE_FIELD(struct hotplug_config, slot_size_mib),
};

static const struct state_field mmds_fields[] = {
	STATE_FIELD(struct mmds_config, version),
	STATE_FIELD(struct mmds_config, imds_compat),
	STATE_FIELD(struct mmds_config, has_ipv4_address),
	STATE_FIELD(struct mmds_config, ipv4_address),
};

#define PUT(writer, object, table)                                             \
	state_put_fields(writer, object, table, ARRAY_SIZE(table))
#define GET(reader, object, table)                                             \
	state_get_fields(reader, object, table, ARRAY_SIZE(table))

/* ------------------------------------------------------------------ saving */

void config_state_save_machine(struct state_writer *writer,
			       const struct machine_config *config)
{
	state_begin(writer, TAG_MACHINE, VERSION, 0);
	PUT(writer, config, machine_fields);
	state_end(writer);
}

void config_state_save_boot(struct state_writer *writer,
			    const struct boot_source_config *config)
{
	state_begin(writer, TAG_BOOT, VERSION, 0);
	state_put_string(writer, config->kernel_image_path);
	state_put_string(writer, config->initrd_path);
	state_put_string(writer, config->boot_args);
	state_end(writer);
}

void config_state_save_drive(struct state_writer *writer, uint16_t index,
			     const struct drive_config *config)
{
	state_begin(writer, TAG_DRIVE, VERSION, index);
	state_put_string(writer, config->drive_id);
	state_put_string(writer, config->path_on_host);
	state_put_string(writer, config->partuuid);
	PUT(writer, config, drive_fields);
	PUT(writer, &config->rate_limiter, limiter_fields);
	state_end(writer);
}

void config_state_save_net(struct state_writer *writer, uint16_t index,
			   const struct net_config *config)
{
	state_begin(writer, TAG_NET, VERSION, index);
	state_put_string(writer, config->iface_id);
	state_put_string(writer, config->host_dev_name);
	PUT(writer, config, net_fields);
	PUT(writer, &config->rx_rate_limiter, limiter_fields);
	PUT(writer, &config->tx_rate_limiter, limiter_fields);
	state_end(writer);
}

void config_state_save_vsock(struct state_writer *writer,
			     const struct vsock_config *config)
{
	state_begin(writer, TAG_VSOCK, VERSION, 0);
	state_put_string(writer, config->uds_path);
	PUT(writer, config, vsock_fields);
	state_end(writer);
}

void config_state_save_pmem(struct state_writer *writer, uint16_t index,
			    const struct pmem_config *config)
{
	state_begin(writer, TAG_PMEM, VERSION, index);
	state_put_string(writer, config->id);
	state_put_string(writer, config->path_on_host);
	PUT(writer, config, pmem_fields);
	PUT(writer, &config->rate_limiter, limiter_fields);
	state_end(writer);
}

void config_state_save_entropy(struct state_writer *writer,
			       const struct entropy_config *config)
{
	state_begin(writer, TAG_ENTROPY, VERSION, 0);
	PUT(writer, &config->rate_limiter, limiter_fields);
	state_end(writer);
}

void config_state_save_balloon(struct state_writer *writer,
			       const struct balloon_config *config)
{
	state_begin(writer, TAG_BALLOON, VERSION, 0);
	PUT(writer, config, balloon_fields);
	state_end(writer);
}

void config_state_save_hotplug(struct state_writer *writer,
			       const struct hotplug_config *config)
{
	state_begin(writer, TAG_HOTPLUG, VERSION, 0);
	PUT(writer, config, hotplug_fields);
	state_end(writer);
}

void config_state_save_mmds(struct state_writer *writer,
			    const struct mmds_config *config)
{
	state_begin(writer, TAG_MMDS, VERSION, 0);
	PUT(writer, config, mmds_fields);
	state_put_u32(writer, (uint32_t)config->interface_count);
	for (size_t i = 0; i < config->interface_count; i++)
		state_put_string(writer, config->interfaces[i]);
	state_end(writer);
}

/* ----------------------------------------------------------------- loading */

static int refuse(struct error *err, const char *what)
{
	return error_set(err, EINVAL, "The state has %s", what);
}

/* As the API has it (api_valid_id): letters, digits and underscores; bytes from
 * 0x80 on belong to letters of other alphabets. */
static bool legal_id(const char *id)
{
	if (!id || !*id)
		return false;
	for (; *id; id++)
		if (!isalnum((unsigned char)*id) && *id != '_' &&
		    (unsigned char)*id < 0x80)
			return false;
	return true;
}

/* A section that may be absent. 1: *@ret_reader has it. */
static int find(const struct state_file *file, uint32_t tag, uint16_t index,
		struct state_reader *ret_reader, bool *ret_found,
		struct error *err)
{
	int ret;

	*ret_found = state_find(file, tag, index, ret_reader);
	if (!*ret_found)
		return 0;
	ret = state_need(file, tag, index, VERSION, ret_reader, err);
	return ret ? ret : 1;
}

int config_state_load_machine(const struct state_file *file,
			      struct machine_config *config, struct error *err)
{
	struct state_reader reader;
	int ret = state_need(file, TAG_MACHINE, 0, VERSION, &reader, err);

	if (ret)
		return ret;
	GET(&reader, config, machine_fields);
	ret = state_reader_end(&reader, err);
	if (!ret && (unsigned)config->huge_pages > HUGE_PAGES_2M)
		ret = refuse(err, "an unknown kind of huge pages");
	return ret;
}

int config_state_load_boot(const struct state_file *file,
			   struct boot_source_config *config, struct error *err)
{
	struct state_reader reader;
	int ret = state_need(file, TAG_BOOT, 0, VERSION, &reader, err);

	if (ret)
		return ret;
	config->kernel_image_path = state_get_string(&reader);
	config->initrd_path = state_get_string(&reader);
	config->boot_args = state_get_string(&reader);
	return state_reader_end(&reader, err);
}

int config_state_load_drive(const struct state_file *file, uint16_t index,
			    struct drive_config *config, bool *ret_found,
			    struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_DRIVE, index, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	if (reader.version < VERSION_DRIVES)
		return refuse(err, "a drive of an older version, which cannot "
				   "be loaded any more");
	config->drive_id = state_get_string(&reader);
	config->path_on_host = state_get_string(&reader);
	config->partuuid = state_get_string(&reader);
	GET(&reader, config, drive_fields);
	GET(&reader, &config->rate_limiter, limiter_fields);
	ret = state_reader_end(&reader, err);
	if (ret)
		return ret;
	if (!legal_id(config->drive_id) || !config->path_on_host)
		return refuse(err, "a drive without id or path");
	if ((unsigned)config->cache_type > CACHE_WRITEBACK ||
	    (unsigned)config->io_engine > IO_ENGINE_ASYNC)
		return refuse(err, "a drive of an unknown kind");
	return 0;
}

int config_state_load_net(const struct state_file *file, uint16_t index,
			  struct net_config *config, bool *ret_found,
			  struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_NET, index, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	config->iface_id = state_get_string(&reader);
	config->host_dev_name = state_get_string(&reader);
	GET(&reader, config, net_fields);
	GET(&reader, &config->rx_rate_limiter, limiter_fields);
	GET(&reader, &config->tx_rate_limiter, limiter_fields);
	ret = state_reader_end(&reader, err);
	if (ret)
		return ret;
	if (!legal_id(config->iface_id) || !config->host_dev_name)
		return refuse(err, "a network interface without id or tap");
	if (config->mtu > UINT16_MAX)
		return refuse(err, "a network interface with an MTU that "
				   "cannot be");
	return 0;
}

bool config_state_has_drive(const struct state_file *file, const char *id)
{
	bool found = true, same = false;

	for (uint16_t i = 0; found && !same; i++) {
		struct drive_config config = {0};

		if (config_state_load_drive(file, i, &config, &found, NULL))
			found = false;
		same = found && strcmp(config.drive_id, id) == 0;
		drive_config_release(&config);
	}
	return same;
}

bool config_state_has_pmem(const struct state_file *file, const char *id)
{
	bool found = true, same = false;

	for (uint16_t i = 0; found && !same; i++) {
		struct pmem_config config = {0};

		if (config_state_load_pmem(file, i, &config, &found, NULL))
			found = false;
		same = found && strcmp(config.id, id) == 0;
		pmem_config_release(&config);
	}
	return same;
}

bool config_state_has_net(const struct state_file *file, const char *id)
{
	bool found = true, same = false;

	for (uint16_t i = 0; found && !same; i++) {
		struct net_config config = {0};

		if (config_state_load_net(file, i, &config, &found, NULL))
			found = false;
		same = found && strcmp(config.iface_id, id) == 0;
		net_config_release(&config);
	}
	return same;
}

int config_state_load_vsock(const struct state_file *file,
			    struct vsock_config *config, bool *ret_found,
			    struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_VSOCK, 0, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	config->uds_path = state_get_string(&reader);
	GET(&reader, config, vsock_fields);
	ret = state_reader_end(&reader, err);
	if (ret)
		return ret;
	if (!config->uds_path ||
	    config->max_connections > VSOCK_CONNECTIONS_MAX)
		return refuse(err, "a socket device without path, or with too "
				   "many connections");
	return 0;
}

int config_state_load_pmem(const struct state_file *file, uint16_t index,
			   struct pmem_config *config, bool *ret_found,
			   struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_PMEM, index, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	config->id = state_get_string(&reader);
	config->path_on_host = state_get_string(&reader);
	GET(&reader, config, pmem_fields);
	GET(&reader, &config->rate_limiter, limiter_fields);
	ret = state_reader_end(&reader, err);
	if (ret)
		return ret;
	if (!legal_id(config->id) || !config->path_on_host)
		return refuse(err, "a pmem device without id or path");
	return 0;
}

int config_state_load_entropy(const struct state_file *file,
			      struct entropy_config *config, bool *ret_found,
			      struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_ENTROPY, 0, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	GET(&reader, &config->rate_limiter, limiter_fields);
	return state_reader_end(&reader, err);
}

int config_state_load_balloon(const struct state_file *file,
			      struct balloon_config *config, bool *ret_found,
			      struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_BALLOON, 0, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	GET(&reader, config, balloon_fields);
	ret = state_reader_end(&reader, err);
	if (!ret && (config->amount_mib > UINT32_MAX ||
		     config->stats_polling_interval_s > UINT16_MAX))
		ret = refuse(err, "a balloon that cannot be");
	return ret;
}

int config_state_load_hotplug(const struct state_file *file,
			      struct hotplug_config *config, bool *ret_found,
			      struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_HOTPLUG, 0, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	GET(&reader, config, hotplug_fields);
	ret = state_reader_end(&reader, err);
	if (!ret && config->total_size_mib > UINT32_MAX)
		ret = refuse(err, "hotpluggable memory that cannot be");
	return ret ? ret : hotplug_config_check(config, err);
}

static int load_interfaces(struct state_reader *reader,
			   struct mmds_config *config)
{
	size_t count = state_get_u32(reader);

	if (count > CONFIG_NETS_MAX * CONFIG_NETS_MAX)
		return -EINVAL;
	config->interfaces = calloc(count + 1, sizeof(char *));
	if (!config->interfaces)
		return -ENOMEM;
	config->interface_count = count;
	for (size_t i = 0; i < count; i++) {
		config->interfaces[i] = state_get_string(reader);
		if (!config->interfaces[i])
			return -EINVAL;
	}
	return 0;
}

int config_state_load_mmds(const struct state_file *file,
			   struct mmds_config *config, bool *ret_found,
			   struct error *err)
{
	struct state_reader reader;
	int ret = find(file, TAG_MMDS, 0, &reader, ret_found, err);

	if (ret <= 0)
		return ret;
	GET(&reader, config, mmds_fields);
	if (load_interfaces(&reader, config) ||
	    (unsigned)config->version > MMDS_V2)
		return refuse(err, "a metadata service that cannot be");
	return state_reader_end(&reader, err);
}
