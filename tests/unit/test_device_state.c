/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading of what all devices share, and of block devices. */
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/block.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define RING_SIZE 16
#define SECTORS 16
#define HEADER(i) (RING_DATA + (i)*UINT64_C(0x1000))
#define DATA(i) (HEADER(i) + 0x100)
#define STATUS(i) (HEADER(i) + 0xf00)
#define EVENT_IDX BIT(VIRTIO_F_EVENT_IDX)
#define ALL UINT64_MAX

/* Of a section, behind its head: where it is, then the device. */
#define OFF_SECTION 28
#define OFF_ID (OFF_SECTION + 24)
#define OFF_STATUS (OFF_ID + 6)
#define OFF_FEATURES (OFF_STATUS + 1)
#define OFF_DRIVER_FEATURES (OFF_FEATURES + 8)
#define OFF_INTERRUPT (OFF_DRIVER_FEATURES + 12)
#define OFF_CONFIG (OFF_INTERRUPT + 6)
#define OFF_QUEUE (OFF_CONFIG + VIRTIO_CONFIG_MAX)
#define OFF_NEXT_AVAIL (OFF_QUEUE + 28)

struct fixture {
	struct ring ring; /* of the guest that is saved */
	struct loop *loop;
	struct block_metrics metrics;
	struct slot slot;
	int disk;
	char path[32];
};

static struct drive_config config_of(struct fixture *f)
{
	return (struct drive_config){
		.drive_id = f->path,
		.path_on_host = f->path,
		.cache_type = CACHE_WRITEBACK,
	};
}

static void create(struct fixture *f, struct slot *slot,
		   const struct drive_config *config, struct gmem *mem)
{
	struct block *block = NULL;

	assert_int_equal(block_create(&block, config, &f->metrics, NULL), 0);
	slot_create(slot, block_virtio(block), f->loop, mem);
}

static void start(struct fixture *f, uint64_t features)
{
	const struct drive_config config = config_of(f);
	struct ring *const rings[] = {&f->ring};

	create(f, &f->slot, &config, f->ring.mem);
	slot_activate(&f->slot, rings, features);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->disk = memfd_create("disk", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->disk, SECTORS * 512), 0);
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->disk);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->ring, RING_SIZE), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->slot.mmio)
		slot_destroy(&f->slot);
	ring_destroy(&f->ring);
	loop_destroy(f->loop);
	close_fd(&f->disk);
	free(f);
	return 0;
}

/* A second microVM, on a copy of what the first has in memory. */
struct clone {
	struct ring ring;
	struct slot slot;
};

static int clone_load(struct fixture *f, struct clone *clone,
		      const struct drive_config *config,
		      const struct state_file *file, struct error *err)
{
	clone->ring = f->ring;
	clone->ring.mem = memory_copy(f->ring.mem);
	create(f, &clone->slot, config, clone->ring.mem);
	loop_enable_devices(f->loop, true);
	return slot_load(&clone->slot, file, err);
}

static void clone_destroy(struct clone *clone)
{
	slot_destroy(&clone->slot);
	ring_destroy(&clone->ring);
}

/* Publishes a write of byte @value to sector @i, with its own descriptors. */
static void post_write(struct ring *ring, uint16_t i, uint8_t value)
{
	const struct {
		le32 type, reserved;
		le64 sector;
	} header = {le32_make(1), {0}, le64_make(i)};
	uint16_t first = (uint16_t)(3 * i);
	uint8_t data[512];

	memset(data, value, sizeof(data));
	assert_int_equal(
		gmem_write(ring->mem, HEADER(i), &header, sizeof(header)), 0);
	assert_int_equal(gmem_write(ring->mem, DATA(i), data, 512), 0);
	ring_set_desc(ring, first, HEADER(i), 16, RING_NEXT,
		      (uint16_t)(first + 1));
	ring_set_desc(ring, (uint16_t)(first + 1), DATA(i), 512, RING_NEXT,
		      (uint16_t)(first + 2));
	ring_set_desc(ring, (uint16_t)(first + 2), STATUS(i), 1, RING_WRITE, 0);
	ring_publish(ring, first);
}

static bool came_back(struct ring *ring, uint16_t i)
{
	uint32_t id, len;

	return ring_take(ring, &id, &len) && id == 3u * i && len == 1;
}

static uint8_t sector_byte(struct fixture *f, uint16_t i)
{
	uint8_t byte = 0;

	assert_int_equal(pread(f->disk, &byte, 1, i * 512), 1);
	return byte;
}

/* Half of the requests are served before, one is not taken back yet, the other
 * half is published and its kick lost. */
static void go_on(struct fixture *f, uint64_t features)
{
	const struct drive_config config = config_of(f);
	struct error err = {0};
	struct state_file file;
	struct clone clone;

	start(f, features);
	post_write(&f->ring, 0, 10);
	post_write(&f->ring, 1, 11);
	slot_kick(&f->slot, 0);
	assert_true(slot_edges(&f->slot) > 0);
	assert_true(came_back(&f->ring, 0));
	post_write(&f->ring, 2, 12);
	post_write(&f->ring, 3, 13);
	slot_save(&f->slot, &file);
	assert_int_equal(sector_byte(f, 2), 0);

	assert_int_equal(clone_load(f, &clone, &config, &file, &err), 0);
	assert_int_equal(slot_edges(&clone.slot), 1); /* not acknowledged */
	assert_int_equal(sector_byte(f, 2), 0);	      /* by the loop only */
	turn_briefly(f->loop);
	for (uint16_t i = 1; i < 4; i++)
		assert_true(came_back(&clone.ring, i));
	assert_false(came_back(&clone.ring, 0)); /* nothing twice */
	assert_int_equal(sector_byte(f, 3), 13);

	/* no second edge without an acknowledgement, and one after it */
	assert_int_equal(slot_edges(&clone.slot), 0);
	virtio_device_acknowledge(clone.slot.dev, 1);
	ring_set_used_event(&clone.ring, 4);
	post_write(&clone.ring, 4, 14);
	slot_kick(&clone.slot, 0);
	assert_true(came_back(&clone.ring, 4));
	assert_int_equal(slot_edges(&clone.slot), 1);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_clone_goes_on_without_event_idx(void **state)
{
	go_on(*state, ~EVENT_IDX);
}

static void test_clone_goes_on_with_event_idx(void **state)
{
	go_on(*state, ALL);
}

/* With EVENT_IDX an interrupt is due when used_event is passed since the last
 * one: where that was must survive. */
static void test_clone_remembers_what_was_signalled(void **state)
{
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct state_file file;
	struct clone clone;

	start(f, ALL);
	post_write(&f->ring, 0, 1);
	slot_kick(&f->slot, 0);
	virtio_device_acknowledge(f->slot.dev, 1);
	ring_set_used_event(&f->ring, 3); /* not for the next */
	slot_save(&f->slot, &file);
	assert_int_equal(clone_load(f, &clone, &config, &file, NULL), 0);
	assert_int_equal(slot_edges(&clone.slot), 0);
	post_write(&clone.ring, 1, 1);
	slot_kick(&clone.slot, 0);
	assert_int_equal(slot_edges(&clone.slot), 0);
	post_write(&clone.ring, 2, 1);
	post_write(&clone.ring, 3, 1);
	slot_kick(&clone.slot, 0);
	assert_int_equal(slot_edges(&clone.slot), 1);
	clone_destroy(&clone);
	state_file_release(&file);
}

/* Ring and device as after so many requests. */
static void stand_at(struct fixture *f, uint16_t idx)
{
	struct queue *queue = &f->slot.dev->queues[0];
	const le16 le = le16_make(idx);

	queue->next_avail = queue->next_used = queue->signalled = idx;
	queue->signalled_valid = true;
	f->ring.device_idx = idx;
	ring_set_driver_idx(&f->ring, idx);
	ring_set_used_event(&f->ring, idx);
	assert_int_equal(
		gmem_write(f->ring.mem, RING_DEVICE + 2, &le, sizeof(le)), 0);
}

/* Indices wrap around between the last interrupt and the next. */
static void test_clone_goes_on_where_indices_wrap(void **state)
{
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct state_file file;
	struct clone clone;

	start(f, ALL);
	stand_at(f, UINT16_MAX - 1);
	ring_set_used_event(&f->ring, UINT16_MAX); /* the second */
	post_write(&f->ring, 0, 1);
	slot_kick(&f->slot, 0);
	assert_int_equal(slot_edges(&f->slot), 0);
	post_write(&f->ring, 1, 1);
	post_write(&f->ring, 2, 1);
	slot_save(&f->slot, &file);
	assert_int_equal(clone_load(f, &clone, &config, &file, NULL), 0);
	slot_kick(&clone.slot, 0);
	assert_int_equal(slot_edges(&clone.slot), 1);
	for (uint16_t i = 0; i < 3; i++)
		assert_true(came_back(&clone.ring, i));
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_original_goes_on(void **state)
{
	struct fixture *f = *state;
	struct state_file file;

	start(f, ALL);
	post_write(&f->ring, 0, 10);
	slot_kick(&f->slot, 0);
	assert_int_equal(slot_edges(&f->slot), 1);
	post_write(&f->ring, 1, 11);
	slot_save(&f->slot, &file);
	state_file_release(&file);
	slot_resume(&f->slot);
	assert_int_equal(slot_edges(&f->slot), 1);
	turn_briefly(f->loop);
	assert_true(came_back(&f->ring, 0));
	assert_true(came_back(&f->ring, 1));
	assert_false(came_back(&f->ring, 1));
}

/* Two saves in a row of a device that did nothing are the same. */
static void test_save_twice_gives_the_same(void **state)
{
	struct fixture *f = *state;
	struct state_file one, two;

	start(f, ALL);
	post_write(&f->ring, 0, 10);
	slot_save(&f->slot, &one);
	slot_save(&f->slot, &two);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.bytes, two.bytes, one.len);
	state_file_release(&one);
	state_file_release(&two);
}

static bool rings_dirty(const struct fixture *f)
{
	return gmem_page_dirty(f->ring.mem, RING_DESC) &&
	       gmem_page_dirty(f->ring.mem, RING_DRIVER) &&
	       gmem_page_dirty(f->ring.mem, RING_DEVICE);
}

/* Others may write to them through pointers of their own. */
static void test_rings_are_changed_at_every_save(void **state)
{
	uint64_t bits[RING_MEMORY / PAGE_SIZE_4K / 64 + 1];
	struct fixture *f = *state;
	struct state_file file;

	start(f, ALL);
	assert_int_equal(gmem_track_dirty(f->ring.mem), 0);
	for (int i = 0; i < 2; i++) {
		assert_false(rings_dirty(f));
		slot_save(&f->slot, &file);
		state_file_release(&file);
		assert_true(rings_dirty(f));
		memset(bits, 0, sizeof(bits));
		gmem_take_dirty(f->ring.mem, bits);
	}
}

static uint32_t read_register(struct slot *slot, uint64_t off)
{
	uint8_t data[4];
	le32 value;

	bus_read(&slot->bus, SLOT_BASE + off, data, sizeof(data));
	memcpy(&value, data, sizeof(value));
	return le32_get(value);
}

static void write_register(struct slot *slot, uint64_t off, uint32_t value)
{
	const le32 le = le32_make(value);
	uint8_t data[4];

	memcpy(data, &le, sizeof(le));
	bus_write(&slot->bus, SLOT_BASE + off, data, sizeof(data));
}

/* A driver that was interrupted between any two steps of its initialisation
 * finds the registers as they were. */
static void test_driver_in_the_middle_of_its_setup_goes_on(void **state)
{
	static const struct {
		uint64_t off;
		uint32_t value;
	} steps[] = {
		{0x70, 1},	     {0x70, 3},		  {0x24, 1},
		{0x20, 1},	     {0x24, 0},		  {0x20, 1 << 9},
		{0x70, 11},	     {0x38, RING_SIZE},	  {0x80, RING_DESC},
		{0x90, RING_DRIVER}, {0xa0, RING_DEVICE}, {0x44, 1},
		{0x70, 15},
	};
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);

	create(f, &f->slot, &config, f->ring.mem);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct state_file file;
		struct clone clone;

		write_register(&f->slot, steps[i].off, steps[i].value);
		slot_save(&f->slot, &file);
		assert_int_equal(clone_load(f, &clone, &config, &file, NULL),
				 0);
		for (size_t k = i + 1; k < ARRAY_SIZE(steps); k++)
			write_register(&clone.slot, steps[k].off,
				       steps[k].value);
		assert_int_equal(read_register(&clone.slot, 0x70), 15);
		post_write(&clone.ring, 0, (uint8_t)(i + 1));
		slot_kick(&clone.slot, 0);
		assert_true(came_back(&clone.ring, 0));
		assert_int_equal(sector_byte(f, 0), i + 1);
		clone_destroy(&clone);
		state_file_release(&file);
	}
}

static void test_selected_queue_is_kept(void **state)
{
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct state_file file;
	struct clone clone;

	create(f, &f->slot, &config, f->ring.mem);
	write_register(&f->slot, 0x30, 1);
	slot_save(&f->slot, &file);
	assert_int_equal(clone_load(f, &clone, &config, &file, NULL), 0);
	assert_int_equal(read_register(&clone.slot, 0x34), 0); /* none */
	write_register(&clone.slot, 0x30, 0);
	assert_int_equal(read_register(&clone.slot, 0x34), QUEUE_SIZE_MAX);
	clone_destroy(&clone);
	state_file_release(&file);
}

/* A queue that was not in use begins at its beginning, whatever a file says. */
static void test_positions_of_an_unused_queue_are_not_believed(void **state)
{
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct ring *rings[1];
	struct state_file file, bad;
	struct clone clone;

	create(f, &f->slot, &config, f->ring.mem);
	slot_save(&f->slot, &file);
	assert_true(file_damage(&file, OFF_NEXT_AVAIL, 9, &bad));
	assert_int_equal(clone_load(f, &clone, &config, &bad, NULL), 0);
	rings[0] = &clone.ring;
	slot_activate(&clone.slot, rings, ALL);
	post_write(&clone.ring, 0, 1);
	slot_kick(&clone.slot, 0);
	assert_true(came_back(&clone.ring, 0));
	clone_destroy(&clone);
	state_file_release(&bad);
	state_file_release(&file);
}

static void test_device_that_needs_reset_still_does(void **state)
{
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct state_file file;
	struct clone clone;

	start(f, ALL);
	ring_publish(&f->ring, RING_SIZE); /* no such descriptor */
	slot_kick(&f->slot, 0);
	slot_save(&f->slot, &file);
	assert_int_equal(clone_load(f, &clone, &config, &file, NULL), 0);
	assert_int_equal(read_register(&clone.slot, 0x70), 15 | 64);
	assert_int_equal(read_register(&clone.slot, 0x60), 2);
	assert_int_equal(slot_edges(&clone.slot), 1);
	assert_false(clone.slot.dev->active);
	write_register(&clone.slot, 0x70, 0);
	assert_int_equal(clone.slot.dev->queues[0].next_avail, 0);
	clone_destroy(&clone);
	state_file_release(&file);
}

/* The driver has seen a change already: the next has another number. */
static void test_other_capacity_is_told_to_the_driver(void **state)
{
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct state_file file;
	struct clone clone;

	start(f, ALL);
	f->slot.dev->config_generation = 7;
	slot_save(&f->slot, &file);
	assert_int_equal(ftruncate(f->disk, 2 * SECTORS * 512), 0);
	assert_int_equal(clone_load(f, &clone, &config, &file, NULL), 0);
	assert_int_equal(read_register(&clone.slot, 0x100), 2 * SECTORS);
	assert_int_equal(read_register(&clone.slot, 0xfc), 8);
	assert_int_equal(read_register(&clone.slot, 0x60), 2);
	assert_int_equal(slot_edges(&clone.slot), 1);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_other_capacity_before_the_driver_is_up_is_silent(void **state)
{
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct state_file file;
	struct clone clone;

	create(f, &f->slot, &config, f->ring.mem);
	slot_save(&f->slot, &file);
	assert_int_equal(ftruncate(f->disk, 2 * SECTORS * 512), 0);
	assert_int_equal(clone_load(f, &clone, &config, &file, NULL), 0);
	assert_int_equal(read_register(&clone.slot, 0x100), 2 * SECTORS);
	assert_int_equal(read_register(&clone.slot, 0x60), 0);
	assert_int_equal(slot_edges(&clone.slot), 0);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_limiter_state_is_kept(void **state)
{
	struct fixture *f = *state;
	struct drive_config config = config_of(f);
	struct ring *const rings[] = {&f->ring};
	struct state_file file;
	struct clone clone;

	config.rate_limiter.values.ops = (struct token_bucket_config){
		.size = 1, .refill_time_ms = 3600000};
	create(f, &f->slot, &config, f->ring.mem);
	slot_activate(&f->slot, rings, ALL);
	post_write(&f->ring, 0, 1);
	post_write(&f->ring, 1, 1);
	slot_kick(&f->slot, 0);
	assert_true(came_back(&f->ring, 0));
	slot_save(&f->slot, &file);
	assert_int_equal(clone_load(f, &clone, &config, &file, NULL), 0);
	turn_briefly(f->loop);
	assert_false(came_back(&clone.ring, 1));
	assert_int_equal(sector_byte(f, 1), 0);
	clone_destroy(&clone);
	state_file_release(&file);
}

/* ---------------------------------------------------------------- refusals */

static void test_refusals_have_a_sentence(void **state)
{
	static const struct {
		size_t off;
		uint8_t value;
		const char *text;
	} cases[] = {
		{OFF_SECTION + 1, 0x20, "it is at 0xc0001000 with interrupt 5"},
		{OFF_SECTION + 8, 6, "in the snapshot at 0xc0001000 with 6"},
		{OFF_ID, 1, "device of type 1 there, not of type 2"},
		{OFF_ID + 4, 2, "it has 1 queues, not 2"},
		{OFF_STATUS, 7, "status 0x7 is not possible"},
		{OFF_STATUS, 64 | 11, "status 0x4b is not possible"},
		{OFF_FEATURES, 0x21, "features 0x21 of the snapshot are not"},
		{OFF_DRIVER_FEATURES, 1, "accepted features 0x1, which were"},
		{OFF_DRIVER_FEATURES + 4, 0, "did not accept VERSION_1"},
		{OFF_INTERRUPT, 4, "interrupt status 0x4 is not possible"},
		{OFF_INTERRUPT + 4, 9, "config space has 60 bytes, not 9"},
		{OFF_QUEUE, 15, "queue 0: queue size 15 is not a power of two"},
		{OFF_QUEUE + 1, 2, "queue 0: queue size 0 is not a power"},
		{OFF_QUEUE + 2, 0, "queue 0: it is not ready"},
		{OFF_QUEUE + 2, 2, "is malformed"},
		{OFF_QUEUE + 3, 1, "queue 0: descriptor area at 0x1001 is"},
		{OFF_QUEUE + 18, 9,
		 "queue 0: driver area at 0x900000000002000"},
		{OFF_QUEUE + 27, 0, "EVENT_IDX is not what was negotiated"},
		{OFF_NEXT_AVAIL, 9, "queue 0: it stands at 9 and 1, which"},
		{OFF_NEXT_AVAIL, 200, "queue 0: it stands at 200 and 1, which"},
		{OFF_NEXT_AVAIL + 2, 0, "queue 0: it stands at 1 and 0, which"},
		{OFF_NEXT_AVAIL + 2, 2, "queue 0: it stands at 1 and 2, which"},
		{OFF_NEXT_AVAIL + 2, 99,
		 "queue 0: it stands at 1 and 99, which"},
	};
	struct fixture *f = *state;
	const struct drive_config config = config_of(f);
	struct state_file file;

	start(f, ALL);
	post_write(&f->ring, 0, 1);
	slot_kick(&f->slot, 0);
	slot_save(&f->slot, &file);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};
		struct state_file bad;
		struct clone clone;

		assert_true(
			file_damage(&file, cases[i].off, cases[i].value, &bad));
		assert_true(clone_load(f, &clone, &config, &bad, &err) < 0);
		if (!strstr(err.text, cases[i].text))
			fail_msg("case %zu: %s", i, err.text);
		assert_int_equal(clone.slot.dev->status, 0);
		clone_destroy(&clone);
		state_file_release(&bad);
	}
	state_file_release(&file);
}

static void test_file_without_the_device_is_refused(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct error err = {0};

	start(f, ALL);
	slot_save(&f->slot, &file);
	assert_int_equal(virtio_mmio_load(f->slot.mmio, &file, 1, &err),
			 -EINVAL);
	assert_string_equal(err.text, "Section VDEV 1 is missing");
	state_file_release(&file);
}

/* Whatever the byte: a sentence, or a device that works or can be reset. */
static void damage_byte(struct fixture *f, const struct state_file *file,
			size_t off, uint8_t value)
{
	const struct drive_config config = config_of(f);
	struct error err = {0};
	struct state_file bad;
	struct clone clone;

	if (!file_damage(file, off, value, &bad))
		return;
	if (clone_load(f, &clone, &config, &bad, &err)) {
		assert_true(err.text[0] != '\0');
		assert_false(clone.slot.dev->active);
	} else {
		turn_once(f->loop);
		slot_kick(&clone.slot, 0);
		write_register(&clone.slot, 0x70, 0);
		turn_once(f->loop);
		assert_int_equal(read_register(&clone.slot, 0x70), 0);
	}
	clone_destroy(&clone);
	state_file_release(&bad);
}

static void test_damaged_bytes_do_no_harm(void **state)
{
	struct fixture *f = *state;
	struct state_file file;

	start(f, ALL);
	post_write(&f->ring, 0, 1);
	slot_kick(&f->slot, 0);
	post_write(&f->ring, 1, 1);
	slot_save(&f->slot, &file);
	for (size_t off = 0; off < file.len; off++) {
		damage_byte(f, &file, off, (uint8_t)(file.bytes[off] ^ 1));
		damage_byte(f, &file, off, (uint8_t)(file.bytes[off] ^ 0x80));
		damage_byte(f, &file, off, 0xff);
		damage_byte(f, &file, off, 0);
	}
	state_file_release(&file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_clone_goes_on_without_event_idx),
		CASE(test_clone_goes_on_with_event_idx),
		CASE(test_clone_remembers_what_was_signalled),
		CASE(test_clone_goes_on_where_indices_wrap),
		CASE(test_original_goes_on),
		CASE(test_rings_are_changed_at_every_save),
		CASE(test_save_twice_gives_the_same),
		CASE(test_driver_in_the_middle_of_its_setup_goes_on),
		CASE(test_selected_queue_is_kept),
		CASE(test_positions_of_an_unused_queue_are_not_believed),
		CASE(test_device_that_needs_reset_still_does),
		CASE(test_other_capacity_is_told_to_the_driver),
		CASE(test_other_capacity_before_the_driver_is_up_is_silent),
		CASE(test_limiter_state_is_kept),
		CASE(test_refusals_have_a_sentence),
		CASE(test_file_without_the_device_is_refused),
		CASE(test_damaged_bytes_do_no_harm),
	};
#undef CASE

	return cmocka_run_group_tests(tests, NULL, NULL);
}
