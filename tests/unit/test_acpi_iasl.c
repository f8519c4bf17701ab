/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables as the reference tool reads them: each is written to a file, taken
 * apart by iasl, and the DSDT put together again without errors or warnings.
 */
#include "vmm/acpi.h"
#include "vmm/config.h"
#include "vmm/irq.h"
#include "vmm/memmap_x86.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#define TEXT_MAX 65536
#define DEVICE_COUNT (IRQ_GSI_LAST_DEVICE - IRQ_GSI_FIRST_DEVICE + 1)

struct fixture {
	struct gmem *mem;
	char dir[32];
};

/* Runs a command in the directory; its output goes to a file called log. */
static int run(const struct fixture *f, const char *command)
{
	char line[256];
	int status;

	snprintf(line, sizeof(line), "cd %s && { %s; } >log 2>&1", f->dir,
		 command);
	status = system(line); /* NOLINT: fixed commands in a fresh directory */
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void read_text(const struct fixture *f, const char *name,
		      char bytes[TEXT_MAX])
{
	char path[64];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	file = fopen(path, "r");
	assert_non_null(file);
	len = fread(bytes, 1, TEXT_MAX - 1, file);
	fclose(file);
	bytes[len] = '\0';
}

static bool file_has(const struct fixture *f, const char *name,
		     const char *text)
{
	char bytes[TEXT_MAX];

	read_text(f, name, bytes);
	return strstr(bytes, text) != NULL;
}

static uint32_t get32(const struct gmem *mem, uint64_t gpa)
{
	le32 value = {0};

	assert_int_equal(gmem_read(mem, gpa, &value, sizeof(value)), 0);
	return le32_get(value);
}

static void write_table(const struct fixture *f, uint64_t gpa, const char *name)
{
	uint8_t bytes[8192];
	uint32_t len = get32(f->mem, gpa + 4);
	char path[64];
	FILE *file;

	assert_in_range(len, 36, sizeof(bytes));
	assert_int_equal(gmem_read(f->mem, gpa, bytes, len), 0);
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	fclose(file);
}

/* All that a machine can have. */
static int setup(void **state)
{
	const struct gmem_range range = {0, MIB(2)};
	const struct gmem_request request = {.ranges = &range, .count = 1};
	struct fixture *f = calloc(1, sizeof(*f));
	struct boot_device devices[DEVICE_COUNT];
	uint64_t xsdt, fadt;

	for (uint32_t i = 0; i < DEVICE_COUNT; i++)
		devices[i] = (struct boot_device){
			.base = MEMMAP_MMIO_VIRTIO + i * PAGE_SIZE_4K,
			.gsi = IRQ_GSI_FIRST_DEVICE + i,
		};
	assert_non_null(f);
	strcpy(f->dir, "/tmp/ember-iasl-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(gmem_create(&f->mem, &request, NULL), 0);
	assert_int_equal(acpi_write_tables(f->mem, 0xa0000, MEMMAP_VMGENID,
					   CONFIG_VCPUS_MAX, devices,
					   DEVICE_COUNT),
			 0);
	xsdt = get32(f->mem, MEMMAP_RSDP + 24);
	fadt = get32(f->mem, xsdt + 36);
	write_table(f, xsdt, "xsdt.dat");
	write_table(f, fadt, "facp.dat");
	write_table(f, get32(f->mem, xsdt + 44), "apic.dat");
	write_table(f, get32(f->mem, fadt + 140), "dsdt.dat");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(run(f, "rm -f *.dat *.dsl *.aml"), 0);
	assert_int_equal(run(f, "cd / && rm -rf \"$OLDPWD\""), 0);
	gmem_destroy(f->mem);
	free(f);
	return 0;
}

static void test_tables_are_taken_apart(void **state)
{
	static const char *const names[] = {"xsdt", "facp", "apic", "dsdt"};
	struct fixture *f = *state;

	if (run(f, "command -v iasl") != 0)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char command[64];

		snprintf(command, sizeof(command), "iasl -d %s.dat", names[i]);
		assert_int_equal(run(f, command), 0);
		assert_false(file_has(f, "log", "Warning"));
		assert_false(file_has(f, "log", "Error"));
	}
	assert_true(file_has(f, "facp.dsl", "Hardware Reduced (V5) : 1"));
	assert_true(file_has(f, "apic.dsl", "Processor Enabled : 1"));
	assert_true(file_has(f, "dsdt.dsl", "LNRO0005"));
}

/* They stand there one after the other, whatever is in between. */
static void assert_file_has_all(const struct fixture *f, const char *name,
				const char *const *lines, size_t count)
{
	char bytes[TEXT_MAX];
	const char *at = bytes;

	read_text(f, name, bytes);
	for (size_t i = 0; i < count; i++) {
		at = strstr(at, lines[i]);
		if (!at)
			fail_msg("no %s", lines[i]);
		at += strlen(lines[i]);
	}
}

static void test_dsdt_has_the_generation_devices(void **state)
{
	static const char *const lines[] = {
		"Device (VGEN)",
		"Name (_HID, \"VMGENCTR\")",
		"Name (_CID, \"VM_Gen_Counter\")",
		"Name (_DDN, \"VM_Gen_Counter\")",
		"Name (ADDR, Package (0x02)",
		"0x000DE000,",
		"Zero",
		"Device (VCLK)",
		"Name (_HID, \"AMZNC10C\")",
		"Name (_CID, \"VMCLOCK\")",
		"Memory32Fixed (ReadWrite,",
		"0x000DF000,",
		"0x00001000,",
		"Device (GED)",
		"Name (_HID, \"ACPI0013\"",
		"Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive",
		"0x00000016,",
		"Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive",
		"0x00000017,",
		"Method (_EVT, 1, Serialized)",
		"If ((Arg0 == 0x16))",
		"Notify (\\_SB.VGEN, 0x80)",
		"If ((Arg0 == 0x17))",
		"Notify (\\_SB.VCLK, 0x80)",
	};
	struct fixture *f = *state;

	if (run(f, "command -v iasl") != 0)
		skip();
	assert_int_equal(run(f, "iasl -d dsdt.dat"), 0);
	assert_file_has_all(f, "dsdt.dsl", lines, ARRAY_SIZE(lines));
}

static void test_dsdt_is_put_together_again(void **state)
{
	struct fixture *f = *state;

	if (run(f, "command -v iasl") != 0)
		skip();
	/* 6035: VMGENCTR is not made up as the tool expects of an id, but it
	 * is what drivers look for. */
	assert_int_equal(
		run(f, "iasl -d dsdt.dat && iasl -we -vw 6035 dsdt.dsl"), 0);
	assert_true(file_has(f, "log", "0 Errors, 0 Warnings"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tables_are_taken_apart,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_dsdt_has_the_generation_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dsdt_is_put_together_again,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
