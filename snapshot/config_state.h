/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the client configured, in a state file: one section for the machine, one
 * per drive and interface, and so on. Loading gives the structs that requests
 * of the API give, and the same validators see them before they are used; here
 * it is checked that they are structs at all: enums in range, ids legal,
 * strings where there must be some. Thread: loop.
 */
#ifndef EMBER_CONFIG_STATE_H
#define EMBER_CONFIG_STATE_H

#include "snapshot/state.h"
#include "vmm/config.h"

void config_state_save_machine(struct state_writer *writer,
			       const struct machine_config *config);
void config_state_save_boot(struct state_writer *writer,
			    const struct boot_source_config *config);
void config_state_save_drive(struct state_writer *writer, uint16_t index,
			     const struct drive_config *config);
void config_state_save_net(struct state_writer *writer, uint16_t index,
			   const struct net_config *config);
void config_state_save_vsock(struct state_writer *writer,
			     const struct vsock_config *config);
void config_state_save_mmds(struct state_writer *writer,
			    const struct mmds_config *config);
void config_state_save_pmem(struct state_writer *writer, uint16_t index,
			    const struct pmem_config *config);
void config_state_save_entropy(struct state_writer *writer,
			       const struct entropy_config *config);
void config_state_save_balloon(struct state_writer *writer,
			       const struct balloon_config *config);
void config_state_save_hotplug(struct state_writer *writer,
			       const struct hotplug_config *config);

/*
 * Each fills in a zeroed struct, whose strings the caller releases also after a
 * failure. -EINVAL with a sentence. Where a section may be absent *@ret_found
 * says whether it was there.
 */
int config_state_load_machine(const struct state_file *file,
			      struct machine_config *config,
			      struct error *err) must_check;
int config_state_load_boot(const struct state_file *file,
			   struct boot_source_config *config,
			   struct error *err) must_check;
int config_state_load_drive(const struct state_file *file, uint16_t index,
			    struct drive_config *config, bool *ret_found,
			    struct error *err) must_check;
int config_state_load_net(const struct state_file *file, uint16_t index,
			  struct net_config *config, bool *ret_found,
			  struct error *err) must_check;
/* Is there one of that name, as far as they can be read? */
bool config_state_has_drive(const struct state_file *file, const char *id);
bool config_state_has_pmem(const struct state_file *file, const char *id);
bool config_state_has_net(const struct state_file *file, const char *id);

int config_state_load_vsock(const struct state_file *file,
			    struct vsock_config *config, bool *ret_found,
			    struct error *err) must_check;
int config_state_load_pmem(const struct state_file *file, uint16_t index,
			   struct pmem_config *config, bool *ret_found,
			   struct error *err) must_check;
int config_state_load_entropy(const struct state_file *file,
			      struct entropy_config *config, bool *ret_found,
			      struct error *err) must_check;
int config_state_load_balloon(const struct state_file *file,
			      struct balloon_config *config, bool *ret_found,
			      struct error *err) must_check;
int config_state_load_hotplug(const struct state_file *file,
			      struct hotplug_config *config, bool *ret_found,
			      struct error *err) must_check;
int config_state_load_mmds(const struct state_file *file,
			   struct mmds_config *config, bool *ret_found,
			   struct error *err) must_check;

#endif
