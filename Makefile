# SPDX-License-Identifier: Apache-2.0
# One non-recursive Makefile. `make help` lists the targets.
# Variables: B (build directory), CC, SAN (sanitizers), V=1 (show commands).

B ?= build
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
SAN ?=
V ?=
Q := $(if $(V),,@)
DEPS := build/deps
MHD := $(DEPS)/libmicrohttpd

CLANG := $(findstring clang,$(CC))
WARN := -Wall -Wextra -Werror -Wshadow -Wvla -Wundef -Wcast-qual \
	-Wwrite-strings -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
	-Wimplicit-fallthrough -Wswitch-enum -Wnull-dereference -Wconversion \
	$(if $(CLANG),-Wconditional-uninitialized)
HARDEN := -fstack-protector-strong -fPIE
OPT := $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) \
	-fno-sanitize-recover=undefined,-O2 -D_FORTIFY_SOURCE=2)
CPPFLAGS := -D_GNU_SOURCE -I. -I$(MHD)/include
CFLAGS := -std=gnu17 -g $(OPT) $(WARN) $(HARDEN) -pthread
LDFLAGS := -pthread $(if $(SAN),-fsanitize=$(SAN) -pie,-static-pie -s) \
	-Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections
# libmicrohttpd is always our trimmed static build: see api/wire.h.
# Each of the two archives needs the other.
LIBS = -Wl,--start-group $(B)/libember.a $(MHD)/lib/libmicrohttpd.a \
	-Wl,--end-group -ljansson

VMM_SRCS := vmm/util.c vmm/error.c vmm/log.c vmm/metrics.c vmm/loop.c \
	vmm/bus.c vmm/irq.c vmm/gmem.c vmm/kvm.c vmm/vcpu.c vmm/vcpu_x86.c vmm/cpuid_x86.c \
	vmm/config.c vmm/cmdline.c vmm/aml.c vmm/acpi.c vmm/mptable.c vmm/kernel_image.c \
	vmm/boot_x86.c vmm/serial.c vmm/i8042.c vmm/boot_timer.c \
	vmm/acpi_power.c vmm/drives.c vmm/machine.c vmm/vmm.c \
	vmm/options.c vmm/signals.c
VIRTIO_SRCS := virtio/chain.c virtio/queue.c virtio/device.c virtio/mmio.c \
	virtio/block.c virtio/block_file.c
API_SRCS := api/server.c api/wire.c api/router.c api/json.c api/machine.c \
	api/boot.c api/drive.c api/actions.c api/instance.c api/logger.c \
	api/config_file.c
LIB_SRCS ?= $(VMM_SRCS) $(VIRTIO_SRCS) $(API_SRCS)

UNIT_TESTS := test_error test_log test_metrics test_loop test_bus test_serial \
	test_i8042 test_boot_timer test_acpi_power \
	test_gmem test_chain test_queue test_device test_mmio test_block \
	test_cmdline test_aml test_acpi test_kernel_image test_boot_x86 \
	test_config test_options test_cpuid_x86 test_vmm \
	test_json test_router test_wire test_openapi
FUZZ_TARGETS := fuzz_queue fuzz_mmio fuzz_block fuzz_http fuzz_kernel_image
FAKE_SRCS := tests/fake/machine.c tests/fake/kvm.c tests/fake/ring.c

include_deps = $(wildcard $(B)/*/*.d $(B)/*/*/*.d)

.DELETE_ON_ERROR:
.PHONY: all clean help
all: $(B)/ember ## build the monitor (static, stripped)

help: ## list targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

$(MHD)/lib/libmicrohttpd.a: api/microhttpd.sh
	$(Q)api/microhttpd.sh $(abspath $(MHD))

$(B)/%.o: %.c Makefile | $(MHD)/lib/libmicrohttpd.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/libember.a: $(LIB_SRCS:%.c=$(B)/%.o)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/ember: $(B)/vmm/main.o $(B)/libember.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(LIBS)

# A unit test links the fakes it names before the library, so that the linker
# takes those instead of the real modules.
test_mmio_FAKES := kvm
$(UNIT_TESTS:%=$(B)/tests/unit/%): $(B)/tests/unit/%: $(B)/tests/unit/%.o $(FAKE_SRCS:%.c=$(B)/%.o) $(B)/libember.a
	$(Q)$(CC) $(filter-out -s -static-pie,$(LDFLAGS)) -pie -o $@ $(filter-out %.a,$^) $(LIBS) -lcmocka

# ------------------------------------------------------------- tiny guests ---
# Freestanding programs for a virtual machine, one per property. They run in
# ring 0 without an operating system; hello64 is entered like a 64-bit Linux,
# the others through the PVH note.
GUESTS := acpi block counter cpu disk echo evil_block evil_mmio evil_ring hello \
	hello64 keyboard nothing power smp timer
GUEST_CC := gcc
GUEST_CFLAGS := -std=gnu17 -O2 -march=x86-64 -ffreestanding -nostdlib -static \
	-mno-red-zone -mgeneral-regs-only -fno-tree-loop-distribute-patterns \
	-fcf-protection=none -fno-pic -fno-stack-protector -Wall -Wextra \
	-Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
GUEST_B := $(B)/tests/guests
GUEST_OBJS := $(addprefix $(GUEST_B)/,start.o irq_entry.o guest.o irq.o virtio.o)

.PHONY: guests
guests: $(GUESTS:%=$(GUEST_B)/%.elf) ## build the tiny guests of the tests

$(GUEST_B)/%.o: tests/guests/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUEST_B)/%.o: tests/guests/%.S Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUESTS:%=$(GUEST_B)/%.elf): $(GUEST_B)/%.elf: $(GUEST_B)/%.o $(GUEST_OBJS) $(GUEST_B)/note.o tests/guests/guest.ld
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -Wl,--build-id=none,-z,noexecstack \
		-T tests/guests/guest.ld -o $@ $(GUEST_OBJS) $< \
		$(filter-out $(if $(filter hello64,$*),%/note.o),$(GUEST_B)/note.o)
# ----------------------------------------------------------------------------

-include $(include_deps)

clean: ## remove what was built (not the cached dependencies)
	rm -rf $(filter-out build,$(B)) build/[!d]*
