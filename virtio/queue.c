/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory ordering. The driver runs on other CPUs; each barrier here has its
 * partner in the driver:
 *
 *   we load-acquire driver idx      <- driver writes entries, then idx (2.7.13)
 *   we write entries, store-release -> driver reads idx, then entries (2.7.14)
 *     device idx
 *   fence between our idx store and <-> driver stores used_event, fence, looks
 *     our load of used_event             at device idx (2.7.10)
 *   fence between our avail_event   <-> driver stores idx, fence, loads
 *     store and our load of idx          avail_event (2.7.13.4)
 */
#include "virtio/queue.h"

#include "snapshot/state.h"
#include "vmm/log.h"

#include <errno.h>
#include <string.h>

/* Descriptor flags (2.7.5). */
enum {
	DESC_NEXT = 1,
	DESC_WRITE = 2,
	DESC_INDIRECT = 4,
};

#define AVAIL_NO_INTERRUPT 1 /* driver area flags (2.7.6) */
#define USED_NO_NOTIFY 1     /* device area flags (2.7.8) */

#define CHAIN_BYTES_MAX BIT(32) /* 2.7.4 */

struct ring_desc {
	le64 addr;
	le32 len;
	le16 flags;
	le16 next;
};

struct ring_used_elem {
	le32 id;
	le32 len;
};

/* ----------------------------------------------------- the areas in memory */

static size_t desc_area_len(const struct queue *queue)
{
	return sizeof(struct ring_desc) * queue->size;
}

/* flags, idx, ring, used_event */
static size_t driver_area_len(const struct queue *queue)
{
	return sizeof(le16) * (3 + (size_t)queue->size);
}

/* flags, idx, ring, avail_event */
static size_t device_area_len(const struct queue *queue)
{
	return sizeof(le16) * 3 + sizeof(struct ring_used_elem) * queue->size;
}

/* The 16-bit words of an area; the guest may change them at any time. */
static uint16_t load16(const void *area, size_t off, int order)
{
	const uint16_t *word = (const void *)((const char *)area + off);

	return le16toh(__atomic_load_n(word, order));
}

static void store16(void *area, size_t off, uint16_t value, int order)
{
	uint16_t *word = (void *)((char *)area + off);

	__atomic_store_n(word, htole16(value), order);
}

#define OFF_FLAGS 0
#define OFF_IDX 2
#define OFF_RING 4

static size_t off_used_event(const struct queue *queue)
{
	return OFF_RING + sizeof(le16) * queue->size;
}

static size_t off_avail_event(const struct queue *queue)
{
	return OFF_RING + sizeof(struct ring_used_elem) * queue->size;
}

static uint16_t driver_idx(const struct queue *queue)
{
	return load16(queue->driver, OFF_IDX, __ATOMIC_ACQUIRE);
}

/* -------------------------------------------------------------- life cycle */

void queue_init(struct queue *queue, uint16_t size_max)
{
	*queue = (struct queue){.size = size_max, .size_max = size_max};
}

void queue_reset(struct queue *queue)
{
	queue_init(queue, queue->size_max);
}

static int hold_area(struct gmem *mem, const char *name, uint64_t gpa,
		     size_t len, size_t align, void **ret_ptr,
		     struct error *err)
{
	if (gpa % align)
		return error_set(err, EINVAL, "%s area at %#lx is not aligned",
				 name, (unsigned long)gpa);
	if (gmem_hold(mem, gpa, len, ret_ptr))
		return error_set(err, EFAULT,
				 "%s area at %#lx of %zu bytes is not in RAM",
				 name, (unsigned long)gpa, len);
	return 0;
}

int queue_activate(struct queue *queue, struct gmem *mem, bool event_idx,
		   struct error *err)
{
	uint16_t size = queue->size;
	int ret;

	if (size == 0 || size > queue->size_max || (size & (size - 1)))
		return error_set(err, EINVAL,
				 "queue size %u is not a power of two up to %u",
				 size, queue->size_max);
	ret = hold_area(mem, "descriptor", queue->desc_gpa,
			desc_area_len(queue), 16, &queue->desc, err);
	if (!ret)
		ret = hold_area(mem, "driver", queue->driver_gpa,
				driver_area_len(queue), 2, &queue->driver, err);
	if (!ret)
		ret = hold_area(mem, "device", queue->device_gpa,
				device_area_len(queue), 4, &queue->device, err);
	if (ret)
		return ret;
	queue->mem = mem;
	queue->event_idx = event_idx;
	queue->active = true;
	return 0;
}

/* --------------------------------------------------------- taking requests */

static int broken(struct queue *queue, const char *why, unsigned value)
{
	if (!queue->broken)
		log_guest("virtqueue is broken: %s (%u)", why, value);
	queue->broken = true;
	return -EPROTO;
}

/* One descriptor, copied out so that the driver can't change it after it was
 * checked. */
static struct ring_desc read_desc(const struct queue *queue, uint16_t index)
{
	struct ring_desc desc;

	memcpy(&desc, (const char *)queue->desc + sizeof(desc) * (size_t)index,
	       sizeof(desc));
	return desc;
}

static void add_segment(struct chain *chain, struct chain_cursor *stream,
			uint64_t gpa, uint32_t len)
{
	/* Empty buffers are legal and mean nothing. */
	if (len == 0)
		return;
	chain->segments[chain->count++] = (struct chain_segment){gpa, len};
	stream->end = chain->count;
	stream->left += len;
}

static void begin_chain(struct queue *queue, struct chain *chain, uint16_t head)
{
	chain->mem = queue->mem;
	chain->head = head;
	chain->count = 0;
	chain->written = 0;
	chain->readable = (struct chain_cursor){0};
	chain->writable = (struct chain_cursor){0};
	chain->loan = (struct chain_cursor){0};
}

/* Copies the chain that starts at @head; it has at most queue->size parts, so
 * a cycle ends the walk too. */
static int walk(struct queue *queue, uint16_t head, struct chain *chain)
{
	uint16_t index = head;
	bool writable = false;

	begin_chain(queue, chain, head);
	for (uint16_t n = 0; n < queue->size; n++) {
		struct ring_desc desc = read_desc(queue, index);
		uint16_t flags = le16_get(desc.flags);

		if (flags & DESC_INDIRECT)
			return broken(queue, "indirect descriptor", index);
		if (writable && !(flags & DESC_WRITE))
			return broken(queue, "readable after writable", index);
		if (!writable && (flags & DESC_WRITE)) {
			writable = true;
			chain->writable.segment = chain->count;
		}
		add_segment(chain,
			    writable ? &chain->writable : &chain->readable,
			    le64_get(desc.addr), le32_get(desc.len));
		if (chain->readable.left + chain->writable.left >
		    CHAIN_BYTES_MAX)
			return broken(queue, "more than 2^32 bytes", head);
		if (!(flags & DESC_NEXT))
			return 1;
		index = le16_get(desc.next);
		if (index >= queue->size)
			return broken(queue, "next out of range", index);
	}
	return broken(queue, "endless chain", head);
}

uint16_t queue_pending(const struct queue *queue)
{
	return (uint16_t)(driver_idx(queue) - queue->next_avail);
}

int queue_pop(struct queue *queue, struct chain *ret_chain)
{
	uint16_t pending, head;
	size_t slot;
	int ret;

	if (queue->broken)
		return -EPROTO;
	pending = queue_pending(queue);
	if (pending == 0)
		return 0;
	if (pending > queue->size)
		return broken(queue, "more requests than the ring holds",
			      pending);
	slot = queue->next_avail % queue->size;
	head = load16(queue->driver, OFF_RING + sizeof(le16) * slot,
		      __ATOMIC_RELAXED);
	if (head >= queue->size)
		return broken(queue, "head out of range", head);
	ret = walk(queue, head, ret_chain);
	if (ret > 0)
		queue->next_avail++;
	return ret;
}

void queue_unpop(struct queue *queue, uint16_t count)
{
	queue->next_avail = (uint16_t)(queue->next_avail - count);
}

/* ---------------------------------------------------- giving requests back */

void queue_put(struct queue *queue, uint16_t head, uint32_t written)
{
	size_t slot = queue->next_used % queue->size;
	size_t off = OFF_RING + sizeof(struct ring_used_elem) * slot;
	const struct ring_used_elem elem = {
		.id = le32_make(head),
		.len = le32_make(written),
	};

	memcpy((char *)queue->device + off, &elem, sizeof(elem));
	gmem_mark_dirty(queue->mem, queue->device_gpa + off, sizeof(elem));
	queue->next_used++;
}

void queue_publish(struct queue *queue)
{
	store16(queue->device, OFF_IDX, queue->next_used, __ATOMIC_RELEASE);
	gmem_mark_dirty(queue->mem, queue->device_gpa, OFF_RING);
}

void queue_push(struct queue *queue, const struct chain *chain)
{
	queue_put(queue, chain->head, chain->written);
	queue_publish(queue);
}

/* Has the index moved past @event since @old? (2.7.7.1) */
static bool event_passed(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

bool queue_interrupt_wanted(struct queue *queue)
{
	uint16_t old = queue->signalled;
	bool first = !queue->signalled_valid;
	uint16_t event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!queue->event_idx)
		return !(load16(queue->driver, OFF_FLAGS, __ATOMIC_RELAXED) &
			 AVAIL_NO_INTERRUPT);
	event = load16(queue->driver, off_used_event(queue), __ATOMIC_RELAXED);
	queue->signalled = queue->next_used;
	queue->signalled_valid = true;
	return first || event_passed(event, queue->next_used, old);
}

/* ------------------------------------------------------------------- kicks */

/* With EVENT_IDX nothing need be said: the driver kicks only when it passes
 * avail_event, which stays behind until kicks are enabled again. */
void queue_kicks_disable(struct queue *queue)
{
	if (!queue->event_idx)
		store16(queue->device, OFF_FLAGS, USED_NO_NOTIFY,
			__ATOMIC_RELAXED);
}

bool queue_kicks_enable(struct queue *queue)
{
	if (queue->event_idx)
		store16(queue->device, off_avail_event(queue),
			queue->next_avail, __ATOMIC_RELAXED);
	else
		store16(queue->device, OFF_FLAGS, 0, __ATOMIC_RELAXED);
	gmem_mark_dirty(queue->mem, queue->device_gpa, device_area_len(queue));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return driver_idx(queue) != queue->next_avail;
}

uint16_t queue_driver_index(const struct queue *queue)
{
	return driver_idx(queue);
}

/* A driver that moves on meanwhile might not kick any more; one that always
 * does is not waited for. */
#define KICK_TRIES 8

uint16_t queue_kick_at_next(struct queue *queue)
{
	uint16_t idx = driver_idx(queue);

	for (int i = 0; i < KICK_TRIES; i++) {
		uint16_t before = idx;

		if (queue->event_idx)
			store16(queue->device, off_avail_event(queue), idx,
				__ATOMIC_RELAXED);
		else
			store16(queue->device, OFF_FLAGS, 0, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		idx = driver_idx(queue);
		if (idx == before)
			break;
	}
	gmem_mark_dirty(queue->mem, queue->device_gpa, device_area_len(queue));
	return idx;
}

/* --------------------------------------------------------------- snapshots */

static const struct state_field fields[] = {
	STATE_FIELD(struct queue, size),
	STATE_FIELD(struct queue, ready),
	STATE_FIELD(struct queue, desc_gpa),
	STATE_FIELD(struct queue, driver_gpa),
	STATE_FIELD(struct queue, device_gpa),
	STATE_FIELD(struct queue, event_idx),
	STATE_FIELD(struct queue, next_avail),
	STATE_FIELD(struct queue, next_used),
	STATE_FIELD(struct queue, signalled),
	STATE_FIELD(struct queue, signalled_valid),
};

void queue_save(const struct queue *queue, struct state_writer *writer)
{
	state_put_fields(writer, queue, fields, ARRAY_SIZE(fields));
}

void queue_mark_dirty(const struct queue *queue)
{
	gmem_mark_dirty(queue->mem, queue->desc_gpa, desc_area_len(queue));
	gmem_mark_dirty(queue->mem, queue->driver_gpa, driver_area_len(queue));
	gmem_mark_dirty(queue->mem, queue->device_gpa, device_area_len(queue));
}

void queue_load(struct queue *queue, struct state_reader *reader, bool active)
{
	state_get_fields(reader, queue, fields, ARRAY_SIZE(fields));
	/* As where a driver writes it: activation refuses 0. */
	if (queue->size > queue->size_max)
		queue->size = 0;
	if (active)
		return;
	queue->event_idx = queue->signalled_valid = false;
	queue->next_avail = queue->next_used = queue->signalled = 0;
}

static uint16_t device_idx(const struct queue *queue)
{
	return load16(queue->device, OFF_IDX, __ATOMIC_RELAXED);
}

/* Not more waits, is in flight or unpublished than the ring holds. */
static int check_positions(const struct queue *queue, struct error *err)
{
	uint16_t in_flight = (uint16_t)(queue->next_avail - queue->next_used);
	uint16_t unpublished = (uint16_t)(queue->next_used - device_idx(queue));

	if (queue_pending(queue) <= queue->size && in_flight <= queue->size &&
	    unpublished <= queue->size)
		return 0;
	return error_set(err, EINVAL,
			 "it stands at %u and %u, which its ring of size %u "
			 "at %u and %u in memory cannot be",
			 queue->next_avail, queue->next_used, queue->size,
			 driver_idx(queue), device_idx(queue));
}

int queue_resume(struct queue *queue, struct gmem *mem, bool event_idx,
		 struct error *err)
{
	int ret;

	if (queue->event_idx != event_idx)
		return error_set(err, EINVAL,
				 "EVENT_IDX is not what was negotiated");
	ret = queue_activate(queue, mem, event_idx, err);
	return ret ? ret : check_positions(queue, err);
}

void queue_adopt_used(struct queue *queue)
{
	queue->next_used = device_idx(queue);
}
