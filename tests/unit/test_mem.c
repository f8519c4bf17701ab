/* SPDX-License-Identifier: Apache-2.0 */
/* The memory device (virtio 1.2, 5.15), its requests and its state. */
#include "tests/fake/slot.h"
#include "virtio/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define REGION GIB(512)
#define BLOCK MIB(2)
#define SLOT MIB(128)
#define TOTAL_MIB 512
#define BLOCKS (TOTAL_MIB / 2)
#define REQUEST RING_DATA
#define RESPONSE (RING_DATA + 0x1000)

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };
enum { PLUGGED, UNPLUGGED, MIXED };

static const struct hotplug_config config = {TOTAL_MIB, 2, 128};

struct fixture {
	struct ring ring;
	struct loop *loop;
	struct slot slot;
	struct metrics metrics;
	struct mem_device *device;
	struct error err;
};

/* The first megabyte, and the region of a device. */
static struct gmem *make_memory(const struct mem_device *device)
{
	static const struct gmem_range ranges[] = {{0, RING_MEMORY},
						   {REGION, MIB(TOTAL_MIB)}};
	const struct gmem_pluggable pluggable = mem_device_pluggable(device);
	struct gmem *mem = NULL;

	assert_int_equal(gmem_create(&mem,
				     &(const struct gmem_request){
					     .ranges = ranges,
					     .count = 2,
					     .pluggable = &pluggable,
					     .fd = -1},
				     NULL),
			 0);
	return mem;
}

static void create(struct fixture *f)
{
	assert_int_equal(
		mem_device_create(&f->device, &config, &f->metrics, NULL), 0);
	gmem_destroy(f->ring.mem);
	f->ring.mem = make_memory(f->device);
	slot_create(&f->slot, mem_device_virtio(f->device), f->loop,
		    f->ring.mem);
	mem_device_place(f->device, &f->slot.kvm, f->ring.mem);
}

static void start(struct fixture *f)
{
	struct ring *const rings[] = {&f->ring};

	f->ring.driver_idx = f->ring.device_idx = 0;
	ring_set_driver_idx(&f->ring, 0);
	assert_int_equal(gmem_zero(f->ring.mem, RING_DEVICE, 4), 0);
	slot_activate(&f->slot, rings, UINT64_MAX);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->ring, 16), 0);
	create(f);
	start(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	slot_destroy(&f->slot);
	ring_destroy(&f->ring);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

static void put_request(struct fixture *f, uint16_t type, uint64_t addr,
			uint16_t blocks)
{
	const struct {
		le16 type, padding[3];
		le64 addr;
		le16 blocks, more[3];
	} request = {le16_make(type),
		     {{0xffff}, {1}, {2}}, /* to be ignored */
		     le64_make(addr),
		     le16_make(blocks),
		     {{3}, {0xffff}, {4}}};

	assert_int_equal(
		gmem_write(f->ring.mem, REQUEST, &request, sizeof(request)), 0);
}

/* Sends @out bytes of what was put there, with room for @in. */
static uint32_t exchange(struct fixture *f, uint32_t out, uint32_t in)
{
	uint32_t id, used = UINT32_MAX;

	ring_set_desc(&f->ring, 0, REQUEST, out, in ? RING_NEXT : 0, 1);
	ring_set_desc(&f->ring, 1, RESPONSE, in, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	slot_kick(&f->slot, 0);
	assert_true(ring_take(&f->ring, &id, &used));
	return used;
}

/* The response; its state is in *@ret_state. */
static uint16_t request(struct fixture *f, uint16_t type, uint64_t off,
			uint16_t blocks, uint16_t *ret_state)
{
	le16 response[5];

	put_request(f, type, REGION + off, blocks);
	assert_int_equal(exchange(f, 24, 10), 10);
	assert_int_equal(
		gmem_read(f->ring.mem, RESPONSE, response, sizeof(response)),
		0);
	if (ret_state)
		*ret_state = le16_get(response[4]);
	return le16_get(response[0]);
}

static uint16_t state_of(struct fixture *f, uint64_t off, uint16_t blocks)
{
	uint16_t block_state = UINT16_MAX;

	assert_int_equal(request(f, STATE, off, blocks, &block_state), ACK);
	return block_state;
}

static void resize(struct fixture *f, uint64_t mib)
{
	assert_int_equal(mem_device_resize(f->device, mib, &f->err), 0);
}

/* Fields of the config space (5.15.4). */
enum { BLOCK_SIZE = 0, ADDR = 16, REGION_SIZE = 24, USABLE = 32, NOW = 40 };
enum { REQUESTED = 48 };

static uint64_t field(struct fixture *f, size_t off)
{
	le64 value;

	virtio_device_read_config(f->slot.dev, off, (uint8_t *)&value,
				  sizeof(value));
	return le64_get(value);
}

/* ----------------------------------------------------------------- creating */

static void test_create_sizes_that_cannot_be_are_refused(void **state)
{
	static const struct {
		struct hotplug_config config;
		const char *text;
	} cases[] = {
		{{512, 0, 128}, "Block size must not be lower than 2 MiB"},
		{{512, 1, 128}, "Block size must not be lower than 2 MiB"},
		{{512, 6, 128}, "Block size must be a power of 2"},
		{{512, 2, 127}, "Slot size must not be lower than 128 MiB"},
		{{512, 4, 130},
		 "Slot size must be a multiple of block size (4 MiB)"},
		{{512, 256, 128},
		 "Slot size must be a multiple of block size (256 MiB)"},
		{{0, 2, 128},
		 "Total size must not be lower than slot size (128 MiB)"},
		{{127, 2, 128},
		 "Total size must not be lower than slot size (128 MiB)"},
		{{513, 2, 128},
		 "Total size must be a multiple of slot size (128 MiB)"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct mem_device *device = NULL;

		assert_int_equal(mem_device_create(&device, &cases[i].config,
						   &f->metrics, &f->err),
				 -EINVAL);
		assert_string_equal(f->err.text, cases[i].text);
		assert_null(device);
	}
}

static void test_config_space_says_where_and_how_much(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->slot.dev->ops->id, 24);
	assert_int_equal(field(f, BLOCK_SIZE), BLOCK);
	assert_int_equal(field(f, ADDR), REGION);
	assert_int_equal(field(f, REGION_SIZE), MIB(512));
	assert_int_equal(field(f, USABLE), 0);
	assert_int_equal(field(f, NOW), 0);
	assert_int_equal(field(f, REQUESTED), 0);
	assert_int_equal(f->slot.dev->config_len, 56);
	assert_int_equal(mem_device_align(f->device), GIB(2));
}

/* A start that fails takes the machine away, and the next is as the first. */
static void test_device_is_placed_anew(void **state)
{
	struct fixture *f = *state;
	struct gmem *mem = f->ring.mem;

	resize(f, 128);
	assert_int_equal(request(f, PLUG, 0, 1, NULL), ACK);
	pthread_mutex_lock(&f->slot.dev->lock);
	virtio_device_reset(f->slot.dev);
	pthread_mutex_unlock(&f->slot.dev->lock);
	mem_device_place(f->device, NULL, NULL);
	assert_int_equal(field(f, ADDR), 0);
	assert_int_equal(field(f, NOW), 0);
	f->ring.mem = make_memory(f->device);
	f->slot.dev->mem = f->ring.mem;
	mem_device_place(f->device, &f->slot.kvm, f->ring.mem);
	gmem_destroy(mem);
	start(f);
	assert_int_equal(field(f, ADDR), REGION);
	assert_int_equal(field(f, REQUESTED), 0);
	assert_int_equal(field(f, USABLE), 0);
}

static void test_driver_has_to_accept_inaccessible(void **state)
{
	struct fixture *f = *state;
	struct virtio_device *dev = f->slot.dev;

	pthread_mutex_lock(&dev->lock);
	virtio_device_reset(dev);
	dev->driver_features = dev->features & ~BIT(1);
	ring_describe(&f->ring, &dev->queues[0]);
	virtio_device_activate(dev);
	assert_false(dev->active);
	assert_true(dev->status & VIRTIO_STATUS_NEEDS_RESET);
	pthread_mutex_unlock(&dev->lock);
	assert_int_equal(f->metrics.hotplug.activate_fails.value, 1);
	assert_int_equal(mem_device_resize(f->device, 128, &f->err), -ENODEV);
	assert_string_equal(f->err.text, "Device is not active");
}

/* ----------------------------------------------------------------- resizing */

static void test_resize_is_announced(void **state)
{
	struct fixture *f = *state;
	uint32_t generation = f->slot.dev->config_generation;
	struct hotplug_status status;

	slot_edges(&f->slot);
	resize(f, 6);
	assert_int_equal(slot_edges(&f->slot), 1);
	assert_int_not_equal(f->slot.dev->config_generation, generation);
	assert_int_equal(field(f, REQUESTED), MIB(6));
	assert_int_equal(field(f, USABLE), SLOT);
	resize(f, 512);
	assert_int_equal(field(f, USABLE), MIB(512));
	resize(f, 0);
	assert_int_equal(field(f, USABLE), MIB(512)); /* does not shrink */
	resize(f, 130);
	mem_device_status(f->device, &status);
	assert_int_equal(status.config.total_size_mib, 512);
	assert_int_equal(status.requested_size_mib, 130);
	assert_int_equal(status.plugged_size_mib, 0);
}

static void test_resize_to_sizes_that_cannot_be_is_refused(void **state)
{
	static const uint64_t cases[] = {1, 3, 514, UINT32_MAX};
	struct fixture *f = *state;

	resize(f, 4);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(
			mem_device_resize(f->device, cases[i], &f->err),
			-EINVAL);
	assert_string_equal(f->err.text,
			    "Size 4503599626321920 is invalid: it must be a "
			    "multiple of block size and less than the total "
			    "size");
	assert_int_equal(field(f, REQUESTED), MIB(4));
}

/* ----------------------------------------------------------------- requests */

static void test_plug_makes_memory_and_slots(void **state)
{
	struct fixture *f = *state;

	resize(f, 384);
	assert_int_equal(request(f, PLUG, 3 * BLOCK, 2, NULL), ACK);
	assert_int_equal(fake_kvm.slots, BIT(0));
	assert_int_equal(fake_kvm.slot_calls, 1);
	assert_int_equal(request(f, PLUG, 0, 1, NULL), ACK);
	assert_int_equal(fake_kvm.slot_calls, 1); /* it was there */
	assert_int_equal(request(f, PLUG, SLOT - BLOCK, 66, NULL), ACK);
	assert_int_equal(fake_kvm.slots, BIT(0) | BIT(1) | BIT(2));
	assert_int_equal(field(f, NOW), 69 * BLOCK);
	assert_true(
		gmem_contains(f->ring.mem, REGION + SLOT - BLOCK, 66 * BLOCK));
	assert_false(gmem_contains(f->ring.mem, REGION + BLOCK, 1));
	assert_int_equal(state_of(f, 0, 1), PLUGGED);
	assert_int_equal(state_of(f, BLOCK, 2), UNPLUGGED);
	assert_int_equal(state_of(f, 0, 2), MIXED);
	assert_int_equal(f->metrics.hotplug.plug_count.value, 3);
	assert_int_equal(f->metrics.hotplug.plug_bytes.value, 69 * BLOCK);
	assert_int_equal(f->metrics.hotplug.plug_fails.value, 0);
	assert_int_equal(f->metrics.hotplug.state_count.value, 3);
}

static void test_requests_out_of_place_are_errors(void **state)
{
	static const struct {
		uint64_t off;
		uint16_t blocks;
	} cases[] = {
		{0, 0},
		{1, 1},
		{4096, 1},
		{BLOCK - 1, 1},
		{-BLOCK, 1},
		{-BLOCK, 2},
		{2 * SLOT, 1},
		{2 * SLOT - BLOCK, 2},
		{0, UINT16_MAX},
		{MIB(512), 1},
		{-REGION, 1},
		{UINT64_MAX - REGION, 1},
		{-REGION - BLOCK, 1},
		{-REGION - BLOCK, UINT16_MAX},
		{2 * SLOT + BLOCK, 1},
	};
	struct fixture *f = *state;

	resize(f, 256);
	for (uint16_t type = 0; type < 4; type++)
		for (size_t i = 0; i < ARRAY_SIZE(cases) && type != UNPLUG_ALL;
		     i++)
			assert_int_equal(request(f, type, cases[i].off,
						 cases[i].blocks, NULL),
					 ERROR);
	assert_int_equal(field(f, NOW), 0);
	assert_int_equal(f->metrics.hotplug.plug_fails.value,
			 ARRAY_SIZE(cases));
	assert_int_equal(f->metrics.hotplug.unplug_fails.value,
			 ARRAY_SIZE(cases));
	assert_int_equal(f->metrics.hotplug.state_fails.value,
			 ARRAY_SIZE(cases));
}

static void test_blocks_are_plugged_and_unplugged_once(void **state)
{
	struct fixture *f = *state;

	resize(f, 256);
	assert_int_equal(request(f, PLUG, BLOCK, 2, NULL), ACK);
	assert_int_equal(request(f, PLUG, BLOCK, 1, NULL), ERROR);
	assert_int_equal(request(f, PLUG, 0, 2, NULL), ERROR);
	assert_int_equal(request(f, PLUG, 2 * BLOCK, 2, NULL), ERROR);
	assert_int_equal(request(f, UNPLUG, 0, 2, NULL), ERROR);
	assert_int_equal(request(f, UNPLUG, 2 * BLOCK, 2, NULL), ERROR);
	assert_int_equal(field(f, NOW), 2 * BLOCK);
	assert_int_equal(request(f, UNPLUG, BLOCK, 2, NULL), ACK);
	assert_int_equal(request(f, UNPLUG, BLOCK, 2, NULL), ERROR);
	assert_int_equal(field(f, NOW), 0);
}

static void test_no_more_is_plugged_than_requested(void **state)
{
	struct fixture *f = *state;

	resize(f, 6);
	assert_int_equal(request(f, PLUG, 0, 4, NULL), NACK);
	assert_int_equal(request(f, PLUG, 0, 2, NULL), ACK);
	assert_int_equal(request(f, PLUG, 8 * BLOCK, 2, NULL), NACK);
	assert_int_equal(request(f, PLUG, 8 * BLOCK, 1, NULL), ACK);
	assert_int_equal(request(f, PLUG, 9 * BLOCK, 1, NULL), NACK);
	resize(f, 2);
	assert_int_equal(request(f, PLUG, 9 * BLOCK, 1, NULL), NACK);
	assert_int_equal(field(f, NOW), 3 * BLOCK);
	assert_int_equal(f->metrics.hotplug.plug_fails.value, 0);
}

static void test_unplug_gives_memory_and_slots_back(void **state)
{
	struct fixture *f = *state;
	uint64_t value = 1;

	resize(f, 512);
	assert_int_equal(gmem_track_dirty(f->ring.mem), 0);
	assert_int_equal(request(f, PLUG, 0, 65, NULL), ACK);
	assert_int_equal(gmem_write(f->ring.mem, REGION, &value, 8), 0);
	assert_int_equal(gmem_write(f->ring.mem, REGION + SLOT, &value, 8), 0);
	assert_int_equal(request(f, UNPLUG, 0, 63, NULL), ACK);
	assert_int_equal(fake_kvm.slots, BIT(0) | BIT(1)); /* it has one more */
	assert_int_equal(request(f, UNPLUG, 63 * BLOCK, 2, NULL), ACK);
	assert_int_equal(fake_kvm.slots, 0);
	assert_int_equal(request(f, PLUG, 0, 65, NULL), ACK);
	assert_int_equal(gmem_read(f->ring.mem, REGION, &value, 8), 0);
	assert_int_equal(value, 0);
	assert_int_equal(gmem_read(f->ring.mem, REGION + SLOT, &value, 8), 0);
	assert_int_equal(value, 0);
	assert_true(gmem_page_dirty(f->ring.mem, REGION + 4096));
	assert_int_equal(f->metrics.hotplug.unplug_bytes.value, 65 * BLOCK);
	assert_int_equal(f->metrics.hotplug.unplug_discard_fails.value, 0);
}

static void test_unplug_all_shrinks_what_is_usable(void **state)
{
	struct fixture *f = *state;

	resize(f, 512);
	assert_int_equal(request(f, PLUG, 5 * BLOCK, 100, NULL), ACK);
	assert_int_equal(request(f, PLUG, MIB(510), 1, NULL), ACK);
	resize(f, 200);
	assert_int_equal(field(f, USABLE), MIB(512));
	slot_edges(&f->slot);
	virtio_device_acknowledge(f->slot.dev, UINT32_MAX);
	assert_int_equal(request(f, UNPLUG_ALL, 1, 0, NULL), ACK);
	assert_int_equal(field(f, NOW), 0);
	assert_int_equal(field(f, USABLE), MIB(256));
	assert_int_equal(fake_kvm.slots, 0);
	assert_false(gmem_contains(f->ring.mem, REGION + 5 * BLOCK, 1));
	/* of which the driver is not told but by the answer (5.15.4) */
	assert_int_equal(atomic_load(&f->slot.dev->interrupt_status), 1);
	assert_int_equal(request(f, UNPLUG_ALL, 0, 0, NULL), ACK);
	assert_int_equal(request(f, PLUG, MIB(256), 1, NULL), ERROR);
	assert_int_equal(f->metrics.hotplug.unplug_all_count.value, 2);
}

static void test_plug_that_kvm_refuses_leaves_nothing(void **state)
{
	struct fixture *f = *state;

	resize(f, 512);
	assert_int_equal(request(f, PLUG, 0, 1, NULL), ACK);
	fake_kvm.slot_fail = fake_kvm.slot_calls + 3;
	assert_int_equal(request(f, PLUG, BLOCK, 255, NULL), BUSY);
	assert_int_equal(fake_kvm.slots, BIT(0));
	assert_int_equal(field(f, NOW), BLOCK);
	assert_int_equal(state_of(f, BLOCK, 255), UNPLUGGED);
	assert_int_equal(f->metrics.hotplug.plug_fails.value, 1);
	assert_int_equal(request(f, PLUG, BLOCK, 255, NULL), ACK);
	assert_int_equal(fake_kvm.slots, 15);
	/* A slot that stays is no harm. */
	fake_kvm.slot_fail = fake_kvm.slot_calls + 1;
	assert_int_equal(request(f, UNPLUG_ALL, 0, 0, NULL), ACK);
	assert_int_equal(fake_kvm.slots, BIT(0));
	assert_int_equal(request(f, PLUG, 0, 1, NULL), ACK);
}

/* Where there is nobody to tell of it, memory stays ours, and vCPUs that wait
 * for a page would have KVM wait for them: devices alone have lost it. */
static void test_unplug_without_giving_back_is_counted(void **state)
{
	struct fixture *f = *state;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	resize(f, 128);
	assert_int_equal(request(f, PLUG, 0, 2, NULL), ACK);
	gmem_set_handler(f->ring.mem, ends[0]);
	close(ends[1]);
	assert_int_equal(request(f, UNPLUG, 0, 2, NULL), ACK);
	assert_int_equal(state_of(f, 0, 2), UNPLUGGED);
	assert_int_equal(fake_kvm.slots, BIT(0));
	assert_false(gmem_contains(f->ring.mem, REGION, 1));
	assert_int_equal(f->metrics.hotplug.unplug_discard_fails.value, 1);
	assert_int_equal(f->metrics.hotplug.unplug_fails.value, 0);
	gmem_set_handler(f->ring.mem, -1);
	close(ends[0]);
}

static void test_plug_without_a_fault_handler_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	resize(f, 256);
	gmem_set_handler(f->ring.mem, ends[0]);
	assert_int_equal(request(f, PLUG, 0, 1, NULL), ACK);
	close(ends[1]);
	fake_kvm.slot_calls = 0;
	assert_int_equal(request(f, PLUG, SLOT, 1, NULL), BUSY);
	assert_int_equal(request(f, UNPLUG, 0, 1, NULL), ACK);
	assert_int_equal(fake_kvm.slot_calls, 0);
	assert_int_equal(state_of(f, SLOT, 1), UNPLUGGED);
	gmem_set_handler(f->ring.mem, -1);
	close(ends[0]);
}

static void test_chains_that_are_no_requests(void **state)
{
	struct fixture *f = *state;
	le16 type;

	resize(f, 512);
	put_request(f, PLUG, REGION, 1);
	assert_int_equal(exchange(f, 24, 9), 0);
	assert_int_equal(exchange(f, 24, 0), 0);
	assert_int_equal(field(f, NOW), 0);
	assert_int_equal(exchange(f, 23, 10), 10);
	assert_int_equal(gmem_read(f->ring.mem, RESPONSE, &type, 2), 0);
	assert_int_equal(le16_get(type), ERROR);
	assert_int_equal(exchange(f, 4096, 4096), 10); /* more than it takes */
	assert_int_equal(field(f, NOW), BLOCK);
	assert_int_equal(request(f, 4, 0, 1, NULL), ERROR);
	assert_int_equal(request(f, UINT16_MAX, 0, 1, NULL), ERROR);
	assert_int_equal(f->metrics.hotplug.queue_event_fails.value, 5);
	assert_true(f->slot.dev->active);
}

static void test_response_outside_of_ram_is_dropped(void **state)
{
	struct fixture *f = *state;
	uint32_t id, used;

	resize(f, 4);
	put_request(f, PLUG, REGION, 1);
	ring_set_desc(&f->ring, 0, REQUEST, 24, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, REGION + BLOCK, 10, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	slot_kick(&f->slot, 0);
	assert_true(ring_take(&f->ring, &id, &used));
	assert_int_equal(used, 0);
	/* What it plugs itself is RAM by then. */
	put_request(f, PLUG, REGION + BLOCK, 1);
	ring_publish(&f->ring, 0);
	slot_kick(&f->slot, 0);
	assert_true(ring_take(&f->ring, &id, &used));
	assert_int_equal(used, 10);
}

static void test_broken_ring_needs_a_reset(void **state)
{
	struct fixture *f = *state;

	ring_set_driver_idx(&f->ring, 100);
	slot_kick(&f->slot, 0);
	assert_true(f->slot.dev->status & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(f->metrics.hotplug.queue_event_fails.value, 1);
}

static void test_reset_changes_no_block(void **state)
{
	struct fixture *f = *state;

	resize(f, 256);
	assert_int_equal(request(f, PLUG, 0, 65, NULL), ACK);
	pthread_mutex_lock(&f->slot.dev->lock);
	virtio_device_reset(f->slot.dev);
	pthread_mutex_unlock(&f->slot.dev->lock);
	start(f);
	assert_int_equal(field(f, NOW), 65 * BLOCK);
	assert_int_equal(field(f, REQUESTED), MIB(256));
	assert_int_equal(state_of(f, 0, 65), PLUGGED);
	assert_int_equal(fake_kvm.slots, 3);
}

/* ------------------------------------------------------------- large requests
 */

/* Sends it and lets the loop come round once; the response comes later. */
static void begin(struct fixture *f, uint16_t type, uint16_t blocks)
{
	put_request(f, type, REGION, blocks);
	ring_set_desc(&f->ring, 0, REQUEST, 24, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, RESPONSE, 10, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	pthread_mutex_lock(&f->slot.dev->lock);
	assert_true(virtio_device_queue_event(f->slot.dev, 0));
	pthread_mutex_unlock(&f->slot.dev->lock);
}

static bool answered(struct fixture *f)
{
	uint32_t id, used;

	return ring_take(&f->ring, &id, &used) && used == 10;
}

static void test_large_requests_take_turns(void **state)
{
	struct fixture *f = *state;
	struct hotplug_status status;

	resize(f, 512);
	begin(f, PLUG, BLOCKS);
	mem_device_status(f->device, &status);
	assert_int_equal(status.plugged_size_mib, 256);
	assert_false(answered(f));
	resize(f, 128); /* meanwhile */
	slot_kick(&f->slot, 0);
	assert_true(answered(f));
	assert_int_equal(field(f, NOW), MIB(512));
	begin(f, UNPLUG, BLOCKS);
	assert_int_equal(field(f, NOW), MIB(496));
	assert_int_equal(fake_kvm.slots, 15);
	slot_kick(&f->slot, 0);
	assert_true(answered(f));
	assert_int_equal(fake_kvm.slots, 0);
	assert_int_equal(f->metrics.hotplug.unplug_bytes.value, MIB(512));
	assert_int_equal(f->metrics.hotplug.unplug_count.value, 1);
	resize(f, 512);
	assert_int_equal(request(f, PLUG, 0, BLOCKS, NULL), ACK);
	begin(f, UNPLUG_ALL, 0);
	assert_int_equal(field(f, NOW), MIB(496));
	assert_int_equal(field(f, USABLE), MIB(512));
	slot_kick(&f->slot, 0);
	assert_true(answered(f));
	assert_int_equal(field(f, NOW), 0);
}

static void test_reset_between_turns_leaves_what_is_done(void **state)
{
	struct fixture *f = *state;

	resize(f, 512);
	assert_int_equal(request(f, PLUG, 0, BLOCKS, NULL), ACK);
	begin(f, UNPLUG, BLOCKS);
	pthread_mutex_lock(&f->slot.dev->lock);
	virtio_device_reset(f->slot.dev);
	pthread_mutex_unlock(&f->slot.dev->lock);
	start(f);
	slot_kick(&f->slot, 0);
	assert_false(answered(f));
	assert_int_equal(field(f, NOW), MIB(496));
	assert_int_equal(state_of(f, 0, 8), UNPLUGGED);
	assert_int_equal(state_of(f, MIB(16), BLOCKS - 8), PLUGGED);
	/* A broken ring ends it as well. */
	begin(f, UNPLUG_ALL, 0);
	pthread_mutex_lock(&f->slot.dev->lock);
	virtio_device_needs_reset(f->slot.dev, "test");
	virtio_device_reset(f->slot.dev);
	pthread_mutex_unlock(&f->slot.dev->lock);
	start(f);
	assert_int_equal(state_of(f, MIB(32), BLOCKS - 16), PLUGGED);
}

static void test_plug_that_fails_in_its_second_turn_is_undone(void **state)
{
	struct fixture *f = *state;

	resize(f, 512);
	fake_kvm.slot_fail = fake_kvm.slot_calls + 4;
	assert_int_equal(request(f, PLUG, 0, BLOCKS, NULL), BUSY);
	assert_int_equal(fake_kvm.slots, 0);
	assert_int_equal(field(f, NOW), 0);
	assert_int_equal(f->metrics.hotplug.plug_bytes.value, 0);
	assert_int_equal(request(f, PLUG, 0, BLOCKS, NULL), ACK);
}

/* ---------------------------------------------------------------- snapshots */

/* The device's own section besides that of the memory. */
static void save(struct fixture *f, struct state_file *ret_file)
{
	struct state_writer writer;

	loop_enable_devices(f->loop, false);
	state_writer_init(&writer);
	virtio_mmio_save(f->slot.mmio, &writer, 0);
	mem_device_save(f->device, &writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_file_parse(ret_file, take_ptr(writer.bytes),
					  writer.len, NULL),
			 0);
}

struct clone {
	struct mem_device *device;
	struct gmem *mem;
	struct slot slot;
};

static int clone_load(struct fixture *f, struct clone *clone,
		      const struct state_file *file)
{
	uint8_t *bytes = malloc(RING_MEMORY);
	int ret;

	assert_int_equal(
		mem_device_create(&clone->device, &config, &f->metrics, NULL),
		0);
	ret = mem_device_load(clone->device, file, &f->err);
	clone->mem = make_memory(clone->device);
	assert_int_equal(gmem_read(f->ring.mem, 0, bytes, RING_MEMORY), 0);
	assert_int_equal(gmem_write(clone->mem, 0, bytes, RING_MEMORY), 0);
	free(bytes);
	slot_create(&clone->slot, mem_device_virtio(clone->device), f->loop,
		    clone->mem);
	mem_device_place(clone->device, &clone->slot.kvm, clone->mem);
	return ret ? ret : slot_load(&clone->slot, file, &f->err);
}

static void clone_destroy(struct clone *clone)
{
	slot_destroy(&clone->slot);
	gmem_destroy(clone->mem);
}

static void test_clone_has_what_was_plugged(void **state)
{
	struct fixture *f = *state;
	struct hotplug_status status;
	struct state_file file;
	struct clone clone;

	resize(f, 384);
	assert_int_equal(request(f, PLUG, BLOCK, 3, NULL), ACK);
	assert_int_equal(request(f, PLUG, SLOT, 64, NULL), ACK);
	resize(f, 100);
	save(f, &file);
	assert_int_equal(clone_load(f, &clone, &file), 0);
	mem_device_status(clone.device, &status);
	assert_int_equal(status.plugged_size_mib, 134);
	assert_int_equal(status.requested_size_mib, 100);
	assert_true(gmem_contains(clone.mem, REGION + BLOCK, 3 * BLOCK));
	assert_true(gmem_contains(clone.mem, REGION + SLOT, SLOT));
	assert_false(gmem_contains(clone.mem, REGION, 1));
	assert_memory_equal(clone.slot.dev->config, f->slot.dev->config, 56);
	assert_int_equal(clone.slot.dev->config_generation,
			 f->slot.dev->config_generation);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_snapshot_waits_for_the_end_of_a_request(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct clone clone;

	resize(f, 512);
	assert_int_equal(request(f, PLUG, 0, BLOCKS, NULL), ACK);
	begin(f, UNPLUG, BLOCKS - 1);
	save(f, &file);
	assert_true(answered(f));
	assert_int_equal(field(f, NOW), BLOCK);
	assert_int_equal(clone_load(f, &clone, &file), 0);
	assert_true(gmem_contains(clone.mem, REGION + MIB(510), BLOCK));
	assert_false(gmem_contains(clone.mem, REGION + MIB(508), 1));
	clone_destroy(&clone);
	state_file_release(&file);
}

/* Where it is in the file: behind a section's head. */
#define OFF_REQUESTED 12
#define OFF_USABLE (OFF_REQUESTED + 8)
#define OFF_BITS_LEN (OFF_USABLE + 8)
#define OFF_BITS (OFF_BITS_LEN + 4)

static size_t memory_section(const struct state_file *file)
{
	const uint8_t *at = memmem(file->bytes, file->len, "HPLG", 4);

	assert_non_null(at);
	return (size_t)(at - file->bytes);
}

static void test_hostile_state_is_refused(void **state)
{
	/* 384 MiB requested and usable, blocks 1 to 3 plugged */
	static const struct {
		size_t off;
		uint8_t value;
		const char *text;
	} cases[] = {
		{OFF_REQUESTED, 1, "requested"},
		{OFF_REQUESTED + 2, 1, "requested"},
		{OFF_REQUESTED + 3, 0x20, "requested"}, /* > usable */
		{OFF_REQUESTED + 7, 0xff, "requested"},
		{OFF_USABLE, 1, "requested"},
		{OFF_USABLE + 2, 2, "requested"},
		{OFF_USABLE + 3, 0x28, "requested"}, /* > total */
		{OFF_USABLE + 7, 0x80, "requested"},
		{OFF_BITS_LEN, 31, "HPLG"},
		{OFF_BITS_LEN, 33, "HPLG"},
		{OFF_BITS_LEN + 3, 0xff, "HPLG"},
		{OFF_BITS + 24, 1, "block 192 plugged, where only 192"},
		{OFF_BITS + 31, 0x80, "block 255 plugged"},
		{OFF_BITS, 0, "must be the same"}, /* not what the driver saw */
	};
	struct fixture *f = *state;
	struct state_file file, bad;
	struct clone clone;

	resize(f, 384);
	assert_int_equal(request(f, PLUG, BLOCK, 3, NULL), ACK);
	save(f, &file);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(file_damage(&file,
					memory_section(&file) + cases[i].off,
					cases[i].value, &bad));
		f->err.text[0] = '\0';
		assert_int_equal(clone_load(f, &clone, &bad), -EINVAL);
		if (!strstr(f->err.text, cases[i].text))
			fail_msg("%zu: %s", i, f->err.text);
		clone_destroy(&clone);
		state_file_release(&bad);
	}
	file_damage(&file, memory_section(&file), 'X', &bad);
	assert_int_equal(clone_load(f, &clone, &bad), -EINVAL);
	clone_destroy(&clone);
	state_file_release(&bad);
	state_file_release(&file);
}

static void test_state_of_another_size_is_refused(void **state)
{
	const struct hotplug_config larger = {2 * TOTAL_MIB, 2, 128};
	struct fixture *f = *state;
	struct mem_device *device = NULL;
	struct state_file file;

	save(f, &file);
	assert_int_equal(mem_device_create(&device, &larger, &f->metrics, NULL),
			 0);
	assert_int_equal(mem_device_load(device, &file, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.text, "32 bytes for 512 blocks"));
	virtio_device_destroy(mem_device_virtio(device));
	state_file_release(&file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_create_sizes_that_cannot_be_are_refused),
		TEST(test_config_space_says_where_and_how_much),
		TEST(test_device_is_placed_anew),
		TEST(test_driver_has_to_accept_inaccessible),
		TEST(test_resize_is_announced),
		TEST(test_resize_to_sizes_that_cannot_be_is_refused),
		TEST(test_plug_makes_memory_and_slots),
		TEST(test_requests_out_of_place_are_errors),
		TEST(test_blocks_are_plugged_and_unplugged_once),
		TEST(test_no_more_is_plugged_than_requested),
		TEST(test_unplug_gives_memory_and_slots_back),
		TEST(test_unplug_all_shrinks_what_is_usable),
		TEST(test_plug_that_kvm_refuses_leaves_nothing),
		TEST(test_unplug_without_giving_back_is_counted),
		TEST(test_plug_without_a_fault_handler_is_not_waited_for),
		TEST(test_chains_that_are_no_requests),
		TEST(test_response_outside_of_ram_is_dropped),
		TEST(test_broken_ring_needs_a_reset),
		TEST(test_reset_changes_no_block),
		TEST(test_large_requests_take_turns),
		TEST(test_reset_between_turns_leaves_what_is_done),
		TEST(test_plug_that_fails_in_its_second_turn_is_undone),
		TEST(test_clone_has_what_was_plugged),
		TEST(test_snapshot_waits_for_the_end_of_a_request),
		TEST(test_hostile_state_is_refused),
		TEST(test_state_of_another_size_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
