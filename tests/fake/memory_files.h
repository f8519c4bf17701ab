/* SPDX-License-Identifier: Apache-2.0 */
/* A memory file from its opening to its end, as a snapshot makes one. */
#ifndef FAKE_MEMORY_FILES_H
#define FAKE_MEMORY_FILES_H

#include "snapshot/memory_file.h"

int memory_file_write(struct gmem *mem,
		      const struct memory_file_request *request,
		      const uint64_t *dirty,
		      struct memory_file_stats *ret_stats,
		      struct error *err) must_check;

#endif
