/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi.h"

#include "vmm/acpi_power.h"
#include "vmm/aml.h"
#include "vmm/i8042.h"
#include "vmm/irq.h"
#include "vmm/memmap_x86.h"
#include "vmm/serial.h"
#include "vmm/vmclock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Enough for 32 processors and all devices there are GSIs for. */
#define TABLES_SIZE 8192
#define TABLE_ALIGN 8
#define CPUS_MAX 32

struct __attribute__((packed)) table_header { /* 5.2.6 */
	char signature[4];
	le32 length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	le32 oem_revision;
	char creator_id[4];
	le32 creator_revision;
};

struct __attribute__((packed)) rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	le32 rsdt_address;
	le32 length;
	le64 xsdt_address;
	uint8_t extended_checksum;
	uint8_t reserved[3];
};

struct __attribute__((packed)) generic_address { /* 5.2.3.2 */
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	le64 address;
};

struct __attribute__((packed)) xsdt { /* 5.2.8 */
	struct table_header header;
	le64 tables[2];
};

struct __attribute__((packed)) fadt { /* 5.2.9; what is zero is not named */
	struct table_header header;
	le32 firmware_ctrl;
	le32 dsdt;
	uint8_t unused1[65];
	le16 iapc_boot_arch;
	uint8_t reserved;
	le32 flags;
	struct generic_address reset_reg;
	uint8_t reset_value;
	le16 arm_boot_arch;
	uint8_t minor_version;
	le64 x_firmware_ctrl;
	le64 x_dsdt;
	uint8_t unused2[96];
	struct generic_address sleep_control;
	struct generic_address sleep_status;
	char hypervisor_id[8];
};
_Static_assert(sizeof(struct fadt) == 276, "FADT revision 6 has 276 bytes");
_Static_assert(offsetof(struct fadt, iapc_boot_arch) == 109, "5.2.9");
_Static_assert(offsetof(struct fadt, x_dsdt) == 140, "5.2.9");
_Static_assert(offsetof(struct fadt, sleep_control) == 244, "5.2.9");

struct __attribute__((packed)) madt { /* 5.2.12 */
	struct table_header header;
	le32 local_apic_address;
	le32 flags;
};

struct __attribute__((packed)) madt_local_apic { /* 5.2.12.2 */
	uint8_t type, length;
	uint8_t processor_uid, apic_id;
	le32 flags;
};

struct __attribute__((packed)) madt_io_apic { /* 5.2.12.3 */
	uint8_t type, length;
	uint8_t id, reserved;
	le32 address;
	le32 gsi_base;
};

struct __attribute__((packed)) madt_local_nmi { /* 5.2.12.7 */
	uint8_t type, length;
	uint8_t processor_uid;
	uint8_t flags[2];
	uint8_t lint;
};

enum {
	FADT_PWR_BUTTON = 1 << 4, /* no fixed power button */
	FADT_SLP_BUTTON = 1 << 5,
	FADT_RESET_REG_SUP = 1 << 10,
	FADT_HW_REDUCED_ACPI = 1 << 20,
	BOOT_VGA_NOT_PRESENT = 1 << 2,
	BOOT_CMOS_RTC_NOT_PRESENT = 1 << 5,
	ADDRESS_SPACE_IO = 1,
	ACCESS_BYTE = 1,
	ALL_PROCESSORS = 0xff,
	NOTIFY_CHANGED = 0x80, /* 5.6.6: the first of a device's own */
};

#define VMGENID_NAME "VGEN"
#define VMCLOCK_NAME "VCLK"

/* Tables are built here, one behind the other, then copied to the guest. */
struct builder {
	uint64_t base; /* guest address of bytes[0] */
	size_t len;
	bool overflow;
	uint8_t bytes[TABLES_SIZE];
};

static uint8_t checksum(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *at++);
	return (uint8_t)-sum;
}

static void set_header(struct table_header *header, const char *signature,
		       uint8_t revision, size_t length)
{
	memcpy(header->signature, signature, sizeof(header->signature));
	header->length = le32_make((uint32_t)length);
	header->revision = revision;
	memcpy(header->oem_id, "EMBER ", sizeof(header->oem_id));
	memcpy(header->oem_table_id, "EMBERVM ", sizeof(header->oem_table_id));
	header->oem_revision = le32_make(1);
	memcpy(header->creator_id, "EMBR", sizeof(header->creator_id));
	header->creator_revision = le32_make(1);
}

/* Appends a finished table; the checksum is made here. Returns its address. */
static uint64_t add_table(struct builder *builder, void *table, size_t len)
{
	struct table_header *header = table;
	size_t start = ALIGN_UP(builder->len, TABLE_ALIGN);

	header->checksum = 0;
	header->checksum = checksum(table, len);
	if (start > TABLES_SIZE || len > TABLES_SIZE - start) {
		builder->overflow = true;
		return 0;
	}
	memcpy(builder->bytes + start, table, len);
	builder->len = start + len;
	return builder->base + start;
}

/* -------------------------------------------------------------------- DSDT */

static void add_serial(struct aml *aml)
{
	size_t device = aml_begin_device(aml, "COM1");
	size_t resources;

	aml_name_eisa_id(aml, "_HID", "PNP0501");
	aml_name_integer(aml, "_UID", 0);
	aml_name_string(aml, "_DDN", "COM1");
	resources = aml_begin_resources(aml);
	aml_io(aml, SERIAL_PORT, SERIAL_PORT_COUNT);
	aml_irq_no_flags(aml, IRQ_GSI_SERIAL);
	aml_end_resources(aml, resources);
	aml_end(aml, device);
}

static void add_keyboard(struct aml *aml)
{
	size_t device = aml_begin_device(aml, "PS2_");
	size_t resources;

	aml_name_eisa_id(aml, "_HID", "PNP0303");
	resources = aml_begin_resources(aml);
	aml_io(aml, I8042_PORT, 1);
	aml_io(aml, I8042_PORT + 4, 1);
	aml_irq_no_flags(aml, IRQ_GSI_I8042);
	aml_end_resources(aml, resources);
	aml_end(aml, device);
}

static void add_virtio(struct aml *aml, const struct boot_device *boot_device)
{
	uint32_t uid = boot_device->gsi - IRQ_GSI_FIRST_DEVICE;
	size_t device, resources;
	char name[16];

	snprintf(name, sizeof(name), "V%03u", uid);
	device = aml_begin_device(aml, name);
	aml_name_string(aml, "_HID", "LNRO0005");
	aml_name_integer(aml, "_UID", uid);
	aml_name_integer(aml, "_CCA", 1);
	resources = aml_begin_resources(aml);
	aml_memory32_fixed(aml, (uint32_t)boot_device->base, 0x1000);
	aml_interrupt(aml, boot_device->gsi);
	aml_end_resources(aml, resources);
	aml_end(aml, device);
}

/* "Virtual Machine Generation ID" (Microsoft, 2012), the ACPI device. */
static void add_vmgenid(struct aml *aml)
{
	static const uint32_t address[] = {
		(uint32_t)MEMMAP_VMGENID,
		(uint32_t)(MEMMAP_VMGENID >> 32),
	};
	size_t device = aml_begin_device(aml, VMGENID_NAME);

	aml_name_string(aml, "_HID", "VMGENCTR");
	aml_name_string(aml, "_CID", "VM_Gen_Counter");
	aml_name_string(aml, "_DDN", "VM_Gen_Counter");
	aml_name_package(aml, "ADDR", address, ARRAY_SIZE(address));
	aml_end(aml, device);
}

static void add_vmclock(struct aml *aml)
{
	size_t device = aml_begin_device(aml, VMCLOCK_NAME);
	size_t resources;

	aml_name_string(aml, "_HID", "AMZNC10C");
	aml_name_string(aml, "_CID", "VMCLOCK");
	aml_name_string(aml, "_DDN", "VMCLOCK");
	resources = aml_begin_resources(aml);
	aml_memory32_fixed(aml, (uint32_t)MEMMAP_VMCLOCK, VMCLOCK_LEN);
	aml_end_resources(aml, resources);
	aml_end(aml, device);
}

/* A hardware-reduced platform has no GPEs: interrupts of the generic event
 * device (5.6.9) tell of changes. Linux looks only at the first interrupt of a
 * descriptor, so each has its own. */
static void add_events(struct aml *aml)
{
	static const struct {
		uint32_t gsi;
		const char *changed;
	} events[] = {
		{IRQ_GSI_VMGENID, "\\_SB_." VMGENID_NAME},
		{IRQ_GSI_VMCLOCK, "\\_SB_." VMCLOCK_NAME},
	};
	size_t device = aml_begin_device(aml, "GED_");
	size_t resources, method;

	aml_name_string(aml, "_HID", "ACPI0013");
	aml_name_integer(aml, "_UID", 0);
	resources = aml_begin_resources(aml);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		aml_interrupt(aml, events[i].gsi);
	aml_end_resources(aml, resources);
	method = aml_begin_method(aml, "_EVT", 1);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		size_t branch = aml_begin_if_arg0(aml, events[i].gsi);

		aml_notify(aml, events[i].changed, NOTIFY_CHANGED);
		aml_end(aml, branch);
	}
	aml_end(aml, method);
	aml_end(aml, device);
}

static uint64_t add_dsdt(struct builder *builder,
			 const struct boot_device *devices, size_t count)
{
	static const uint32_t s5[] = {ACPI_S5_SLEEP_TYPE, 0, 0, 0};
	uint8_t bytes[TABLES_SIZE / 2] = {0};
	struct table_header header = {0};
	struct aml aml;
	size_t scope, len;

	aml_init(&aml, bytes + sizeof(header), sizeof(bytes) - sizeof(header));
	scope = aml_begin_scope(&aml, "\\_SB_");
	add_serial(&aml);
	add_keyboard(&aml);
	for (size_t i = 0; i < count; i++)
		add_virtio(&aml, &devices[i]);
	add_vmgenid(&aml);
	add_vmclock(&aml);
	add_events(&aml);
	aml_end(&aml, scope);
	aml_name_package(&aml, "\\_S5_", s5, ARRAY_SIZE(s5));
	builder->overflow |= aml.overflow;
	len = sizeof(header) + aml.len;
	set_header(&header, "DSDT", 2, len);
	memcpy(bytes, &header, sizeof(header));
	return add_table(builder, bytes, len);
}

/* ------------------------------------------------------------ other tables */

static struct generic_address io_port(uint16_t port)
{
	return (struct generic_address){
		.space = ADDRESS_SPACE_IO,
		.bit_width = 8,
		.access_size = ACCESS_BYTE,
		.address = le64_make(port),
	};
}

static uint64_t add_fadt(struct builder *builder, uint64_t dsdt)
{
	struct fadt fadt = {
		.dsdt = le32_make((uint32_t)dsdt),
		/* Saying that there is no real-time clock keeps the kernel
		 * from probing for one. */
		.iapc_boot_arch = le16_make(BOOT_VGA_NOT_PRESENT |
					    BOOT_CMOS_RTC_NOT_PRESENT),
		.flags = le32_make(FADT_HW_REDUCED_ACPI | FADT_RESET_REG_SUP |
				   FADT_PWR_BUTTON | FADT_SLP_BUTTON),
		.reset_reg = io_port(ACPI_RESET_PORT),
		.reset_value = ACPI_RESET_VALUE,
		.minor_version = 4,
		.x_dsdt = le64_make(dsdt),
		.sleep_control = io_port(ACPI_SLEEP_CONTROL_PORT),
		.sleep_status = io_port(ACPI_SLEEP_STATUS_PORT),
		.hypervisor_id = "EMBERVM",
	};

	set_header(&fadt.header, "FACP", 6, sizeof(fadt));
	return add_table(builder, &fadt, sizeof(fadt));
}

static uint64_t add_madt(struct builder *builder, uint32_t vcpu_count)
{
	struct __attribute__((packed)) {
		struct madt head;
		struct madt_io_apic io_apic;
		struct madt_local_nmi nmi;
		struct madt_local_apic cpus[CPUS_MAX];
	} table = {
		.head.local_apic_address = le32_make(MEMMAP_LAPIC),
		.io_apic = {.type = 1,
			    .length = sizeof(struct madt_io_apic),
			    .address = le32_make((uint32_t)MEMMAP_IOAPIC)},
		.nmi = {.type = 4,
			.length = sizeof(struct madt_local_nmi),
			.processor_uid = ALL_PROCESSORS,
			.lint = 1},
	};
	size_t len = sizeof(table) - sizeof(table.cpus) +
		     vcpu_count * sizeof(table.cpus[0]);

	for (uint32_t i = 0; i < vcpu_count; i++)
		table.cpus[i] = (struct madt_local_apic){
			.type = 0,
			.length = sizeof(table.cpus[i]),
			.processor_uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = le32_make(1), /* enabled */
		};
	set_header(&table.head.header, "APIC", 5, len);
	return add_table(builder, &table, len);
}

static uint64_t add_xsdt(struct builder *builder, uint64_t fadt, uint64_t madt)
{
	struct xsdt xsdt = {.tables = {le64_make(fadt), le64_make(madt)}};

	set_header(&xsdt.header, "XSDT", 1, sizeof(xsdt));
	return add_table(builder, &xsdt, sizeof(xsdt));
}

static int write_rsdp(struct gmem *mem, uint64_t xsdt)
{
	struct rsdp rsdp = {
		.revision = 2,
		.length = le32_make(sizeof(rsdp)),
		.xsdt_address = le64_make(xsdt),
	};

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, "EMBER ", sizeof(rsdp.oem_id));
	/* The first 20 bytes have a checksum of their own (5.2.5.3). */
	rsdp.checksum = checksum(&rsdp, offsetof(struct rsdp, length));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	return gmem_write(mem, MEMMAP_RSDP, &rsdp, sizeof(rsdp));
}

int acpi_write_tables(struct gmem *mem, uint64_t base, uint64_t limit,
		      uint32_t vcpu_count, const struct boot_device *devices,
		      size_t device_count)
{
	struct builder builder = {.base = base};
	uint64_t dsdt, fadt, madt, xsdt;
	int ret;

	if (vcpu_count > CPUS_MAX)
		return -ENOSPC;
	dsdt = add_dsdt(&builder, devices, device_count);
	fadt = add_fadt(&builder, dsdt);
	madt = add_madt(&builder, vcpu_count);
	xsdt = add_xsdt(&builder, fadt, madt);
	if (builder.overflow || builder.len > limit - base)
		return -ENOSPC;
	ret = gmem_write(mem, base, builder.bytes, builder.len);
	return ret ? ret : write_rsdp(mem, xsdt);
}
