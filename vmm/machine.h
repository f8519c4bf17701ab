/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: KVM objects, guest memory, buses, devices and vCPUs, put
 * together in the order that design law 1 asks for. vmm.c decides when; this
 * module knows how. A machine that could not be built is taken apart again and
 * leaves nothing behind.
 *
 * Thread: loop.
 */
#ifndef EMBER_MACHINE_H
#define EMBER_MACHINE_H

#include "vmm/cmdline.h"
#include "vmm/config.h"
#include "vmm/gmem.h"
#include "vmm/loop.h"
#include "vmm/metrics.h"

struct machine;
struct mem_device;
struct memory_file;
struct memory_file_request;
struct phases;
struct recorder;
struct seccomp_filters;
struct state_file;
struct state_writer;
struct virtio_device;

/* What the guest or KVM may do to the machine. Called on vCPU threads. */
struct machine_events {
	void (*power_off)(void *arg, const char *reason);
	void (*failed)(void *arg, const char *reason);
	void *arg;
};

/*
 * Memory of the host's that the guest finds besides its RAM, at an address that
 * the machine chooses: not in its memory map, not in snapshots, not in the log
 * of dirty pages, and no place for buffers of devices.
 */
struct machine_window {
	const char *name; /* for messages */
	const void *hva;  /* borrowed: outlives the machine */
	uint64_t len;
	bool read_only;
	/* Told before the machine's devices are attached. */
	void (*placed)(void *arg, uint64_t gpa);
	void *arg;
};

/* Of addresses on both sides, and of lengths. */
#define MACHINE_WINDOW_ALIGN MIB(2)

struct machine_request {
	const struct machine_config *config;
	enum gmem_backing backing;
	bool boot_timer;
	int kernel_fd; /* borrowed */
	int initrd_fd; /* borrowed; -1: none */
	/* The client's part; device announcements are appended. */
	struct cmdline *cmdline;
	/* Borrowed: they outlive the machine. In the order the guest shall
	 * find them. */
	struct virtio_device *const *devices;
	size_t device_count;
	/* Persistent memory, in the order of the guest's addresses. */
	const struct machine_window *windows;
	size_t window_count;
	/* One of the devices: memory that comes and goes. NULL: none. */
	struct mem_device *hotplug;
	struct loop *loop;
	struct metrics *metrics;
	struct machine_events events;
	const struct seccomp_filters *filters; /* of its threads; may be NULL */
	int serial_fd; /* borrowed, COM1's output; -1: standard output */
	const struct token_bucket_config *serial_limit; /* of its bytes */
};

/* What a machine is restored from, instead of being booted. */
struct machine_snapshot {
	const struct state_file *state;
	const char *memory_path;
	bool uffd; /* memory_path is the socket of a page-fault handler */
	bool clock_realtime;
	const char *working_set_path; /* NULL: none */
	enum snapshot_prefetch prefetch;
	const char *record_path; /* a working set; NULL: none */
	struct phases *phases;	 /* from the memory to the identity */
};

/* Opens KVM and creates the empty VM ahead of time, so that machine_build does
 * not have to: the part that needs no configuration. */
int machine_create(struct machine **ret_machine, struct error *err) must_check;

/* Builds everything and loads the kernel. On failure only machine_destroy may
 * follow. */
int machine_build(struct machine *machine,
		  const struct machine_request *request,
		  struct error *err) must_check;

/* The same from a snapshot: of @request the kernel and what belongs to it do
 * not matter. The guest is told that it is a copy. */
int machine_restore(struct machine *machine,
		    const struct machine_request *request,
		    const struct machine_snapshot *snapshot,
		    struct error *err) must_check;

/* Starts every vCPU thread; unless @run the machine is paused from the start.
 */
int machine_run(struct machine *machine, bool run,
		struct error *err) must_check;

/* Gets every vCPU out of the guest and silences the devices; -ETIMEDOUT when a
 * vCPU does not answer (it is resumed then). */
int machine_pause(struct machine *machine, struct error *err) must_check;
void machine_resume(struct machine *machine);

/* Of a paused machine: all but its memory. */
int machine_save(struct machine *machine, struct state_writer *writer,
		 struct error *err) must_check;

/*
 * And its memory, in steps (snapshot/memory_file.h). Its devices are saved
 * before it is filled: that may change it. At the end it is said whether there
 * is a snapshot now: if not, what has changed still counts for the next one.
 */
int machine_open_memory_file(struct machine *machine,
			     const struct memory_file_request *request,
			     struct memory_file **ret_file,
			     struct error *err) must_check;
int machine_fill_memory_file(struct machine *machine, struct memory_file *file,
			     struct phases *phases,
			     struct error *err) must_check;
void machine_end_snapshot(struct machine *machine, bool done);

/* Of a machine that was built or restored; they live as long as it does and may
 * be used by any thread that it outlives. No recorder: NULL. */
struct gmem *machine_memory(const struct machine *machine);
struct recorder *machine_recorder(const struct machine *machine);

/* Stops the guest for good and lets go whoever waits for a page of its memory,
 * so that machine_destroy does not have to wait for a page-fault handler.
 * Accepts NULL and half-built machines. */
void machine_stop(struct machine *machine);

int machine_ctrl_alt_del(struct machine *machine) must_check;

/* Stops vCPUs and releases all. Accepts NULL and half-built machines. */
void machine_destroy(struct machine *machine);

#endif
