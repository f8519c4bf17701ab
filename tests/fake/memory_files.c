/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/memory_files.h"

int memory_file_write(struct gmem *mem,
		      const struct memory_file_request *request,
		      const uint64_t *dirty,
		      struct memory_file_stats *ret_stats, struct error *err)
{
	struct memory_file *file = NULL;
	int ret = memory_file_open(&file, mem, request, err);

	if (ret)
		return ret;
	ret = memory_file_fill(file, dirty, err);
	if (!ret)
		ret = memory_file_commit(file, err);
	if (!ret)
		*ret_stats = *memory_file_stats(file);
	memory_file_close(file);
	return ret;
}
