/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock: what a process may do with files, TCP ports, abstract sockets and
 * signals, in rules that stay with it and its children whatever else goes
 * wrong. It is a second wall around the jail: a descriptor of a directory
 * outside, or a bug in a namespace, is no way out by itself.
 *
 * Each version of the kernel's interface (ABI) knows more rights than the one
 * before; a right that a kernel doesn't know it doesn't withhold either.
 */
#ifndef EMBER_JAILER_LANDLOCK_H
#define EMBER_JAILER_LANDLOCK_H

#include <stdint.h>

/* As the kernel reads it, up to the ABI whose constants are known here. Older
 * ones accept it as long as what they don't know is zero. */
struct landlock_rights {
	uint64_t files;	  /* handled_access_fs */
	uint64_t network; /* handled_access_net */
	uint64_t scopes;  /* scoped */
};

/* All that a kernel of this ABI can withhold. */
struct landlock_rights landlock_known(int abi);

/* Of those for files: what is given back beneath the jail's root, and beneath
 * its /dev. No process in a jail makes device nodes; devices are spoken to in
 * /dev alone. */
uint64_t landlock_root_files(int abi);
uint64_t landlock_dev_files(int abi);

#endif
