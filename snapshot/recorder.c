/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/recorder.h"

#include "snapshot/new_file.h"
#include "snapshot/page_set.h"
#include "snapshot/working_set.h"
#include "vmm/log.h"
#include "vmm/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef UFFD_FEATURE_WP_ASYNC /* headers before 6.7 */
#define UFFD_FEATURE_WP_ASYNC BIT(15)
#endif

#define WHAT "working set file"

/* The thread's looks, the last one after a minute; then there are those of
 * whoever wants it written. */
#define TIMED_LOOKS 16
#define FIRST_DELAY_NS UINT64_C(1000000)

/* All looks have numbers of a byte; the last stands for all that follow. */
#define LOOKS_MAX 256

/* What was seen, look by look. */
struct looks {
	struct gmem *mem;
	uint64_t *written, *read, *seen;
	uint8_t *first; /* per page of @seen: its look */
	unsigned count;
};

struct recorder {
	pthread_mutex_t lock; /* of the looks */
	struct looks looks;
	char *path;
	int watch; /* -1: the record is inexact */
	const struct seccomp_filters *filters;
	sem_t begin, wake;
	_Atomic bool finish;
	pthread_t thread;
	bool begun, joinable;
};

/* ------------------------------------------------------------------ looking */

static void looks_release(struct looks *looks)
{
	free(take_ptr(looks->written));
	free(take_ptr(looks->read));
	free(take_ptr(looks->seen));
	free(take_ptr(looks->first));
}

/* There are other ways to list the pages that a snapshot needs, but none that
 * tells which were touched. */
static int check_pagemap(struct error *err)
{
	if (access("/proc/self/pagemap", R_OK) == 0)
		return 0;
	return error_set_os(err, errno,
			    "No working set can be recorded without "
			    "/proc/self/pagemap:");
}

static int looks_init(struct looks *looks, struct gmem *mem, struct error *err)
{
	int ret = check_pagemap(err);

	if (ret)
		return ret;
	*looks = (struct looks){
		.mem = mem,
		.written = page_set_create(mem),
		.read = page_set_create(mem),
		.seen = page_set_create(mem),
		.first = calloc(page_set_pages(mem), 1),
	};
	if (page_set_pages(mem) <= UINT32_MAX && looks->written &&
	    looks->read && looks->seen && looks->first)
		return 0;
	looks_release(looks);
	return new_file_error(WHAT, "record", ENOMEM, err);
}

static int scan(struct looks *looks)
{
	if (gmem_backing(looks->mem) == GMEM_FILE)
		return page_set_scan(looks->mem, NULL, looks->written,
				     looks->read);
	return page_set_scan(looks->mem, NULL, looks->read, NULL);
}

/* Pages that are seen for the first time get the number of this look. */
static void note_new(struct looks *looks, uint8_t number)
{
	for (size_t i = 0; i < page_set_words(looks->mem); i++) {
		uint64_t fresh =
			(looks->written[i] | looks->read[i]) & ~looks->seen[i];

		looks->seen[i] |= fresh;
		for (; fresh; fresh &= fresh - 1)
			looks->first[i * 64 + (size_t)__builtin_ctzll(fresh)] =
				number;
	}
}

static int look(struct looks *looks)
{
	int ret = scan(looks);

	if (ret)
		return ret;
	if (looks->count < LOOKS_MAX)
		looks->count++;
	note_new(looks, (uint8_t)(looks->count - 1));
	return 0;
}

static int look_and_save(struct looks *looks, const char *path,
			 struct error *err)
{
	struct working_set_pages pages = {
		.written = looks->written,
		.read = looks->read,
		.looks = looks->first,
	};
	int ret = look(looks);

	if (ret)
		return new_file_error(WHAT, "scan", -ret, err);
	pages.look_count = looks->count;
	return working_set_save(looks->mem, &pages, path, err);
}

int recorder_write_once(struct gmem *mem, const char *path, struct error *err)
{
	struct looks looks;
	int ret = looks_init(&looks, mem, err);

	if (ret)
		return ret;
	ret = look_and_save(&looks, path, err);
	looks_release(&looks);
	return ret;
}

/* ----------------------------------------------------------------- watching */

/* Memory whose writes may be tracked is not faulted in around a fault. Nothing
 * is write-protected, and no fault is ever reported. */
static int watch(const struct gmem *mem)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC,
	};
	AUTO_CLOSE int fd = (int)syscall(
		SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -errno;
	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);
		struct uffdio_register range = {
			.range = {(uintptr_t)region->hva, region->len},
			.mode = UFFDIO_REGISTER_MODE_WP,
		};

		if (ioctl(fd, UFFDIO_REGISTER, &range))
			return -errno;
		/* A huge page of the page cache is mapped as a whole, and loses
		 * all of its readers when it is written to. */
		(void)madvise(region->hva, region->len, MADV_NOHUGEPAGE);
	}
	return take_fd(&fd);
}

static void watch_reads(struct recorder *recorder)
{
	struct gmem *mem = recorder->looks.mem;

	recorder->watch = -1;
	if (gmem_backing(mem) != GMEM_FILE)
		return;
	recorder->watch = watch(mem);
	if (recorder->watch < 0)
		log_warn("The working set will have more pages than are read: "
			 "%s (os error %d)",
			 os_error_text(-recorder->watch), -recorder->watch);
}

/* --------------------------------------------------------------- the thread */

static struct timespec after(uint64_t delay_ns)
{
	uint64_t ns = monotonic_ns() + delay_ns;

	return (struct timespec){
		.tv_sec = (time_t)(ns / UINT64_C(1000000000)),
		.tv_nsec = (long)(ns % UINT64_C(1000000000)),
	};
}

/* False: somebody wants something else now. */
static bool sleep_until_look(struct recorder *recorder, unsigned number)
{
	struct timespec deadline;
	int ret;

	if (number >= TIMED_LOOKS) {
		do
			ret = sem_wait(&recorder->wake);
		while (ret && errno == EINTR);
		return false;
	}
	deadline = after(FIRST_DELAY_NS << number);
	do
		ret = sem_clockwait(&recorder->wake, CLOCK_MONOTONIC,
				    &deadline);
	while (ret && errno == EINTR);
	return ret && errno == ETIMEDOUT;
}

static void take_look(struct recorder *recorder)
{
	int ret;

	pthread_mutex_lock(&recorder->lock);
	ret = look(&recorder->looks);
	pthread_mutex_unlock(&recorder->lock);
	if (ret)
		log_warn("Cannot see what the guest touches: %s (os error %d)",
			 os_error_text(-ret), -ret);
}

static void wait_to_begin(struct recorder *recorder)
{
	int ret;

	do
		ret = sem_wait(&recorder->begin);
	while (ret && errno == EINTR);
}

static void record(struct recorder *recorder)
{
	struct error err = {0};
	unsigned number = 0;

	wait_to_begin(recorder);
	while (sleep_until_look(recorder, number)) {
		take_look(recorder);
		number++;
	}
	if (!atomic_load(&recorder->finish))
		return;
	if (recorder_write(recorder, NULL, &err))
		log_error("%s", err.text);
	close_fd(&recorder->watch);
}

static void *run(void *arg)
{
	struct recorder *recorder = arg;

	if (seccomp_enter_as(recorder->filters, SECCOMP_MEMORY,
			     "ember_recorder") == 0)
		record(recorder);
	return NULL;
}

void recorder_finish(struct recorder *recorder)
{
	if (!atomic_exchange(&recorder->finish, true))
		sem_post(&recorder->wake);
}

int recorder_write(struct recorder *recorder, const char *path,
		   struct error *err)
{
	int ret;

	pthread_mutex_lock(&recorder->lock);
	ret = look_and_save(&recorder->looks, path ? path : recorder->path,
			    err);
	pthread_mutex_unlock(&recorder->lock);
	return ret;
}

/* --------------------------------------------------------------- life cycle */

static int init(struct recorder *recorder, struct gmem *mem, const char *path,
		struct error *err)
{
	int ret = looks_init(&recorder->looks, mem, err);

	if (ret)
		return ret;
	recorder->path = strdup(path);
	if (!recorder->path)
		return new_file_error(WHAT, "record", ENOMEM, err);
	watch_reads(recorder);
	return 0;
}

int recorder_create(struct recorder **ret_recorder, struct gmem *mem,
		    const char *path, const struct seccomp_filters *filters,
		    struct error *err)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder));
	int ret;

	if (!recorder)
		return new_file_error(WHAT, "record", ENOMEM, err);
	recorder->watch = -1;
	recorder->filters = filters;
	pthread_mutex_init(&recorder->lock, NULL);
	sem_init(&recorder->begin, 0, 0);
	sem_init(&recorder->wake, 0, 0);
	ret = init(recorder, mem, path, err);
	if (ret)
		recorder_destroy(recorder);
	else
		*ret_recorder = recorder;
	return ret;
}

void recorder_start(struct recorder *recorder)
{
	int ret = pthread_create(&recorder->thread, NULL, run, recorder);

	recorder->joinable = !ret;
	if (ret)
		log_warn("Nobody watches what the guest touches: %s (os error "
			 "%d)",
			 os_error_text(ret), ret);
}

void recorder_begin(struct recorder *recorder)
{
	if (!recorder->begun)
		sem_post(&recorder->begin);
	recorder->begun = true;
}

void recorder_destroy(struct recorder *recorder)
{
	if (!recorder)
		return;
	sem_post(&recorder->wake);
	sem_post(&recorder->begin);
	if (recorder->joinable)
		pthread_join(recorder->thread, NULL);
	close_fd(&recorder->watch);
	looks_release(&recorder->looks);
	free(recorder->path);
	sem_destroy(&recorder->begin);
	sem_destroy(&recorder->wake);
	pthread_mutex_destroy(&recorder->lock);
	free(recorder);
}
