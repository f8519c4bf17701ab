/* SPDX-License-Identifier: Apache-2.0 */
/* Touches pages as it is told, from ring 3, and says when that is done. */
#include "touch.h"

#include "guest.h"
#include "ring3.h"

#define PAGE 0x1000u

struct step {
	uint32_t what, first, count, stride; /* in pages of TOUCH_FIRST on */
};

struct table {
	uint32_t steps; /* 0: not yet */
	struct step step[TOUCH_STEPS_MAX];
};

static volatile struct table *const table =
	(volatile struct table *)(uintptr_t)TOUCH_TABLE;

static uint32_t next; /* step that ring 3 is at */
static uint32_t wrong;

static uintptr_t page_at(uint32_t page)
{
	return TOUCH_FIRST + (uintptr_t)page * PAGE;
}

static void fill(void)
{
	for (uint32_t i = 0; i < TOUCH_PAGES; i++)
		write32(page_at(i), i);
}

static void wait_for_table(void)
{
	while (!table->steps)
		cpu_relax();
}

static void take(const volatile struct step *step)
{
	const uint32_t what = step->what, stride = step->stride;
	uint32_t page = step->first;

	for (uint32_t left = step->count; left; left--, page += stride)
		if (what == TOUCH_WRITE)
			write32(page_at(page) + 8, 1);
		else if (read32(page_at(page)) != page)
			wrong++;
}

/* Up to the next thing that ring 0 has to do. */
static void take_steps(void)
{
	for (; next < table->steps; next++) {
		if (table->step[next].what == TOUCH_WAIT)
			return;
		take(&table->step[next]);
	}
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	ring3_init();
	ring3_call(fill);
	print("filled\n");
	ring3_call(wait_for_table);
	for (;;) {
		ring3_call(take_steps);
		if (next == table->steps)
			break;
		print("waiting\n");
		typed();
		next++;
	}
	check(wrong == 0, "contents", wrong);
	print_done();
}
