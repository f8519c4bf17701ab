# SPDX-License-Identifier: Apache-2.0
# One non-recursive Makefile. `make help` lists the targets.
# Variables: B (build directory), CC, SAN (sanitizers), V=1 (show commands).

B ?= build
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
SAN ?=
V ?=
Q := $(if $(V),,@)
MHD := build/deps/libmicrohttpd
# One for each set of sanitizers: it reads what guests send.
COMMA := ,
LWIP := build/deps/lwip$(if $(SAN),-$(subst $(COMMA),-,$(SAN)))
PREFIX ?= /usr/local

CLANG := $(findstring clang,$(CC))
WARN := -Wall -Wextra -Werror -Wshadow -Wvla -Wundef -Wcast-qual \
	-Wwrite-strings -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
	-Wimplicit-fallthrough -Wswitch-enum -Wnull-dereference -Wconversion \
	$(if $(CLANG),-Wconditional-uninitialized)
HARDEN := -fstack-protector-strong -fPIE -ffunction-sections -fdata-sections
OPT := $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) \
	-fno-sanitize-recover=undefined,-O2 -D_FORTIFY_SOURCE=2 \
	-fno-asynchronous-unwind-tables)
# The release is optimised as one program; whatever links the objects without
# LTO finds them compiled as well.
LTO := $(if $(CLANG)$(SAN),,-flto=auto -ffat-lto-objects)
AR := $(if $(LTO),gcc-ar,ar)
CPPFLAGS := -D_GNU_SOURCE -I. -I$(MHD)/include -isystem $(LWIP)/include -isystem vmm/lwip -isystem /usr/include/libnl3
CFLAGS := -std=gnu17 -g $(OPT) $(LTO) $(WARN) $(HARDEN) -pthread
# The release is a static program: its start-up time and memory are features.
# Sanitizers need the dynamic linker.
LDFLAGS := -pthread $(if $(LTO),-fno-lto) $(if $(SAN),-fsanitize=$(SAN)) -pie \
	-Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections
LINK_MONITOR := $(if $(SAN),$(LDFLAGS),$(filter-out -pie -fno-lto,$(LDFLAGS)) \
	$(if $(LTO),$(OPT) $(LTO)) -static-pie -s -Wl,-z,pack-relative-relocs \
	-Wl,--no-eh-frame-hdr,-T,vmm/no_unwind.ld)
# How it starts: only the release, which is linked like that.
START := $(if $(LTO),$(B)/vmm/entry_x86.o)
LINK_START := $(if $(LTO),-Wl$(COMMA)-T$(COMMA)vmm/start_text.ld$(COMMA)-e$(COMMA)ember_entry)
# Its shared library does not export all that its header has.
URING := -l:liburing.a
# Each of the two archives needs the other; see api/wire.h.
LIBS = -Wl,--start-group $(B)/libember.a $(MHD)/lib/libmicrohttpd.a \
	-Wl,--end-group $(LWIP)/lib/liblwip.a -ljansson -lnettle -lhttp_parser -lz $(URING)

VMM_SRCS := vmm/util.c vmm/error.c vmm/log.c vmm/metrics.c vmm/loop.c \
	vmm/bus.c vmm/irq.c vmm/gmem.c vmm/gmem_blocks.c vmm/kvm.c vmm/vcpu.c vmm/vcpu_x86.c vmm/cpuid_x86.c \
	vmm/host_cpu_x86.c vmm/msrs_x86.c vmm/vcpu_state_x86.c vmm/kvm_state_x86.c \
	vmm/config.c vmm/cmdline.c vmm/aml.c vmm/acpi.c vmm/mptable.c vmm/kernel_image.c \
	vmm/boot_x86.c vmm/terminal.c vmm/serial.c vmm/i8042.c vmm/boot_timer.c \
	vmm/acpi_power.c vmm/system_data.c vmm/vmgenid.c vmm/vmclock.c \
	vmm/drives.c vmm/pmems.c vmm/boot_source.c vmm/machine.c vmm/machine_snapshot.c vmm/vmm.c vmm/vmm_save.c vmm/vmm_load.c vmm/vmm_memory.c \
	vmm/vmm_entropy.c vmm/vmm_balloon.c vmm/vmm_hotplug.c \
	vmm/arguments.c vmm/options.c vmm/seccomp.c vmm/cgroups.c vmm/signals.c vmm/metrics_schema.c vmm/ratelimit.c vmm/limiter_gate.c vmm/nets.c \
	vmm/json_text.c vmm/mmds.c vmm/mmds_token.c vmm/mmds_http.c \
	vmm/mmds_sort.c vmm/mmds_clients.c vmm/mmds_stack.c
VIRTIO_SRCS := virtio/chain.c virtio/queue.c virtio/device.c \
	virtio/device_state.c virtio/mmio.c virtio/mmio_state.c \
	virtio/block.c virtio/block_file.c virtio/block_request.c virtio/block_ring.c virtio/rx_window.c virtio/tap.c \
	virtio/net_frame.c virtio/vhost_net.c virtio/net.c virtio/net_rx.c \
	virtio/net_tx.c virtio/vsock.c virtio/vsock_conn.c \
	virtio/vsock_send.c virtio/vsock_host.c virtio/vsock_table.c \
	virtio/vsock_state.c virtio/vhost_user.c virtio/vhost_user_blk.c virtio/pmem_file.c virtio/pmem.c virtio/entropy.c \
	virtio/balloon.c virtio/balloon_pages.c virtio/balloon_stats.c virtio/mem.c
API_SRCS := api/server.c api/wire.c api/router.c api/json.c api/json_number.c api/machine.c \
	api/boot.c api/limiter.c api/drive.c api/net.c api/vsock.c api/mmds.c api/pmem.c api/entropy.c \
	api/serial.c api/balloon.c api/hotplug.c \
	api/actions.c api/snapshot.c api/memory.c api/instance.c api/logger.c api/config_file.c
SNAPSHOT_SRCS := snapshot/state.c snapshot/config_state.c snapshot/describe.c snapshot/page_set.c snapshot/new_file.c \
	snapshot/pair.c snapshot/in_place.c snapshot/memory_file.c snapshot/phases.c snapshot/uffd.c \
	snapshot/populate.c snapshot/working_set.c snapshot/prefetch.c snapshot/recorder.c
JAILER_SRCS := jailer/args.c jailer/descriptors.c jailer/undo.c jailer/plan.c jailer/userns.c jailer/root.c \
	jailer/netns.c jailer/cgroup.c jailer/mounts.c jailer/nodes.c jailer/tap_spec.c jailer/tap.c jailer/process.c \
	jailer/rlimit.c jailer/creds.c jailer/landlock.c jailer/signals.c jailer/exec.c jailer/undoer.c jailer/cleanup.c
JAILER_LIBS := -lnl-route-3 -lnl-3
# Programs that make filters have libseccomp; the monitor has what they made.
SECCOMP_SRCS := vmm/seccomp_rules.c vmm/seccomp_check.c vmm/seccomp_compile.c vmm/seccomp_json.c
LIB_SRCS ?= $(VMM_SRCS) $(VIRTIO_SRCS) $(API_SRCS) $(SNAPSHOT_SRCS)

UNIT_TESTS := test_seccomp test_seccomp_rules test_i8042 test_serial test_acpi_iasl test_cmdline test_boot_x86 test_router test_wire \
	test_metrics test_error test_log test_bus test_boot_timer test_loop \
	test_gmem test_gmem_blocks test_mem test_chain test_queue test_mmio test_block test_block_async test_block_ring test_balloon test_config test_options test_cgroups \
	test_cpuid_x86 test_vmm test_vmm_load test_ratelimit test_limiter_gate test_rx_window test_net test_vsock \
	test_mmds test_mmds_http test_mmds_stack test_mmds_tcp test_state \
	test_json_text test_nets test_server test_vmgenid test_vmclock \
	test_memory_file test_pair test_config_state test_phases test_uffd test_working_set test_kvm_state \
	test_kvm_native test_vcpu \
	test_device_state test_legacy_state test_net_state test_vsock_state \
	test_entropy test_vhost_user test_pmem test_pmems test_windows \
	test_jail_tap test_jail_descriptors test_jail_landlock test_jail_args test_jail_cgroup test_jail_undo
FUZZ_TARGETS := fuzz_queue fuzz_mmio fuzz_block fuzz_balloon fuzz_mem fuzz_http fuzz_kernel_image \
	fuzz_net fuzz_mmds fuzz_vsock fuzz_seccomp fuzz_working_set fuzz_state fuzz_machine_state fuzz_jail_args \
	fuzz_entropy fuzz_pmem fuzz_vhost_user
FAKE_SRCS := tests/fake/kvm.c tests/fake/ring.c tests/fake/turn.c \
	tests/fake/frames.c tests/fake/slot.c


# ------------------------------------------------------------------ building ---
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
.PHONY: all unit fuzz-targets help deps clean install
all: $(B)/ember $(B)/ember-jailer $(B)/ember-seccomp ## build monitor, jailer, filter compiler (static, stripped)
unit: $(UNIT_TESTS:%=$(B)/tests/unit/%) ## build the unit tests
fuzz-targets: $(FUZZ_TARGETS:%=$(B)/tests/fuzz/%)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

$(MHD)/lib/libmicrohttpd.a: api/microhttpd.sh api/debian_source.sh
	$(Q)api/microhttpd.sh $(MHD)

# When fuzzed it has its memory from malloc, where ASan sees the end of each piece.
LWIP_SRCS := vmm/lwip.sh api/debian_source.sh vmm/lwip/lwipopts.h vmm/lwip/hooks.h vmm/lwip/arch/cc.h
$(LWIP)/lib/liblwip.a: $(LWIP_SRCS)
	$(Q)vmm/lwip.sh $(LWIP) $(if $(SAN),$(CC) -g,gcc) $(HARDEN) $(OPT) $(if $(SAN),,-Os) \
		$(if $(findstring fuzzer,$(SAN)),-DMEM_LIBC_MALLOC=1)

$(B)/vmm/mmds_stack.o $(B)/vmm/mmds_clients.o: $(LWIP)/lib/liblwip.a

DEPS := $(MHD)/lib/libmicrohttpd.a $(LWIP)/lib/liblwip.a

# What a guest's exits, requests and pages go through is made fast; everything
# else runs once or at a client's pace and is made small.
HOT := vmm/gmem.c vmm/gmem_blocks.c vmm/loop.c vmm/bus.c vmm/irq.c vmm/kvm.c vmm/vcpu.c vmm/ratelimit.c vmm/limiter_gate.c vmm/serial.c \
	$(filter-out %_state.c virtio/block_file.c virtio/block_ring.c virtio/vhost_user% virtio/balloon% virtio/mem.c virtio/entropy.c,$(VIRTIO_SRCS)) \
	snapshot/page_set.c snapshot/memory_file.c \
	snapshot/populate.c snapshot/working_set.c snapshot/prefetch.c snapshot/uffd.c
COLD := $(filter-out $(HOT),$(LIB_SRCS)) $(JAILER_SRCS) vmm/main.c vmm/no_scanf.c vmm/no_origin.c jailer/main.c
$(COLD:%.c=$(B)/%.o): SIZE := $(if $(SAN),,-Os)

$(B)/%.o: %.c Makefile | $(DEPS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(SIZE) -MMD -MP -c -o $@ $<

# The filters are compiled while building. Sanitizers make calls of their own.
SECCOMP_BASE := vmm/util.c vmm/error.c
$(B)/ember-seccomp: $(B)/vmm/seccomp_tool.o $(SECCOMP_SRCS:%.c=$(B)/%.o) $(SECCOMP_BASE:%.c=$(B)/%.o)
	$(Q)$(CC) $(LINK_MONITOR) -o $@ $^ -lseccomp -ljansson -lz

$(B)/filters.bin: $(B)/ember-seccomp
	$(Q)$< compile --default $@

$(B)/calls.bin: $(B)/ember-seccomp
	$(Q)$< calls $@

$(B)/vmm/seccomp_builtin.o: vmm/seccomp_builtin.S $(B)/filters.bin $(B)/calls.bin Makefile
	$(Q)$(CC) -c -o $@ $(if $(SAN),,-DSECCOMP_FILTERS='"$(B)/filters.bin"') \
		-DSECCOMP_CALLS='"$(B)/calls.bin"' $<

$(B)/libember.a: $(LIB_SRCS:%.c=$(B)/%.o) $(B)/vmm/seccomp_builtin.o
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/vmm/entry_x86.o: vmm/entry_x86.S Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -c -o $@ $<

$(B)/ember: $(B)/vmm/main.o $(START) $(if $(SAN),,$(B)/vmm/no_scanf.o $(B)/vmm/no_origin.o) $(B)/libember.a vmm/no_unwind.ld vmm/start_text.ld
	$(Q)$(CC) $(LINK_MONITOR) $(LINK_START) -o $@ $(filter %.o,$^) $(LIBS)

# The jailer shares the rules of the command line and the errors, nothing else.
$(B)/libember-jailer.a: $(JAILER_SRCS:%.c=$(B)/%.o)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/ember-jailer: $(B)/jailer/main.o $(B)/jailer/no_resolver.o $(B)/libember-jailer.a $(B)/libember.a
	$(Q)$(CC) $(LINK_MONITOR) -o $@ $^ $(JAILER_LIBS)

# The fakes stand before the library, so that the linker takes them instead of
# the modules they stand for. Some programs fake more than the others.
$(B)/tests/unit/test_vmm $(B)/tests/unit/test_vmm_load: $(B)/tests/fake/machine.o
MMDS_TCP_TESTS := $(B)/tests/unit/test_mmds_stack $(B)/tests/unit/test_mmds_tcp
MMDS_TESTS := $(B)/tests/unit/test_mmds $(B)/tests/unit/test_mmds_http
$(B)/tests/unit/test_nets $(MMDS_TESTS) $(MMDS_TCP_TESTS) $(B)/tests/fuzz/fuzz_mmds: $(B)/tests/fake/net.o
$(MMDS_TESTS): $(B)/tests/fake/mmds_store.o
$(MMDS_TCP_TESTS): $(B)/tests/fake/mmds_peer.o
$(MMDS_TCP_TESTS) $(B)/tests/fuzz/fuzz_mmds: $(B)/tests/fake/tick.o
$(MMDS_TCP_TESTS) $(B)/tests/fuzz/fuzz_mmds: LDFLAGS += -Wl,--wrap=loop_timer_arm,--wrap=loop_timer_cancel
$(B)/tests/unit/test_net $(B)/tests/unit/test_net_state $(B)/tests/fuzz/fuzz_net $(B)/tests/fuzz/fuzz_state: $(B)/tests/fake/tap.o
$(B)/tests/unit/test_block_async $(B)/tests/fuzz/fuzz_block: $(B)/tests/fake/block_ring.o
$(B)/tests/unit/test_uffd $(B)/tests/unit/test_memory_file \
$(B)/tests/unit/test_gmem_blocks: $(B)/tests/fake/memory_files.o
$(B)/tests/unit/test_uffd: $(B)/tests/fake/fault_handler.o
$(B)/tests/unit/test_router $(B)/tests/unit/test_server $(B)/tests/fuzz/fuzz_http: $(B)/tests/fake/vmm.o

$(B)/tests/unit/test_entropy: LDFLAGS += -Wl,--wrap=getrandom
$(B)/tests/unit/test_pmem: LDFLAGS += -Wl,--wrap=fdatasync

# These have the real kvm.c: on ioctls that are faked, one on /dev/kvm.
KVM_TESTS := test_kvm_state test_kvm_native test_vcpu test_windows
$(KVM_TESTS:%=$(B)/tests/unit/%): %: %.o $(B)/libember.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS) -lcmocka
$(B)/tests/unit/test_kvm_state: $(B)/tests/fake/kvm_ioctl.o
$(B)/tests/unit/test_kvm_state $(B)/tests/unit/test_vcpu $(B)/tests/unit/test_windows: LDFLAGS += -Wl,--wrap=ioctl

JAIL_TESTS := $(filter test_jail_%,$(UNIT_TESTS))
$(JAIL_TESTS:%=$(B)/tests/unit/%): %: %.o $(B)/libember-jailer.a $(B)/libember.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(JAILER_LIBS) -lcmocka
$(B)/tests/unit/test_jail_cgroup: LDFLAGS += -Wl,--wrap=mkdirat

# What makes filters, and none of the monitor.
$(B)/tests/unit/test_seccomp_rules: %: %.o $(SECCOMP_SRCS:%.c=$(B)/%.o) $(SECCOMP_BASE:%.c=$(B)/%.o)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lseccomp -ljansson -lz -lcmocka

FAKED_TESTS := $(filter-out $(KVM_TESTS) $(JAIL_TESTS) test_seccomp_rules,$(UNIT_TESTS))
$(FAKED_TESTS:%=$(B)/tests/unit/%): %: %.o $(FAKE_SRCS:%.c=$(B)/%.o) $(B)/libember.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS) -lcmocka

# Built with CC=clang and SAN=fuzzer-no-link,address,undefined.
$(B)/tests/fuzz/fuzz_state $(B)/tests/fuzz/fuzz_machine_state: $(B)/tests/fake/state_mutator.o
$(B)/tests/fuzz/fuzz_machine_state: %: %.o $(B)/tests/fake/kvm_ioctl.o $(B)/libember.a
	$(Q)$(CC) $(LDFLAGS) -Wl,--wrap=ioctl -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(LIBS)
$(B)/tests/fuzz/fuzz_jail_args: %: %.o $(B)/libember-jailer.a $(B)/libember.a
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(JAILER_LIBS)
FAKED_FUZZ := $(filter-out fuzz_machine_state fuzz_jail_args,$(FUZZ_TARGETS))
$(FAKED_FUZZ:%=$(B)/tests/fuzz/%): %: %.o $(FAKE_SRCS:%.c=$(B)/%.o) $(B)/libember.a
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(LIBS)

# Small static programs, so that they don't take the caches from what they measure.
PERF := start restore clones snapshot until jail filter api teardown disk
PERF_SRCS := tests/perf/perf.c tests/perf/floor.c vmm/util.c
$(PERF:%=$(B)/tests/perf/%): $(B)/tests/perf/%: tests/perf/%.c $(PERF_SRCS) tests/perf/perf.h tests/perf/floor.h Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LINK_MONITOR) -o $@ $< $(PERF_SRCS)

# ------------------------------------------------------------- tiny guests ---
# Freestanding programs for a virtual machine, one per property. They run in
# ring 0 without an operating system; hello64 is entered like a 64-bit Linux,
# the others through the PVH note.
GUESTS := acpi balloon block clone copy counter cpu dirty disk echo entropy evil_block evil_mmio \
	evil_net evil_ring exits hello hello64 keyboard load many mem nothing pmem power smp timer torn \
	touch
GUEST_CC := gcc
GUEST_CFLAGS := -std=gnu17 -O2 -march=x86-64 -ffreestanding -nostdlib -static \
	-mno-red-zone -mgeneral-regs-only -fno-tree-loop-distribute-patterns \
	-fcf-protection=none -fno-pic -fno-stack-protector -Wall -Wextra \
	-Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
GUEST_B := $(B)/tests/guests
GUEST_OBJS := $(addprefix $(GUEST_B)/,start.o irq_entry.o guest.o irq.o virtio.o)

.PHONY: guests
guests: $(GUESTS:%=$(GUEST_B)/%.elf) $(GUEST_B)/agent $(GUEST_B)/attack $(GUEST_B)/fault_handler $(GUEST_B)/kill_at $(GUEST_B)/jailed $(GUEST_B)/inject ## build the tiny guests of the tests

# What runs inside Linux guests: any Linux program, linked statically.
AGENT_SRCS := guest/agent.c guest/servers.c guest/clients.c guest/soak.c guest/disk.c
$(GUEST_B)/agent: $(AGENT_SRCS) guest/agent.h Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -std=gnu17 -D_GNU_SOURCE -Os $(WARN) -static -s -o $@ $(AGENT_SRCS)

# What fills the memory of guests that are loaded by userfaultfd.
$(GUEST_B)/fault_handler: tests/lib/fault_handler.c tests/fake/fault_handler.c tests/fake/fault_handler.h vmm/util.c Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -std=gnu17 -D_GNU_SOURCE -I. -O2 $(WARN) -static -s -o $@ $(filter %.c,$^) -ljansson

# What tries to get out of jails. Its victims are the same program, and have the
# same addresses.
ATTACK_SRCS := tests/attacks/attack.c tests/attacks/files.c tests/attacks/process.c \
	tests/attacks/network.c tests/attacks/kernel.c
$(GUEST_B)/attack: $(ATTACK_SRCS) tests/attacks/attack.h $(B)/libember.a Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -std=gnu17 -D_GNU_SOURCE -I. -O2 $(WARN) -static -no-pie -s -o $@ $(ATTACK_SRCS) $(LIBS)

# What kills monitors in the middle of something, and makes them misbehave.
$(GUEST_B)/kill_at $(GUEST_B)/inject: $(GUEST_B)/%: tests/lib/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -std=gnu17 -D_GNU_SOURCE -O2 $(WARN) -static -s -o $@ $<

# What stands in for the monitor in a jail.
$(GUEST_B)/jailed: tests/lib/jailed.c Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -std=gnu17 -D_GNU_SOURCE -O2 $(WARN) -static -s -o $@ $<

$(GUEST_B)/%.o: tests/guests/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUEST_B)/%.o: tests/guests/%.S Makefile
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUESTS:%=$(GUEST_B)/%.elf): $(GUEST_B)/%.elf: $(GUEST_B)/%.o $(GUEST_OBJS) $(GUEST_B)/note.o tests/guests/guest.ld
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -Wl,--build-id=none,-z,noexecstack \
		-T tests/guests/guest.ld -o $@ $(GUEST_OBJS) $(GUEST_MORE) $< \
		$(filter-out $(if $(filter hello64,$*),%/note.o),$(GUEST_B)/note.o)

$(GUEST_B)/touch.elf: GUEST_MORE := $(addprefix $(GUEST_B)/,ring3_entry.o ring3.o)
$(GUEST_B)/touch.elf: $(GUEST_B)/ring3_entry.o $(GUEST_B)/ring3.o

# ------------------------------------------------------------------- testing ---
.PHONY: check check-unit check-tiny check-counted check-linux check-jailed check-rules sanitized fuzz asan tsan perf demo
ASAN := build/asan
TSAN := build/tsan
FUZZ := build/fuzz
FUZZ_SECONDS ?= 20

asan: ## build monitor and unit tests with ASan and UBSan
	$(Q)$(MAKE) --no-print-directory CC=clang B=$(ASAN) SAN=address,undefined all unit

tsan: ## build monitor and unit tests with TSan
	$(Q)$(MAKE) --no-print-directory CC=clang B=$(TSAN) SAN=thread all unit

fuzz: ## build the fuzz targets
	$(Q)$(MAKE) --no-print-directory CC=clang B=$(FUZZ) SAN=fuzzer-no-link,address,undefined fuzz-targets

UNIT_DIRS := --unit $(B)/tests/unit --unit $(ASAN)/tests/unit --unit $(TSAN)/tests/unit

check-unit: all unit asan tsan ## unit tests: plain, ASan+UBSan, TSan
	tests/run --tier unit $(UNIT_DIRS)

check-tiny: all guests ## tiny guests and API tests
	tests/run --tier tiny

check-linux: all guests ## Linux guests, directly or in the lab
	tests/run --tier linux

check-jailed: all guests ## tiny and Linux guests, on monitors in jails
	tests/run --tier tiny-jail --tier linux-jail

# Monitors are watched by strace, here and in the lab; what only Linux guests
# make them do is in a few programs.
CALLS := $(B)/tests/calls
check-rules: all guests ## filters: is every rule needed, is every call allowed?
	rm -rf $(CALLS)
	tests/run --tier tiny --strace $(CALLS) --only api_ --only tiny_
	tests/run --tier linux --strace $(CALLS) --only linux_snapshot_vhost --only linux_working_set
	tests/run --tier linux --strace $(CALLS) --only linux_vsock --only linux_net \
		--test guest_reaches --test host_ends --test two_thousand --test pause_keeps --test ping --test vhost
	$(B)/ember-seccomp print | tests/seccomp/rules.py - $(CALLS)

sanitized: asan tsan guests ## tiny guests on monitors with sanitizers
	EMBER_GUESTS=$(abspath $(GUEST_B)) tests/run --tier tiny --ember $(ASAN)/ember
	EMBER_GUESTS=$(abspath $(GUEST_B)) tests/run --tier tiny --ember $(TSAN)/ember

check-counted: all guests ## what operations cost, against tests/perf/baseline.json
	tests/run --tier counted

check: all unit guests asan tsan fuzz sanitized ## everything; ends with a table
	tests/run $(UNIT_DIRS) --fuzz $(FUZZ)/tests/fuzz --fuzz-seconds $(FUZZ_SECONDS)

perf: all guests $(PERF:%=$(B)/tests/perf/%) ## measure, and report; ONLY=restore, ONLY=-counted
	tests/perf/run $(B) $(ONLY)

demo: ## set up everything and run a guest
	tests/demo/demo.sh

# -------------------------------------------------------------------- linting ---
.PHONY: lint format check-headers
C_FILES = $(shell git ls-files '*.c' '*.h')
HEADERS = $(shell git ls-files '*.h' | grep -v '^tests/guests/')
TIDY_SRCS = $(LIB_SRCS) vmm/main.c vmm/no_scanf.c vmm/no_origin.c $(SECCOMP_SRCS) vmm/seccomp_tool.c $(JAILER_SRCS) jailer/main.c jailer/no_resolver.c

format: ## format all C files
	clang-format -i $(C_FILES)

check-headers: $(DEPS) ## every header compiles alone
	$(Q)for h in $(HEADERS); do for cc in gcc clang; do \
		$$cc $(CPPFLAGS) -std=gnu17 $(WARN_HEADERS) -fsyntax-only -x c $$h || exit 1; \
	done; done
WARN_HEADERS := -Wall -Wextra -Werror -Wno-unused-macros -Wno-unused-function

lint: check-headers ## format, both compilers, analysers, house rules
	clang-format --dry-run -Werror $(C_FILES)
	tests/style/style.py
	$(MAKE) --no-print-directory CC=gcc B=build all unit
	$(MAKE) --no-print-directory CC=clang B=build/clang all unit
	cppcheck -q --std=c11 --enable=warning,performance,portability \
		--inline-suppr --error-exitcode=1 -I. -I$(MHD)/include -I$(LWIP)/include -Ivmm/lwip \
		--suppress=missingIncludeSystem -D_GNU_SOURCE -j 2 $(TIDY_SRCS)
	printf '%s\n' $(TIDY_SRCS) | xargs -P 2 -n 4 clang-tidy --quiet \
		--warnings-as-errors='*' 2>/dev/null -extra-arg=-w \
		-extra-arg=-std=gnu17 -extra-arg=-D_GNU_SOURCE \
		-extra-arg=-I. -extra-arg=-I$(MHD)/include \
		-extra-arg=-isystem$(LWIP)/include -extra-arg=-isystemvmm/lwip \
		-extra-arg=-isystem/usr/include/libnl3

# --------------------------------------------------------------------- set-up ---
deps: ## install the Debian packages of packages.txt
	tests/style/deps.sh

install: all ## install monitor and jailer to PREFIX
	install -D -m 755 $(B)/ember $(DESTDIR)$(PREFIX)/bin/ember
	install -D -m 755 $(B)/ember-jailer $(DESTDIR)$(PREFIX)/bin/ember-jailer
	install -D -m 755 $(B)/ember-seccomp $(DESTDIR)$(PREFIX)/bin/ember-seccomp

clean: ## remove what was built (not the cached library)
	rm -rf $(filter-out build/deps,$(wildcard build/*))

-include $(wildcard $(B)/*/*.d $(B)/*/*/*.d)
