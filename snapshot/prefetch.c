/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/prefetch.h"

#include "snapshot/working_set.h"
#include "vmm/log.h"
#include "vmm/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#define CHUNK MIB(2)
#define CHUNK_ORDER 9 /* in pages */
#define DENSE 128     /* pages of a chunk that make it worth a copy */

/* Clearing and copying is bound by memory: more do not help. */
#define COPIERS 2

struct prefetch {
	enum snapshot_prefetch how;
	const struct seccomp_filters *filters; /* of our threads */
	struct working_set *set;
	struct populate populate;
	_Atomic bool cancelled;
	pthread_t thread;
	bool joinable;
};

static bool is_cancelled(const void *arg)
{
	const struct prefetch *prefetch = arg;

	return atomic_load_explicit(&prefetch->cancelled, memory_order_relaxed);
}

static void bring_in(struct prefetch *prefetch)
{
	struct populate *populate = &prefetch->populate;
	uint64_t start = monotonic_ns();
	int ret = working_set_populate(populate, prefetch->set);
	unsigned long us = (unsigned long)((monotonic_ns() - start) / 1000);

	if (!ret)
		log_info(
			"The working set was brought in: %lu pages written, "
			"%lu read; %lu calls, %lu us.",
			(unsigned long)working_set_pages_written(prefetch->set),
			(unsigned long)working_set_pages_read(prefetch->set),
			(unsigned long)populate->calls, us);
	else if (ret != -ECANCELED)
		log_warn("The working set was not brought in completely: %s "
			 "(os error %d)",
			 os_error_text(-ret), -ret);
}

static void *run(void *arg)
{
	struct prefetch *prefetch = arg;

	if (seccomp_enter_as(prefetch->filters, SECCOMP_MEMORY,
			     "ember_prefetch") == 0)
		bring_in(prefetch);
	return NULL;
}

static int load_set(struct prefetch *prefetch, struct gmem *mem,
		    const char *path, struct error *err)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return error_set_os(err, errno, "Cannot open the working set:");
	return working_set_load(&prefetch->set, fd, gmem_size(mem), err);
}

/* ------------------------------------------------------------------ copying */

struct copy {
	struct gmem *mem;
	const struct seccomp_filters *filters;
	uint64_t *chunks; /* guest addresses of those that are dense */
	size_t count;
	bool *taken; /* which of the file those are */
	_Atomic size_t next;
	_Atomic int ret;
};

/* What is not a whole chunk of a region is left alone, and so is what is not
 * plugged. */
static bool find_chunk(const struct gmem *mem, uint64_t off, uint64_t *ret_gpa)
{
	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);

		if (off < region->fd_off || region->len < CHUNK ||
		    off - region->fd_off > region->len - CHUNK ||
		    (region->gpa | region->fd_off) % CHUNK)
			continue;
		*ret_gpa = region->gpa + (off - region->fd_off);
		return gmem_contains(mem, *ret_gpa, CHUNK);
	}
	return false;
}

/* @counts: pages of the set, per chunk of the memory file. */
static void find_chunks(struct copy *copy, const uint32_t *counts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		copy->taken[i] = counts[i] >= DENSE &&
				 find_chunk(copy->mem, i * CHUNK,
					    &copy->chunks[copy->count]);
		copy->count += copy->taken[i];
	}
}

/* Neighbours in one region; two regions may touch. */
static bool is_next(const struct copy *copy, size_t i)
{
	const uint64_t before = copy->chunks[i - 1];

	return copy->chunks[i] == before + CHUNK &&
	       gmem_contains(copy->mem, before, 2 * CHUNK);
}

/* Neighbours are one mapping. */
static int map_chunks(struct copy *copy)
{
	const uint64_t *chunks = copy->chunks;
	size_t from = 0;
	int ret = 0;

	for (size_t i = 1; i <= copy->count && !ret; i++) {
		if (i < copy->count && is_next(copy, i))
			continue;
		ret = gmem_copy_begin(copy->mem, chunks[from],
				      (i - from) * CHUNK);
		from = i;
	}
	return ret;
}

static void copy_chunks(struct copy *copy)
{
	size_t i;

	while ((i = atomic_fetch_add(&copy->next, 1)) < copy->count) {
		int ret = gmem_copy_file(copy->mem, copy->chunks[i], CHUNK);

		if (ret)
			atomic_store(&copy->ret, ret);
	}
}

/* Without its filter there is one copier less. */
static void *run_copier(void *arg)
{
	struct copy *copy = arg;

	if (seccomp_enter_as(copy->filters, SECCOMP_MEMORY, "ember_copier") ==
	    0)
		copy_chunks(copy);
	return NULL;
}

static void copy_all(struct copy *copy)
{
	pthread_t threads[COPIERS - 1];
	size_t count = 0;

	while (count < ARRAY_SIZE(threads) &&
	       !pthread_create(&threads[count], NULL, run_copier, copy))
		count++;
	copy_chunks(copy);
	while (count)
		pthread_join(threads[--count], NULL);
}

/* Which, and takes them from the file. */
static int prepare(struct copy *copy, const struct working_set *set)
{
	const size_t count = gmem_size(copy->mem) / CHUNK;
	uint32_t *counts = calloc(count + 1, sizeof(*counts));

	copy->chunks = calloc(count + 1, sizeof(*copy->chunks));
	copy->taken = calloc(count + 1, sizeof(*copy->taken));
	if (counts && copy->chunks && copy->taken) {
		working_set_count(set, CHUNK_ORDER, counts, count);
		find_chunks(copy, counts, count);
		copy->ret = map_chunks(copy);
	} else {
		copy->ret = -ENOMEM;
	}
	free(counts);
	return copy->ret;
}

static int copy_dense(const struct prefetch *prefetch, struct error *err)
{
	struct copy copy = {
		.mem = prefetch->populate.mem,
		.filters = prefetch->filters,
	};

	if (gmem_backing(copy.mem) != GMEM_FILE)
		return 0;
	if (!prepare(&copy, prefetch->set))
		copy_all(&copy);
	if (!copy.ret)
		working_set_leave_out(prefetch->set, CHUNK_ORDER, copy.taken,
				      gmem_size(copy.mem) / CHUNK);
	free(copy.chunks);
	free(copy.taken);
	if (copy.ret)
		return error_set_os(err, -copy.ret,
				    "The working set cannot be copied:");
	return 0;
}

/* --------------------------------------------------------------- life cycle */

static int create(struct prefetch *prefetch, const char *path,
		  struct error *err)
{
	struct gmem *mem = prefetch->populate.mem;
	int ret = load_set(prefetch, mem, path, err);

	if (!ret && prefetch->how == PREFETCH_COPY)
		ret = copy_dense(prefetch, err);
	if (!ret && prefetch->how != PREFETCH_BESIDE)
		bring_in(prefetch);
	return ret;
}

int prefetch_create(struct prefetch **ret_prefetch, struct gmem *mem,
		    const char *path, enum snapshot_prefetch how,
		    const struct seccomp_filters *filters, struct error *err)
{
	struct prefetch *prefetch = calloc(1, sizeof(*prefetch));
	int ret;

	if (!prefetch)
		return error_set_os(err, ENOMEM, "The working set:");
	prefetch->how = how;
	prefetch->filters = filters;
	prefetch->populate = (struct populate){
		.mem = mem,
		.cancelled = is_cancelled,
		.arg = prefetch,
	};
	ret = create(prefetch, path, err);
	if (ret)
		prefetch_destroy(prefetch);
	else
		*ret_prefetch = prefetch;
	return ret;
}

void prefetch_begin(struct prefetch *prefetch)
{
	int ret;

	if (prefetch->how != PREFETCH_BESIDE)
		return;
	ret = pthread_create(&prefetch->thread, NULL, run, prefetch);
	prefetch->joinable = !ret;
	if (ret)
		log_warn("The working set is not brought in: %s (os error %d)",
			 os_error_text(ret), ret);
}

void prefetch_destroy(struct prefetch *prefetch)
{
	if (!prefetch)
		return;
	atomic_store_explicit(&prefetch->cancelled, true, memory_order_relaxed);
	if (prefetch->joinable)
		pthread_join(prefetch->thread, NULL);
	working_set_destroy(prefetch->set);
	free(prefetch);
}
