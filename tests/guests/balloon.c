/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balloon worked from the serial console, one letter per order:
 *
 *   f  fill the area: each page gets its number
 *   v  what the area has in it: pages of zeros, with their numbers, others
 *   i  inflate: the area, in lists of 256 pages, back to front
 *   d  deflate: the same
 *   r  report the area, in buffers of 2 MiB
 *   h  hint at it, in the run that the config space has the number of
 *   g  the same with the number of another run
 *   s  give the device a buffer of statistics, or give it back, filled anew
 *   c  the config space, changes announced so far, statistics asked for
 *   a  say that the balloon has the area
 *   e  numbers of pages that are not, and buffers
 *   l  inflate 1 GiB from 17 MiB on, in one list; m: report as much, in buffers
 *      of 2 MiB, 16 at a time; both say "listed" and wait for a byte first
 *   q  quit
 *
 * The area is 32 MiB from 16 MiB on. "few" on the command line: only what every
 * driver has is negotiated.
 */
#include "virtio.h"

#define AREA 0x1000000ul
#define PAGE 4096ul
#define PAGES 8192u
#define LIST 256u
#define BUFFER 0x200000u
#define GIB_LIST (262144u)

enum { INFLATE, DEFLATE, STATS, HINT, REPORT, QUEUES };
enum { F_STATS = 1, F_OOM = 2, F_HINT = 3, F_REPORT = 5 };
enum {
	CONFIG_TARGET = REG_CONFIG,
	CONFIG_ACTUAL = REG_CONFIG + 4,
	CONFIG_CMD = REG_CONFIG + 8
};

static struct rings rings[QUEUES];
static struct block device; /* the registers are the same for all types */
static uint16_t seen[QUEUES];
static uint32_t number[QUEUES]; /* of the queue, as it was negotiated */
static uint32_t pfns[LIST];
static uint32_t changes, asked;
static bool stats_out;
static struct {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed)) stats[17];

static uint64_t bit(unsigned n)
{
	return UINT64_C(1) << n;
}

/* ------------------------------------------------------------------ queues */

static void set_up(uint64_t wanted)
{
	static const uint64_t needs[QUEUES] = {
		[STATS] = 1u << F_STATS,
		[HINT] = 1u << F_HINT,
		[REPORT] = 1u << F_REPORT,
	};
	uint32_t count = 0;

	device.base = VIRTIO_BASE;
	block_reset(&device);
	block_acknowledge(&device);
	check(block_negotiate(&device, wanted | bit(F_VERSION_1)), "negotiated",
	      reg_read(&device, REG_STATUS));
	for (uint32_t role = 0; role < QUEUES; role++) {
		if ((device.features & needs[role]) != needs[role])
			continue;
		number[role] = count++;
		device_set_queue(&device, number[role], &rings[role],
				 RING_SIZE);
	}
	block_go(&device);
	check(reg_read(&device, REG_STATUS) == 15, "started",
	      reg_read(&device, REG_STATUS));
}

static void publish(uint32_t role, uint16_t head)
{
	volatile struct driver_ring *driver = &rings[role].driver;
	uint16_t idx = driver->idx;

	driver->ring[idx % RING_SIZE] = head;
	barrier();
	driver->idx = (uint16_t)(idx + 1);
	barrier();
	reg_write(&device, REG_QUEUE_NOTIFY, number[role]);
}

static bool came_back(uint32_t role)
{
	const volatile struct device_ring *ring = &rings[role].device;

	if (ring->idx == seen[role])
		return false;
	seen[role]++;
	return true;
}

static bool wait(uint32_t role)
{
	uint64_t start = rdtsc();

	while (!came_back(role))
		if (!time_left(start))
			return false;
	return true;
}

static bool send(uint32_t role, uintptr_t at, uint32_t len, uint16_t flags)
{
	rings[role].desc[0] = (struct descriptor){at, len, flags, 0};
	publish(role, 0);
	return wait(role);
}

static void say(const char *what, bool good)
{
	print(what);
	print(good ? " done\n" : " failed\n");
}

/* ------------------------------------------------------------------ orders */

static void fill(void)
{
	for (uint32_t i = 0; i < PAGES; i++)
		write64(AREA + i * PAGE, i + 1);
	say("fill", true);
}

static void view(void)
{
	uint32_t zeros = 0, kept = 0;

	for (uint32_t i = 0; i < PAGES; i++) {
		uint64_t word = read64(AREA + i * PAGE);

		zeros += word == 0;
		kept += word == i + 1;
	}
	print("zeros ");
	print_number(zeros);
	print(" kept ");
	print_number(kept);
	print(" others ");
	print_number(PAGES - zeros - kept);
	print("\n");
}

static void lists(uint32_t role, const char *what)
{
	bool good = true;

	for (uint32_t page = PAGES; page > 0 && good;) {
		for (uint32_t i = 0; i < LIST; i++)
			pfns[i] = (uint32_t)(AREA / PAGE + --page);
		good = send(role, (uintptr_t)pfns, sizeof(pfns), 0);
	}
	say(what, good);
}

static bool buffers(uint32_t role)
{
	bool good = true;

	for (uintptr_t at = AREA; at < AREA + PAGES * PAGE && good;
	     at += BUFFER)
		good = send(role, at, BUFFER, DESC_WRITE);
	return good;
}

static void hint(uint32_t skew)
{
	static uint32_t cmd;
	bool good;

	cmd = reg_read(&device, CONFIG_CMD) + skew;
	good = send(HINT, (uintptr_t)&cmd, sizeof(cmd), 0) && buffers(HINT);
	cmd = 0;
	say("hint", good && send(HINT, (uintptr_t)&cmd, sizeof(cmd), 0));
}

/* The buffer is with the device until it wants to know more. */
static void give_stats(void)
{
	static uint64_t turn;

	if (stats_out && came_back(STATS))
		stats_out = false;
	if (stats_out) {
		print("stats are not asked for\n");
		return;
	}
	turn++;
	for (uint16_t i = 0; i < ARRAY_SIZE(stats); i++) {
		stats[i].tag = i;
		stats[i].value = 1000u * (i + 1u) + turn;
	}
	rings[STATS].desc[0] =
		(struct descriptor){(uintptr_t)stats, sizeof(stats), 0, 0};
	stats_out = true;
	publish(STATS, 0);
	say("stats", true);
}

static void show_config(void)
{
	uint32_t status = reg_read(&device, REG_INTERRUPT_STATUS);

	reg_write(&device, REG_INTERRUPT_ACK, status);
	changes += status >> 1 & 1;
	if (stats_out && came_back(STATS)) {
		stats_out = false;
		asked++;
	}
	print("target ");
	print_number(reg_read(&device, CONFIG_TARGET));
	print(" actual ");
	print_number(reg_read(&device, CONFIG_ACTUAL));
	print(" cmd ");
	print_number(reg_read(&device, CONFIG_CMD));
	print(" changes ");
	print_number(changes);
	print(" asked ");
	print_number(asked);
	print("\n");
}

/* Neither the target nor the number of the run is ours to write. */
static void say_actual(void)
{
	reg_write(&device, CONFIG_TARGET, 12345);
	reg_write(&device, CONFIG_ACTUAL, PAGES);
	reg_write(&device, CONFIG_CMD, 12345);
	say("actual", true);
}

static void misbehave(void)
{
	static const uint32_t bad[] = {0xffffffff, 0xc0000, 0x100000, 0xc0001,
				       0x7fffffff};
	static const struct {
		uint64_t at;
		uint32_t len;
	} wrong[] = {
		{0xc0001000, 0x1000},
		{~UINT64_C(0) - 0xfff, 0x2000},
		{0, 0xffffffff},
		{0x8000000000, 0x200000},
	};
	bool good = send(INFLATE, (uintptr_t)bad, sizeof(bad), 0) &&
		    send(INFLATE, (uintptr_t)bad, 3, 0) &&
		    send(INFLATE, (uintptr_t)bad, 0, 0) &&
		    send(INFLATE, 0xc0000000, 4096, 0) &&
		    send(INFLATE, AREA, 4096, DESC_WRITE) &&
		    send(DEFLATE, (uintptr_t)bad, sizeof(bad), 0);

	for (size_t i = 0; i < ARRAY_SIZE(wrong) && good; i++)
		good = send(REPORT, wrong[i].at, wrong[i].len, DESC_WRITE) &&
		       send(HINT, wrong[i].at, wrong[i].len, DESC_WRITE) &&
		       send(HINT, wrong[i].at, 4, 0);
	say("evil", good);
}

/* The list is in the area itself, before what it names. */
static void inflate_much(void)
{
	const uint32_t first = (uint32_t)((AREA + 0x100000) / PAGE);

	for (uint32_t i = 0; i < GIB_LIST; i++)
		write32(AREA + i * 4ul, first + i);
	print("listed\n");
	typed();
	say("much", send(INFLATE, AREA, GIB_LIST * 4, 0));
}

static void report_much(void)
{
	uintptr_t at = AREA + 0x100000;
	bool good = true;

	print("listed\n");
	typed();
	for (uint32_t turn = 0; turn < 32 && good; turn++) {
		for (uint16_t i = 0; i < RING_SIZE; i++, at += BUFFER)
			rings[REPORT].desc[i] = (struct descriptor){
				at, BUFFER,
				DESC_WRITE |
					(i + 1 < RING_SIZE ? DESC_NEXT : 0),
				(uint16_t)(i + 1)};
		publish(REPORT, 0);
		good = wait(REPORT);
	}
	say("much", good);
}

static void obey(uint8_t order)
{
	switch (order) {
	case 'f':
		fill();
		break;
	case 'v':
		view();
		break;
	case 'i':
		lists(INFLATE, "inflate");
		break;
	case 'd':
		lists(DEFLATE, "deflate");
		break;
	case 'r':
		say("report", buffers(REPORT));
		break;
	case 'h':
		hint(0);
		break;
	case 'g':
		hint(1);
		break;
	case 's':
		give_stats();
		break;
	case 'c':
		show_config();
		break;
	case 'a':
		say_actual();
		break;
	case 'e':
		misbehave();
		break;
	case 'l':
		inflate_much();
		break;
	case 'm':
		report_much();
		break;
	default:
		break;
	}
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	bool few = boot_word(info, protocol, "few");
	uint8_t order;

	set_up(few ? 1u << F_REPORT
		   : 1u << F_STATS | 1u << F_OOM | 1u << F_HINT |
			       1u << F_REPORT);
	print("features ");
	print_number(device.features & 0xffffffff);
	print("\nready\n");
	while ((order = typed()) != 'q')
		obey(order);
	print_done();
	guest_reset();
}
