/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest `touch` does to its memory is for its host to say, in a table
 * at a fixed address: when a snapshot of it is taken it waits for the table to
 * have steps, and whoever made the snapshot writes them into the memory file.
 * All numbers are little-endian and 32 bits wide.
 */
#ifndef GUEST_TOUCH_H
#define GUEST_TOUCH_H

#define TOUCH_TABLE 0x200000u  /* a page of its own */
#define TOUCH_FIRST 0x1000000u /* pages that have their number in them */
#define TOUCH_PAGES 8192u      /* 32 MiB */
#define TOUCH_STEPS_MAX 255    /* what fits */

enum {
	TOUCH_READ, /* checks the pages' numbers */
	TOUCH_WRITE,
	TOUCH_WAIT, /* says "waiting", goes on after a byte on COM1 */
};

#endif
