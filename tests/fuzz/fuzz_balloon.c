/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of any kind to a balloon on rings that are sound. The input is the
 * features that are negotiated, what is behind guest memory, and a list of
 * requests: which queue, two buffers of any place, length and direction, and a
 * word that the host does something for. What was sent must come back (but for
 * one buffer of statistics), and memory outside the buffers and pages that were
 * named, of which there is a strip, must stay as it is.
 */
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/balloon.h"
#include "vmm/log.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#define RING_SIZE 16
#define QUEUES 5
#define STATS 2
#define RECORD 12
#define RECORDS_MAX 64
#define INPUT UINT64_C(0x20000) /* page numbers, commands, statistics */
#define INPUT_LEN 0x8000
#define STRIP UINT64_C(0x30000) /* no request can name it */
#define STRIP_LEN 0x2000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;

struct guest {
	struct metrics metrics;
	struct ring rings[QUEUES];
	struct balloon *balloon;
	struct slot slot;
	bool keeps; /* a buffer of statistics */
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	return log_configure(&quiet, NULL) || loop_create(&loop) ? -1 : 0;
}

/* Another memory for the rings, of the wanted kind. */
static void replace_memory(struct ring *ring, bool file)
{
	const struct gmem_range range = {0, RING_MEMORY};
	struct gmem_request request = {
		.ranges = &range,
		.count = 1,
		.backing = file ? GMEM_FILE : GMEM_MEMFD,
		.fd = -1,
	};

	gmem_destroy(ring->mem);
	if (file)
		request.fd = memfd_create("memory", MFD_CLOEXEC);
	if (file && ftruncate(request.fd, RING_MEMORY))
		abort();
	if (gmem_create(&ring->mem, &request, NULL))
		abort();
}

static void create(struct guest *guest, uint8_t features, uint8_t kind)
{
	const struct balloon_config config = {
		.deflate_on_oom = true,
		.stats_polling_interval_s = 1,
		.free_page_hinting = true,
		.free_page_reporting = true,
	};
	uint8_t strip[STRIP_LEN];
	struct ring *rings[QUEUES];

	if (ring_create(&guest->rings[0], RING_SIZE) ||
	    balloon_create(&guest->balloon, &config, &guest->metrics, NULL))
		abort();
	if (kind % 3)
		replace_memory(&guest->rings[0], kind % 3 == 1);
	for (uint16_t q = 0; q < QUEUES; q++) {
		ring_share(&guest->rings[q], &guest->rings[0], q, RING_SIZE);
		rings[q] = &guest->rings[q];
	}
	memset(strip, 0xa5, sizeof(strip));
	if (gmem_write(guest->rings[0].mem, STRIP, strip, sizeof(strip)))
		abort();
	slot_create(&guest->slot, balloon_virtio(guest->balloon), loop,
		    guest->rings[0].mem);
	slot_activate(&guest->slot, rings, BIT(VIRTIO_F_VERSION_1) | features);
}

static bool is_stats(const struct guest *guest, uint16_t q)
{
	return q == STATS && virtio_device_negotiated(guest->slot.dev, 1);
}

/* Where the device may do what it likes: not the rings, and not the strip. */
static uint64_t place(uint16_t where)
{
	uint64_t gpa = INPUT + where * UINT64_C(0x100);

	if (gpa < STRIP)
		return gpa;
	return gpa + STRIP_LEN;
}

static uint32_t reach(uint64_t gpa, uint16_t len)
{
	uint64_t most = gpa < STRIP ? STRIP - gpa : UINT64_C(0x1000000);

	return (uint32_t)MIN((uint64_t)len * 16, most);
}

/* Page numbers that name rings or strip are made others. */
static void put_input(struct guest *guest, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i + 4 <= MIN(len, (size_t)INPUT_LEN); i += 4) {
		uint32_t word = data[i] | (uint32_t)data[i + 1] << 8 |
				(uint32_t)data[i + 2] << 16 |
				(uint32_t)(data[i + 3] & 1) << 30;
		le32 pfn;

		if (word < (STRIP + STRIP_LEN) / 4096)
			word += (STRIP + STRIP_LEN) / 4096;
		pfn = le32_make(word);
		if (gmem_write(guest->rings[0].mem, INPUT + i, &pfn,
			       sizeof(pfn)))
			abort();
	}
}

static void ask(struct guest *guest, uint8_t what)
{
	struct balloon_stats stats;
	struct hinting_status status;
	int ret = 0;

	switch (what % 8) {
	case 0:
		ret = balloon_resize(guest->balloon, what, 64, NULL);
		break;
	case 1:
		ret = balloon_start_hinting(guest->balloon, what & 8, NULL);
		break;
	case 2:
		ret = balloon_stop_hinting(guest->balloon, NULL);
		break;
	case 3:
		ret = balloon_get_hinting(guest->balloon, &status, NULL);
		break;
	case 4:
		ret = balloon_set_interval(guest->balloon, what, NULL);
		break;
	case 5:
		ret = balloon_get_stats(guest->balloon, &stats, NULL);
		break;
	default:
		break;
	}
	(void)ret;
}

static void take_all(struct guest *guest, uint16_t q, bool sent)
{
	struct ring *ring = &guest->rings[q];
	uint32_t id, len;
	int count = 0;

	while (ring_take(ring, &id, &len)) {
		assert(len == 0 && id == 0);
		count++;
	}
	if (is_stats(guest, q)) {
		assert(count <= 1 + guest->keeps);
		guest->keeps = guest->keeps + sent - count;
		assert(guest->keeps <= 1);
	} else {
		assert(count == sent);
	}
}

static void request(struct guest *guest, const uint8_t *record)
{
	uint16_t used = virtio_device_queues_used(guest->slot.dev);
	uint16_t q = record[0] % used;
	struct ring *ring = &guest->rings[q];
	bool writable = false;

	for (uint16_t i = 0; i < 2; i++) {
		const uint8_t *part = record + 2 + i * 5;
		uint64_t gpa = place((uint16_t)(part[0] | part[1] << 8));
		uint32_t len = reach(gpa, (uint16_t)(part[2] | part[3] << 8));

		writable |= part[4] & 1;
		if (part[4] & 2)
			gpa += UINT64_C(0x100000);
		ring_set_desc(ring, i, gpa, len,
			      (uint16_t)((writable ? RING_WRITE : 0) |
					 (i ? 0 : RING_NEXT)),
			      1);
	}
	ring_publish(ring, 0);
	slot_kick(&guest->slot, q);
	assert(guest->slot.dev->active);
	take_all(guest, q, true);
	ask(guest, record[1]);
	if (is_stats(guest, STATS))
		take_all(guest, STATS, false);
}

static void check_strip(const struct guest *guest)
{
	uint8_t strip[STRIP_LEN];

	if (gmem_read(guest->rings[0].mem, STRIP, strip, sizeof(strip)))
		abort();
	for (size_t i = 0; i < sizeof(strip); i++)
		assert(strip[i] == 0xa5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest guest = {0};
	size_t count;

	if (size < 2 + RECORD)
		return 0;
	create(&guest, data[0], data[1]);
	data += 2;
	size -= 2;
	count = MIN(size / RECORD, (size_t)RECORDS_MAX);
	put_input(&guest, data, size);
	for (size_t i = 0; i < count; i++)
		request(&guest, data + i * RECORD);
	check_strip(&guest);
	slot_destroy(&guest.slot);
	ring_destroy(&guest.rings[0]);
	return 0;
}
