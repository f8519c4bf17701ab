/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps the two files of a snapshot together.
 *
 * Two files cannot be renamed at once, and a monitor may be killed between any
 * two system calls. A snapshot counts as taken when its state file is in its
 * place: with it the new memory is found, before that the old one.
 *
 * - A new memory file is complete before, and gets its name after. The state
 *   file says which temporary name it has until then, and which file that is.
 *   Whoever loads it gives it its name if a monitor was killed in between.
 * - A diff that is merged into a memory file puts a mark behind the memory's
 *   last byte first: the id of the snapshot that will be. Only the state file
 *   with that id goes with it. The mark goes when the state file is in place.
 *
 * Files that were copied or merged by others have neither name nor mark, and
 * are believed. A page-fault handler opens memory on its own and does not know
 * of any of this. Loop thread.
 */
#ifndef EMBER_PAIR_H
#define EMBER_PAIR_H

#include "snapshot/new_file.h"
#include "snapshot/state.h"

#define PAIR_ID_LEN 16

struct pair_id {
	uint8_t bytes[PAIR_ID_LEN];
};

struct snapshot_pair {
	struct pair_id id;
	uint64_t identity;	      /* of the file of that name */
	char name[NEW_FILE_NAME_MAX]; /* of the new memory file; "": none */
};

/* An id that no other snapshot has. */
void pair_draw_id(struct pair_id *id);
bool pair_id_none(const struct pair_id *id);
bool pair_id_same(const struct pair_id *a, const struct pair_id *b);

void pair_save(struct state_writer *writer, const struct snapshot_pair *pair);

/* Format 1.0 has none: then @pair is all zero. -EINVAL with a sentence. */
int pair_load(const struct state_file *state, struct snapshot_pair *pair,
	      struct error *err) must_check;

/* The file that @path, or with "" @fd, is: a number that goes with it when it
 * is renamed, and that no later file gets with its inode. 0: there is none. */
uint64_t pair_identity(int fd, const char *path);

/* The memory file of @state, which is, or shall be, at @path and has @size
 * bytes of memory. It is locked as gmem_create does. -errno with a sentence. */
int pair_open_memory(const struct state_file *state, const char *path,
		     uint64_t size, int *ret_fd, struct error *err) must_check;

/* ---------------------------------------------------------------- the mark */

struct __attribute__((packed)) pair_mark {
	char text[48];
	struct pair_id id;
};

/* Behind the @size bytes of memory. -errno. */
int pair_put_mark(int fd, uint64_t size, const struct pair_id *id) must_check;
int pair_remove_mark(int fd, uint64_t size) must_check;

/* 1: *@ret_id has what is there. 0: there is none. -errno. */
int pair_get_mark(int fd, uint64_t size, struct pair_id *ret_id) must_check;

#endif
