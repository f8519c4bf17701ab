/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/device.h"
#include "vmm/pmems.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

struct fixture {
	struct metrics metrics;
	struct pmems *pmems;
	struct error err;
	char path[32];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	assert_non_null(f);
	strcpy(f->path, "/tmp/ember-pmems-XXXXXX");
	fd = mkstemp(f->path);
	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	metrics_init(&f->metrics, "test");
	assert_int_equal(pmems_create(&f->pmems, &f->metrics), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pmems_destroy(f->pmems);
	metrics_release(&f->metrics);
	unlink(f->path);
	free(f);
	return 0;
}

static int set(struct fixture *f, const char *id, const char *path, bool root,
	       bool drive_root)
{
	struct pmem_config config = {.id = strdup(id),
				     .path_on_host = strdup(path),
				     .root_device = root};
	int ret;

	f->err = (struct error){0};
	ret = pmems_set(f->pmems, &config, drive_root, &f->err);
	pmem_config_release(&config);
	return ret;
}

static void test_set_keeps_the_order_and_replaces(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "a", "/none/a", false, true), 0);
	assert_int_equal(set(f, "b", "/none/b", true, false), 0);
	assert_int_equal(set(f, "a", "/none/c", false, false), 0);
	assert_int_equal(pmems_count(f->pmems), 2);
	assert_string_equal(pmems_config(f->pmems, 0)->path_on_host, "/none/c");
	assert_string_equal(pmems_config(f->pmems, 1)->id, "b");
	assert_int_equal(f->metrics.device_count, 2);
	assert_int_equal(pmems_device(f->pmems, 0)->ops->id, 27);
}

static void test_set_allows_one_root(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "a", "x", true, true), -EEXIST);
	assert_string_equal(f->err.text,
			    "Attempt to add pmem as a root device while the "
			    "root device defined as a block device");
	assert_int_equal(set(f, "a", "x", true, false), 0);
	assert_true(pmems_have_root(f->pmems));
	assert_int_equal(set(f, "a", "y", true, false), 0);
	assert_int_equal(set(f, "b", "x", true, false), -EEXIST);
	assert_string_equal(f->err.text, "A root pmem device already exist");
	assert_int_equal(pmems_count(f->pmems), 1);
	assert_int_equal(set(f, "b", "x", false, false), 0);
	assert_int_equal(set(f, "b", "z", true, false), -EEXIST);
	assert_string_equal(pmems_config(f->pmems, 1)->path_on_host, "x");
	assert_int_equal(set(f, "a", "x", false, false), 0);
	assert_false(pmems_have_root(f->pmems));
	assert_int_equal(set(f, "b", "z", true, false), 0);
}

static void test_set_refuses_more_than_there_may_be(void **state)
{
	struct fixture *f = *state;
	char id[] = "aa";

	for (int i = 0; i < CONFIG_PMEMS_MAX; i++) {
		id[0] = (char)('a' + i / 16);
		id[1] = (char)('a' + i % 16);
		assert_int_equal(set(f, id, "x", false, false), 0);
	}
	assert_int_equal(set(f, "zz", "x", false, false), -ENOSPC);
	assert_string_equal(f->err.text,
			    "More than 32 pmem devices cannot be configured");
	assert_int_equal(set(f, id, "y", false, false), 0);
}

static void test_set_wants_room_for_metrics(void **state)
{
	struct metric counters[METRICS_DEVICES_MAX];
	struct fixture *f = *state;
	char id[] = "aa";

	for (int i = 0; i < METRICS_DEVICES_MAX; i++) {
		id[0] = (char)('a' + i / 16);
		id[1] = (char)('a' + i % 16);
		assert_int_equal(metrics_add_device(&f->metrics, METRICS_BLOCK,
						    id, &counters[i]),
				 0);
	}
	assert_int_equal(set(f, "a", "x", false, false), -ENOSPC);
	assert_int_equal(pmems_count(f->pmems), 0);
	assert_string_equal(f->err.text, "Too many devices have metrics");
}

static void test_update_of_nobody_is_refused_if_it_asks_for_much(void **state)
{
	struct fixture *f = *state;
	static char id[] = "a";
	struct pmem_update update = {.id = id};

	assert_int_equal(pmems_update(f->pmems, &update, &f->err), 0);
	update.has_rate_limiter = true;
	assert_int_equal(pmems_update(f->pmems, &update, &f->err), -ENOENT);
	assert_string_equal(f->err.text, "Failed perform action on device: "
					 "Device not found");
	assert_int_equal(set(f, "a", "x", false, false), 0);
	update.rate_limiter = (struct rate_limiter_update){
		.has_ops = true,
		.values.ops = {.size = 3, .refill_time_ms = 4},
	};
	assert_int_equal(pmems_update(f->pmems, &update, &f->err), 0);
	assert_int_equal(
		pmems_config(f->pmems, 0)->rate_limiter.values.ops.size, 3);
}

static void test_open_gives_a_window_for_each(void **state)
{
	struct machine_window windows[CONFIG_PMEMS_MAX];
	struct fixture *f = *state;
	le64 config[2];

	assert_int_equal(set(f, "a", f->path, false, false), 0);
	assert_int_equal(set(f, "b", f->path, false, false), 0);
	for (int i = 0; i < 2; i++) { /* a start that failed, another */
		assert_int_equal(pmems_open(f->pmems, windows, &f->err), 0);
		assert_int_equal(windows[1].len, MIB(2));
		assert_string_equal(windows[1].name, "b");
		assert_false(windows[1].read_only);
		assert_ptr_not_equal(windows[0].hva, windows[1].hva);
		windows[1].placed(windows[1].arg, 0x1234);
		virtio_device_read_config(pmems_device(f->pmems, 1), 0,
					  (uint8_t *)config, sizeof(config));
		assert_int_equal(le64_get(config[0]), 0x1234);
		assert_int_equal(le64_get(config[1]), MIB(2));
		pmems_close(f->pmems);
	}
}

static void test_open_closes_all_if_one_is_not_there(void **state)
{
	struct machine_window windows[CONFIG_PMEMS_MAX];
	struct fixture *f = *state;

	assert_int_equal(set(f, "a", f->path, false, false), 0);
	assert_int_equal(set(f, "b", "/none", false, false), 0);
	assert_int_equal(pmems_open(f->pmems, windows, &f->err), -ENOENT);
	assert_string_equal(f->err.text,
			    "Pmem device b: Error manipulating the backing "
			    "file: /none: No such file or directory (os error "
			    "2)");
	assert_int_equal(
		msync((void *)(uintptr_t)windows[0].hva, MIB(2), MS_ASYNC), -1);
}

static void test_root_is_on_the_command_line(void **state)
{
	struct fixture *f = *state;
	struct cmdline cmdline;

	assert_int_equal(cmdline_init(&cmdline, "quiet", &f->err), 0);
	assert_int_equal(set(f, "a", "x", false, false), 0);
	assert_int_equal(pmems_append_root(f->pmems, &cmdline, &f->err), 0);
	assert_string_equal(cmdline.text, "quiet");
	assert_int_equal(set(f, "b", "x", true, false), 0);
	assert_int_equal(pmems_append_root(f->pmems, &cmdline, &f->err), 0);
	assert_string_equal(cmdline.text, "quiet root=/dev/pmem1 rw");
}

static int quiet(void **state)
{
	const struct log_config config = {.level = LOG_LEVEL_OFF};

	(void)state;
	return log_configure(&config, NULL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_set_keeps_the_order_and_replaces),
		CASE(test_set_allows_one_root),
		CASE(test_set_refuses_more_than_there_may_be),
		CASE(test_set_wants_room_for_metrics),
		CASE(test_update_of_nobody_is_refused_if_it_asks_for_much),
		CASE(test_open_gives_a_window_for_each),
		CASE(test_open_closes_all_if_one_is_not_there),
		CASE(test_root_is_on_the_command_line),
	};
#undef CASE

	return cmocka_run_group_tests(tests, quiet, NULL);
}
