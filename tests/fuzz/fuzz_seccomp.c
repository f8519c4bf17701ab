/* SPDX-License-Identifier: Apache-2.0 */
/* Files of filters: as they come, and with a checksum that fits, without which
 * nothing behind it would ever be looked at. */
#include "vmm/seccomp.h"

#include <string.h>
#include <zlib.h>

static void parse(const uint8_t *bytes, size_t len)
{
	struct seccomp_filters *filters = NULL;
	const char *why = NULL;

	if (seccomp_parse(bytes, len, &filters, &why) == 0)
		seccomp_free(filters);
	else if (!why)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *bytes;
	uint32_t crc;

	parse(data, len);
	if (len < sizeof(crc))
		return 0;
	bytes = malloc(len);
	if (!bytes)
		return 0;
	memcpy(bytes, data, len);
	len -= sizeof(crc);
	crc = (uint32_t)crc32(crc32(0, NULL, 0), bytes, (unsigned)len);
	memcpy(bytes + len, &crc, sizeof(crc));
	parse(bytes, len + sizeof(crc));
	free(bytes);
	return 0;
}
