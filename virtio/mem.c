/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The host sets requested_size; the driver, told by an interrupt, chooses
 * blocks and asks to plug or unplug them, one request at a time. All of the
 * region is mapped from the start and takes no memory; gmem knows which blocks
 * are there, so that no other device touches the rest, and what is unplugged is
 * given back at once. For vCPUs the region is cut into slots of KVM: one is
 * registered while any of its blocks is plugged. Where none is, they find
 * nothing.
 *
 * Within a slot that has other blocks, a vCPU can still reach an unplugged one.
 * A driver that accepted UNPLUGGED_INACCESSIBLE has no business there (5.15.6);
 * one that does it anyway gets zeros, or what it writes, and has it counted as
 * ours as before: no more than the whole region.
 *
 * Large requests are served in pieces, so that the other devices and the API
 * have their turn: each piece leaves a state that can be, so a reset half way
 * does no harm. A snapshot waits for the end of it.
 *
 * Requests that were begun with a block that is then unplugged (block I/O in
 * flight, rings) end in the mapping, where nobody looks: 5.15.6 leaves open
 * what memory has in it that is plugged again.
 */
#include "virtio/mem.h"

#include "snapshot/state.h"
#include "vmm/gmem_blocks.h"
#include "vmm/kvm.h"
#include "vmm/log.h"

#include <errno.h>
#include <string.h>

#define VIRTIO_ID_MEM 24

#define VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE 1 /* 5.15.3 */

#define SECTION STATE_TAG('H', 'P', 'L', 'G')
#define SECTION_VERSION 1

/* Requests, responses, states of blocks (5.15.6). */
enum {
	MEM_PLUG = 0,
	MEM_UNPLUG = 1,
	MEM_UNPLUG_ALL = 2,
	MEM_STATE = 3,
};

enum {
	MEM_ACK = 0,
	MEM_NACK = 1,
	MEM_BUSY = 2,
	MEM_ERROR = 3,
	MEM_GOES_ON = UINT16_MAX, /* no response: there is more to do */
};

/* What is done in one turn of the loop: some milliseconds' worth. A slot takes
 * 0.1 to 2 ms, a page that is in use 0.3 to 1 us (measured). */
#define PLUG_SLOTS 2
#define UNPLUG_PIECE MIB(16)

enum {
	MEM_STATE_PLUGGED = 0,
	MEM_STATE_UNPLUGGED = 1,
	MEM_STATE_MIXED = 2,
};

struct mem_config { /* 5.15.4 */
	le64 block_size;
	le16 node_id;
	uint8_t padding[6];
	le64 addr;
	le64 region_size;
	le64 usable_region_size;
	le64 plugged_size;
	le64 requested_size;
};

struct mem_request {
	le16 type;
	le16 padding[3];
	le64 addr;
	le16 nb_blocks;
	le16 more_padding[3];
};

struct mem_response {
	le16 type;
	le16 padding[3];
	le16 state;
};

_Static_assert(sizeof(struct mem_request) == 24, "5.15.6");
_Static_assert(sizeof(struct mem_response) == 10, "5.15.6");

/* Bytes of the region, from its start. */
struct mem_span {
	uint64_t off, len;
};

/* The request in `chain`, as long as it is open. */
struct mem_work {
	bool open;
	uint16_t type;
	uint64_t off; /* where it began */
	struct mem_span left;
	uint64_t start_ns;
};

struct mem_device {
	struct virtio_device dev;
	struct hotplug_config config;
	struct hotplug_metrics *metrics;
	uint64_t requested, usable;
	const uint8_t *saved; /* bits of a state file, until it is placed */
	struct kvm *kvm;      /* these three from when it is placed */
	struct gmem *mem;
	const struct gmem_region *region;
	struct chain chain; /* the request being served */
	struct mem_work work;
};

static struct mem_device *to_mem(struct virtio_device *dev)
{
	return container_of(dev, struct mem_device, dev);
}

static uint64_t block_len(const struct mem_device *device)
{
	return MIB(device->config.block_size_mib);
}

static uint64_t slot_len(const struct mem_device *device)
{
	return MIB(device->config.slot_size_mib);
}

uint64_t mem_device_size(const struct mem_device *device)
{
	return MIB(device->config.total_size_mib);
}

uint64_t mem_device_align(const struct mem_device *device)
{
	return MAX(MEM_DEVICE_ALIGN, block_len(device));
}

static uint64_t plugged_size(const struct mem_device *device)
{
	return device->region ? gmem_blocks_plugged(device->region->blocks) : 0;
}

/* -------------------------------------------------------- the config space */

static void make_config(const struct mem_device *device,
			struct mem_config *config)
{
	*config = (struct mem_config){
		.block_size = le64_make(block_len(device)),
		.addr = le64_make(device->region ? device->region->gpa : 0),
		.region_size = le64_make(mem_device_size(device)),
		.usable_region_size = le64_make(device->usable),
		.plugged_size = le64_make(plugged_size(device)),
		.requested_size = le64_make(device->requested),
	};
}

/* For what the driver itself has changed: there is nothing to tell it
 * (5.15.4.2). */
static void update_config(struct mem_device *device)
{
	struct mem_config config;

	make_config(device, &config);
	memcpy(device->dev.config, &config, sizeof(config));
	device->dev.config_generation++;
}

/* It only shrinks when all is unplugged. */
static uint64_t usable_for(const struct mem_device *device)
{
	const uint64_t slots =
		(device->requested + slot_len(device) - 1) / slot_len(device);

	return slots * slot_len(device);
}

/* ------------------------------------------------------------- slots of KVM */

/* Is anything plugged in slot @n but what is within [off, off+len)? */
static bool slot_has_others(const struct mem_device *device, uint64_t n,
			    uint64_t off, uint64_t len)
{
	const struct gmem_blocks *blocks = device->region->blocks;
	const uint64_t start = n * slot_len(device);
	const uint64_t end = start + slot_len(device);
	const uint64_t from = MAX(start, off), to = MIN(end, off + len);

	return !gmem_blocks_none(blocks, start, from - start) ||
	       !gmem_blocks_none(blocks, to, end - to);
}

/* KVM waits for vCPUs that are looking for a page: not where it never comes. */
static int set_slot(struct mem_device *device, uint64_t n, bool there)
{
	if (gmem_handler_ended(device->mem))
		return -EIO;
	return kvm_plug_slot(device->kvm, device->region, n, there);
}

/* Takes slots from vCPUs, of those in [first, end) that have nothing but what
 * is within [off, off+len). A slot that stays is no harm. */
static void drop_slots(struct mem_device *device, uint64_t first, uint64_t end,
		       uint64_t off, uint64_t len)
{
	for (uint64_t n = first; n < end; n++) {
		int ret = slot_has_others(device, n, off, len)
				  ? 0
				  : set_slot(device, n, false);

		if (ret)
			log_guest_at(
				LOG_LEVEL_ERROR,
				"memory: slot %lu stays with the guest: %s",
				(unsigned long)n, os_error_text(-ret));
	}
}

/* The slots of [off, off+len) that are not there yet: all or none of them. */
static int add_slots(struct mem_device *device, uint64_t off, uint64_t len)
{
	const uint64_t first = off / slot_len(device);
	const uint64_t end = (off + len - 1) / slot_len(device) + 1;

	for (uint64_t n = first; n < end; n++) {
		int ret = slot_has_others(device, n, off, len)
				  ? 0
				  : set_slot(device, n, true);

		if (!ret)
			continue;
		log_guest_at(LOG_LEVEL_ERROR,
			     "memory: KVM does not take slot %lu: %s",
			     (unsigned long)n, os_error_text(-ret));
		drop_slots(device, first, n, off, len);
		return ret;
	}
	return 0;
}

/* ------------------------------------------------------------ the requests */

/* 5.15.6.1 to .4: aligned, not empty, within the usable region. */
static bool span_valid(const struct mem_device *device,
		       const struct mem_request *request,
		       struct mem_span *ret_span)
{
	const uint64_t gpa = device->region->gpa;
	const uint64_t addr = le64_get(request->addr);
	const uint64_t len = le16_get(request->nb_blocks) * block_len(device);

	if (addr < gpa || addr % block_len(device) || len == 0 ||
	    addr - gpa > device->usable || len > device->usable - (addr - gpa))
		return false;
	*ret_span = (struct mem_span){addr - gpa, len};
	return true;
}

static uint16_t begin_plug(struct mem_device *device,
			   const struct mem_span *span, uint16_t *ret_state)
{
	(void)ret_state;
	if (!gmem_blocks_none(device->region->blocks, span->off, span->len))
		return MEM_ERROR;
	return plugged_size(device) + span->len > device->requested
		       ? MEM_NACK
		       : MEM_GOES_ON;
}

static uint16_t begin_unplug(struct mem_device *device,
			     const struct mem_span *span, uint16_t *ret_state)
{
	(void)ret_state;
	return gmem_blocks_all(device->region->blocks, span->off, span->len)
		       ? MEM_GOES_ON
		       : MEM_ERROR;
}

static uint16_t begin_unplug_all(struct mem_device *device,
				 const struct mem_span *span,
				 uint16_t *ret_state)
{
	(void)device;
	(void)span;
	(void)ret_state;
	return MEM_GOES_ON;
}

static uint16_t answer_state(struct mem_device *device,
			     const struct mem_span *span, uint16_t *ret_state)
{
	const struct gmem_blocks *blocks = device->region->blocks;

	if (gmem_blocks_all(blocks, span->off, span->len))
		*ret_state = MEM_STATE_PLUGGED;
	else if (gmem_blocks_none(blocks, span->off, span->len))
		*ret_state = MEM_STATE_UNPLUGGED;
	else
		*ret_state = MEM_STATE_MIXED;
	return MEM_ACK;
}

/* Plugged blocks in a row. vCPUs first, so that none brings back a page. */
static void unplug(struct mem_device *device, uint64_t off, uint64_t len)
{
	const uint64_t gpa = device->region->gpa + off;
	int ret;

	drop_slots(device, off / slot_len(device),
		   (off + len - 1) / slot_len(device) + 1, off, len);
	ret = gmem_discard(device->mem, gpa, len);
	if (ret) {
		metric_inc(&device->metrics->unplug_discard_fails);
		log_guest_at(LOG_LEVEL_ERROR,
			     "memory: %lu bytes at %#lx are not given back: %s",
			     (unsigned long)len, (unsigned long)gpa,
			     os_error_text(-ret));
	}
	gmem_plug(device->mem, gpa, len, false);
}

/* What of @len bytes is unplugged in one turn: whole blocks. */
static uint64_t piece_of(const struct mem_device *device, uint64_t len)
{
	return MIN(len, MAX(UNPLUG_PIECE, block_len(device)));
}

/* All or nothing. */
static uint16_t go_on_plug(struct mem_device *device, struct mem_span *left)
{
	struct mem_work *work = &device->work;
	uint64_t len = MIN(left->len, PLUG_SLOTS * slot_len(device));

	if (add_slots(device, left->off, len)) {
		if (left->off > work->off)
			unplug(device, work->off, left->off - work->off);
		return MEM_BUSY;
	}
	gmem_plug(device->mem, device->region->gpa + left->off, len, true);
	*left = (struct mem_span){left->off + len, left->len - len};
	if (left->len)
		return MEM_GOES_ON;
	metric_add(&device->metrics->plug_bytes, left->off - work->off);
	return MEM_ACK;
}

static uint16_t go_on_unplug(struct mem_device *device, struct mem_span *left)
{
	uint64_t len = piece_of(device, left->len);

	unplug(device, left->off, len);
	metric_add(&device->metrics->unplug_bytes, len);
	*left = (struct mem_span){left->off + len, left->len - len};
	return left->len ? MEM_GOES_ON : MEM_ACK;
}

static uint16_t go_on_unplug_all(struct mem_device *device,
				 struct mem_span *left)
{
	if (!gmem_blocks_next(device->region->blocks, &left->off, &left->len)) {
		device->usable = usable_for(device);
		return MEM_ACK;
	}
	left->len = piece_of(device, left->len);
	(void)go_on_unplug(device, left);
	return MEM_GOES_ON;
}

#define AT(member) offsetof(struct hotplug_metrics, member)
static const struct {
	/* Checks it; MEM_GOES_ON: go_on has to do it, turn by turn. */
	uint16_t (*begin)(struct mem_device *device,
			  const struct mem_span *span, uint16_t *ret_state);
	uint16_t (*go_on)(struct mem_device *device, struct mem_span *left);
	bool has_span;
	size_t count, fails, agg; /* of struct hotplug_metrics */
} request_types[] = {
	[MEM_PLUG] = {begin_plug, go_on_plug, true, AT(plug_count),
		      AT(plug_fails), AT(plug_agg)},
	[MEM_UNPLUG] = {begin_unplug, go_on_unplug, true, AT(unplug_count),
			AT(unplug_fails), AT(unplug_agg)},
	[MEM_UNPLUG_ALL] = {begin_unplug_all, go_on_unplug_all, false,
			    AT(unplug_all_count), AT(unplug_all_fails),
			    AT(unplug_all_agg)},
	[MEM_STATE] = {answer_state, NULL, true, AT(state_count),
		       AT(state_fails), AT(state_agg)},
};

/* ------------------------------------------------------------ one by one */

static void answer(struct mem_device *device, uint16_t type, uint16_t state)
{
	const struct mem_response response = {
		.type = le16_make(type),
		.state = le16_make(state),
	};
	struct queue *queue = &device->dev.queues[0];

	if (chain_write(&device->chain, &response, sizeof(response)))
		log_guest("memory: the response is not in RAM");
	queue_push(queue, &device->chain);
	virtio_device_notify_used(&device->dev, 0);
}

/* Of a request of a known type. */
static void finish(struct mem_device *device, uint16_t response, uint16_t state)
{
	struct mem_work *work = &device->work;
	char *metrics = (char *)device->metrics;

	if (response == MEM_ERROR || response == MEM_BUSY)
		metric_inc((void *)(metrics + request_types[work->type].fails));
	metric_agg_record((void *)(metrics + request_types[work->type].agg),
			  (monotonic_ns() - work->start_ns) / 1000);
	work->open = false;
	answer(device, response, state);
}

static void go_on(struct mem_device *device)
{
	struct mem_work *work = &device->work;
	uint16_t response =
		request_types[work->type].go_on(device, &work->left);

	update_config(device);
	if (response != MEM_GOES_ON)
		finish(device, response, 0);
}

static void begin(struct mem_device *device, const struct mem_request *request)
{
	struct mem_work *work = &device->work;
	uint16_t type = le16_get(request->type), response = MEM_ERROR;
	uint16_t state = 0;

	*work = (struct mem_work){.type = type, .start_ns = monotonic_ns()};
	metric_inc(
		(void *)((char *)device->metrics + request_types[type].count));
	if (!request_types[type].has_span ||
	    span_valid(device, request, &work->left))
		response =
			request_types[type].begin(device, &work->left, &state);
	work->off = work->left.off;
	work->open = response == MEM_GOES_ON;
	if (response == MEM_ERROR)
		log_guest("memory: request %u of %u blocks at %#lx is not "
			  "possible",
			  type, le16_get(request->nb_blocks),
			  (unsigned long)le64_get(request->addr));
	if (!work->open)
		finish(device, response, state);
}

/* A request that cannot be answered is not served. */
static void receive(struct mem_device *device)
{
	struct mem_request request;

	if (device->chain.writable.left < sizeof(struct mem_response)) {
		log_guest("memory: request without room for the response");
		queue_push(&device->dev.queues[0], &device->chain);
		virtio_device_notify_used(&device->dev, 0);
	} else if (chain_read(&device->chain, &request, sizeof(request)) ||
		   le16_get(request.type) >= ARRAY_SIZE(request_types)) {
		log_guest("memory: request of an unknown kind, or cut short");
		answer(device, MEM_ERROR, 0);
	} else {
		begin(device, &request);
		return;
	}
	metric_inc(&device->metrics->queue_event_fails);
}

/* One request, or a piece of one that is large: others have to have their
 * turn. */
static bool mem_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct mem_device *device = to_mem(dev);
	struct queue *queue = &dev->queues[q];
	int ret = 1;

	metric_inc(&device->metrics->queue_event_count);
	if (!device->work.open) {
		ret = queue_pop(queue, &device->chain);
		if (ret > 0)
			receive(device);
	}
	if (ret < 0) {
		metric_inc(&device->metrics->queue_event_fails);
		virtio_device_needs_reset(dev, "broken request queue");
		return false;
	}
	if (device->work.open)
		go_on(device);
	return device->work.open || queue_pending(queue) > 0;
}

/* What is half done is done. */
static void mem_quiesce(struct virtio_device *dev)
{
	struct mem_device *device = to_mem(dev);

	while (device->work.open)
		go_on(device);
}

/* -------------------------------------------------------------- life cycle */

/* A request that the driver did not wait for is forgotten; what it had done by
 * then holds. */
static int mem_activate(struct virtio_device *dev)
{
	to_mem(dev)->work.open = false;
	if (virtio_device_negotiated(dev, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE))
		return 0;
	metric_inc(&to_mem(dev)->metrics->activate_fails);
	log_guest("memory: the driver does not accept that unplugged memory is "
		  "inaccessible");
	return -EINVAL;
}

/* 5.15.5.2: what is plugged stays plugged. */
static void mem_reset(struct virtio_device *dev)
{
	(void)dev;
}

static void mem_destroy(struct virtio_device *dev)
{
	free(to_mem(dev));
}

static const struct virtio_device_ops mem_ops = {
	.name = "memory",
	.id = VIRTIO_ID_MEM,
	.queue_count = 1,
	.activate = mem_activate,
	.queue_event = mem_queue_event,
	.quiesce = mem_quiesce,
	.config_fixed = "what is plugged, and where,",
	.reset = mem_reset,
	.destroy = mem_destroy,
};

int mem_device_create(struct mem_device **ret_device,
		      const struct hotplug_config *config,
		      struct metrics *metrics, struct error *err)
{
	struct mem_device *device;
	struct mem_config space;
	int ret = hotplug_config_check(config, err);

	if (ret)
		return ret;
	device = calloc(1, sizeof(*device));
	if (!device)
		return error_set_os(err, ENOMEM,
				    "Cannot create the memory device:");
	device->config = *config;
	device->metrics = &metrics->hotplug;
	make_config(device, &space);
	virtio_device_init(&device->dev, &mem_ops,
			   BIT(VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE), &space,
			   sizeof(space));
	*ret_device = device;
	return 0;
}

struct virtio_device *mem_device_virtio(struct mem_device *device)
{
	return &device->dev;
}

struct gmem_pluggable mem_device_pluggable(const struct mem_device *device)
{
	return (struct gmem_pluggable){
		.block_len = block_len(device),
		.slot_len = slot_len(device),
		.plugged = device->saved,
	};
}

void mem_device_place(struct mem_device *device, struct kvm *kvm,
		      struct gmem *mem)
{
	pthread_mutex_lock(&device->dev.lock);
	if (!device->saved) /* a machine that did not start may have had some */
		device->requested = device->usable = 0;
	device->saved = NULL;
	device->kvm = kvm;
	device->mem = mem;
	device->region = mem ? gmem_pluggable(mem) : NULL;
	update_config(device);
	pthread_mutex_unlock(&device->dev.lock);
}

/* ------------------------------------------------------------ what is asked */

static int check_size(const struct mem_device *device, uint64_t size,
		      struct error *err)
{
	if (!device->dev.active)
		return error_set(err, ENODEV, "Device is not active");
	if (size % block_len(device) || size > mem_device_size(device))
		return error_set(err, EINVAL,
				 "Size %lu is invalid: it must be a multiple "
				 "of block size and less than the total size",
				 (unsigned long)size);
	return 0;
}

int mem_device_resize(struct mem_device *device, uint64_t size_mib,
		      struct error *err)
{
	const uint64_t size = MIB(size_mib);
	struct mem_config config;
	int ret;

	pthread_mutex_lock(&device->dev.lock);
	ret = check_size(device, size, err);
	if (!ret) {
		device->requested = size;
		device->usable = MAX(device->usable, usable_for(device));
		make_config(device, &config);
		virtio_device_set_config(&device->dev, &config, sizeof(config));
	}
	pthread_mutex_unlock(&device->dev.lock);
	return ret;
}

void mem_device_status(struct mem_device *device,
		       struct hotplug_status *ret_status)
{
	pthread_mutex_lock(&device->dev.lock);
	*ret_status = (struct hotplug_status){
		.config = device->config,
		.plugged_size_mib = plugged_size(device) >> 20,
		.requested_size_mib = device->requested >> 20,
	};
	pthread_mutex_unlock(&device->dev.lock);
}

/* --------------------------------------------------------------- snapshots */

void mem_device_save(struct mem_device *device, struct state_writer *writer)
{
	size_t len = 0;
	AUTO_FREE uint8_t *bits =
		gmem_blocks_bits(device->region->blocks, &len);

	state_begin(writer, SECTION, SECTION_VERSION, 0);
	state_put_u64(writer, device->requested);
	state_put_u64(writer, device->usable);
	if (bits)
		state_put_blob(writer, bits, len);
	else
		writer->failed = true;
	state_end(writer);
}

/* One past the last block that is plugged, of @len bytes of bits. */
static uint64_t last_block(const uint8_t *bits, size_t len)
{
	while (len && !bits[len - 1])
		len--;
	return len ? (len - 1) * 8 + 32 - (uint64_t)__builtin_clz(bits[len - 1])
		   : 0;
}

static int check_saved(const struct mem_device *device, const uint8_t *bits,
		       size_t len, struct error *err)
{
	const uint64_t total = mem_device_size(device);
	const uint64_t block = block_len(device);

	if (device->requested % block || device->requested > device->usable ||
	    device->usable % slot_len(device) || device->usable > total)
		return error_set(err, EINVAL,
				 "The state has %#lx bytes of pluggable memory "
				 "requested, and %#lx usable, of %#lx",
				 (unsigned long)device->requested,
				 (unsigned long)device->usable,
				 (unsigned long)total);
	if (len != (total / block + 7) / 8)
		return error_set(err, EINVAL,
				 "The state has %zu bytes for %lu blocks of "
				 "pluggable memory",
				 len, (unsigned long)(total / block));
	if (last_block(bits, len) > device->usable / block)
		return error_set(err, EINVAL,
				 "The state has block %lu plugged, where only "
				 "%lu are usable",
				 (unsigned long)last_block(bits, len) - 1,
				 (unsigned long)(device->usable / block));
	return 0;
}

int mem_device_load(struct mem_device *device, const struct state_file *file,
		    struct error *err)
{
	struct state_reader reader;
	const uint8_t *bits;
	size_t len = 0;
	int ret = state_need(file, SECTION, 0, SECTION_VERSION, &reader, err);

	if (ret)
		return ret;
	device->requested = state_get_u64(&reader);
	device->usable = state_get_u64(&reader);
	bits = state_get_blob(&reader, &len);
	ret = state_reader_end(&reader, err);
	if (!ret)
		ret = check_saved(device, bits, len, err);
	if (!ret)
		device->saved = bits;
	return ret;
}
