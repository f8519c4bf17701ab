/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/block_ring.h"

#include "vmm/config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define USERS_MAX (CONFIG_DRIVES_MAX + 1)

struct list {
	struct block_request *requests[BLOCK_RING_DEPTH];
	unsigned count;
};

struct block_ring {
	struct block_ring_user *users[USERS_MAX];
	int files[USERS_MAX];
	struct list queued, flying;
};

struct fake_block_ring fake_block_ring;

int block_ring_create(struct block_ring **ret_ring, struct error *err)
{
	(void)err;
	*ret_ring = calloc(1, sizeof(**ret_ring));
	return *ret_ring ? 0 : -ENOMEM;
}

void block_ring_destroy(struct block_ring *ring)
{
	if (!ring)
		return;
	for (size_t i = 0; i < USERS_MAX; i++)
		assert(!ring->users[i]);
	assert(fake_block_ring.taken == fake_block_ring.given);
	free(ring);
}

int block_ring_join(struct block_ring *ring, struct block_ring_user *user,
		    int fd)
{
	while (ring->users[user->slot])
		user->slot++;
	assert(user->slot < USERS_MAX);
	ring->users[user->slot] = user;
	user->ring = ring;
	user->last_done = &user->first_done;
	return block_ring_set_file(user, fd);
}

void block_ring_leave(struct block_ring_user *user)
{
	if (!user->ring)
		return;
	assert(!user->in_flight && !user->first_done);
	user->ring->users[user->slot] = NULL;
	user->ring = NULL;
}

int block_ring_set_file(struct block_ring_user *user, int fd)
{
	assert(!user->in_flight);
	user->ring->files[user->slot] = fd;
	return 0;
}

int block_ring_watch(struct block_ring *ring, struct loop *loop)
{
	(void)ring;
	(void)loop;
	return 0;
}

/* ---------------------------------------------------------------- requests */

struct block_request *block_ring_take(struct block_ring_user *user)
{
	unsigned depth = fake_block_ring.depth ? fake_block_ring.depth
					       : BLOCK_RING_DEPTH;
	struct block_request *request = NULL;

	if (fake_block_ring.taken - fake_block_ring.given < depth)
		request = calloc(1, sizeof(*request));
	if (!request) {
		user->starved = true;
		return NULL;
	}
	fake_block_ring.taken++;
	request->user = user;
	return request;
}

void block_ring_give(struct block_ring_user *user,
		     struct block_request *request)
{
	fake_block_ring.given++;
	free(request); /* whoever still looks at it is found out */
	for (size_t i = 0; i < USERS_MAX; i++) {
		struct block_ring_user *other = user->ring->users[i];

		if (!other || !other->starved)
			continue;
		other->starved = false;
		other->wake(other);
	}
}

static void add(struct list *list, struct block_request *request)
{
	assert(list->count < BLOCK_RING_DEPTH);
	list->requests[list->count++] = request;
}

void block_ring_queue(struct block_ring_user *user,
		      struct block_request *request)
{
	assert(request->user == user);
	add(&user->ring->queued, request);
	user->in_flight++;
}

/* The call, cut to a piece. */
static ssize_t call(const struct block_ring *ring,
		    const struct block_request *request)
{
	const struct block_file file = {.fd = ring->files[request->user->slot]};
	struct block_io io = request->io;
	struct iovec first;

	fake_block_ring.calls++;
	if (fake_block_ring.fail) {
		int fail = fake_block_ring.fail;

		fake_block_ring.fail = 0;
		return -fail;
	}
	if (fake_block_ring.piece && io.iov) {
		first = io.iov[0];
		first.iov_len = MIN(first.iov_len, fake_block_ring.piece);
		io.iov = &first;
		io.count = 1;
	}
	return block_file_call(&file, &io);
}

static void note_done(struct block_request *request, ssize_t res)
{
	struct block_ring_user *user = request->user;

	request->res = (int)res;
	request->next = NULL;
	*user->last_done = request;
	user->last_done = &request->next;
	user->in_flight--;
}

/* Of @user; of all without one. */
static void fly(struct block_ring *ring, const struct block_ring_user *user)
{
	struct list now = ring->flying;

	ring->flying.count = 0;
	for (unsigned i = 0; i < now.count; i++) {
		unsigned at = fake_block_ring.backwards ? now.count - 1 - i : i;
		struct block_request *request = now.requests[at];

		if (!user || request->user == user)
			note_done(request, call(ring, request));
		else
			add(&ring->flying, request);
	}
}

void block_ring_submit(struct block_ring_user *user)
{
	struct block_ring *ring = user->ring;

	fake_block_ring.submits += ring->queued.count > 0;
	for (unsigned i = 0; i < ring->queued.count; i++)
		add(&ring->flying, ring->queued.requests[i]);
	ring->queued.count = 0;
	if (!fake_block_ring.hold)
		fly(ring, user);
}

struct block_request *block_ring_next_done(struct block_ring_user *user)
{
	struct block_request *request = user->first_done;

	if (!request)
		return NULL;
	user->first_done = request->next;
	if (!user->first_done)
		user->last_done = &user->first_done;
	return request;
}

void block_ring_wait(struct block_ring_user *user)
{
	fake_block_ring.waits++;
	assert(!user->ring->queued.count);
	fly(user->ring, user);
	assert(!user->in_flight);
}

void fake_block_ring_finish(struct block_ring *ring)
{
	fly(ring, NULL);
	for (size_t i = 0; i < USERS_MAX; i++)
		if (ring->users[i] && ring->users[i]->first_done)
			ring->users[i]->done(ring->users[i]);
}
