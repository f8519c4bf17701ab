/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of any content through router, JSON and resources, down to the
 * action: a line `METHOD PATH`, then the body.
 */
#include "api/router.h"
#include "tests/fake/vmm.h"
#include "vmm/log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config config = {.level = LOG_LEVEL_INFO,
					  .path = (char[]){"/dev/null"}};

	(void)argc;
	(void)argv;
	return log_configure(&config, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	const char *lf = memchr(text, '\n', size);
	size_t line_len = lf ? (size_t)(lf - text) : 0;
	struct api_response response = {0};
	struct api_request request;
	char line[512];
	char *space;

	if (!lf || line_len >= sizeof(line))
		return 0;
	memcpy(line, text, line_len);
	line[line_len] = '\0';
	space = strchr(line, ' ');
	if (!space)
		return 0;
	*space = '\0';
	request = (struct api_request){
		.method = line,
		.path = space + 1,
		.body = lf + 1,
		.body_len = size - line_len - 1,
	};
	api_route(fake_vmm_get(), &request, &response);
	assert(response.status == 200 || response.status == 204 ||
	       response.status == 400);
	assert((response.status == 204) == !response.body);
	free(response.body);
	return 0;
}
