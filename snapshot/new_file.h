/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that takes another one's place in one step.
 *
 * It is written under a temporary name in the same directory and renamed when
 * it is complete. Whatever goes wrong before, also the death of the process,
 * leaves what was at the path as it was; whoever has the old file open or
 * mapped keeps it. Only the power's failing may lose both if the new file is
 * not synced. A symbolic link is followed, and stays. The new file has mode
 * 0600, or the mode and, as far as allowed, the owner of the old one.
 *
 * Temporary names are `.ember-CRC-N`: the CRC of the name that is wanted, and
 * one of a few numbers. Whoever writes such a file holds a lock on it. What the
 * killed leave behind has none, and goes when the next file takes that place.
 */
#ifndef EMBER_NEW_FILE_H
#define EMBER_NEW_FILE_H

#include "vmm/error.h"

#include <stdbool.h>

#define NEW_FILE_PREFIX ".ember-"
#define NEW_FILE_NAME_MAX 32

struct new_file {
	int fd; /* for writing; closed by new_file_release */
	const char *what;
	char *path;	 /* the place to take */
	char *temporary; /* NULL: there is none any more */
	bool synced;
};

/* What is at @path may be nothing or a regular file. -errno with a sentence,
 * `Cannot perform open on the WHAT: ...`; @what is a literal. */
int new_file_open(struct new_file *file, const char *path, const char *what,
		  struct error *err) must_check;

/* The temporary name without its directory. */
const char *new_file_name(const struct new_file *file);

/* The file system's name for what @path will be, links followed; malloc. NULL
 * with errno. */
char *new_file_place(const char *path);

/* Length of the directory's part of @path, with its slash. */
size_t new_file_directory_len(const char *path);

/* The sentence for what went wrong otherwise; returns -@code. */
int new_file_error(const char *what, const char *verb, int code,
		   struct error *err);

/* Appends @len bytes. */
int new_file_write(struct new_file *file, const void *bytes, size_t len,
		   struct error *err) must_check;

/* Its bytes to the disk, before somebody counts on them. */
int new_file_sync(struct new_file *file, struct error *err) must_check;

/* Puts the file in its place. @sync: first its bytes are on the disk, then its
 * name is. On -errno the old file is still there, unless it is the directory
 * that failed to be synced. */
int new_file_commit(struct new_file *file, bool sync,
		    struct error *err) must_check;

/* After a commit that failed: was it because of the directory only? */
bool new_file_placed(const struct new_file *file);

/* It is of use under its temporary name, too: new_file_release leaves it. */
void new_file_keep(struct new_file *file);

/* Gives up what was not committed; to be called in any case. */
void new_file_release(struct new_file *file);

#endif
