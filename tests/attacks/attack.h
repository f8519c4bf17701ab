/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways out of a jail, tried one by one by a program in the monitor's place.
 *
 * An attack is a function that tries and says how far it got. Beside it stands
 * what must be in its way: walls, each of which is enough. Where none of them
 * stands the kernel lets it through, and the table says that too; where the
 * program runs without any wall, as root, every attack must work, or it proves
 * nothing.
 *
 * Each attack runs in a process of its own, in which the monitor's filter of
 * one thread class may be installed before.
 */
#ifndef ATTACK_H
#define ATTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What an attack returns beside 0 (it worked) and -errno. */
#define NOT_HERE 1 /* this kernel or set-up doesn't have what it is about */

enum wall {
	JAIL = 1 << 0, /* any jail: no rights, another root, nothing open */
	PIDNS = 1 << 1,
	USERNS = 1 << 2, /* a jail without root */
	NETNS = 1 << 3,	 /* a network namespace of the jail's own */
	FILTER = 1 << 4,
	LANDLOCK_1 = 1 << 5, /* by the ABI that has what is needed */
	LANDLOCK_4 = 1 << 6,
	LANDLOCK_5 = 1 << 7,
	LANDLOCK_6 = 1 << 8,
};

enum remark {
	ONLY_JAILED = 1 << 0,  /* what it does is not undone: never outside */
	HOST_DECIDES = 1 << 1, /* sysctls and drivers of the host may refuse */
};

#define ERRNOS_MAX 4

struct target {
	pid_t outside;	      /* a process with the jail's user id */
	pid_t sibling;	      /* one in another jail with the same user id */
	const char *secret;   /* path on the host of a file anybody can read */
	const char *scratch;  /* directory inside that can be written */
	const char *abstract; /* name that somebody listens on */
	int port;	      /* of 127.0.0.1, likewise */
	const char *program;  /* this one, as it is found inside */
	int kept_fd; /* directory of the secret, handed over; -1: none */
};

struct attack {
	const char *name;
	int (*run)(const struct target *target);
	unsigned int walls;	  /* enum wall: any of them refuses */
	unsigned int remarks;	  /* enum remark */
	int refusals[ERRNOS_MAX]; /* of walls other than the filter; 0 ends */
};

struct attack_table {
	const struct attack *attacks;
	size_t count;
};

extern const struct attack_table file_attacks;
extern const struct attack_table process_attacks;
extern const struct attack_table network_attacks;
extern const struct attack_table kernel_attacks;

/* What victims keep in their memory, at the same address as we do. */
extern char victims_secret[16];

/* The outcome of a system call. */
int outcome(long ret);

/* SCRATCH/NAME, in a buffer of the caller's. */
const char *in_scratch(const struct target *target, const char *name,
		       char path[256]);

#endif
