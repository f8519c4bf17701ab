/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/log.h"
#include "vmm/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#define REFUSED "Cannot initialize the metrics system due to bad user input: "
#define THREADS 4
#define RECORDS_EACH 5000

/* What clients check for, word by word; `name{}` is an aggregate. */
#define BLOCK_FIELDS                                                           \
	"activate_fails cfg_fails no_avail_buffer event_fails execute_fails "  \
	"invalid_reqs_count flush_count queue_event_count "                    \
	"rate_limiter_event_count update_count update_fails read_bytes "       \
	"write_bytes read_count write_count rate_limiter_throttled_events "    \
	"io_engine_throttled_events remaining_reqs_count read_agg{} "          \
	"write_agg{}"

static const struct {
	const char *name, *fields;
} schema[] = {
	{"api_server", "process_startup_time_us process_startup_time_cpu_us"},
	{"balloon",
	 "activate_fails inflate_count stats_updates_count stats_update_fails "
	 "deflate_count event_fails free_page_report_count "
	 "free_page_report_freed free_page_report_fails free_page_hint_count "
	 "free_page_hint_freed free_page_hint_fails"},
	{"block", BLOCK_FIELDS},
	{"block_a", BLOCK_FIELDS},
	{"deprecated_api", "deprecated_http_api_calls"},
	{"get_api_requests",
	 "instance_info_count machine_cfg_count mmds_count vmm_version_count "
	 "hotplug_memory_count"},
	{"put_api_requests",
	 "actions_count actions_fails boot_source_count boot_source_fails "
	 "drive_count drive_fails logger_count logger_fails machine_cfg_count "
	 "machine_cfg_fails cpu_cfg_count cpu_cfg_fails metrics_count "
	 "metrics_fails network_count network_fails mmds_count mmds_fails "
	 "vsock_count vsock_fails pmem_count pmem_fails serial_count "
	 "serial_fails hotplug_memory_count hotplug_memory_fails"},
	{"patch_api_requests",
	 "drive_count drive_fails network_count network_fails "
	 "machine_cfg_count machine_cfg_fails mmds_count mmds_fails "
	 "hotplug_memory_count hotplug_memory_fails pmem_count pmem_fails"},
	{"i8042", "error_count missed_read_count missed_write_count read_count "
		  "reset_count write_count"},
	{"uart", "error_count flush_count missed_read_count missed_write_count "
		 "read_count write_count rate_limiter_dropped_bytes"},
	{"latencies_us",
	 "full_create_snapshot diff_create_snapshot load_snapshot pause_vm "
	 "resume_vm vmm_full_create_snapshot vmm_diff_create_snapshot "
	 "vmm_load_snapshot vmm_pause_vm vmm_resume_vm"},
	{"logger", "missed_metrics_count metrics_fails missed_log_count "
		   "rate_limited_log_count"},
	{"mmds",
	 "rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth "
	 "rx_invalid_token rx_no_token rx_count tx_bytes tx_count tx_errors "
	 "tx_frames connections_created connections_destroyed"},
	{"net",
	 "activate_fails cfg_fails no_rx_avail_buffer no_tx_avail_buffer "
	 "event_fails rx_queue_event_count rx_event_rate_limiter_count "
	 "rx_rate_limiter_throttled rx_tap_event_count rx_bytes_count "
	 "rx_packets_count rx_fails rx_count tap_read_fails tap_write_fails "
	 "tx_bytes_count tx_malformed_frames tx_fails tx_count "
	 "tx_packets_count tx_queue_event_count tx_rate_limiter_event_count "
	 "tx_rate_limiter_throttled tx_spoofed_mac_count "
	 "tx_remaining_reqs_count tap_write_agg{}"},
	{"seccomp", "num_faults"},
	{"signals", "sigbus sigsegv sigxfsz sigxcpu sigpipe sighup sigill"},
	{"vcpu",
	 "exit_io_in exit_io_out exit_mmio_read exit_mmio_write failures "
	 "kvmclock_ctrl_fails exit_io_in_agg{} exit_io_out_agg{} "
	 "exit_mmio_read_agg{} exit_mmio_write_agg{}"},
	{"vmm", "panic_count"},
	{"vsock",
	 "activate_fails cfg_fails rx_queue_event_fails tx_queue_event_fails "
	 "ev_queue_event_fails muxer_event_fails conn_event_fails "
	 "rx_queue_event_count tx_queue_event_count rx_bytes_count "
	 "tx_bytes_count rx_packets_count tx_packets_count conns_added "
	 "conns_killed conns_removed killq_resync tx_flush_fails "
	 "tx_write_fails rx_read_fails"},
	{"entropy",
	 "activate_fails entropy_event_fails entropy_event_count "
	 "entropy_bytes host_rng_fails entropy_rate_limiter_throttled "
	 "rate_limiter_event_count"},
	{"interrupts", "triggers config_updates"},
	{"pmem", "activate_fails cfg_fails event_fails queue_event_count "
		 "rate_limiter_throttled_events rate_limiter_event_count"},
	{"memory_hotplug",
	 "activate_fails queue_event_fails queue_event_count plug_count "
	 "plug_bytes plug_fails plug_agg{} unplug_count unplug_bytes "
	 "unplug_fails unplug_agg{} unplug_discard_fails state_count "
	 "state_fails state_agg{} unplug_all_count unplug_all_fails "
	 "unplug_all_agg{}"},
};

struct fixture {
	struct metrics metrics;
	struct block_metrics a, b;
	struct metrics_config config;
	struct error err;
	char path[32];
	int reader; /* behind what was read already */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->path, "/tmp/ember-metrics-XXXXXX");
	f->reader = mkstemp(f->path);
	f->config.path = f->path;
	metrics_init(&f->metrics, "id-1");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	metrics_release(&f->metrics);
	free(f->config.properties_json);
	close(f->reader);
	unlink(f->path);
	free(f);
	return 0;
}

static void configure(struct fixture *f)
{
	assert_int_equal(metrics_configure(&f->metrics, &f->config, &f->err),
			 0);
}

static void make_fifo(struct fixture *f)
{
	close(f->reader);
	unlink(f->path);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	f->reader = open(f->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

/* The lines since the last look, which must be one, as an object. */
static json_t *read_line(struct fixture *f)
{
	char *text = malloc(KIB(128));
	ssize_t len = read(f->reader, text, KIB(128));
	json_t *line;

	assert_true(len > 0);
	assert_int_equal(text[len - 1], '\n');
	assert_ptr_equal(memchr(text, '\n', (size_t)len), text + len - 1);
	line = json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(line);
	free(text);
	return line;
}

static json_t *flush(struct fixture *f)
{
	assert_int_equal(metrics_flush(&f->metrics), 0);
	return read_line(f);
}

static json_int_t value(const json_t *line, const char *section,
			const char *field)
{
	const json_t *number =
		json_object_get(json_object_get(line, section), field);

	assert_true(json_is_integer(number));
	return json_integer_value(number);
}

static json_int_t agg_value(const json_t *line, const char *section,
			    const char *agg, const char *field)
{
	return value(json_object_get(line, section), agg, field);
}

static void check_agg(const json_t *agg)
{
	assert_int_equal(json_object_size(agg), 3);
	assert_true(json_is_integer(json_object_get(agg, "min_us")));
	assert_true(json_is_integer(json_object_get(agg, "max_us")));
	assert_true(json_is_integer(json_object_get(agg, "sum_us")));
}

static void check_section(const json_t *section, const char *fields)
{
	char *words = strdup(fields);
	char *rest = words;
	size_t count = 0;
	char *word;

	for (; (word = strsep(&rest, " ")); count++) {
		char *brace = strchr(word, '{');

		if (brace)
			*brace = '\0';
		if (brace)
			check_agg(json_object_get(section, word));
		else if (!json_is_integer(json_object_get(section, word)))
			fail_msg("%s is missing", word);
	}
	assert_int_equal(json_object_size(section), count);
	free(words);
}

static void test_flush_line_has_the_schema(void **state)
{
	struct fixture *f = *state;
	json_t *line;

	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "a", &f->a), 0);
	configure(f);
	line = flush(f);
	for (size_t i = 0; i < ARRAY_SIZE(schema); i++)
		check_section(json_object_get(line, schema[i].name),
			      schema[i].fields);
	assert_int_equal(json_object_size(line), ARRAY_SIZE(schema) + 1);
	assert_true(llabs(json_integer_value(
				  json_object_get(line, "utc_timestamp_ms")) -
			  (long long)time(NULL) * 1000) < 2000);
	json_decref(line);
}

static void test_flush_without_target_writes_nothing(void **state)
{
	struct fixture *f = *state;
	json_t *line;

	metric_inc(&f->metrics.uart.write_count);
	assert_int_equal(metrics_flush(&f->metrics), 0);
	configure(f);
	line = flush(f);
	assert_int_equal(value(line, "uart", "write_count"), 1);
	json_decref(line);
}

static void test_flush_counters_are_differences(void **state)
{
	struct fixture *f = *state;
	static const uint64_t steps[] = {3, 0, 5};

	configure(f);
	metric_set(&f->metrics.latencies_us.pause_vm, 77);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		json_t *line;

		metric_add(&f->metrics.put_api.actions.count, steps[i]);
		line = flush(f);
		assert_int_equal(
			value(line, "put_api_requests", "actions_count"),
			steps[i]);
		assert_int_equal(value(line, "latencies_us", "pause_vm"), 77);
		json_decref(line);
	}
}

static void test_flush_latencies_keep_extremes(void **state)
{
	struct fixture *f = *state;
	struct metric_agg *agg = &f->metrics.vcpu.exit_io_in_agg;
	json_t *line;

	configure(f);
	metric_agg_record(agg, 20);
	metric_agg_record(agg, 10);
	metric_agg_record(agg, 30);
	json_decref(flush(f));
	metric_agg_record(agg, 15);
	line = flush(f);
	assert_int_equal(agg_value(line, "vcpu", "exit_io_in_agg", "min_us"),
			 10);
	assert_int_equal(agg_value(line, "vcpu", "exit_io_in_agg", "max_us"),
			 30);
	assert_int_equal(agg_value(line, "vcpu", "exit_io_in_agg", "sum_us"),
			 15);
	json_decref(line);
}

static void test_flush_block_is_the_sum_of_devices(void **state)
{
	struct fixture *f = *state;
	json_t *line;

	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "a", &f->a), 0);
	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "b", &f->b), 0);
	configure(f);
	metric_add(&f->a.read_bytes, 512);
	metric_add(&f->b.read_bytes, 1024);
	metric_agg_record(&f->a.read_agg, 7);
	metric_agg_record(&f->b.read_agg, 9);
	line = flush(f);
	assert_int_equal(value(line, "block", "read_bytes"), 1536);
	assert_int_equal(value(line, "block_a", "read_bytes"), 512);
	assert_int_equal(value(line, "block_b", "read_bytes"), 1024);
	assert_int_equal(agg_value(line, "block", "read_agg", "sum_us"), 16);
	assert_int_equal(agg_value(line, "block", "read_agg", "min_us"), 0);
	assert_int_equal(agg_value(line, "block", "read_agg", "max_us"), 0);
	assert_int_equal(agg_value(line, "block_b", "read_agg", "min_us"), 9);
	json_decref(line);
	metric_inc(&f->b.read_bytes);
	line = flush(f);
	assert_int_equal(value(line, "block", "read_bytes"), 1);
	assert_int_equal(value(line, "block_a", "read_bytes"), 0);
	json_decref(line);
}

/* Ids may be of any length, and of letters of several bytes. */
static void test_flush_long_ids_are_cut_between_letters(void **state)
{
	static const char *const letters[] = {"a", "\u00e9", "\u4e2d",
					      "\U0001f600"};
	struct fixture *f = *state;
	char id[4 * 100 + 1];

	configure(f);
	for (size_t i = 0; i < ARRAY_SIZE(letters); i++) {
		size_t len = strlen(letters[i]);

		for (size_t skip = 0; skip < 4; skip++) {
			memset(id, 'x', skip);
			for (size_t at = skip; at + len < sizeof(id); at += len)
				memcpy(id + at, letters[i], len + 1);
			assert_int_equal(metrics_add_device(&f->metrics,
							    METRICS_BLOCK, id,
							    &f->a),
					 0);
			json_decref(flush(f));
		}
	}
}

static void test_flush_into_full_fifo_loses_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t flushes = 0;
	json_int_t sum;
	json_t *line;
	char *sink = malloc(MIB(1));
	ssize_t n;

	make_fifo(f);
	configure(f);
	while (atomic_load(&f->metrics.logger.missed_metrics_count.value) < 2) {
		metric_inc(&f->metrics.uart.write_count);
		assert_int_equal(metrics_flush(&f->metrics), 0);
		assert_true(flushes++ < 1000);
	}
	n = read(f->reader, sink, MIB(1));
	assert_true(n > 0 && sink[n - 1] == '\n'); /* only whole lines */
	free(sink);
	line = flush(f);
	sum = value(line, "uart", "write_count");
	assert_int_equal(sum, 2); /* of the two that were missed */
	assert_int_equal(value(line, "logger", "missed_metrics_count"), 2);
	json_decref(line);
}

static void test_flush_into_fifo_too_small_is_missed(void **state)
{
	struct fixture *f = *state;
	char byte;

	make_fifo(f);
	assert_int_equal(fcntl(f->reader, F_SETPIPE_SZ, 4096), 4096);
	configure(f);
	assert_int_equal(metrics_flush(&f->metrics), 0);
	assert_int_equal(read(f->reader, &byte, 1), -1);
	assert_int_equal(
		atomic_load(&f->metrics.logger.missed_metrics_count.value), 1);
}

static void test_flush_write_error_is_counted(void **state)
{
	struct fixture *f = *state;
	char full[] = "/dev/full";

	f->config.path = full;
	configure(f);
	metric_inc(&f->metrics.uart.write_count);
	assert_int_equal(metrics_flush(&f->metrics), -ENOSPC);
	assert_int_equal(atomic_load(&f->metrics.logger.metrics_fails.value),
			 1);
	assert_int_equal(f->metrics.uart.write_count.flushed, 0);
}

static void test_flush_includes_lost_log_lines(void **state)
{
	struct fixture *f = *state;
	char null[] = "/dev/null";
	const struct log_config quiet = {.path = null, .level = LOG_LEVEL_INFO};
	json_t *line;

	assert_int_equal(log_configure(&quiet, &f->err), 0);
	for (int i = 0; i < 15; i++)
		log_guest("again");
	configure(f);
	line = flush(f);
	assert_int_equal(value(line, "logger", "rate_limited_log_count"), 5);
	assert_int_equal(value(line, "logger", "missed_log_count"), 0);
	json_decref(line);
}

static void test_flush_shows_id_and_properties_if_asked(void **state)
{
	struct fixture *f = *state;
	json_t *line;

	f->config.emit_id = true;
	f->config.properties_json = strdup("\"zone\":\"b\",\"n\":\"1\"");
	configure(f);
	assert_null(f->config.properties_json); /* taken */
	line = flush(f);
	assert_string_equal(json_string_value(json_object_get(line, "id")),
			    "id-1");
	assert_string_equal(
		json_string_value(json_object_get(
			json_object_get(line, "properties"), "zone")),
		"b");
	json_decref(line);
}

/* Clients that check the schema must not meet a section they don't know. */
static void test_flush_shows_phases_only_if_asked(void **state)
{
	static const char *const names[] = {
		"create_files",	    "create_state",   "create_state_file",
		"create_dirty_log", "create_scan",    "create_write",
		"create_sync",	    "create_publish", "load_state_file",
		"load_config",	    "load_vm",	      "load_memory",
		"load_working_set", "load_vcpus",     "load_devices",
		"load_identity",    "load_start",
	};
	struct fixture *f = *state;
	struct metric_store *stores = (void *)&f->metrics.snapshot_phases_us;
	json_t *line, *section;

	assert_int_equal(sizeof(f->metrics.snapshot_phases_us) /
				 sizeof(*stores),
			 ARRAY_SIZE(names));
	configure(f);
	line = flush(f);
	assert_null(json_object_get(line, "snapshot_phases_us"));
	json_decref(line);
	f->metrics.emit_snapshot_phases = true;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		metric_set(&stores[i], i + 1);
	line = flush(f);
	section = json_object_get(line, "snapshot_phases_us");
	assert_int_equal(json_object_size(section), ARRAY_SIZE(names));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(value(line, "snapshot_phases_us", names[i]),
				 i + 1);
	json_decref(line);
}

static void fill_agg(struct metric_agg *agg)
{
	metric_agg_record(agg, UINT64_MAX);
	atomic_store(&agg->min_us, UINT64_MAX);
}

static void test_flush_biggest_line_fits(void **state)
{
	struct fixture *f = *state;
	struct metric *counters = (void *)&f->a;
	size_t count =
		offsetof(struct block_metrics, read_agg) / sizeof(*counters);
	struct stat st;
	char id[65];

	for (size_t i = 0; i < count; i++)
		metric_add(&counters[i], UINT64_MAX);
	fill_agg(&f->a.read_agg);
	fill_agg(&f->a.write_agg);
	for (int i = 0; i < METRICS_DEVICES_MAX; i++) {
		snprintf(id, sizeof(id), "%064d", i);
		assert_int_equal(metrics_add_device(&f->metrics, METRICS_BLOCK,
						    id, &f->a),
				 0);
	}
	f->config.emit_snapshot_phases = true;
	f->config.properties_json = malloc(4097);
	snprintf(f->config.properties_json, 4097, "\"%04088d\":\"12\"", 0);
	configure(f);
	assert_int_equal(metrics_flush(&f->metrics), 0);
	/* The other sections have some 250 values of up to 20 digits. */
	assert_int_equal(fstat(f->reader, &st), 0);
	assert_true(st.st_size + 250 * 20 < 192 << 10);
}

static void test_configure_twice_is_refused(void **state)
{
	struct fixture *f = *state;

	configure(f);
	assert_int_equal(metrics_configure(&f->metrics, &f->config, &f->err),
			 -EEXIST);
	assert_string_equal(f->err.text,
			    REFUSED "Reinitialization of metrics not allowed.");
}

static void test_configure_bad_input_can_be_mended(void **state)
{
	struct fixture *f = *state;
	char missing[] = "/nonexistent/metrics";

	f->config.path = missing;
	assert_int_equal(metrics_configure(&f->metrics, &f->config, &f->err),
			 -ENOENT);
	assert_string_equal(f->err.text,
			    REFUSED "Failed to open target file: No such file "
				    "or directory (os error 2)");
	f->config.path = f->path;
	f->config.properties_json = calloc(1, 4098);
	memset(f->config.properties_json, ' ', 4097);
	assert_int_equal(metrics_configure(&f->metrics, &f->config, &f->err),
			 -EINVAL);
	assert_string_equal(f->err.text,
			    REFUSED "properties are longer than 4096 bytes.");
	free(take_ptr(f->config.properties_json));
	configure(f);
}

static void test_configure_existing_file_is_not_emptied(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(ftruncate(f->reader, 100000), 0);
	configure(f);
	assert_int_equal(metrics_flush(&f->metrics), 0);
	assert_int_equal(fstat(f->reader, &st), 0);
	assert_int_equal(st.st_size, 100000);
}

static void test_add_block_again_replaces_and_removes(void **state)
{
	struct fixture *f = *state;
	char id[16];
	json_t *line;

	configure(f);
	metric_inc(&f->a.read_count);
	metric_add(&f->b.read_count, 2);
	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "x", &f->a), 0);
	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "x", &f->b), 0);
	metrics_remove_device(&f->metrics, &f->a); /* not there any more */
	line = flush(f);
	assert_int_equal(value(line, "block_x", "read_count"), 2);
	assert_int_equal(value(line, "block", "read_count"), 2);
	json_decref(line);
	for (int i = 1; i < METRICS_DEVICES_MAX; i++) {
		snprintf(id, sizeof(id), "%d", i);
		assert_int_equal(metrics_add_device(&f->metrics, METRICS_BLOCK,
						    id, &f->a),
				 0);
	}
	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "y", &f->a),
		-ENOSPC);
	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "x", &f->a), 0);
	for (int i = 0; i < METRICS_DEVICES_MAX; i++)
		metrics_remove_device(&f->metrics, &f->a);
	line = flush(f);
	assert_null(json_object_get(line, "block_x"));
	json_decref(line);
}

static void *record(void *arg)
{
	struct block_metrics *block = arg;

	for (uint64_t i = 1; i <= RECORDS_EACH; i++) {
		metric_agg_record(&block->read_agg, i);
		metric_inc(&block->read_count);
	}
	return NULL;
}

/* Adds up what the lines say while counting goes on. */
static void test_flush_while_threads_count_adds_up(void **state)
{
	struct fixture *f = *state;
	json_int_t devices = 0, total = 0;
	pthread_t threads[THREADS];

	assert_int_equal(
		metrics_add_device(&f->metrics, METRICS_BLOCK, "a", &f->a), 0);
	configure(f);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, record, &f->a), 0);
	for (int i = 0; i < 20; i++) {
		json_t *line;

		for (size_t j = 0; i == 19 && j < THREADS; j++)
			pthread_join(threads[j], NULL);
		line = flush(f);
		devices += value(line, "block_a", "read_count");
		total += value(line, "block", "read_count");
		assert_int_equal(devices, total);
		json_decref(line);
	}
	assert_int_equal(total, THREADS * RECORDS_EACH);
	assert_int_equal(atomic_load(&f->a.read_agg.min_us), 1);
	assert_int_equal(atomic_load(&f->a.read_agg.max_us), RECORDS_EACH);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_flush_line_has_the_schema),
		CASE(test_flush_without_target_writes_nothing),
		CASE(test_flush_counters_are_differences),
		CASE(test_flush_latencies_keep_extremes),
		CASE(test_flush_block_is_the_sum_of_devices),
		CASE(test_flush_long_ids_are_cut_between_letters),
		CASE(test_flush_into_full_fifo_loses_nothing),
		CASE(test_flush_into_fifo_too_small_is_missed),
		CASE(test_flush_write_error_is_counted),
		CASE(test_flush_includes_lost_log_lines),
		CASE(test_flush_shows_id_and_properties_if_asked),
		CASE(test_flush_shows_phases_only_if_asked),
		CASE(test_flush_biggest_line_fits),
		CASE(test_configure_twice_is_refused),
		CASE(test_configure_bad_input_can_be_mended),
		CASE(test_configure_existing_file_is_not_emptied),
		CASE(test_add_block_again_replaces_and_removes),
		CASE(test_flush_while_threads_count_adds_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
