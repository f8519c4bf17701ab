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
	uint32_t *counts; /* pages of the set, per chunk of the memory file */
	size_t chunks;
	_Atomic size_t next;
	_Atomic int ret;
};

static int copy_range(struct gmem *mem, uint64_t gpa)
{
	return gmem_contains(mem, gpa, CHUNK) ? gmem_copy_file(mem, gpa, CHUNK)
					      : 0;
}

static int copy_chunk(struct copy *copy, size_t chunk)
{
	const uint64_t off = chunk * CHUNK;

	for (size_t i = 0; i < gmem_region_count(copy->mem); i++) {
		const struct gmem_region *region = gmem_region(copy->mem, i);

		/* What is not a whole chunk of a region is left alone, and
		 * so is what is not plugged. */
		if (off >= region->fd_off && region->len >= CHUNK &&
		    off - region->fd_off <= region->len - CHUNK &&
		    (region->gpa | region->fd_off) % CHUNK == 0)
			return copy_range(copy->mem,
					  region->gpa + (off - region->fd_off));
	}
	return 0;
}

static void copy_chunks(struct copy *copy)
{
	size_t chunk;

	while ((chunk = atomic_fetch_add(&copy->next, 1)) < copy->chunks) {
		int ret = copy->counts[chunk] < DENSE ? 0
						      : copy_chunk(copy, chunk);

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

static int copy_dense(const struct prefetch *prefetch, struct error *err)
{
	struct gmem *mem = prefetch->populate.mem;
	struct copy copy = {
		.mem = mem,
		.filters = prefetch->filters,
		.chunks = gmem_size(mem) / CHUNK,
	};
	pthread_t threads[COPIERS - 1];
	size_t count = 0;

	if (gmem_backing(mem) != GMEM_FILE)
		return 0;
	copy.counts = calloc(copy.chunks + 1, sizeof(*copy.counts));
	if (!copy.counts)
		return error_set_os(err, ENOMEM, "The working set:");
	working_set_count(prefetch->set, CHUNK_ORDER, copy.counts, copy.chunks);
	while (count < ARRAY_SIZE(threads) &&
	       !pthread_create(&threads[count], NULL, run_copier, &copy))
		count++;
	copy_chunks(&copy);
	while (count)
		pthread_join(threads[--count], NULL);
	free(copy.counts);
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
