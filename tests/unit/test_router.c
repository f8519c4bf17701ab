/* SPDX-License-Identifier: Apache-2.0 */
#include "api/router.h"
#include "tests/fake/vmm.h"
#include "vmm/gmem.h"
#include "vmm/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DESERIALIZING                                                          \
	"{\"fault_message\":\"An error occurred when deserializing the json "  \
	"body of a request: "

static int setup(void **state)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)state;
	memset(&fake_vmm, 0, sizeof(fake_vmm));
	return log_configure(&quiet, NULL);
}

static struct api_response ask(const char *method, const char *path,
			       const char *body)
{
	const struct api_request request = {method, path, body, strlen(body)};
	struct api_response response;

	api_route(fake_vmm_get(), &request, &response);
	return response;
}

static void test_route_answers_as_the_table_says(void **state)
{
	static const struct {
		const char *method, *path, *body;
		unsigned status;
		const char *answer; /* how it begins; NULL: no body */
	} cases[] = {
		{"GET", "/", "", 200, "{\"id\":\"fake\",\"state\":\"Not "},
		{"GET", "/version/x", "", 200, "{\"firecracker_version\":"},
		{"GET", "http://localhost/version", "", 200, "{"},
		{"GET", "/machine-config", "", 200,
		 "{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,\"track_"
		 "dirty_pages\":false,\"huge_pages\":\"None\"}"},
		{"GET", "/vm/config", "", 200, "{\"balloon\":null,\"drives\""},
		{"GET", "/nothing", "", 400,
		 "{\"fault_message\":\"Invalid request method and/or path: GET "
		 "nothing.\"}"},
		{"PUT", "/vm/config", "{}", 400,
		 "{\"fault_message\":\"Invalid"},
		{"GET", "/version", "x", 400,
		 "{\"fault_message\":\"GET request cannot have a body.\"}"},
		{"PUT", "/drives/a", "", 400,
		 "{\"fault_message\":\"Empty PUT request.\"}"},
		{"PATCH", "/vm", "", 400,
		 "{\"fault_message\":\"Empty PATCH request.\"}"},
		{"DELETE", "/drives/a", "x", 400,
		 "{\"fault_message\":\"Empty Delete request.\"}"},
		{"DELETE", "/drives/a", "", 400,
		 "{\"fault_message\":\"PCI is not enabled\"}"},
		{"PUT", "/machine-config",
		 "{\"vcpu_count\":2,\"mem_size_mib\":256}", 204, NULL},
		{"PUT", "/machine-config", "{\"mem_size_mib\": 128}", 400,
		 DESERIALIZING
		 "missing field `vcpu_count` at line 1 column 21.\"}"},
		{"PUT", "/machine-config", "{\"vcpu_count\": 2}", 400,
		 DESERIALIZING
		 "missing field `mem_size_mib` at line 1 column 17.\"}"},
		{"PUT", "/boot-source", "{\"kernel\":\"k\"}", 400,
		 DESERIALIZING "unknown field `kernel`, expected one of"},
		{"PUT", "/boot-source", "[1", 400, DESERIALIZING},
		{"PUT", "/boot-source", "{\"kernel_image_path\":1}", 400,
		 DESERIALIZING "invalid type: integer `1`, expected a string"},
		{"PATCH", "/vm", "{\"state\":\"Halted\"}", 400,
		 DESERIALIZING "unknown variant `Halted`, expected one of"},
		{"PATCH", "/machine-config", "{}", 400,
		 "{\"fault_message\":\"Empty PATCH request.\"}"},
		{"PUT", "/drives", "{}", 400,
		 "{\"fault_message\":\"The ID cannot be empty.\"}"},
		{"PUT", "/drives/a-b", "{}", 400,
		 "{\"fault_message\":\"API Resource IDs can only contain"},
		{"PUT", "/drives/a",
		 "{\"drive_id\":\"b\",\"is_root_device\":false}", 400,
		 "{\"fault_message\":\"The id from the path does not match"},
		{"PUT", "/metrics", "{\"metrics_path\":\"m\",\"extra\":1}", 204,
		 NULL},
		{"PUT", "/metrics", "{\"metrics_path\":\"m\",\"emit_id\":null}",
		 400, DESERIALIZING "invalid type: null, expected a boolean"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct api_response response =
			ask(cases[i].method, cases[i].path, cases[i].body);

		assert_int_equal(response.status, cases[i].status);
		assert_int_equal(!response.body, !cases[i].answer);
		if (response.body && cases[i].answer)
			assert_memory_equal(response.body, cases[i].answer,
					    strlen(cases[i].answer));
		free(response.body);
	}
}

static void test_route_hands_over_what_was_asked(void **state)
{
	struct api_response response =
		ask("PUT", "/machine-config",
		    "{\"vcpu_count\":4,\"mem_size_mib\":18446744073709551615,"
		    "\"huge_pages\":\"2M\"}");
	const struct machine_update *update = &fake_vmm.last.machine;

	(void)state;
	assert_int_equal(response.status, 204);
	assert_int_equal(fake_vmm.last.type, VMM_ACTION_SET_MACHINE);
	assert_int_equal(fake_vmm.last.when, VMM_PRE_BOOT);
	assert_int_equal(update->values.vcpu_count, 4);
	assert_int_equal(update->values.mem_size_mib, INT64_MAX);
	assert_int_equal(update->values.huge_pages, HUGE_PAGES_2M);
	assert_true(update->has_smt); /* back to its default */
	assert_false(update->has_cpu_template);
}

static void test_actions_are_legal_in_their_own_states(void **state)
{
	(void)state;
	ask("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	assert_int_equal(fake_vmm.last.type, VMM_ACTION_START);
	assert_int_equal(fake_vmm.last.when, VMM_PRE_BOOT);
	ask("PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}");
	assert_int_equal(fake_vmm.last.type, VMM_ACTION_FLUSH_METRICS);
	assert_int_equal(fake_vmm.last.when, VMM_POST_BOOT);
}

static void test_errors_of_the_vmm_get_the_route_s_prefix(void **state)
{
	struct api_response response;

	(void)state;
	fake_vmm.fail = ENOENT;
	response = ask("PUT", "/boot-source", "{\"kernel_image_path\":\"k\"}");
	assert_string_equal(response.body,
			    "{\"fault_message\":\"Boot source error: no\"}");
	free(response.body);
	fake_vmm.fail = EPERM;
	fake_vmm.complete = true;
	response = ask("PATCH", "/vm", "{\"state\":\"Paused\"}");
	assert_string_equal(response.body, "{\"fault_message\":\"no\"}");
	free(response.body);
}

static void test_errnos_of_the_host_get_it_too(void **state)
{
	static const int codes[] = {EPERM, EFBIG};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct api_response response;

		fake_vmm.fail = codes[i];
		response = ask("PUT", "/snapshot/create",
			       "{\"snapshot_path\":\"s\"}");
		assert_int_equal(response.status, 400);
		assert_string_equal(response.body,
				    "{\"fault_message\":\"Create snapshot "
				    "error: no\"}");
		free(response.body);
	}
}

static void test_deprecated_fields_are_marked(void **state)
{
	struct api_response response;

	(void)state;
	response =
		ask("PATCH", "/machine-config", "{\"cpu_template\":\"None\"}");
	assert_int_equal(response.status, 204);
	assert_true(response.deprecated);
}

static void test_answers_are_text_whatever_the_request_was(void **state)
{
	struct api_response response = ask("PUT", "/x\xff\xfe", "\xff");

	(void)state;
	assert_int_equal(response.status, 400);
	assert_non_null(response.body);
	free(response.body);
}

/* ------------------------------------------------------------- lent memory */

static struct gmem *two_pages(void)
{
	static const struct gmem_range range = {0, 2 * PAGE_SIZE_4K};
	const struct gmem_request request = {.ranges = &range, .count = 1};
	struct gmem *mem;

	assert_int_equal(gmem_create(&mem, &request, NULL), 0);
	return mem;
}

static void test_pre_fault_answers_with_statistics(void **state)
{
	static const char begin[] =
		"{\"range_count\":2,\"requested_bytes\":8192,\"completed_"
		"bytes\":8192,\"remaining_bytes\":0,\"ioctl_count\":2,"
		"\"wall_time_us\":";
	struct api_response response;

	(void)state;
	fake_vmm.lent.mem = two_pages();
	response = ask("PUT", "/vm/pre-fault-memory",
		       "{\"ranges\":[{\"gpa\":4096,\"size\":4096},"
		       "{\"gpa\":0,\"size\":4096}]}");
	assert_int_equal(response.status, 200);
	assert_memory_equal(response.body, begin, strlen(begin));
	assert_int_equal(fake_vmm.last.type, VMM_ACTION_LEND_MEMORY);
	assert_int_equal(fake_vmm.last.when, VMM_POST_BOOT);
	free(response.body);
	gmem_destroy(fake_vmm.lent.mem);
}

static void test_pre_fault_ends_with_the_microvm(void **state)
{
	struct api_response response;

	(void)state;
	fake_vmm.lent.mem = two_pages();
	fake_vmm.stopping = true;
	response = ask("PUT", "/vm/pre-fault-memory",
		       "{\"ranges\":[{\"gpa\":0,\"size\":4096}]}");
	assert_int_equal(response.status, 400);
	assert_string_equal(response.body,
			    "{\"fault_message\":\"Pre-fault memory error: The "
			    "microVM is shutting down.\"}");
	free(response.body);
	gmem_destroy(fake_vmm.lent.mem);
}

static void test_working_set_needs_a_snapshot(void **state)
{
	struct api_response response;

	(void)state;
	fake_vmm.lent.mem = two_pages();
	response = ask("PUT", "/vm/working-set", "{\"path\":\"/no/where\"}");
	assert_int_equal(response.status, 400);
	assert_non_null(
		strstr(response.body, "Only a microVM that was loaded"));
	free(response.body);
	/* Memory that is no file's any more: a copy in 2 MiB pages. */
	fake_vmm.lent.loaded = true;
	response = ask("PUT", "/vm/working-set", "{\"path\":\"/no/where\"}");
	assert_int_equal(response.status, 400);
	assert_non_null(strstr(response.body, "copied into 2 MiB pages"));
	free(response.body);
	gmem_destroy(fake_vmm.lent.mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_route_answers_as_the_table_says,
				       setup),
		cmocka_unit_test_setup(test_route_hands_over_what_was_asked,
				       setup),
		cmocka_unit_test_setup(
			test_actions_are_legal_in_their_own_states, setup),
		cmocka_unit_test_setup(
			test_errors_of_the_vmm_get_the_route_s_prefix, setup),
		cmocka_unit_test_setup(test_errnos_of_the_host_get_it_too,
				       setup),
		cmocka_unit_test_setup(test_deprecated_fields_are_marked,
				       setup),
		cmocka_unit_test_setup(
			test_answers_are_text_whatever_the_request_was, setup),
		cmocka_unit_test_setup(test_pre_fault_answers_with_statistics,
				       setup),
		cmocka_unit_test_setup(test_pre_fault_ends_with_the_microvm,
				       setup),
		cmocka_unit_test_setup(test_working_set_needs_a_snapshot,
				       setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
