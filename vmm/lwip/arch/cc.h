/* SPDX-License-Identifier: Apache-2.0 */
/* What lwIP asks of its platform: gcc and glibc have nearly all of it. */
#ifndef EMBER_LWIP_CC_H
#define EMBER_LWIP_CC_H

#include <stdlib.h>

/* Some of its assertions stand between what a peer sent and memory that is not
 * there, so they stay. That no guest gets as far as one is the work of
 * vmm/mmds_stack.c, which says how, and of tests/fuzz/fuzz_mmds.c. */
#define LWIP_PLATFORM_ASSERT(text) abort()
#define LWIP_PLATFORM_DIAG(args)

#endif
