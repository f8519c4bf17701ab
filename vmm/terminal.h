/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal that a guest's console is used from: raw while it is, put back
 * afterwards. There is one at most.
 */
#ifndef EMBER_TERMINAL_H
#define EMBER_TERMINAL_H

#include "vmm/util.h"

#include <stdbool.h>

/* Touching its terminal stops a process that runs in the background. */
bool terminal_is_background(int fd);

/* Remembers how it was. -errno. */
int terminal_make_raw(int fd) must_check;

/* Puts it back, if it was made raw; async-signal-safe. */
void terminal_restore(void);

#endif
