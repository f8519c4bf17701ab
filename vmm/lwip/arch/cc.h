/* SPDX-License-Identifier: Apache-2.0 */
/* What lwIP asks of its platform: gcc and glibc have nearly all of it. */
#ifndef EMBER_LWIP_CC_H
#define EMBER_LWIP_CC_H

#include <stdlib.h>

/* Its assertions are about its own state, never about what a guest sent. */
#define LWIP_PLATFORM_ASSERT(text) abort()
#define LWIP_PLATFORM_DIAG(args)

#endif
