/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What signals do to the process.
 *
 * Fatal ones (memory errors, limits, hang-up, bad system call) leave one line
 * in the log, flush the metrics and end the process with a code of their own.
 * SIGPIPE is counted and logged, no more. SIGTERM, SIGINT and SIGQUIT keep
 * their default action: orchestrators look for death by signal.
 */
#ifndef EMBER_SIGNALS_H
#define EMBER_SIGNALS_H

#include "vmm/loop.h"
#include "vmm/metrics.h"

/* Installs the handlers. @metrics and @loop must live as long as the process.
 * Main thread, before others start. */
int signals_install(struct loop *loop, struct metrics *metrics) must_check;

#endif
