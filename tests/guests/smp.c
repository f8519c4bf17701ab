/* SPDX-License-Identifier: Apache-2.0 */
/* Starts every other CPU with INIT and SIPI, one after the other; each says
 * who it is, takes part in a count, and halts. */
#include "guest.h"

#define AP_PAGE 0x8000
#define ICR_INIT 0x4500
#define ICR_STARTUP 0x4600
#define ROUNDS 100

extern const char ap_start[], ap_end[];
void ap_main(void);

static volatile uint32_t arrived; /* CPUs that have, APIC id + 1 */
static volatile uint32_t counter; /* added to by both sides at once */
static volatile uint32_t finished;

static uint32_t my_id(void)
{
	return cpuid(1, 0).ebx >> 24;
}

static void count_up(void)
{
	for (uint32_t i = 0; i < ROUNDS; i++)
		__atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
}

void ap_main(void)
{
	arrived = my_id() + 1;
	count_up();
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
}

static void copy_trampoline(void)
{
	for (size_t i = 0; i < (size_t)(ap_end - ap_start); i++)
		write8(AP_PAGE + i, (uint8_t)ap_start[i]);
}

static void send_ipi(uint32_t id, uint32_t command)
{
	lapic_write(LAPIC_ICR_HIGH, id << 24);
	lapic_write(LAPIC_ICR_LOW, command);
}

static bool start_cpu(uint32_t id)
{
	uint32_t before = finished;
	uint64_t start = rdtsc();

	arrived = 0;
	send_ipi(id, ICR_INIT);
	send_ipi(id, ICR_STARTUP | AP_PAGE >> 12);
	count_up();
	while (finished == before && time_left(start))
		cpu_relax();
	return finished == before + 1;
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	uint32_t cpus = (cpuid(1, 0).ebx >> 16) & 0xff;

	(void)info;
	(void)protocol;
	print("cpus ");
	print_number(cpus);
	print("\n");
	check(my_id() == 0, "boot_cpu_id", my_id());
	irq_init();
	copy_trampoline();
	for (uint32_t id = 1; id < cpus; id++) {
		check(start_cpu(id), "started", id);
		check(arrived == id + 1, "its_id", arrived);
		check(counter == 2 * ROUNDS * id, "both_counted", counter);
	}
	print_done();
	guest_reset();
}
