/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of the metadata service's TCP, without waiting for it: the timer is
 * not armed but kept, and rings when the test says so. Linked with
 *
 *   -Wl,--wrap=loop_timer_arm,--wrap=loop_timer_cancel
 *
 * Timers that are due sooner pass through.
 */
#ifndef FAKE_TICK_H
#define FAKE_TICK_H

#include <stdbool.h>

/* Lets the clock tick once. False: it stands still. */
bool fake_tick(void);

#endif
