/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the caller's process itself becomes the monitor, nobody would have the
 * rights to undo anything after they were dropped. So a thread keeps them: ids,
 * capabilities and Landlock are a thread's own to the kernel. A successful exec
 * ends it, and leaves no child behind that the monitor would have to wait for.
 *
 * From here on this process must not set ids through the C library, which does
 * so for all threads. Its memory is a way to the thread's rights; creds.c shuts
 * it.
 */
#include "jailer/jail.h"

#include <errno.h>

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem))
		continue; /* a signal */
}

static void *undo_when_asked(void *arg)
{
	struct jail *jail = arg;

	wait_for(&jail->undoer.asked);
	undo_run(&jail->undo);
	sem_post(&jail->undoer.done);
	return NULL;
}

int jail_start_undoer(struct jail *jail, struct error *err)
{
	pthread_t thread;
	int ret;

	if (jail->parent_fd >= 0)
		return 0; /* that process does it */
	sem_init(&jail->undoer.asked, 0, 0);
	sem_init(&jail->undoer.done, 0, 0);
	ret = pthread_create(&thread, NULL, undo_when_asked, jail);
	if (ret)
		return error_set_os(err, ret, "Failed to make a thread:");
	pthread_detach(thread);
	jail->undoer.there = true;
	return 0;
}

void jail_undo(struct jail *jail)
{
	if (!jail->undoer.there) {
		undo_run(&jail->undo);
		return;
	}
	sem_post(&jail->undoer.asked);
	wait_for(&jail->undoer.done);
}
