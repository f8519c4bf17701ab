/* SPDX-License-Identifier: Apache-2.0 */
/* How libFuzzer changes state files. */
#include "vmm/util.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max,
			       unsigned seed);

/* Most of the time only a few bytes change, and none moves: a length that is
 * wrong hides all that comes behind it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max,
			       unsigned seed)
{
	size_t off, len;

	if (size < 64 || seed % 8 == 0)
		return LLVMFuzzerMutate(data, size, size_max);
	off = seed / 8 % (size - 1);
	len = MIN(size - off, (size_t)1 << seed / 8 % 5);
	(void)LLVMFuzzerMutate(data + off, len, len);
	return size;
}
