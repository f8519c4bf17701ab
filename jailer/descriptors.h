/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that the jailer's caller has for the monitor (--keep-fd). All
 * others end before anything else is done.
 */
#ifndef EMBER_JAILER_DESCRIPTORS_H
#define EMBER_JAILER_DESCRIPTORS_H

#include "vmm/arguments.h"
#include "vmm/error.h"

/* The numbers in @list, ascending: from 3 on, open, none of them twice. @fds
 * has room for all of them. -EINVAL with a sentence. */
int descriptors_parse(const struct argument_list *list, int *fds,
		      struct error *err) must_check;

/* Closes all from 3 on but the @count in @fds, which ascend. */
int descriptors_close(const int *fds, size_t count,
		      struct error *err) must_check;

#endif
