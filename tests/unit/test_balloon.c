/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/balloon.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define RING_SIZE 16
#define QUEUES 5
#define INPUT UINT64_C(0x20000) /* what is sent */
#define PAGES UINT64_C(0x80000) /* what is given back; to the end */
#define PFN(n) ((uint32_t)(PAGES / 4096 + (n)))
#define ALL UINT64_MAX

/* Queues when there are all. */
enum { INFLATE, DEFLATE, STATS, HINT, REPORT };

enum { F_STATS = 1, F_OOM = 2, F_HINT = 3, F_REPORT = 5 };

static const struct balloon_config full_config = {
	.amount_mib = 0,
	.deflate_on_oom = true,
	.stats_polling_interval_s = 1,
	.free_page_hinting = true,
	.free_page_reporting = true,
};

struct guest {
	struct ring rings[QUEUES];
	struct balloon *balloon;
	struct slot slot;
};

struct fixture {
	struct guest guest;
	struct loop *loop;
	struct metrics metrics;
	struct error err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_create(&f->loop), 0);
	*state = f;
	return 0;
}

static void guest_destroy(struct guest *guest)
{
	if (!guest->slot.mmio)
		return;
	slot_destroy(&guest->slot);
	ring_destroy(&guest->rings[0]);
	*guest = (struct guest){0};
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_destroy(&f->guest);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

static void fill_pages(struct gmem *mem)
{
	char page[4096];

	memset(page, 'x', sizeof(page));
	for (uint64_t at = PAGES; at < RING_MEMORY; at += sizeof(page))
		assert_int_equal(gmem_write(mem, at, page, sizeof(page)), 0);
}

static void create(struct fixture *f, const struct balloon_config *config)
{
	struct guest *guest = &f->guest;

	assert_int_equal(ring_create(&guest->rings[0], RING_SIZE), 0);
	for (uint16_t q = 1; q < QUEUES; q++)
		ring_share(&guest->rings[q], &guest->rings[0], q, RING_SIZE);
	assert_int_equal(
		balloon_create(&guest->balloon, config, &f->metrics, NULL), 0);
	slot_create(&guest->slot, balloon_virtio(guest->balloon), f->loop,
		    guest->rings[0].mem);
	fill_pages(guest->rings[0].mem);
}

static void start(struct fixture *f, uint64_t features)
{
	struct ring *rings[QUEUES];

	create(f, &full_config);
	for (size_t q = 0; q < QUEUES; q++)
		rings[q] = &f->guest.rings[q];
	slot_activate(&f->guest.slot, rings, features);
}

static char page_byte(const struct guest *guest, uint32_t n)
{
	char byte = '?';

	assert_int_equal(
		gmem_read(guest->rings[0].mem, PAGES + n * 4096 + 7, &byte, 1),
		0);
	return byte ? byte : '0';
}

/* "x0x..": the pages from the first on. */
static void assert_pages(const struct guest *guest, const char *expected)
{
	for (uint32_t n = 0; expected[n]; n++)
		if (page_byte(guest, n) != expected[n])
			fail_msg("page %u is %c, not %c", n,
				 page_byte(guest, n), expected[n]);
}

static void put(struct guest *guest, uint64_t gpa, const void *bytes,
		size_t len)
{
	assert_int_equal(gmem_write(guest->rings[0].mem, gpa, bytes, len), 0);
}

static bool came_back(struct guest *guest, uint16_t q, uint32_t head)
{
	uint32_t id, len;

	return ring_take(&guest->rings[q], &id, &len) && id == head && len == 0;
}

/* One readable buffer, which must come back. */
static void send(struct guest *guest, uint16_t q, const void *bytes, size_t len)
{
	put(guest, INPUT, bytes, len);
	ring_set_desc(&guest->rings[q], 3, INPUT, (uint32_t)len, 0, 0);
	ring_publish(&guest->rings[q], 3);
	slot_kick(&guest->slot, q);
	assert_true(came_back(guest, q, 3));
}

static void give(struct guest *guest, uint16_t q, uint64_t gpa, uint32_t len)
{
	ring_set_desc(&guest->rings[q], 1, gpa, len, RING_WRITE, 0);
	ring_publish(&guest->rings[q], 1);
	slot_kick(&guest->slot, q);
	assert_true(came_back(guest, q, 1));
}

static uint32_t config_word(const struct guest *guest, size_t off)
{
	le32 word;

	virtio_device_read_config(guest->slot.dev, off, (uint8_t *)&word,
				  sizeof(word));
	return le32_get(word);
}

static const struct balloon_metrics *metrics(const struct fixture *f)
{
	return &f->metrics.balloon;
}

/* ---------------------------------------------------------------- features */

static void test_create_offers_what_is_configured(void **state)
{
	static const struct {
		struct balloon_config config;
		uint64_t features;
		uint16_t queues;
	} cases[] = {
		{{.amount_mib = 3}, 0, 2},
		{{.deflate_on_oom = true}, BIT(F_OOM), 2},
		{{.stats_polling_interval_s = 5}, BIT(F_STATS), 3},
		{{.free_page_hinting = true}, BIT(F_HINT), 3},
		{{.free_page_reporting = true}, BIT(F_REPORT), 3},
		{{0, true, 1, true, true},
		 BIT(F_OOM) | BIT(F_STATS) | BIT(F_HINT) | BIT(F_REPORT),
		 5},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		create(f, &cases[i].config);
		assert_int_equal(f->guest.slot.dev->features &
					 ~BIT(VIRTIO_F_VERSION_1),
				 cases[i].features);
		assert_int_equal(f->guest.slot.dev->queue_count,
				 cases[i].queues);
		assert_int_equal(config_word(&f->guest, 0),
				 cases[i].config.amount_mib * 256);
		assert_int_equal(config_word(&f->guest, 4), 0);
		assert_int_equal(config_word(&f->guest, 8), 0);
		guest_destroy(&f->guest);
	}
}

/* What was not negotiated has no number (5.5.2). */
static void test_queues_are_counted_as_negotiated(void **state)
{
	struct fixture *f = *state;
	struct virtio_device *dev;

	start(f, ~(BIT(F_STATS) | BIT(F_HINT)));
	dev = f->guest.slot.dev;
	assert_int_equal(virtio_device_queues_used(dev), 3);
	give(&f->guest, 2, PAGES, 4096);
	assert_pages(&f->guest, "0x");
	assert_int_equal(metrics(f)->free_page_report_count.value, 1);
	ring_publish(&f->guest.rings[3], 0);
	assert_false(virtio_device_queue_event(dev, 3));
	assert_false(virtio_device_queue_event(dev, 4));
	assert_true(dev->active);
}

static void test_unused_queues_need_not_be_ready(void **state)
{
	struct fixture *f = *state;
	struct virtio_device *dev;

	create(f, &full_config);
	dev = f->guest.slot.dev;
	dev->driver_features = BIT(VIRTIO_F_VERSION_1);
	for (uint16_t q = 0; q < 2; q++)
		ring_describe(&f->guest.rings[q], &dev->queues[q]);
	virtio_device_activate(dev);
	assert_true(dev->active);
	virtio_device_reset(dev);
	dev->driver_features = BIT(VIRTIO_F_VERSION_1) | BIT(F_REPORT);
	for (uint16_t q = 0; q < 2; q++)
		ring_describe(&f->guest.rings[q], &dev->queues[q]);
	virtio_device_activate(dev);
	assert_false(dev->active);
	assert_true(dev->status & VIRTIO_STATUS_NEEDS_RESET);
}

/* ----------------------------------------------------------------- inflate */

static void test_inflate_gives_pages_back(void **state)
{
	/* Neither in order nor once, with neighbours and without. */
	const le32 pfns[] = {le32_make(PFN(4)), le32_make(PFN(2)),
			     le32_make(PFN(3)), le32_make(PFN(9)),
			     le32_make(PFN(4)), le32_make(PFN(0))};
	struct fixture *f = *state;

	start(f, ALL);
	slot_edges(&f->guest.slot);
	send(&f->guest, INFLATE, pfns, sizeof(pfns));
	assert_pages(&f->guest, "0x000xxxx0xx");
	assert_int_equal(slot_edges(&f->guest.slot), 1);
	assert_int_equal(metrics(f)->inflate_count.value, 1);
	assert_int_equal(metrics(f)->event_fails.value, 0);
	send(&f->guest, DEFLATE, pfns, sizeof(pfns));
	assert_int_equal(metrics(f)->deflate_count.value, 1);
	assert_pages(&f->guest, "0x000xxxx0xx");
}

static void test_inflate_downwards_in_long_lists(void **state)
{
	struct fixture *f = *state;
	le32 pfns[1000];

	start(f, ALL);
	/* Each page many times, so that it is more than one batch. */
	for (uint32_t i = 0; i < ARRAY_SIZE(pfns); i++)
		pfns[i] = le32_make(PFN((ARRAY_SIZE(pfns) - 1 - i) / 8));
	send(&f->guest, INFLATE, pfns, sizeof(pfns));
	for (uint32_t n = 0; n < 125; n++)
		assert_int_equal(page_byte(&f->guest, n), '0');
	assert_int_equal(page_byte(&f->guest, 125), 'x');
}

static void test_inflate_random_lists(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 7;

	start(f, ALL);
	for (int turn = 0; turn < 20; turn++) {
		bool gone[128] = {false};
		le32 pfns[100];

		fill_pages(f->guest.rings[0].mem);
		for (size_t i = 0; i < ARRAY_SIZE(pfns); i++) {
			uint32_t n = (uint32_t)rand_r(&seed) % 128;

			gone[n] = true;
			pfns[i] = le32_make(PFN(n));
		}
		send(&f->guest, INFLATE, pfns, sizeof(pfns));
		for (uint32_t n = 0; n < 128; n++)
			assert_int_equal(page_byte(&f->guest, n),
					 gone[n] ? '0' : 'x');
	}
}

static void test_inflate_of_no_ram_is_counted(void **state)
{
	const le32 pfns[] = {le32_make(UINT32_MAX), le32_make(PFN(1)),
			     le32_make(RING_MEMORY / 4096), le32_make(PFN(3))};
	struct fixture *f = *state;

	start(f, ALL);
	send(&f->guest, INFLATE, pfns, sizeof(pfns));
	assert_pages(&f->guest, "x0x0x");
	assert_int_equal(metrics(f)->event_fails.value, 2);
	assert_true(f->guest.slot.dev->active);
}

static void test_inflate_any_cut_is_served(void **state)
{
	const le32 pfns[] = {le32_make(PFN(1)), le32_make(PFN(3)),
			     le32_make(PFN(5))};
	struct fixture *f = *state;
	struct ring *ring;

	start(f, ALL);
	ring = &f->guest.rings[INFLATE];
	put(&f->guest, INPUT, pfns, sizeof(pfns));
	/* 3 + 6 bytes, then two that make no number. */
	ring_set_desc(ring, 0, INPUT, 3, RING_NEXT, 1);
	ring_set_desc(ring, 1, INPUT + 3, 6, RING_NEXT, 2);
	ring_set_desc(ring, 2, INPUT + 9, 2, 0, 0);
	ring_publish(ring, 0);
	slot_kick(&f->guest.slot, INFLATE);
	assert_true(came_back(&f->guest, INFLATE, 0));
	assert_pages(&f->guest, "x0x0xx");
}

static void test_inflate_malformed_requests_come_back(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t len;
		uint16_t flags;
	} cases[] = {
		{INPUT, 0, 0},
		{INPUT, 3, 0},
		{INPUT, 4096, RING_WRITE},
		{RING_MEMORY - 4, 8, 0},
		{UINT64_MAX - 3, 4, 0},
		{0, UINT32_MAX, 0},
	};
	struct fixture *f = *state;

	start(f, ALL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (uint16_t q = 0; q <= DEFLATE; q++) {
			struct ring *ring = &f->guest.rings[q];

			ring_set_desc(ring, 0, cases[i].gpa, cases[i].len,
				      cases[i].flags, 0);
			ring_publish(ring, 0);
			slot_kick(&f->guest.slot, q);
			assert_true(came_back(&f->guest, q, 0));
		}
	assert_pages(&f->guest, "xxx");
	assert_true(metrics(f)->event_fails.value > 0);
}

/* Two million numbers of pages in one request, all apart. */
static void post_long_list(struct guest *guest)
{
	struct ring *ring = &guest->rings[INFLATE];
	const uint32_t half = RING_MEMORY / 2;

	for (uint32_t i = 0; i < half / 4; i++) {
		const le32 pfn = le32_make(PFN(i * 2 % 128));

		put(guest, i * 4 + INPUT, &pfn, i * 4 + INPUT < PAGES ? 4 : 0);
	}
	for (uint16_t i = 0; i < RING_SIZE; i++)
		ring_set_desc(ring, i, INPUT, (uint32_t)(PAGES - INPUT),
			      i + 1 < RING_SIZE ? RING_NEXT : 0,
			      (uint16_t)(i + 1));
	ring_publish(ring, 0);
}

static void test_inflate_of_very_much_takes_turns(void **state)
{
	struct fixture *f = *state;
	struct virtio_device *dev;
	int turns = 1;

	start(f, ALL);
	dev = f->guest.slot.dev;
	post_long_list(&f->guest);
	while (virtio_device_queue_event(dev, INFLATE)) {
		assert_false(came_back(&f->guest, INFLATE, 0));
		/* Others are served meanwhile. */
		if (turns++ == 1)
			give(&f->guest, REPORT, PAGES + 4096, 4096);
	}
	assert_true(turns > 50);
	assert_true(came_back(&f->guest, INFLATE, 0));
	assert_pages(&f->guest, "000x0x0x");
}

/* ------------------------------------------------------- reports and hints */

static void test_report_gives_buffers_back(void **state)
{
	struct fixture *f = *state;
	struct ring *ring;

	start(f, ALL);
	ring = &f->guest.rings[REPORT];
	ring_set_desc(ring, 0, PAGES, 0x2000, RING_NEXT | RING_WRITE, 1);
	ring_set_desc(ring, 1, PAGES + 0x3800, 0x1800, RING_WRITE, 0);
	ring_publish(ring, 0);
	slot_kick(&f->guest.slot, REPORT);
	assert_true(came_back(&f->guest, REPORT, 0));
	assert_pages(&f->guest, "00xx0x");
	assert_int_equal(metrics(f)->free_page_report_count.value, 1);
	assert_int_equal(metrics(f)->free_page_report_freed.value, 0x3800);
	assert_int_equal(metrics(f)->free_page_report_fails.value, 0);
}

static void test_report_of_no_ram_is_counted(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t len;
	} cases[] = {
		{RING_MEMORY, 4096},
		{RING_MEMORY - 4096, 8192},
		{UINT64_MAX - 4095, 8192}, /* it would come round to 0 */
		{UINT64_MAX - MIB(64) + 1, MIB(65)},
		{0, UINT32_MAX},
	};
	struct fixture *f = *state;

	start(f, ALL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		give(&f->guest, REPORT, cases[i].gpa, cases[i].len);
		assert_int_equal(metrics(f)->free_page_report_fails.value,
				 i + 1);
	}
	assert_int_equal(metrics(f)->free_page_report_freed.value, 0);
	give(&f->guest, REPORT, PAGES, 0);
	assert_pages(&f->guest, "xxx");
	assert_int_equal(page_byte(&f->guest, 127), 'x');
}

static void send_cmd(struct guest *guest, uint32_t cmd)
{
	const le32 word = le32_make(cmd);

	send(guest, HINT, &word, sizeof(word));
}

static struct hinting_status hinting(struct fixture *f)
{
	struct hinting_status status;

	assert_int_equal(
		balloon_get_hinting(f->guest.balloon, &status, &f->err), 0);
	return status;
}

static void test_hints_are_taken_during_a_run(void **state)
{
	struct fixture *f = *state;
	struct guest *guest = &f->guest;

	start(f, ALL);
	assert_int_equal(hinting(f).host_cmd, 0);
	assert_false(hinting(f).has_guest_cmd);
	give(guest, HINT, PAGES, 4096); /* nobody asked */
	slot_edges(&guest->slot);
	virtio_device_acknowledge(guest->slot.dev, UINT32_MAX);
	assert_int_equal(balloon_start_hinting(guest->balloon, true, &f->err),
			 0);
	assert_int_equal(config_word(guest, 8), 2);
	assert_int_equal(slot_edges(&guest->slot), 1);
	assert_true(guest->slot.dev->interrupt_status &
		    VIRTIO_INTERRUPT_CONFIG);
	give(guest, HINT, PAGES, 4096); /* the driver has not begun */
	send_cmd(guest, 7);		/* with another run */
	give(guest, HINT, PAGES, 4096);
	assert_pages(guest, "xx");
	send_cmd(guest, 2);
	assert_true(hinting(f).has_guest_cmd);
	assert_int_equal(hinting(f).guest_cmd, 2);
	give(guest, HINT, PAGES, 4096);
	give(guest, HINT, PAGES + 0x2000, 4096);
	assert_pages(guest, "0x0x");
	assert_int_equal(metrics(f)->free_page_hint_count.value, 2);
	assert_int_equal(metrics(f)->free_page_hint_freed.value, 8192);
	send_cmd(guest, 0);
	assert_int_equal(hinting(f).host_cmd, 1);
	assert_int_equal(hinting(f).guest_cmd, 0);
	assert_int_equal(config_word(guest, 8), 1);
	give(guest, HINT, PAGES + 0x1000, 4096);
	assert_pages(guest, "0x0x");
	assert_int_equal(metrics(f)->free_page_hint_fails.value, 0);
}

static void test_hints_stop_when_they_are_told(void **state)
{
	struct fixture *f = *state;
	struct guest *guest = &f->guest;

	start(f, ALL);
	assert_int_equal(balloon_start_hinting(guest->balloon, false, &f->err),
			 0);
	send_cmd(guest, 2);
	send_cmd(guest, 0);
	assert_int_equal(hinting(f).host_cmd, 2); /* not of its own accord */
	assert_int_equal(balloon_stop_hinting(guest->balloon, &f->err), 0);
	assert_int_equal(hinting(f).host_cmd, 1);
	/* The driver would not begin a run that it has had. */
	assert_int_equal(balloon_start_hinting(guest->balloon, false, &f->err),
			 0);
	assert_int_equal(hinting(f).host_cmd, 3);
	send_cmd(guest, 3);
	give(guest, HINT, RING_MEMORY, 4096);
	assert_int_equal(metrics(f)->free_page_hint_fails.value, 1);
	assert_int_equal(balloon_stop_hinting(guest->balloon, &f->err), 0);
	give(guest, HINT, PAGES, 4096); /* was on its way */
	assert_pages(guest, "xx");
}

static void test_hinting_that_is_not_enabled_is_refused(void **state)
{
	const struct balloon_config plain = {0};
	struct fixture *f = *state;
	struct hinting_status status;

	create(f, &plain);
	assert_int_equal(balloon_start_hinting(f->guest.balloon, true, &f->err),
			 -EINVAL);
	assert_string_equal(f->err.text, "Balloon: Attempting to use hinting "
					 "when not enabled");
	assert_int_equal(balloon_stop_hinting(f->guest.balloon, &f->err),
			 -EINVAL);
	assert_int_equal(
		balloon_get_hinting(f->guest.balloon, &status, &f->err),
		-EINVAL);
	guest_destroy(&f->guest);
	create(f, &full_config);
	assert_int_equal(balloon_start_hinting(f->guest.balloon, true, &f->err),
			 -ENODEV);
	assert_string_equal(f->err.text, "Balloon: Device not activated yet.");
}

/* -------------------------------------------------------------- statistics */

struct entry {
	le16 tag;
	uint8_t value[8];
};

static struct entry entry(uint16_t tag, uint64_t value)
{
	const le64 wire = le64_make(value);
	struct entry e = {.tag = le16_make(tag)};

	memcpy(e.value, &wire, sizeof(wire));
	return e;
}

/* Makes buffer @head available and kicks; it is kept. */
static void post_stats(struct guest *guest, uint16_t head, const void *bytes,
		       size_t len)
{
	put(guest, INPUT + head * UINT64_C(0x1000), bytes, len);
	ring_set_desc(&guest->rings[STATS], head,
		      INPUT + head * UINT64_C(0x1000), (uint32_t)len, 0, 0);
	ring_publish(&guest->rings[STATS], head);
	slot_kick(&guest->slot, STATS);
}

static struct balloon_stats stats(struct fixture *f)
{
	struct balloon_stats now;

	assert_int_equal(balloon_get_stats(f->guest.balloon, &now, &f->err), 0);
	return now;
}

static void test_stats_are_read_and_kept(void **state)
{
	struct fixture *f = *state;
	struct guest *guest = &f->guest;
	const struct entry first[] = {entry(4, 1000), entry(15, UINT64_MAX),
				      entry(16, 5), entry(UINT16_MAX, 5)};
	const struct entry second[] = {entry(4, 2000), entry(0, 1)};

	start(f, ALL);
	assert_int_equal(stats(f).known, 0);
	post_stats(guest, 0, first, sizeof(first));
	assert_int_equal(stats(f).known, BIT(4) | BIT(15));
	assert_int_equal(stats(f).values[4], 1000);
	assert_true(stats(f).values[15] == UINT64_MAX);
	assert_false(came_back(guest, STATS, 0));
	/* Another buffer: the older one is given back. */
	post_stats(guest, 1, second, sizeof(second));
	assert_true(came_back(guest, STATS, 0));
	assert_false(came_back(guest, STATS, 1));
	assert_int_equal(stats(f).known, BIT(0) | BIT(4) | BIT(15));
	assert_int_equal(stats(f).values[4], 2000);
	assert_int_equal(metrics(f)->stats_updates_count.value, 2);
	assert_int_equal(metrics(f)->stats_update_fails.value, 0);
	/* Of another driver. */
	virtio_device_reset(guest->slot.dev);
	assert_int_equal(stats(f).known, 0);
}

static void test_stats_that_are_cut_off_are_counted(void **state)
{
	const struct entry one = entry(3, 7);
	struct fixture *f = *state;

	start(f, ALL);
	post_stats(&f->guest, 0, &one, 9);
	assert_int_equal(stats(f).known, 0);
	assert_int_equal(metrics(f)->stats_update_fails.value, 1);
	ring_set_desc(&f->guest.rings[STATS], 1, RING_MEMORY, 10, 0, 0);
	ring_publish(&f->guest.rings[STATS], 1);
	slot_kick(&f->guest.slot, STATS);
	assert_int_equal(metrics(f)->stats_update_fails.value, 2);
	assert_true(came_back(&f->guest, STATS, 0));
	assert_true(f->guest.slot.dev->active);
}

static bool has_stats(void *arg)
{
	return stats(arg).known;
}

/* As Linux does it. */
static void test_stats_before_the_driver_is_ready_are_found(void **state)
{
	const struct entry one = entry(3, 7);
	struct fixture *f = *state;

	start(f, ALL);
	put(&f->guest, INPUT, &one, sizeof(one));
	ring_set_desc(&f->guest.rings[STATS], 0, INPUT, sizeof(one), 0, 0);
	ring_publish(&f->guest.rings[STATS], 0);
	assert_true(turn_until(f->loop, has_stats, f));
	assert_int_equal(balloon_set_interval(f->guest.balloon, 60, &f->err),
			 0);
	assert_true(came_back(&f->guest, STATS, 0));
}

static bool buffer_is_back(void *arg)
{
	return came_back(arg, STATS, 0);
}

static void test_stats_are_asked_for_by_the_clock(void **state)
{
	const struct entry one = entry(3, 7);
	struct fixture *f = *state;

	start(f, ALL);
	post_stats(&f->guest, 0, &one, sizeof(one));
	slot_edges(&f->guest.slot);
	assert_true(turn_until(f->loop, buffer_is_back, &f->guest));
	assert_int_equal(slot_edges(&f->guest.slot), 1);
}

static void test_another_interval_asks_at_once(void **state)
{
	const struct entry one = entry(3, 7);
	struct fixture *f = *state;
	struct balloon *balloon;

	start(f, ALL);
	balloon = f->guest.balloon;
	post_stats(&f->guest, 0, &one, sizeof(one));
	assert_int_equal(balloon_set_interval(balloon, 1, &f->err), 0);
	assert_false(came_back(&f->guest, STATS, 0)); /* it is the same */
	assert_int_equal(balloon_set_interval(balloon, 60, &f->err), 0);
	assert_true(came_back(&f->guest, STATS, 0));
	assert_int_equal(balloon_set_interval(balloon, 61, &f->err), 0);
	assert_false(came_back(&f->guest, STATS, 0)); /* there is none */
	assert_int_equal(balloon_set_interval(balloon, 0, &f->err), -EINVAL);
	assert_string_equal(f->err.text,
			    "Balloon: Statistics cannot be enabled/disabled "
			    "after activation.");
}

static void test_stats_that_are_disabled_are_refused(void **state)
{
	const struct balloon_config plain = {0};
	struct fixture *f = *state;
	struct balloon_stats now;

	create(f, &plain);
	assert_int_equal(balloon_get_stats(f->guest.balloon, &now, &f->err),
			 -EINVAL);
	assert_string_equal(f->err.text, "Balloon: Received stats query when "
					 "stats are disabled.");
	assert_int_equal(balloon_set_interval(f->guest.balloon, 1, &f->err),
			 -EINVAL);
	assert_int_equal(balloon_set_interval(f->guest.balloon, 0, &f->err), 0);
}

/* ----------------------------------------------------------------- control */

static void test_resize_tells_the_driver(void **state)
{
	struct fixture *f = *state;
	struct guest *guest = &f->guest;

	start(f, ALL);
	slot_edges(&guest->slot);
	assert_int_equal(balloon_resize(guest->balloon, 64, 64, &f->err), 0);
	assert_int_equal(config_word(guest, 0), 64 * 256);
	assert_int_equal(guest->slot.dev->config_generation, 1);
	assert_int_equal(slot_edges(&guest->slot), 1);
	assert_int_equal(balloon_resize(guest->balloon, 65, 64, &f->err),
			 -EINVAL);
	assert_string_equal(f->err.text, "Balloon: Requested memory should be "
					 "less than 64MiB");
	/* The target is the host's, and outlives the driver. */
	virtio_device_reset(guest->slot.dev);
	assert_int_equal(config_word(guest, 0), 64 * 256);
	assert_int_equal(balloon_resize(guest->balloon, 1, 64, &f->err),
			 -ENODEV);
}

static void write_config(struct guest *guest, size_t off, uint64_t value,
			 size_t len)
{
	guest->slot.dev->ops->config_write(guest->slot.dev, off,
					   (const uint8_t *)&value, len);
}

static void test_driver_writes_nothing_but_how_far_it_is(void **state)
{
	struct fixture *f = *state;
	struct guest *guest = &f->guest;

	start(f, ALL);
	assert_int_equal(balloon_resize(guest->balloon, 2, 64, &f->err), 0);
	write_config(guest, 0, UINT64_MAX, 4);
	write_config(guest, 8, UINT64_MAX, 4);
	assert_int_equal(config_word(guest, 0), 512);
	assert_int_equal(config_word(guest, 8), 0);
	write_config(guest, 4, 300, 4);
	assert_int_equal(stats(f).actual_pages, 300);
	assert_int_equal(stats(f).target_pages, 512);
	write_config(guest, 0, UINT64_C(0x0102030405060708), 8);
	assert_int_equal(config_word(guest, 0), 512);
	assert_int_equal(config_word(guest, 4), 0x01020304);
	write_config(guest, 7, 0xffff, 2);
	assert_int_equal(config_word(guest, 4), 0xff020304);
	assert_int_equal(config_word(guest, 8), 0);
	virtio_device_reset(guest->slot.dev);
	assert_int_equal(config_word(guest, 4), 0);
}

static void test_broken_rings_need_a_reset(void **state)
{
	struct fixture *f = *state;

	for (uint16_t q = 0; q < QUEUES; q++) {
		start(f, ALL);
		ring_publish(&f->guest.rings[q], RING_SIZE);
		slot_kick(&f->guest.slot, q);
		assert_false(f->guest.slot.dev->active);
		assert_true(f->guest.slot.dev->status &
			    VIRTIO_STATUS_NEEDS_RESET);
		assert_int_equal(metrics(f)->event_fails.value, q + 1);
		guest_destroy(&f->guest);
	}
}

/* --------------------------------------------------------------- snapshots */

/* A second microVM, on a copy of what the first has in memory. */
static int clone_load(struct fixture *f, struct guest *clone,
		      const struct state_file *file)
{
	const struct balloon_config config = full_config;

	*clone = f->guest;
	clone->rings[0].mem = memory_copy(f->guest.rings[0].mem);
	for (size_t q = 1; q < QUEUES; q++)
		clone->rings[q].mem = clone->rings[0].mem;
	assert_int_equal(
		balloon_create(&clone->balloon, &config, &f->metrics, NULL), 0);
	slot_create(&clone->slot, balloon_virtio(clone->balloon), f->loop,
		    clone->rings[0].mem);
	loop_enable_devices(f->loop, true);
	f->err.text[0] = '\0';
	return slot_load(&clone->slot, file, &f->err);
}

static void test_buffer_for_stats_is_in_both_after_a_snapshot(void **state)
{
	const struct entry one = entry(3, 7);
	struct fixture *f = *state;
	struct balloon_stats now;
	struct state_file file;
	struct guest clone;

	start(f, ALL);
	write_config(&f->guest, 4, 300, 4);
	post_stats(&f->guest, 0, &one, sizeof(one));
	slot_save(&f->guest.slot, &file);
	assert_int_equal(clone_load(f, &clone, &file), 0);
	turn_briefly(f->loop);
	assert_int_equal(balloon_get_stats(clone.balloon, &now, NULL), 0);
	assert_int_equal(now.known, BIT(3));
	assert_int_equal(now.actual_pages, 300);
	assert_int_equal(balloon_set_interval(clone.balloon, 60, NULL), 0);
	assert_true(came_back(&clone, STATS, 0));
	guest_destroy(&clone);
	slot_resume(&f->guest.slot);
	turn_briefly(f->loop);
	assert_int_equal(balloon_set_interval(f->guest.balloon, 60, NULL), 0);
	assert_true(came_back(&f->guest, STATS, 0));
	assert_false(came_back(&f->guest, STATS, 0));
	state_file_release(&file);
}

static void test_long_list_goes_on_after_a_snapshot(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct guest clone;

	start(f, ALL);
	post_long_list(&f->guest);
	assert_true(virtio_device_queue_event(f->guest.slot.dev, INFLATE));
	slot_save(&f->guest.slot, &file);
	assert_int_equal(clone_load(f, &clone, &file), 0);
	slot_kick(&clone.slot, INFLATE);
	assert_true(came_back(&clone, INFLATE, 0));
	assert_pages(&clone, "0x0x0x");
	guest_destroy(&clone);
	slot_resume(&f->guest.slot);
	slot_kick(&f->guest.slot, INFLATE);
	assert_true(came_back(&f->guest, INFLATE, 0));
	assert_false(came_back(&f->guest, INFLATE, 0));
	state_file_release(&file);
}

static void test_run_of_hints_ends_with_a_load(void **state)
{
	struct fixture *f = *state;
	struct hinting_status status;
	struct state_file file;
	struct guest clone;

	start(f, ALL);
	assert_int_equal(balloon_start_hinting(f->guest.balloon, true, &f->err),
			 0);
	send_cmd(&f->guest, 2);
	virtio_device_acknowledge(f->guest.slot.dev, UINT32_MAX);
	slot_save(&f->guest.slot, &file);
	assert_int_equal(clone_load(f, &clone, &file), 0);
	assert_int_equal(config_word(&clone, 8), 0);
	assert_true(clone.slot.dev->interrupt_status & VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(balloon_get_hinting(clone.balloon, &status, NULL), 0);
	assert_int_equal(status.host_cmd, 0);
	assert_false(status.has_guest_cmd);
	give(&clone, HINT, PAGES, 4096);
	assert_pages(&clone, "xx");
	assert_int_equal(balloon_start_hinting(clone.balloon, true, NULL), 0);
	assert_int_equal(config_word(&clone, 8), 3);
	guest_destroy(&clone);
	/* In the one that was saved it goes on. */
	slot_resume(&f->guest.slot);
	give(&f->guest, HINT, PAGES, 4096);
	assert_pages(&f->guest, "0x");
	state_file_release(&file);
}

/* Every byte, damaged: refused with a sentence, or fit to be used. */
static void test_load_of_damaged_files(void **state)
{
	const struct entry one = entry(3, 7);
	struct fixture *f = *state;
	struct state_file file;
	int refused = 0;

	start(f, ALL);
	post_stats(&f->guest, 0, &one, sizeof(one));
	slot_save(&f->guest.slot, &file);
	for (size_t off = 28; off < file.len - 4; off++) {
		struct state_file damaged;
		struct guest clone;
		int ret;

		if (!file_damage(&file, off, (uint8_t)~file.bytes[off],
				 &damaged))
			continue;
		ret = clone_load(f, &clone, &damaged);
		if (ret)
			assert_true(f->err.text[0] && !clone.slot.dev->active);
		else
			turn_once(f->loop);
		refused += ret != 0;
		assert_int_equal(config_word(&clone, 0), 0);
		guest_destroy(&clone);
		state_file_release(&damaged);
	}
	assert_true(refused > 50);
	state_file_release(&file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_create_offers_what_is_configured),
		CASE(test_queues_are_counted_as_negotiated),
		CASE(test_unused_queues_need_not_be_ready),
		CASE(test_inflate_gives_pages_back),
		CASE(test_inflate_downwards_in_long_lists),
		CASE(test_inflate_random_lists),
		CASE(test_inflate_of_no_ram_is_counted),
		CASE(test_inflate_any_cut_is_served),
		CASE(test_inflate_malformed_requests_come_back),
		CASE(test_inflate_of_very_much_takes_turns),
		CASE(test_report_gives_buffers_back),
		CASE(test_report_of_no_ram_is_counted),
		CASE(test_hints_are_taken_during_a_run),
		CASE(test_hints_stop_when_they_are_told),
		CASE(test_hinting_that_is_not_enabled_is_refused),
		CASE(test_stats_are_read_and_kept),
		CASE(test_stats_that_are_cut_off_are_counted),
		CASE(test_stats_before_the_driver_is_ready_are_found),
		CASE(test_stats_are_asked_for_by_the_clock),
		CASE(test_another_interval_asks_at_once),
		CASE(test_stats_that_are_disabled_are_refused),
		CASE(test_resize_tells_the_driver),
		CASE(test_driver_writes_nothing_but_how_far_it_is),
		CASE(test_broken_rings_need_a_reset),
		CASE(test_buffer_for_stats_is_in_both_after_a_snapshot),
		CASE(test_long_list_goes_on_after_a_snapshot),
		CASE(test_run_of_hints_ends_with_a_load),
		CASE(test_load_of_damaged_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
