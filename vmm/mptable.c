/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mptable.h"

#include "vmm/memmap_x86.h"

#include <errno.h>
#include <string.h>

#define CPUS_MAX 32
#define IO_APIC_PINS 24
#define LINTS 2
#define APIC_VERSION 0x14

struct __attribute__((packed)) floating_pointer { /* 4.1 */
	char signature[4];
	le32 table;
	uint8_t length; /* in 16 bytes */
	uint8_t revision;
	uint8_t checksum;
	uint8_t features[5];
};

struct __attribute__((packed)) table_header { /* 4.2 */
	char signature[4];
	le16 length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[8];
	char product_id[12];
	le32 oem_table;
	le16 oem_table_size;
	le16 entry_count;
	le32 local_apic;
	le16 extended_length;
	uint8_t extended_checksum;
	uint8_t reserved;
};

struct __attribute__((packed)) processor { /* 4.3.1 */
	uint8_t type, apic_id, apic_version, flags;
	le32 signature, features;
	uint8_t reserved[8];
};

struct __attribute__((packed)) isa_bus { /* 4.3.2 */
	uint8_t type, id;
	char name[6];
};

struct __attribute__((packed)) io_apic { /* 4.3.3 */
	uint8_t type, id, version, flags;
	le32 address;
};

struct __attribute__((packed)) interrupt { /* 4.3.4, 4.3.5 */
	uint8_t type, kind;
	le16 flags;
	uint8_t source_bus, source_irq, apic_id, pin;
};

enum {
	TYPE_PROCESSOR = 0,
	TYPE_BUS = 1,
	TYPE_IO_APIC = 2,
	TYPE_IO_INTERRUPT = 3,
	TYPE_LOCAL_INTERRUPT = 4,
	PROCESSOR_ENABLED = 1,
	PROCESSOR_BOOT = 2,
	KIND_INT = 0,
	KIND_NMI = 1,
	KIND_EXTINT = 3,
	ALL_APICS = 0xff,
};

struct __attribute__((packed)) mp_table {
	struct floating_pointer pointer;
	struct table_header header;
	struct processor processors[CPUS_MAX];
};

/* What follows the processors, however many there are. */
struct __attribute__((packed)) mp_rest {
	struct isa_bus bus;
	struct io_apic io_apic;
	struct interrupt pins[IO_APIC_PINS];
	struct interrupt lints[LINTS];
};
_Static_assert(sizeof(struct mp_table) + sizeof(struct mp_rest) <= 1024,
	       "the table has 1 KiB");

/* What makes all bytes add up to zero; @sum carries on from another piece. */
static uint8_t checksum(const void *bytes, size_t len, uint8_t sum)
{
	const uint8_t *at = bytes;

	while (len--)
		sum = (uint8_t)(sum - *at++);
	return sum;
}

static void fill_processors(struct mp_table *table, uint32_t vcpu_count)
{
	for (uint32_t i = 0; i < vcpu_count; i++)
		table->processors[i] = (struct processor){
			.type = TYPE_PROCESSOR,
			.apic_id = (uint8_t)i,
			.apic_version = APIC_VERSION,
			.flags = PROCESSOR_ENABLED |
				 (i == 0 ? PROCESSOR_BOOT : 0),
			.signature = le32_make(0x600),
			.features = le32_make(0x201), /* FPU, APIC */
		};
}

static void fill_rest(struct mp_rest *rest, uint8_t io_apic_id)
{
	static const uint8_t lint_kinds[LINTS] = {KIND_EXTINT, KIND_NMI};

	rest->bus = (struct isa_bus){.type = TYPE_BUS};
	memcpy(rest->bus.name, "ISA   ", sizeof(rest->bus.name));
	rest->io_apic = (struct io_apic){
		.type = TYPE_IO_APIC,
		.id = io_apic_id,
		.version = APIC_VERSION,
		.flags = 1, /* enabled */
		.address = le32_make((uint32_t)MEMMAP_IOAPIC),
	};
	for (uint8_t i = 0; i < IO_APIC_PINS; i++)
		rest->pins[i] = (struct interrupt){
			.type = TYPE_IO_INTERRUPT,
			.kind = KIND_INT,
			.source_irq = i,
			.apic_id = io_apic_id,
			.pin = i,
		};
	for (uint8_t i = 0; i < LINTS; i++)
		rest->lints[i] = (struct interrupt){
			.type = TYPE_LOCAL_INTERRUPT,
			.kind = lint_kinds[i],
			.apic_id = ALL_APICS,
			.pin = i,
		};
}

static void fill_heads(struct mp_table *table, const struct mp_rest *rest,
		       uint64_t base, uint32_t vcpu_count)
{
	size_t processors = vcpu_count * sizeof(struct processor);
	size_t len = sizeof(table->header) + processors + sizeof(*rest);

	memcpy(table->pointer.signature, "_MP_", 4);
	table->pointer.table =
		le32_make((uint32_t)(base + sizeof(table->pointer)));
	table->pointer.length = 1;
	table->pointer.revision = 4;
	table->pointer.checksum =
		checksum(&table->pointer, sizeof(table->pointer), 0);

	memcpy(table->header.signature, "PCMP", 4);
	table->header.length = le16_make((uint16_t)len);
	table->header.revision = 4;
	memcpy(table->header.oem_id, "EMBER   ", 8);
	memcpy(table->header.product_id, "000000000000", 12);
	table->header.entry_count =
		le16_make((uint16_t)(vcpu_count + 2 + IO_APIC_PINS + LINTS));
	table->header.local_apic = le32_make((uint32_t)MEMMAP_LAPIC);
	/* Over header, processors and the rest, which lie one behind the other
	 * in the guest but not here. */
	table->header.checksum =
		checksum(rest, sizeof(*rest),
			 checksum(&table->header,
				  sizeof(table->header) + processors, 0));
}

int mptable_write(struct gmem *mem, uint64_t base, uint32_t vcpu_count)
{
	struct mp_table table = {0};
	struct mp_rest rest = {0};
	size_t head = offsetof(struct mp_table, processors) +
		      vcpu_count * sizeof(struct processor);
	int ret;

	if (vcpu_count > CPUS_MAX)
		return -ENOSPC;
	fill_processors(&table, vcpu_count);
	fill_rest(&rest, (uint8_t)vcpu_count);
	fill_heads(&table, &rest, base, vcpu_count);
	ret = gmem_write(mem, base, &table, head);
	return ret ? ret : gmem_write(mem, base + head, &rest, sizeof(rest));
}
