/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/populate.h"

#include <errno.h>

/* 50 us each, whatever is done: a private copy takes 1.7 us, a page that the
 * page cache has 0.02 to 0.3 us (measured). */
#define WRITE_PIECE (32 * PAGE_SIZE_4K)
#define READ_PIECE (512 * PAGE_SIZE_4K)

int populate_range(struct populate *populate, uint64_t gpa, uint64_t len,
		   bool write)
{
	const uint64_t most = write ? WRITE_PIECE : READ_PIECE;

	while (len) {
		bool discarded;
		uint64_t piece = gmem_run(populate->mem, gpa, MIN(len, most),
					  &discarded);
		int ret = 0;

		if (populate->cancelled && populate->cancelled(populate->arg))
			return -ECANCELED;
		/* The guest has given it back, and will say if it uses it. */
		if (!discarded) {
			ret = gmem_populate(populate->mem, gpa, piece, write);
			populate->calls++;
		}
		if (ret)
			return ret;
		populate->bytes += piece;
		gpa += piece;
		len -= piece;
	}
	return 0;
}
