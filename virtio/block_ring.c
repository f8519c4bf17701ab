/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A drive queues what one kick brought and submits it with one system call.
 * What the page cache has is done by the time that call returns, and is looked
 * at then. For the rest the ring's descriptor becomes readable, which the loop
 * watches. Completions are in memory; whoever looks at them ("reaps"), for
 * whatever reason, sorts them into the lists of the drives they belong to, and
 * wakes those that are not looking themselves.
 *
 * A vCPU thread that resets a device must wait for its requests while it holds
 * the device's lock, for which the loop may be waiting. So it does not wait for
 * the loop but for the kernel, with the ring's lock held: nobody else can reap
 * what it waits for, and the kernel needs nobody's help. (Work that it has the
 * loop thread do is done wherever that thread sleeps, locks included.)
 *
 * There are as many requests as entries, so neither ring can overflow. Nothing
 * stays queued: what the kernel does not take, for want of memory, is taken
 * back and done without it.
 */
#include "virtio/block_ring.h"

#include "vmm/config.h"
#include "vmm/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>

/* One that replaces another comes before that goes. */
#define FILES_MAX (CONFIG_DRIVES_MAX + 1)

struct block_ring {
	struct io_uring uring;
	struct loop_source source; /* fd: the ring's, not ours to close */
	pthread_mutex_t lock;	   /* guards all that follows */
	struct block_ring_user *users[FILES_MAX];
	struct block_request *store; /* pages of it are there once used */
	struct block_request *spare;
	unsigned used; /* of the store, from its start */
	bool starved;  /* some drive is */
};

/* ------------------------------------------------------------------- store */

struct block_request *block_ring_take(struct block_ring_user *user)
{
	struct block_ring *ring = user->ring;
	struct block_request *request;

	pthread_mutex_lock(&ring->lock);
	request = ring->spare;
	if (request)
		ring->spare = request->next;
	else if (ring->used < BLOCK_RING_DEPTH)
		request = &ring->store[ring->used++];
	else
		user->starved = ring->starved = true;
	pthread_mutex_unlock(&ring->lock);
	if (request)
		request->user = user;
	return request;
}

static void wake_starved(struct block_ring *ring)
{
	if (!ring->starved)
		return;
	ring->starved = false;
	for (size_t i = 0; i < FILES_MAX; i++) {
		struct block_ring_user *user = ring->users[i];

		if (!user || !user->starved)
			continue;
		user->starved = false;
		user->wake(user);
	}
}

void block_ring_give(struct block_ring_user *user,
		     struct block_request *request)
{
	struct block_ring *ring = user->ring;

	pthread_mutex_lock(&ring->lock);
	request->next = ring->spare;
	ring->spare = request;
	wake_starved(ring);
	pthread_mutex_unlock(&ring->lock);
}

/* ----------------------------------------------------------------- reaping */

static void note_done(struct block_request *request, int res)
{
	struct block_ring_user *user = request->user;

	request->res = res;
	request->next = NULL;
	*user->last_done = request;
	user->last_done = &request->next;
	user->in_flight--;
}

/* Lock held. All that the kernel has done; whom else but @self it concerns is
 * woken. */
static void reap(struct block_ring *ring, const struct block_ring_user *self)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&ring->uring, &cqe)) {
		struct block_request *request = io_uring_cqe_get_data(cqe);
		struct block_ring_user *user = request->user;

		if (user != self && !user->first_done)
			user->wake(user);
		note_done(request, cqe->res);
		io_uring_cqe_seen(&ring->uring, cqe);
	}
}

struct block_request *block_ring_next_done(struct block_ring_user *user)
{
	struct block_ring *ring = user->ring;
	struct block_request *request;

	pthread_mutex_lock(&ring->lock);
	request = user->first_done;
	if (request) {
		user->first_done = request->next;
		if (!user->first_done)
			user->last_done = &user->first_done;
	}
	pthread_mutex_unlock(&ring->lock);
	return request;
}

void block_ring_wait(struct block_ring_user *user)
{
	struct block_ring *ring = user->ring;
	struct io_uring_cqe *cqe;

	pthread_mutex_lock(&ring->lock);
	reap(ring, user);
	while (user->in_flight) {
		int ret = io_uring_wait_cqe(&ring->uring, &cqe);

		/* A signal is no reason to give up: memory is in use. */
		assert(!ret || ret == -EINTR || ret == -EAGAIN);
		reap(ring, user);
	}
	pthread_mutex_unlock(&ring->lock);
}

/* Requests may be done of any drive. The lists are looked at without the lock:
 * what is added meanwhile wakes. */
static void on_ring(struct loop_source *source, uint32_t events)
{
	struct block_ring *ring =
		container_of(source, struct block_ring, source);
	struct block_ring_user *ready[FILES_MAX];
	size_t count = 0;

	(void)events;
	pthread_mutex_lock(&ring->lock);
	for (struct io_uring_cqe *cqe;
	     !io_uring_peek_cqe(&ring->uring, &cqe);) {
		struct block_request *request = io_uring_cqe_get_data(cqe);

		if (!request->user->first_done)
			ready[count++] = request->user;
		note_done(request, cqe->res);
		io_uring_cqe_seen(&ring->uring, cqe);
	}
	pthread_mutex_unlock(&ring->lock);
	while (count--)
		ready[count]->done(ready[count]);
}

/* -------------------------------------------------------------- submitting */

static void prepare(struct io_uring_sqe *sqe, const struct block_io *io,
		    int slot)
{
	switch (io->op) {
	case BLOCK_OP_READ:
		io_uring_prep_readv(sqe, slot, io->iov, (unsigned)io->count,
				    io->off);
		break;
	case BLOCK_OP_WRITE:
	case BLOCK_OP_FILL:
		io_uring_prep_writev(sqe, slot, io->iov, (unsigned)io->count,
				     io->off);
		break;
	case BLOCK_OP_SYNC:
		io_uring_prep_fsync(sqe, slot, IORING_FSYNC_DATASYNC);
		break;
	case BLOCK_OP_DISCARD:
	case BLOCK_OP_CLEAR:
	case BLOCK_OP_ZERO:
	default:
		io_uring_prep_fallocate(sqe, slot, block_io_mode(io),
					(off_t)io->off, (off_t)io->len);
		break;
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

void block_ring_queue(struct block_ring_user *user,
		      struct block_request *request)
{
	struct block_ring *ring = user->ring;
	struct io_uring_sqe *sqe;

	pthread_mutex_lock(&ring->lock);
	sqe = io_uring_get_sqe(&ring->uring);
	assert(sqe); /* as many as there are requests */
	prepare(sqe, &request->io, (int)user->slot);
	io_uring_sqe_set_data(sqe, request);
	user->in_flight++;
	pthread_mutex_unlock(&ring->lock);
}

/* Without a thread of the kernel's that submits, the kernel looks at these
 * entries in io_uring_enter and at no other time. */
static void take_back(struct block_ring *ring)
{
	struct io_uring_sq *sq = &ring->uring.sq;
	unsigned first = *sq->khead, count = *sq->ktail - first;

	for (unsigned i = 0; i < count; i++) {
		unsigned at = (first + i) & (ring->uring.sq.ring_entries - 1);
		uint64_t data = sq->sqes[at].user_data;

		note_done((struct block_request *)(uintptr_t)data, -EAGAIN);
	}
	sq->sqe_head = sq->sqe_tail = *sq->ktail = first;
}

void block_ring_submit(struct block_ring_user *user)
{
	struct block_ring *ring = user->ring;
	int ret = 1;

	pthread_mutex_lock(&ring->lock);
	/* The kernel may stop behind one that it refuses. */
	while (io_uring_sq_ready(&ring->uring) && ret > 0)
		ret = io_uring_submit(&ring->uring);
	if (io_uring_sq_ready(&ring->uring))
		take_back(ring);
	reap(ring, user);
	pthread_mutex_unlock(&ring->lock);
}

/* -------------------------------------------------------------- life cycle */

static const struct io_uring_restriction restrictions[] = {
	{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
	{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
	{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
	{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE},
	{.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED,
	 .sqe_flags = IOSQE_FIXED_FILE},
	/* for drives that get another file */
	{.opcode = IORING_RESTRICTION_REGISTER_OP,
	 .register_op = IORING_REGISTER_FILES_UPDATE},
};

/* Before it can be used at all. */
static int restrict_ring(struct io_uring *uring)
{
	struct io_uring_restriction list[ARRAY_SIZE(restrictions)];
	int files[FILES_MAX];
	int ret;

	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		list[i] = restrictions[i];
	for (size_t i = 0; i < FILES_MAX; i++)
		files[i] = -1;
	ret = io_uring_register_restrictions(uring, list, ARRAY_SIZE(list));
	if (!ret)
		ret = io_uring_register_files(uring, files, FILES_MAX);
	return ret ? ret : io_uring_enable_rings(uring);
}

static int start(struct block_ring *ring)
{
	int ret = io_uring_queue_init(BLOCK_RING_DEPTH, &ring->uring,
				      IORING_SETUP_R_DISABLED);

	if (ret)
		return ret;
	ret = restrict_ring(&ring->uring);
	if (ret)
		io_uring_queue_exit(&ring->uring);
	return ret;
}

static int refuse(struct error *err, int ret)
{
	return error_set_os(err, -ret,
			    "io_engine Async needs io_uring, which this host "
			    "does not let us use:");
}

int block_ring_create(struct block_ring **ret_ring, struct error *err)
{
	struct block_ring *ring = calloc(1, sizeof(*ring));
	int ret;

	if (!ring)
		return refuse(err, -ENOMEM);
	/* Large enough to be a mapping of its own. */
	ring->store = calloc(BLOCK_RING_DEPTH, sizeof(*ring->store));
	ret = ring->store ? start(ring) : -ENOMEM;
	if (ret) {
		free(ring->store);
		free(ring);
		return refuse(err, ret);
	}
	ring->source = (struct loop_source){
		.fd = ring->uring.ring_fd,
		.events = EPOLLIN,
		.class = LOOP_DEVICE,
		.fn = on_ring,
	};
	pthread_mutex_init(&ring->lock, NULL);
	*ret_ring = ring;
	return 0;
}

void block_ring_destroy(struct block_ring *ring)
{
	if (!ring)
		return;
	loop_remove(&ring->source);
	io_uring_queue_exit(&ring->uring);
	pthread_mutex_destroy(&ring->lock);
	free(ring->store);
	free(ring);
}

/* A file opened to not be waited for is one that the kernel takes for never
 * having to wait: where its file system cannot tell beforehand (NFS, FUSE), it
 * would be the loop that waits, not a thread of the kernel's. */
static int set_file(const struct block_ring_user *user, int fd)
{
	int ret;

	if (fd >= 0 && fcntl(fd, F_SETFL, 0))
		return -errno;
	ret = io_uring_register_files_update(&user->ring->uring, user->slot,
					     &fd, 1);
	return ret < 0 ? ret : 0;
}

int block_ring_join(struct block_ring *ring, struct block_ring_user *user,
		    int fd)
{
	unsigned slot = 0;
	int ret;

	while (slot < FILES_MAX && ring->users[slot])
		slot++;
	if (slot == FILES_MAX)
		return -ENOSPC;
	user->ring = ring;
	user->slot = slot;
	user->last_done = &user->first_done;
	ret = set_file(user, fd);
	if (ret) {
		user->ring = NULL;
		return ret;
	}
	pthread_mutex_lock(&ring->lock);
	ring->users[slot] = user;
	pthread_mutex_unlock(&ring->lock);
	return 0;
}

void block_ring_leave(struct block_ring_user *user)
{
	struct block_ring *ring = user->ring;

	if (!ring)
		return;
	assert(!user->in_flight && !user->first_done);
	if (set_file(user, -1))
		log_error("block: io_uring does not let go of a file");
	pthread_mutex_lock(&ring->lock);
	ring->users[user->slot] = NULL;
	pthread_mutex_unlock(&ring->lock);
	user->ring = NULL;
}

int block_ring_set_file(struct block_ring_user *user, int fd)
{
	return set_file(user, fd);
}

int block_ring_watch(struct block_ring *ring, struct loop *loop)
{
	return ring->source.loop ? 0 : loop_add(loop, &ring->source);
}
