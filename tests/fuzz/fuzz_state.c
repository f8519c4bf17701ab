/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state file of anybody's making, loaded into a block, a network, a socket,
 * an entropy and a pmem device, a balloon, the serial port and the keyboard
 * controller, each of which is then used. The input is the file, whose CRC is
 * put right; a section 'RAM ' in it is put over the rings in guest memory. What
 * loads must be fit to be used, saved, and loaded again.
 *
 * With EMBER_STATE_SEEDS=<directory> the program writes files as the devices
 * make them: that is the corpus.
 */
#include "tests/fake/slot.h"
#include "tests/fake/tap.h"
#include "tests/fake/turn.h"
#include "virtio/balloon.h"
#include "virtio/block.h"
#include "virtio/entropy.h"
#include "virtio/net.h"
#include "virtio/pmem.h"
#include "virtio/vsock.h"
#include "vmm/i8042.h"
#include "vmm/log.h"
#include "vmm/serial.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define RING_SIZE 16
#define DEVICES 6
#define RINGS 13
#define DATA (RING_DATA + 0x20000) /* behind the rings */
#define SIZE_MAX_INPUT 4096
#define RAM STATE_TAG('R', 'A', 'M', ' ')

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Which of the rings is a device's first queue, in the order of its queues. */
static const uint16_t first_ring[DEVICES] = {0, 1, 3, 6, 7, 8};

/* Of what a device only writes to: receive and event queues, entropy, reports
 * of free pages. */
static const bool receives[RINGS] = {
	[1] = true, [3] = true, [5] = true, [6] = true, [12] = true,
};

/* A microVM's devices, in one guest memory. */
struct machine {
	struct ring rings[RINGS];
	struct slot slots[DEVICES];
	struct serial *serial;
	struct i8042 *i8042;
	struct block_metrics block_metrics;
	struct net_metrics net_metrics;
	struct vsock_metrics vsock_metrics;
	struct metrics metrics;
	struct pmem_metrics pmem_metrics;
	struct uart_metrics uart_metrics;
	struct i8042_metrics i8042_metrics;
};

static char disk_path[64], vsock_path[64] = "/tmp/ember-fuzz-XXXXXX";
static struct loop *loop;

static struct virtio_device *make_block(struct machine *machine)
{
	const struct drive_config config = {.drive_id = disk_path,
					    .path_on_host = disk_path,
					    .cache_type = CACHE_WRITEBACK};
	struct block *block = NULL;

	if (block_create(&block, &config, &machine->block_metrics, NULL))
		abort();
	return block_virtio(block);
}

static struct virtio_device *make_net(struct machine *machine)
{
	static char name[] = "tap0";
	const struct net_config config = {.iface_id = name,
					  .host_dev_name = name};
	struct net *net = NULL;

	if (net_create(&net, &config, &machine->net_metrics, NULL))
		abort();
	return net_virtio(net);
}

static struct virtio_device *make_vsock(struct machine *machine)
{
	const struct vsock_config config = {.guest_cid = 3,
					    .uds_path = vsock_path};
	struct vsock *vsock = NULL;

	unlink(vsock_path);
	if (vsock_create(&vsock, &config, &machine->vsock_metrics, NULL))
		abort();
	return vsock_virtio(vsock);
}

static struct virtio_device *make_entropy(struct machine *machine)
{
	const struct entropy_config config = {
		.rate_limiter.values.ops = {4, 0, 1000}};
	struct entropy *entropy = NULL;

	if (entropy_create(&entropy, &config, &machine->metrics, NULL))
		abort();
	return entropy_virtio(entropy);
}

static struct virtio_device *make_pmem(struct machine *machine)
{
	const struct pmem_config config = {.id = disk_path,
					   .path_on_host = disk_path};
	struct pmem *pmem = NULL;

	if (pmem_create(&pmem, &config, &machine->pmem_metrics, NULL) ||
	    pmem_open(pmem, disk_path, false, NULL))
		abort();
	pmem_place(pmem, UINT64_C(0x8000000000));
	return pmem_virtio(pmem);
}

static struct virtio_device *make_balloon(struct machine *machine)
{
	const struct balloon_config config = {
		.amount_mib = 1,
		.stats_polling_interval_s = 1,
		.free_page_hinting = true,
		.free_page_reporting = true,
	};
	struct balloon *balloon = NULL;

	if (balloon_create(&balloon, &config, &machine->metrics, NULL))
		abort();
	return balloon_virtio(balloon);
}

static void no_reset(void *arg)
{
	(void)arg;
}

/* Requests that wait: chains of a readable and a writable buffer, or only the
 * latter, which is what receive and event queues take. */
static void fill_ring(struct ring *ring, bool writable)
{
	for (uint16_t i = 0; i < RING_SIZE; i += 2) {
		uint64_t at = DATA + i * UINT64_C(0x1000);

		ring_set_desc(ring, i, at, 64, RING_NEXT, (uint16_t)(i + 1));
		ring_set_desc(ring, (uint16_t)(i + 1), at + 64, 3000,
			      RING_WRITE, 0);
		ring_publish(ring, writable ? (uint16_t)(i + 1) : i);
	}
}

static void create(struct machine *machine)
{
	struct virtio_device *devices[DEVICES];

	if (ring_create(&machine->rings[0], RING_SIZE) ||
	    serial_create(&machine->serial, -1, &machine->uart_metrics) ||
	    i8042_create(&machine->i8042, no_reset, NULL,
			 &machine->i8042_metrics))
		abort();
	for (uint16_t q = 0; q < RINGS; q++) {
		ring_share(&machine->rings[q], &machine->rings[0], q,
			   RING_SIZE);
		fill_ring(&machine->rings[q], receives[q]);
	}
	devices[0] = make_block(machine);
	devices[1] = make_net(machine);
	devices[2] = make_vsock(machine);
	devices[3] = make_entropy(machine);
	devices[4] = make_pmem(machine);
	devices[5] = make_balloon(machine);
	for (size_t i = 0; i < DEVICES; i++)
		slot_create(&machine->slots[i], devices[i], loop,
			    machine->rings[0].mem);
}

static void destroy(struct machine *machine)
{
	for (size_t i = 0; i < DEVICES; i++)
		slot_destroy(&machine->slots[i]);
	serial_destroy(machine->serial);
	i8042_destroy(machine->i8042);
	ring_destroy(&machine->rings[0]);
}

static void use_ports(const struct machine *machine)
{
	uint8_t byte;

	serial_receive(machine->serial, (const uint8_t *)"0123456789", 10);
	for (uint64_t i = 0; i < 160; i++) {
		serial_bus_ops.read(machine->serial, i % 8, &byte, 1);
		i8042_bus_ops.read(machine->i8042, i % 5, &byte, 1);
		byte = (uint8_t)(i * 7);
		serial_bus_ops.write(machine->serial, i / 8 % 8, &byte, 1);
		i8042_bus_ops.write(machine->i8042, i % 2 * 4, &byte, 1);
	}
}

static void use_device(struct slot *slot)
{
	struct virtio_device *dev = slot->dev;

	loop_enable_devices(loop, true);
	slot_resume(slot);
	turn_once(loop);
	for (uint16_t q = 0; q < dev->queue_count; q++) {
		pthread_mutex_lock(&dev->lock);
		virtio_device_queue_event(dev, q);
		pthread_mutex_unlock(&dev->lock);
	}
	turn_once(loop);
}

static int save(const struct machine *machine, const uint8_t *ram,
		size_t ram_len, struct state_file *ret_file)
{
	struct state_writer writer;

	state_writer_init(&writer);
	for (uint16_t i = 0; i < DEVICES; i++)
		virtio_mmio_save(machine->slots[i].mmio, &writer, i);
	serial_save(machine->serial, &writer);
	i8042_save(machine->i8042, &writer);
	if (ram_len) {
		state_begin(&writer, RAM, 1, 0);
		state_put(&writer, ram, ram_len);
		state_end(&writer);
	}
	if (state_writer_finish(&writer))
		abort();
	return state_file_parse(ret_file, take_ptr(writer.bytes), writer.len,
				NULL);
}

static void load(struct machine *machine, const struct state_file *file)
{
	struct state_reader ram;
	struct error err = {0};

	if (state_find(file, RAM, 0, &ram) &&
	    gmem_write(machine->rings[0].mem, RING_DESC, ram.at,
		       MIN(ram.left, (size_t)(DATA - RING_DESC))))
		abort();
	for (uint16_t i = 0; i < DEVICES; i++) {
		if (!virtio_mmio_load(machine->slots[i].mmio, file, i, &err)) {
			use_device(&machine->slots[i]);
			continue;
		}
		assert(err.text[0] && !machine->slots[i].dev->active);
	}
	err.text[0] = '\0';
	assert(!serial_load(machine->serial, file, &err) || err.text[0]);
	err.text[0] = '\0';
	assert(!i8042_load(machine->i8042, file, &err) || err.text[0]);
	use_ports(machine);
}

static void write_seed(const char *dir, const char *name,
		       const struct state_file *file)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, file->bytes, file->len) != (ssize_t)file->len)
		abort();
	close_fd(&fd);
}

static void write_seeds(const char *dir)
{
	static const struct {
		const char *name;
		uint64_t features;
		bool active, used;
		uint8_t ram[4]; /* over the first descriptor */
		size_t ram_len;
	} seeds[] = {
		{"fresh", 0, false, false, {0}, 0},
		{"waiting", UINT64_MAX, true, false, {0}, 0},
		{"served", UINT64_MAX, true, true, {0}, 0},
		{"no_event_idx", ~BIT(VIRTIO_F_EVENT_IDX), true, false, {0}, 0},
		{"memory", UINT64_MAX, true, false, {0x20, 0, 1}, 4},
	};

	for (size_t i = 0; i < ARRAY_SIZE(seeds); i++) {
		struct machine machine = {0};
		struct state_file file;
		struct ring *rings[RINGS];

		create(&machine);
		for (size_t q = 0; q < RINGS; q++)
			rings[q] = &machine.rings[q];
		for (size_t k = 0; k < DEVICES && seeds[i].active; k++) {
			slot_activate(&machine.slots[k], &rings[first_ring[k]],
				      seeds[i].features);
			if (seeds[i].used)
				use_device(&machine.slots[k]);
		}
		if (save(&machine, seeds[i].ram, seeds[i].ram_len, &file))
			abort();
		write_seed(dir, seeds[i].name, &file);
		state_file_release(&file);
		destroy(&machine);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};
	const char *seeds = getenv("EMBER_STATE_SEEDS");
	int fd = memfd_create("disk", 0);

	(void)argc;
	(void)argv;
	if (fd < 0 || ftruncate(fd, 65536) || log_configure(&quiet, NULL) ||
	    !mkdtemp(vsock_path) || loop_create(&loop))
		return -1;
	snprintf(disk_path, sizeof(disk_path), "/proc/self/fd/%d", fd);
	strcat(vsock_path, "/v");
	if (seeds)
		write_seeds(seeds);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine machine = {0}, second = {0};
	struct state_file file, again;
	uint8_t *bytes;

	if (size < sizeof(le32) || size > SIZE_MAX_INPUT)
		return 0;
	bytes = malloc(size);
	if (!bytes)
		abort();
	memcpy(bytes, data, size);
	file_sign(bytes, size);
	if (state_file_parse(&file, bytes, size, NULL))
		return 0;
	create(&machine);
	load(&machine, &file);
	if (save(&machine, NULL, 0, &again))
		abort();
	destroy(&machine);
	create(&second);
	load(&second, &again);
	destroy(&second);
	state_file_release(&file);
	state_file_release(&again);
	return 0;
}
