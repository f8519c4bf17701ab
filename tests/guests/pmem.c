/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent memory worked from the serial console. At first each device is
 * listed. Then a letter is an order, some with a number behind them that ends
 * with the line:
 *
 *   d N  from now on device N is meant; the first is meant anyway
 *   r N  prints the eight bytes at offset N
 *   w N  writes eight bytes there
 *   f    flushes and prints the result
 *   b    a ring full of flushes at once; prints how many results were good
 *   e    flushes as they should not be
 *   q    ends
 */
#include "virtio.h"

#define ID_PMEM 27
#define DEVICES_MAX 4
#define GIB (UINT64_C(1) << 30)
#define LARGE_PAGE (UINT64_C(2) << 20)
#define ENTRIES 512
#define MARK UINT64_C(0x1122334455667788)
#define NOTHING 0xeeeeeeee

static struct rings rings[DEVICES_MAX];
static struct block devices[DEVICES_MAX];
static uint32_t count;
static struct block *dev = &devices[0];

static uint64_t pdpt[ENTRIES] __attribute__((aligned(4096)));
static uint64_t pd[ENTRIES] __attribute__((aligned(4096)));
static uint64_t mapped; /* the GiB that is */

static const uint32_t flush_type = 0, other_type = 1;
static volatile uint32_t results[RING_SIZE];

/* ------------------------------------------------------------------ memory */

static uint64_t *pml4(void)
{
	uintptr_t root;

	__asm__ volatile("mov %%cr3, %0" : "=r"(root));
	return (uint64_t *)(root & ~(uintptr_t)0xfff);
}

static void flush_tlb(void)
{
	__asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3"
			 :
			 :
			 : "rax", "memory");
}

/* One GiB at a time is seen, each where it is. */
static uintptr_t at(uint64_t gpa)
{
	const uint64_t first = gpa & ~(GIB - 1), flags = 3;

	if (first == mapped)
		return gpa;
	for (uint32_t i = 0; i < ENTRIES; i++)
		pd[i] = (first + i * LARGE_PAGE) | 0x80 | flags;
	pdpt[mapped / GIB % ENTRIES] = 0;
	pdpt[first / GIB % ENTRIES] = (uintptr_t)pd | flags;
	pml4()[first / GIB / ENTRIES] = (uintptr_t)pdpt | flags;
	mapped = first;
	flush_tlb();
	return gpa;
}

static uint64_t config64(const struct block *block, uint32_t off)
{
	return reg_read(block, REG_CONFIG + off) |
	       (uint64_t)reg_read(block, REG_CONFIG + off + 4) << 32;
}

static uintptr_t place(uint64_t off)
{
	return at(config64(dev, 0) + off);
}

/* ---------------------------------------------------------------- requests */

static void prepare(uint16_t n, uintptr_t request, uint32_t request_len,
		    uintptr_t result, uint32_t result_len, uint16_t flags)
{
	struct descriptor *desc = dev->rings->desc;

	desc[2 * n] = (struct descriptor){request, request_len, DESC_NEXT,
					  (uint16_t)(2 * n + 1)};
	desc[2 * n + 1] = (struct descriptor){result, result_len, flags, 0};
	results[n] = NOTHING;
}

static void prepare_flush(uint16_t n)
{
	prepare(n, (uintptr_t)&flush_type, 4, (uintptr_t)&results[n], 4,
		DESC_WRITE);
}

static uint32_t flush(void)
{
	prepare_flush(0);
	block_submit(dev, 0);
	return block_wait(dev) ? results[0] : NOTHING;
}

static void flush_batch(void)
{
	const uint16_t all = RING_SIZE / 2;
	volatile struct driver_ring *driver = &dev->rings->driver;
	uint16_t idx = driver->idx;
	uint32_t good = 0;

	for (uint16_t n = 0; n < all; n++) {
		prepare_flush(n);
		driver->ring[(idx + n) % RING_SIZE] = (uint16_t)(2 * n);
	}
	barrier();
	driver->idx = (uint16_t)(idx + all);
	barrier();
	reg_write(dev, REG_QUEUE_NOTIFY, 0);
	for (uint16_t n = 0; n < all; n++)
		good += block_wait(dev) && results[n] == 0;
	print("good ");
	print_number(good);
	print("\n");
}

struct evil {
	const char *name;
	uintptr_t request;
	uint32_t request_len;
	uintptr_t result; /* 0: where it should be */
	uint32_t result_len;
	uint16_t flags;
	uint32_t used; /* bytes of an answer, which says that it failed */
};

static void send_evil(const struct evil *evil)
{
	uintptr_t result = evil->result ? evil->result : (uintptr_t)&results[0];
	bool answered;

	prepare(0, evil->request, evil->request_len, result, evil->result_len,
		evil->flags);
	block_submit(dev, 0);
	answered = block_wait(dev) && block_used_len(dev) == evil->used;
	check(answered && results[0] == (evil->used ? UINT32_MAX : NOTHING),
	      evil->name, results[0]);
}

static void be_evil(void)
{
	const uintptr_t good = (uintptr_t)&flush_type;
	const uintptr_t window = config64(dev, 0);
	const uintptr_t behind = window + config64(dev, 8);
	const struct evil list[] = {
		{"other_type", (uintptr_t)&other_type, 4, 0, 4, DESC_WRITE, 4},
		{"short_request", good, 3, 0, 4, DESC_WRITE, 4},
		{"empty_request", good, 0, 0, 4, DESC_WRITE, 4},
		{"request_nowhere", behind, 4, 0, 4, DESC_WRITE, 4},
		{"request_in_the_window", window, 4, 0, 4, DESC_WRITE, 4},
		{"short_result", good, 4, 0, 3, DESC_WRITE, 0},
		{"empty_result", good, 4, 0, 0, DESC_WRITE, 0},
		{"result_not_writable", good, 4, 0, 4, 0, 0},
		{"result_nowhere", good, 4, behind, 4, DESC_WRITE, 0},
		{"result_in_the_window", good, 4, window, 4, DESC_WRITE, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		send_evil(&list[i]);
	check(flush() == 0, "flush_after_all_that", results[0]);
}

/* ------------------------------------------------------------------ orders */

static uint64_t number(void)
{
	uint64_t value = 0;

	for (uint8_t c = typed(); c != '\n'; c = typed())
		if (c >= '0' && c <= '9')
			value = 10 * value + (c - '0');
	return value;
}

static void say(const char *what, uint64_t value)
{
	print(what);
	print(" ");
	print_hex(value);
	print("\n");
}

static void list_devices(void)
{
	struct block each = {.base = VIRTIO_BASE};

	for (; reg_read(&each, REG_MAGIC) == 0x74726976; each.base += 0x1000) {
		if (reg_read(&each, REG_DEVICE_ID) != ID_PMEM)
			continue;
		check(block_init(&devices[count], each.base, 0, &rings[count],
				 0),
		      "init", reg_read(&each, REG_STATUS));
		check(reg_read(&each, REG_QUEUE_NUM_MAX) == 256,
		      "queue_num_max", reg_read(&each, REG_QUEUE_NUM_MAX));
		say("start", config64(&each, 0));
		say("size", config64(&each, 8));
		count++;
	}
}

static void obey(uint8_t order)
{
	switch (order) {
	case 'd':
		dev = &devices[number() % DEVICES_MAX];
		print("meant\n");
		break;
	case 'r':
		say("read", read64(place(number())));
		break;
	case 'w':
		write64(place(number()), MARK);
		print("written\n");
		break;
	case 'f':
		say("flushed", flush());
		break;
	case 'b':
		flush_batch();
		break;
	case 'e':
		be_evil();
		print("evil\n");
		break;
	case 'q':
		print_done();
		guest_reset();
		break;
	default:
		break;
	}
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	list_devices();
	print("ready\n");
	for (;;)
		obey(typed());
}
