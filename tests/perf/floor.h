/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that a microVM can cost here: KVM objects as a machine with a drive
 * has them, in the order that is quickest, and a guest that writes a byte to a
 * port. No files, no state, no API.
 */
#ifndef EMBER_PERF_FLOOR_H
#define EMBER_PERF_FLOOR_H

/* A measuring program that is given only this runs it. */
#define FLOOR_ARGUMENT "--floor"

/* Passes the guest's byte on to standard output. The program's exit code. */
int floor_run(void);

#endif
