/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory device under requests of any kind, beside a simple model of it that
 * knows what must be answered, and what there is afterwards: blocks, slots of
 * KVM, sizes. The input is a list of orders: requests, new sizes, resets.
 *
 * Where the input begins with an odd byte, the rest is a state file's section
 * of pluggable memory instead. What loads must be such as a device can have.
 */
#include "tests/fake/slot.h"
#include "virtio/mem.h"
#include "vmm/log.h"

#include <assert.h>
#include <string.h>

#define REGION GIB(512)
#define BLOCK MIB(2)
#define SLOT MIB(128)
#define TOTAL_MIB 256
#define BLOCKS (TOTAL_MIB / 2)
#define SLOT_BLOCKS 64
#define REQUEST RING_DATA
#define RESPONSE (RING_DATA + 0x1000)
#define ORDER_BYTES 6
#define ORDERS_MAX 64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };

static const struct hotplug_config config = {TOTAL_MIB, 2, 128};
static struct loop *loop;

struct guest {
	struct ring ring;
	struct slot slot;
	struct metrics metrics;
	struct mem_device *device;
	/* what the model knows */
	bool plugged[BLOCKS];
	uint64_t requested, usable; /* blocks */
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	return log_configure(&quiet, NULL) || loop_create(&loop) ? -1 : 0;
}

/* ------------------------------------------------------------------- guest */

static void make_memory(struct guest *guest)
{
	static const struct gmem_range ranges[] = {{0, RING_MEMORY},
						   {REGION, MIB(TOTAL_MIB)}};
	const struct gmem_pluggable pluggable =
		mem_device_pluggable(guest->device);

	gmem_destroy(guest->ring.mem);
	guest->ring.mem = NULL;
	if (gmem_create(&guest->ring.mem,
			&(const struct gmem_request){.ranges = ranges,
						     .count = 2,
						     .pluggable = &pluggable,
						     .fd = -1},
			NULL))
		abort();
}

static void start(struct guest *guest)
{
	struct ring *const rings[] = {&guest->ring};

	guest->ring.driver_idx = guest->ring.device_idx = 0;
	ring_set_driver_idx(&guest->ring, 0);
	if (gmem_zero(guest->ring.mem, RING_DEVICE, 4))
		abort();
	slot_activate(&guest->slot, rings, UINT64_MAX);
}

static void create(struct guest *guest, const struct state_file *file)
{
	struct error err = {0};

	if (ring_create(&guest->ring, 16) ||
	    mem_device_create(&guest->device, &config, &guest->metrics, NULL))
		abort();
	if (file && mem_device_load(guest->device, file, &err))
		assert(err.text[0]);
	make_memory(guest);
	slot_create(&guest->slot, mem_device_virtio(guest->device), loop,
		    guest->ring.mem);
	mem_device_place(guest->device, &guest->slot.kvm, guest->ring.mem);
}

static void destroy(struct guest *guest)
{
	slot_destroy(&guest->slot);
	ring_destroy(&guest->ring);
}

static uint64_t field(const struct guest *guest, size_t off)
{
	le64 value;

	virtio_device_read_config(guest->slot.dev, off, (uint8_t *)&value,
				  sizeof(value));
	return le64_get(value);
}

/* ------------------------------------------------------------------- model */

static uint64_t count(const struct guest *guest, uint64_t first, uint64_t n)
{
	uint64_t found = 0;

	for (uint64_t i = first; i < first + n; i++)
		found += guest->plugged[i];
	return found;
}

static void set(struct guest *guest, uint64_t first, uint64_t n, bool plugged)
{
	for (uint64_t i = first; i < first + n; i++)
		guest->plugged[i] = plugged;
}

static uint64_t whole_slots(uint64_t blocks)
{
	return (blocks + SLOT_BLOCKS - 1) / SLOT_BLOCKS * SLOT_BLOCKS;
}

/* What must be answered; the state of the blocks in *@ret_state. */
static uint16_t expect(struct guest *guest, uint16_t type, int64_t off,
		       uint16_t n, uint16_t *ret_state)
{
	uint64_t first = (uint64_t)off / BLOCK, there;

	if (type == UNPLUG_ALL) {
		set(guest, 0, BLOCKS, false);
		guest->usable = whole_slots(guest->requested);
		return ACK;
	}
	if (type > STATE || off < 0 || off % (int64_t)BLOCK || n == 0 ||
	    first + n > guest->usable)
		return ERROR;
	there = count(guest, first, n);
	if (type == STATE) {
		*ret_state = there == n ? 0 : there == 0 ? 1 : 2;
		return ACK;
	}
	if (there != (type == UNPLUG ? n : 0))
		return ERROR;
	if (type == PLUG && count(guest, 0, BLOCKS) + n > guest->requested)
		return NACK;
	set(guest, first, n, type == PLUG);
	return ACK;
}

static void check(const struct guest *guest)
{
	uint64_t slots = 0;

	for (uint64_t i = 0; i < BLOCKS; i++) {
		assert(gmem_contains(guest->ring.mem, REGION + i * BLOCK,
				     BLOCK) == guest->plugged[i]);
		if (guest->plugged[i])
			slots |= BIT(i / SLOT_BLOCKS);
	}
	assert(fake_kvm.slots == slots);
	assert(field(guest, 32) == guest->usable * BLOCK);
	assert(field(guest, 40) == count(guest, 0, BLOCKS) * BLOCK);
	assert(field(guest, 48) == guest->requested * BLOCK);
}

/* ------------------------------------------------------------------ orders */

static void ask(struct guest *guest, uint16_t type, int64_t off, uint16_t n)
{
	const struct {
		le16 type, padding[3];
		le64 addr;
		le16 blocks, more[3];
	} request = {.type = le16_make(type),
		     .addr = le64_make(REGION + (uint64_t)off),
		     .blocks = le16_make(n)};
	uint16_t state = 0, want = expect(guest, type, off, n, &state);
	le16 response[5];
	uint32_t id, used;

	if (gmem_write(guest->ring.mem, REQUEST, &request, sizeof(request)))
		abort();
	ring_set_desc(&guest->ring, 0, REQUEST, 24, RING_NEXT, 1);
	ring_set_desc(&guest->ring, 1, RESPONSE, 10, RING_WRITE, 0);
	ring_publish(&guest->ring, 0);
	slot_kick(&guest->slot, 0);
	assert(ring_take(&guest->ring, &id, &used) && used == 10);
	if (gmem_read(guest->ring.mem, RESPONSE, response, sizeof(response)))
		abort();
	assert(le16_get(response[0]) == want);
	assert(le16_get(response[4]) == state);
}

static void resize(struct guest *guest, uint64_t mib)
{
	int ret = mem_device_resize(guest->device, mib, NULL);

	assert(!ret == (mib % 2 == 0 && mib <= TOTAL_MIB));
	if (ret)
		return;
	guest->requested = mib / 2;
	guest->usable = MAX(guest->usable, whole_slots(guest->requested));
}

static void obey(struct guest *guest, const uint8_t *order)
{
	/* Mostly whole blocks, near the region. */
	int64_t off = (int8_t)order[1] * (int64_t)BLOCK + order[2] % 4 / 3;
	uint16_t n = (uint16_t)(order[3] | (order[4] & 1 ? order[5] << 8 : 0));

	switch (order[0] % 8) {
	case 6:
		resize(guest, order[1] | (uint64_t)(order[2] & 1) << 8);
		break;
	case 7:
		pthread_mutex_lock(&guest->slot.dev->lock);
		virtio_device_reset(guest->slot.dev);
		pthread_mutex_unlock(&guest->slot.dev->lock);
		start(guest);
		break;
	default:
		ask(guest, order[0] % 8, off, n);
		break;
	}
	check(guest);
}

static void run_orders(const uint8_t *data, size_t size)
{
	struct guest guest = {0};

	create(&guest, NULL);
	start(&guest);
	for (size_t i = 0; i < ORDERS_MAX && size >= ORDER_BYTES;
	     i++, data += ORDER_BYTES, size -= ORDER_BYTES)
		obey(&guest, data);
	destroy(&guest);
}

/* ------------------------------------------------------------------- state */

static void save(struct mem_device *device, struct state_file *ret_file)
{
	struct state_writer writer;

	state_writer_init(&writer);
	mem_device_save(device, &writer);
	if (state_writer_finish(&writer) ||
	    state_file_parse(ret_file, take_ptr(writer.bytes), writer.len,
			     NULL))
		abort();
}

static void load_section(const uint8_t *data, size_t size)
{
	struct guest guest = {0}, clone = {0};
	struct state_writer writer;
	struct state_file file, again;

	state_writer_init(&writer);
	state_begin(&writer, STATE_TAG('H', 'P', 'L', 'G'), 1, 0);
	state_put(&writer, data, size);
	state_end(&writer);
	if (state_writer_finish(&writer) ||
	    state_file_parse(&file, take_ptr(writer.bytes), writer.len, NULL))
		abort();
	create(&guest, &file);
	assert(field(&guest, 32) <= MIB(TOTAL_MIB) &&
	       field(&guest, 32) % SLOT == 0);
	assert(field(&guest, 40) <= field(&guest, 32));
	assert(field(&guest, 48) <= field(&guest, 32));
	save(guest.device, &again);
	create(&clone, &again);
	assert(!memcmp(guest.slot.dev->config, clone.slot.dev->config,
		       VIRTIO_CONFIG_MAX));
	destroy(&clone);
	destroy(&guest);
	state_file_release(&file);
	state_file_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 4096)
		return 0;
	if (data[0] & 1)
		load_section(data + 1, size - 1);
	else
		run_orders(data + 1, size - 1);
	return 0;
}
