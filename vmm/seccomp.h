/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System call filters: which calls a thread may make from now on.
 *
 * Filters are made beforehand, by `ember-seccomp` (vmm/seccomp_rules.c has the
 * rules); here a file of them is read, and installed. The built-in one is the
 * same file, linked in. A call that a filter does not allow raises SIGSYS,
 * which ends the process (vmm/signals.c).
 *
 * The file, all numbers little-endian:
 *
 *   "EMBRSECC"  version (4)  number of filters (4)
 *   per filter: name (8, padded with zeros)  instructions (4)  zero (4)
 *               instruction (8 each, struct sock_filter)
 *   CRC-32 of all that (4)
 *
 * Each class of threads has exactly one filter in it, in the order of the enum.
 * Where an instruction compares with SECCOMP_OWN_PID, the installed program has
 * the process's own id.
 *
 * Life cycle: seccomp_read_* once -> seccomp_enter by each thread ->
 * seccomp_free. Nothing changes after reading: any thread may enter.
 */
#ifndef EMBER_SECCOMP_H
#define EMBER_SECCOMP_H

#include "vmm/error.h"

#include <stddef.h>
#include <stdint.h>

#define SECCOMP_FILE_MAGIC "EMBRSECC"
#define SECCOMP_FILE_VERSION 1
#define SECCOMP_FILE_MAX 100000
#define SECCOMP_NAME_LEN 8
#define SECCOMP_INSTRUCTIONS_MAX 4096

/* No system call has this number, and no process: ids end at 4194304. */
#define SECCOMP_OWN_PID 0x7fff5049u

enum seccomp_class {
	SECCOMP_LOOP,	/* the loop thread */
	SECCOMP_API,	/* HTTP, and what is done for a client that waits */
	SECCOMP_VCPU,	/* vCPU threads */
	SECCOMP_MEMORY, /* what works on guest memory beside the guest */
	SECCOMP_CLASSES,
};

struct seccomp_filters;

/* What they are called in files, rules and messages. */
#define SECCOMP_CLASS_NAMES                                                    \
	{                                                                      \
		[SECCOMP_LOOP] = "loop", [SECCOMP_API] = "api",                \
		[SECCOMP_VCPU] = "vcpu", [SECCOMP_MEMORY] = "memory",          \
	}

/* The bytes of a file into filters, for this process. -EINVAL: they are none;
 * @ret_why says what is wrong with them. */
int seccomp_parse(const void *bytes, size_t len,
		  struct seccomp_filters **ret_filters,
		  const char **ret_why) must_check;

/* The filters that were linked in. NULL filters: there are none (sanitizers
 * make calls of their own). -errno with a sentence. */
int seccomp_read_builtin(struct seccomp_filters **ret_filters,
			 struct error *err) must_check;

/* The filters in a file. -errno with a sentence. */
int seccomp_read_file(const char *path, struct seccomp_filters **ret_filters,
		      struct error *err) must_check;

/* Accepts NULL. */
void seccomp_free(struct seccomp_filters *filters);

/* For good: the calling thread, and threads that it starts, are held to the
 * filter. NULL filters: nothing happens. -errno. */
int seccomp_enter(const struct seccomp_filters *filters,
		  enum seccomp_class kind) must_check;

/* seccomp_enter for a thread that begins: it is called @name from now on. What
 * goes wrong is in the log. */
int seccomp_enter_as(const struct seccomp_filters *filters,
		     enum seccomp_class kind, const char *name) must_check;

/* The name of a system call of this machine; "unknown" without filters. Safe in
 * a signal handler. */
const char *seccomp_call_name(int number);

#endif
