/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_timer.h"

#include "vmm/log.h"

#include <time.h>

/* The one value that means "booted". */
#define BOOT_TIMER_MAGIC 123

static uint64_t process_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void boot_timer_start(struct boot_timer *timer)
{
	timer->start_ns = monotonic_ns();
	timer->start_cpu_ns = process_cpu_ns();
}

static void boot_timer_read(void *dev, uint64_t off, uint8_t *data, size_t len)
{
	(void)dev;
	(void)off;
	(void)data;
	(void)len;
}

static void boot_timer_write(void *dev, uint64_t off, const uint8_t *data,
			     size_t len)
{
	const struct boot_timer *timer = dev;
	unsigned long us, cpu_us;

	if (off != 0 || len != 1 || data[0] != BOOT_TIMER_MAGIC)
		return;
	us = (monotonic_ns() - timer->start_ns) / 1000;
	cpu_us = (process_cpu_ns() - timer->start_cpu_ns) / 1000;
	log_info("Guest-boot-time = %6lu us %lu ms, %6lu CPU us %lu CPU ms", us,
		 us / 1000, cpu_us, cpu_us / 1000);
}

const struct bus_ops boot_timer_bus_ops = {
	.read = boot_timer_read,
	.write = boot_timer_write,
};
