/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#include <errno.h>
#include <string.h>

const struct machine_config machine_config_default = {
	.vcpu_count = 1,
	.mem_size_mib = 128,
};

/* What the machine would be after @update. */
static struct machine_config updated(const struct machine_config *config,
				     const struct machine_update *update)
{
	struct machine_config next = *config;

	if (update->has_vcpu_count)
		next.vcpu_count = update->values.vcpu_count;
	if (update->has_mem_size_mib)
		next.mem_size_mib = update->values.mem_size_mib;
	if (update->has_smt)
		next.smt = update->values.smt;
	if (update->has_track_dirty_pages)
		next.track_dirty_pages = update->values.track_dirty_pages;
	if (update->has_huge_pages)
		next.huge_pages = update->values.huge_pages;
	if (update->has_cpu_template)
		next.cpu_template = update->values.cpu_template;
	return next;
}

static bool vcpu_count_valid(const struct machine_config *config)
{
	if (config->vcpu_count == 0 || config->vcpu_count > CONFIG_VCPUS_MAX)
		return false;
	return !config->smt || config->vcpu_count == 1 ||
	       config->vcpu_count % 2 == 0;
}

static bool mem_size_valid(const struct machine_config *config)
{
	if (config->mem_size_mib == 0)
		return false;
	return config->huge_pages == HUGE_PAGES_NONE ||
	       config->mem_size_mib % 2 == 0;
}

int machine_config_update(struct machine_config *config,
			  const struct machine_update *update,
			  struct error *err)
{
	struct machine_config next = updated(config, update);

	if (!vcpu_count_valid(&next))
		return error_set(err, EINVAL,
				 "The number of vCPUs must be greater than 0, "
				 "less than 32 and must be 1 or an even number "
				 "if SMT is enabled.");
	if (!mem_size_valid(&next))
		return error_set(err, EINVAL,
				 "The memory size (MiB) is either 0, or not a "
				 "multiple of the configured page size.");
	*config = next;
	return 0;
}

static int check_hotplug_block(uint64_t block, struct error *err)
{
	if (block < HOTPLUG_BLOCK_DEFAULT_MIB)
		return error_set(err, EINVAL,
				 "Block size must not be lower than 2 MiB");
	if (block & (block - 1))
		return error_set(err, EINVAL,
				 "Block size must be a power of 2");
	return 0;
}

int hotplug_config_check(const struct hotplug_config *config, struct error *err)
{
	const unsigned long block = config->block_size_mib;
	const unsigned long slot = config->slot_size_mib;
	int ret = check_hotplug_block(block, err);

	if (ret)
		return ret;
	if (slot < HOTPLUG_SLOT_DEFAULT_MIB)
		return error_set(err, EINVAL,
				 "Slot size must not be lower than 128 MiB");
	if (slot % block)
		return error_set(err, EINVAL,
				 "Slot size must be a multiple of block size "
				 "(%lu MiB)",
				 block);
	if (config->total_size_mib < slot)
		return error_set(err, EINVAL,
				 "Total size must not be lower than slot size "
				 "(%lu MiB)",
				 slot);
	if (config->total_size_mib % slot)
		return error_set(err, EINVAL,
				 "Total size must be a multiple of slot size "
				 "(%lu MiB)",
				 slot);
	return 0;
}

void boot_source_config_release(struct boot_source_config *config)
{
	free(config->kernel_image_path);
	free(config->initrd_path);
	free(config->boot_args);
}

bool drive_config_discards(const struct drive_config *config)
{
	return !config->is_read_only &&
	       (!config->has_discard || config->discard);
}

void drive_config_release(struct drive_config *config)
{
	free(config->drive_id);
	free(config->path_on_host);
	free(config->partuuid);
	free(config->socket);
}

void drive_update_release(struct drive_update *update)
{
	free(update->drive_id);
	free(update->path_on_host);
}

void pmem_config_release(struct pmem_config *config)
{
	free(config->id);
	free(config->path_on_host);
}

void pmem_update_release(struct pmem_update *update)
{
	free(update->id);
}

void serial_config_release(struct serial_config *config)
{
	free(config->out_path);
}

void net_config_release(struct net_config *config)
{
	free(config->iface_id);
	free(config->host_dev_name);
}

void net_update_release(struct net_update *update)
{
	free(update->iface_id);
}

void vsock_config_release(struct vsock_config *config)
{
	free(config->uds_path);
	free(config->vsock_id);
}

void mmds_config_release(struct mmds_config *config)
{
	for (size_t i = 0; i < config->interface_count; i++)
		free(config->interfaces[i]);
	free(config->interfaces);
}

void snapshot_create_config_release(struct snapshot_create_config *config)
{
	free(config->snapshot_path);
	free(config->mem_file_path);
}

void snapshot_overrides_release(struct snapshot_overrides *overrides)
{
	for (size_t i = 0; i < overrides->count; i++) {
		free(overrides->list[i].id);
		free(overrides->list[i].target);
	}
	free(overrides->list);
}

void snapshot_load_config_release(struct snapshot_load_config *config)
{
	free(config->snapshot_path);
	free(config->backend_path);
	free(config->mem_file_path);
	snapshot_overrides_release(&config->nets);
	snapshot_overrides_release(&config->drives);
	snapshot_overrides_release(&config->pmems);
	free(config->vsock_uds_path);
	free(config->working_set_path);
	free(config->record_path);
}

const char *snapshot_override_for(const struct snapshot_overrides *overrides,
				  const char *id)
{
	for (size_t i = overrides->count; i-- > 0;)
		if (strcmp(overrides->list[i].id, id) == 0)
			return overrides->list[i].target;
	return NULL;
}

bool token_bucket_config_limits(const struct token_bucket_config *config)
{
	return config->size && config->refill_time_ms;
}

bool rate_limiter_config_limits(const struct rate_limiter_config *config)
{
	return token_bucket_config_limits(&config->bandwidth) ||
	       token_bucket_config_limits(&config->ops);
}

void rate_limiter_config_update(struct rate_limiter_config *config,
				const struct rate_limiter_update *update)
{
	if (update->has_bandwidth)
		config->bandwidth = update->values.bandwidth;
	if (update->has_ops)
		config->ops = update->values.ops;
}

void log_config_release(struct log_config *config)
{
	free(config->path);
	free(config->module);
}

void metrics_config_release(struct metrics_config *config)
{
	free(config->path);
	free(config->properties_json);
}
