/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/config_state.h"

#include "snapshot/describe.h"
#include "snapshot/pair.h"
#include "tests/fake/slot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static char id[] = "some_\xc3\xaf\x64", path[] = "/some/path",
	    words[] = "a=b c";

static void save_all(struct state_writer *writer)
{
	static char *interfaces[] = {id, id};
	const struct machine_config machine = {
		.vcpu_count = 2, .mem_size_mib = 256, .smt = true};
	const struct boot_source_config boot = {.kernel_image_path = path,
						.boot_args = words};
	const struct drive_config drive = {
		.drive_id = id,
		.has_discard = true,
		.path_on_host = path,
		.partuuid = words,
		.is_read_only = true,
		.rate_limiter.has_ops = true,
		.rate_limiter.values.ops = {10, 20, 30},
	};
	const struct net_config net = {.iface_id = id,
				       .host_dev_name = id,
				       .has_guest_mac = true,
				       .guest_mac = {2, 3, 4, 5, 6, 7},
				       .mtu = 1500};
	const struct vsock_config vsock = {.guest_cid = 3, .uds_path = path};
	const struct pmem_config pmem = {
		.id = id,
		.path_on_host = path,
		.root_device = true,
		.rate_limiter.has_bandwidth = true,
		.rate_limiter.values.bandwidth = {11, 21, 31},
	};
	const struct hotplug_config hotplug = {1024, 4, 256};
	const struct balloon_config balloon = {.amount_mib = 7,
					       .deflate_on_oom = true,
					       .stats_polling_interval_s = 9,
					       .free_page_reporting = true};
	const struct mmds_config mmds = {.interfaces = interfaces,
					 .interface_count = 2,
					 .version = MMDS_V2,
					 .has_ipv4_address = true};
	const struct snapshot_meta meta = {
		.version = words, .id = id, .parent = path};
	const struct snapshot_pair pair = {.identity = 5,
					   .name = ".ember-01234567-0"};

	config_state_save_machine(writer, &machine);
	config_state_save_boot(writer, &boot);
	config_state_save_drive(writer, 0, &drive);
	config_state_save_net(writer, 0, &net);
	config_state_save_vsock(writer, &vsock);
	config_state_save_pmem(writer, 0, &pmem);
	config_state_save_hotplug(writer, &hotplug);
	config_state_save_balloon(writer, &balloon);
	config_state_save_mmds(writer, &mmds);
	snapshot_meta_save(writer, &meta);
	pair_save(writer, &pair);
}

static void make(struct state_file *file)
{
	struct state_writer writer;

	state_writer_init(&writer);
	save_all(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_file_parse(file, writer.bytes, writer.len, NULL),
			 0);
}

/* ------------------------------------------------------------------ loading */

typedef int load_fn(const struct state_file *file, struct error *err);

static int load_machine(const struct state_file *file, struct error *err)
{
	struct machine_config config = {0};

	return config_state_load_machine(file, &config, err);
}

static int load_boot(const struct state_file *file, struct error *err)
{
	struct boot_source_config config = {0};
	int ret = config_state_load_boot(file, &config, err);

	boot_source_config_release(&config);
	return ret;
}

static int load_drive(const struct state_file *file, struct error *err)
{
	struct drive_config config = {0};
	bool found;
	int ret = config_state_load_drive(file, 0, &config, &found, err);

	drive_config_release(&config);
	return ret;
}

static int load_net(const struct state_file *file, struct error *err)
{
	struct net_config config = {0};
	bool found;
	int ret = config_state_load_net(file, 0, &config, &found, err);

	net_config_release(&config);
	return ret;
}

static int load_vsock(const struct state_file *file, struct error *err)
{
	struct vsock_config config = {0};
	bool found;
	int ret = config_state_load_vsock(file, &config, &found, err);

	vsock_config_release(&config);
	return ret;
}

static int load_pmem(const struct state_file *file, struct error *err)
{
	struct pmem_config config = {0};
	bool found;
	int ret = config_state_load_pmem(file, 0, &config, &found, err);

	pmem_config_release(&config);
	return ret;
}

static int load_hotplug(const struct state_file *file, struct error *err)
{
	struct hotplug_config config = {0};
	bool found;
	int ret = config_state_load_hotplug(file, &config, &found, err);

	/* What is loaded could have been configured. */
	if (!ret && found)
		assert_int_equal(hotplug_config_check(&config, NULL), 0);
	return ret;
}

static int load_balloon(const struct state_file *file, struct error *err)
{
	struct balloon_config config = {0};
	bool found;

	return config_state_load_balloon(file, &config, &found, err);
}

static int load_mmds(const struct state_file *file, struct error *err)
{
	struct mmds_config config = {0};
	bool found;
	int ret = config_state_load_mmds(file, &config, &found, err);

	mmds_config_release(&config);
	return ret;
}

static int load_meta(const struct state_file *file, struct error *err)
{
	struct snapshot_meta meta = {0};
	int ret = snapshot_meta_load(file, &meta, err);

	snapshot_meta_release(&meta);
	return ret;
}

static int load_pair(const struct state_file *file, struct error *err)
{
	struct snapshot_pair pair;

	return pair_load(file, &pair, err);
}

static const struct {
	uint32_t tag;
	load_fn *load;
} sections[] = {
	{STATE_TAG('M', 'A', 'C', 'H'), load_machine},
	{STATE_TAG('B', 'O', 'O', 'T'), load_boot},
	{STATE_TAG('D', 'R', 'I', 'V'), load_drive},
	{STATE_TAG('N', 'E', 'T', 'I'), load_net},
	{STATE_TAG('V', 'S', 'O', 'K'), load_vsock},
	{STATE_TAG('P', 'M', 'E', 'M'), load_pmem},
	{STATE_TAG('H', 'P', 'L', 'C'), load_hotplug},
	{STATE_TAG('B', 'A', 'L', 'C'), load_balloon},
	{STATE_TAG('M', 'M', 'D', 'S'), load_mmds},
	{STATE_TAG('M', 'E', 'T', 'A'), load_meta},
	{STATE_TAG('P', 'A', 'I', 'R'), load_pair},
};

/* What is refused has a sentence. How many refuse. */
static size_t load_all(const struct state_file *file)
{
	size_t refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		struct error err = {0};

		if (!sections[i].load(file, &err))
			continue;
		assert_true(err.text[0]);
		refused++;
	}
	return refused;
}

static void test_what_was_saved_is_loaded(void **state)
{
	struct drive_config drive = {0};
	struct net_config net = {0};
	struct pmem_config pmem = {0};
	struct mmds_config mmds = {0};
	struct hotplug_config hotplug = {0};
	struct balloon_config balloon = {0};
	struct state_file file;
	bool found;

	(void)state;
	make(&file);
	assert_int_equal(load_all(&file), 0);
	assert_int_equal(
		config_state_load_drive(&file, 0, &drive, &found, NULL), 0);
	assert_true(found && drive.is_read_only);
	assert_true(drive.has_discard && !drive.discard);
	assert_string_equal(drive.path_on_host, path);
	assert_string_equal(drive.partuuid, words);
	assert_int_equal(drive.rate_limiter.values.ops.refill_time_ms, 30);
	assert_int_equal(config_state_load_net(&file, 0, &net, &found, NULL),
			 0);
	assert_int_equal(net.guest_mac[5], 7);
	assert_int_equal(net.mtu, 1500);
	assert_int_equal(
		config_state_load_hotplug(&file, &hotplug, &found, NULL), 0);
	assert_true(found && hotplug.total_size_mib == 1024 &&
		    hotplug.block_size_mib == 4 &&
		    hotplug.slot_size_mib == 256);
	assert_int_equal(
		config_state_load_balloon(&file, &balloon, &found, NULL), 0);
	assert_true(found && balloon.deflate_on_oom &&
		    !balloon.free_page_hinting && balloon.free_page_reporting);
	assert_int_equal(balloon.amount_mib, 7);
	assert_int_equal(balloon.stats_polling_interval_s, 9);
	assert_int_equal(config_state_load_mmds(&file, &mmds, &found, NULL), 0);
	assert_int_equal(mmds.interface_count, 2);
	assert_int_equal(mmds.version, MMDS_V2);
	assert_int_equal(config_state_load_pmem(&file, 0, &pmem, &found, NULL),
			 0);
	assert_true(found && pmem.root_device && !pmem.read_only);
	assert_string_equal(pmem.id, id);
	assert_string_equal(pmem.path_on_host, path);
	assert_int_equal(pmem.rate_limiter.values.bandwidth.size, 11);
	assert_true(config_state_has_pmem(&file, id));
	assert_false(config_state_has_pmem(&file, path));
	assert_true(config_state_has_drive(&file, id));
	assert_true(config_state_has_net(&file, id));
	assert_false(config_state_has_drive(&file, path));
	assert_false(config_state_has_net(&file, "some_i"));
	drive_config_release(&drive);
	net_config_release(&net);
	pmem_config_release(&pmem);
	mmds_config_release(&mmds);
	state_file_release(&file);
}

static void test_drive_of_an_older_version_is_refused(void **state)
{
	struct state_writer writer;
	struct state_file file;
	struct error err = {0};

	(void)state;
	state_writer_init(&writer);
	state_begin(&writer, STATE_TAG('D', 'R', 'I', 'V'), 1, 0);
	state_put_string(&writer, id);
	state_end(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(
		state_file_parse(&file, writer.bytes, writer.len, NULL), 0);
	assert_int_equal(load_drive(&file, &err), -EINVAL);
	assert_string_equal(err.text,
			    "The state has a drive of an older version, which "
			    "cannot be loaded any more");
	state_file_release(&file);
}

static void test_any_byte_may_be_another(void **state)
{
	static const uint8_t flips[] = {0xff, 0x80, 0x01};
	struct state_file file;
	size_t refused = 0;

	(void)state;
	make(&file);
	for (size_t i = 0; i < file.len; i++)
		for (size_t k = 0; k < ARRAY_SIZE(flips); k++) {
			struct state_file other;

			if (!file_damage(&file, i, file.bytes[i] ^ flips[k],
					 &other))
				continue;
			refused += load_all(&other);
			state_file_release(&other);
		}
	assert_true(refused > 100);
	state_file_release(&file);
}

/* A file with the first @len bytes of a section. */
static void make_cut(const struct state_reader *reader, size_t len,
		     struct state_file *ret_file)
{
	struct state_writer writer;

	state_writer_init(&writer);
	state_begin(&writer, reader->tag, 1, 0);
	state_put(&writer, reader->at, len);
	state_end(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(
		state_file_parse(ret_file, writer.bytes, writer.len, NULL), 0);
}

static void test_section_cut_anywhere_is_refused(void **state)
{
	struct state_file file;

	(void)state;
	make(&file);
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		struct state_reader reader;

		assert_true(state_find(&file, sections[i].tag, 0, &reader));
		for (size_t len = 0; len < reader.left; len++) {
			struct error err = {0};
			struct state_file cut;

			make_cut(&reader, len, &cut);
			assert_int_equal(sections[i].load(&cut, &err), -EINVAL);
			assert_true(err.text[0]);
			state_file_release(&cut);
		}
	}
	state_file_release(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_saved_is_loaded),
		cmocka_unit_test(test_drive_of_an_older_version_is_refused),
		cmocka_unit_test(test_any_byte_may_be_another),
		cmocka_unit_test(test_section_cut_anywhere_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
