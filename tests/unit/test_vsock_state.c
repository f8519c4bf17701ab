/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving and loading of socket devices, with a guest that does what Linux does:
 * it has listeners and connections, and drops the latter when it finds the
 * event, before it posts the event's buffer again.
 */
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/vsock_device.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#define CID 52
#define GUEST_PORT 1024
#define BUFFER_LEN UINT32_C(4140)
#define RING_SIZE 16
#define EVENTS 8
#define RX_BUFFER(i) (RING_DATA + (i)*UINT64_C(0x1100))
#define EVENT_BUFFER(i) (RING_DATA + 0x40000 + (i)*UINT64_C(0x10))
#define TX_BUFFER(i) (RING_DATA + 0x80000 + (i)*UINT64_C(0x100))
#define EVENT_IDX BIT(VIRTIO_F_EVENT_IDX)
#define ALL UINT64_MAX

struct guest {
	struct ring rx, tx, event;
	struct slot slot;
	struct vsock *vsock;
	uint64_t features;
};

struct fixture {
	struct loop *loop;
	struct vsock_metrics metrics;
	struct guest guest;
	uint64_t cid;
	char dir[32], path[64], clone_path[64];
};

static void create(struct fixture *f, struct guest *guest, char *path)
{
	const struct vsock_config config = {.guest_cid = f->cid,
					    .uds_path = path};

	assert_int_equal(
		vsock_create(&guest->vsock, &config, &f->metrics, NULL), 0);
	slot_create(&guest->slot, vsock_virtio(guest->vsock), f->loop,
		    guest->rx.mem);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->cid = CID;
	strcpy(f->dir, "/tmp/ember-vsock-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/v", f->dir);
	snprintf(f->clone_path, sizeof(f->clone_path), "%s/c", f->dir);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->guest.rx, RING_SIZE), 0);
	ring_share(&f->guest.tx, &f->guest.rx, 1, RING_SIZE);
	ring_share(&f->guest.event, &f->guest.rx, 2, RING_SIZE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	slot_destroy(&f->guest.slot);
	ring_destroy(&f->guest.rx);
	loop_destroy(f->loop);
	unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* ------------------------------------------------------- the guest's side */

static void post_rx(struct guest *guest, uint16_t i)
{
	ring_set_desc(&guest->rx, i, RX_BUFFER(i), BUFFER_LEN, RING_WRITE, 0);
	ring_publish(&guest->rx, i);
}

/* Kicks as a driver does: with EVENT_IDX only past avail_event (2.7.10). */
static void post_event(struct guest *guest, uint16_t i, uint32_t len)
{
	uint16_t old = guest->event.driver_idx;

	assert_int_equal(gmem_write(guest->rx.mem, EVENT_BUFFER(i),
				    "\xff\xff\xff\xff", 4),
			 0);
	ring_set_desc(&guest->event, i, EVENT_BUFFER(i), len, RING_WRITE, 0);
	ring_publish(&guest->event, i);
	if (!(guest->features & EVENT_IDX)
		    ? !ring_device_flags(&guest->event)
		    : ring_avail_event(&guest->event) == old)
		slot_kick(&guest->slot, VSOCK_EVENT_QUEUE);
}

static void start(struct fixture *f, uint64_t features, uint16_t events)
{
	struct guest *guest = &f->guest;
	struct ring *const rings[] = {&guest->rx, &guest->tx, &guest->event};

	guest->features = features;
	create(f, guest, f->path);
	slot_activate(&guest->slot, rings, features);
	for (uint16_t i = 0; i < RING_SIZE; i++)
		post_rx(guest, i);
	for (uint16_t i = 0; i < events; i++)
		post_event(guest, i, 4);
}

/* The event, if there is one. Its buffer, or -1. */
static int take_event(struct guest *guest)
{
	uint32_t id, len, event = UINT32_MAX;

	if (!ring_take(&guest->event, &id, &len))
		return -1;
	assert_int_equal(len, 4);
	assert_int_equal(gmem_read(guest->rx.mem, EVENT_BUFFER(id), &event, 4),
			 0);
	assert_int_equal(event, VSOCK_EVENT_TRANSPORT_RESET);
	return (int)id;
}

static void acknowledge(struct guest *guest)
{
	int buffer = take_event(guest);

	assert_true(buffer >= 0);
	assert_int_equal(take_event(guest), -1);
	post_event(guest, (uint16_t)buffer, 4);
}

static void publish_packet(struct guest *guest, uint16_t i, enum vsock_op op,
			   uint32_t host_port, const char *data)
{
	const uint32_t len = (uint32_t)strlen(data);
	const struct vsock_header header = {
		.src_cid = le64_make(CID),
		.dst_cid = le64_make(VSOCK_HOST_CID),
		.src_port = le32_make(GUEST_PORT),
		.dst_port = le32_make(host_port),
		.len = le32_make(len),
		.type = le16_make(VSOCK_TYPE_STREAM),
		.op = le16_make((uint16_t)op),
		.buf_alloc = le32_make(1 << 18),
	};

	assert_int_equal(gmem_write(guest->rx.mem, TX_BUFFER(i), &header,
				    sizeof(header)),
			 0);
	assert_int_equal(gmem_write(guest->rx.mem,
				    TX_BUFFER(i) + sizeof(header), data, len),
			 0);
	ring_set_desc(&guest->tx, i, TX_BUFFER(i),
		      (uint32_t)sizeof(header) + len, 0, 0);
	ring_publish(&guest->tx, i);
}

static void send_packet(struct guest *guest, uint16_t i, enum vsock_op op,
			uint32_t host_port)
{
	uint32_t id, len;

	publish_packet(guest, i, op, host_port, "");
	slot_kick(&guest->slot, VSOCK_TX_QUEUE);
	assert_true(ring_take(&guest->tx, &id, &len));
	assert_int_equal(id, i);
}

struct waiting {
	struct guest *guest;
	struct vsock_header header;
};

static bool packet_came(void *arg)
{
	struct waiting *waiting = arg;
	uint32_t id, len;

	if (!ring_take(&waiting->guest->rx, &id, &len))
		return false;
	assert_int_equal(gmem_read(waiting->guest->rx.mem, RX_BUFFER(id),
				   &waiting->header, VSOCK_HEADER_LEN),
			 0);
	post_rx(waiting->guest, (uint16_t)id);
	slot_kick(&waiting->guest->slot, VSOCK_RX_QUEUE);
	return true;
}

/* The next packet, which must be @op. Its host port. */
static uint32_t guest_gets(struct fixture *f, struct guest *guest,
			   enum vsock_op op)
{
	struct waiting waiting = {.guest = guest};

	assert_true(turn_until(f->loop, packet_came, &waiting));
	assert_int_equal(le16_get(waiting.header.op), op);
	return le32_get(waiting.header.src_port);
}

static void guest_gets_nothing(struct fixture *f, struct guest *guest)
{
	struct waiting waiting = {.guest = guest};

	turn_briefly(f->loop);
	assert_false(packet_came(&waiting));
}

/* -------------------------------------------------------- the host's side */

static int host_connects(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	assert_int_equal(write(fd, "CONNECT 1024\n", 13), 13);
	return fd;
}

static bool host_got_end(int fd)
{
	uint8_t bytes[64];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		;
	return n == 0 || errno == ECONNRESET;
}

/* One that the guest's listener accepts. */
static uint32_t connection(struct fixture *f, struct guest *guest,
			   const char *path, int *ret_fd)
{
	uint32_t port;
	char line[32];

	*ret_fd = host_connects(path);
	port = guest_gets(f, guest, VSOCK_OP_REQUEST);
	send_packet(guest, 0, VSOCK_OP_RESPONSE, port);
	assert_true(read(*ret_fd, line, sizeof(line)) > 0);
	return port;
}

static int clone_load(struct fixture *f, struct guest *clone,
		      const struct state_file *file, struct error *err)
{
	*clone = f->guest;
	clone->rx.mem = clone->tx.mem = clone->event.mem =
		memory_copy(f->guest.rx.mem);
	create(f, clone, f->clone_path);
	loop_enable_devices(f->loop, true);
	return slot_load(&clone->slot, file, err);
}

static void clone_destroy(struct fixture *f, struct guest *clone)
{
	slot_destroy(&clone->slot);
	ring_destroy(&clone->rx);
	assert_int_equal(unlink(f->clone_path), 0);
}

/* ------------------------------------------------------------------- tests */

/* What a guest goes through after a snapshot, in either microVM. */
static void reset_and_go_on(struct fixture *f, struct guest *guest,
			    const char *path, uint32_t last_port)
{
	int fd = host_connects(path);
	uint32_t port;

	/* nothing comes before the event is dealt with: not even by a kick */
	guest_gets_nothing(f, guest);
	slot_kick(&guest->slot, VSOCK_RX_QUEUE);
	virtio_mmio_rekick(guest->slot.mmio);
	guest_gets_nothing(f, guest);
	acknowledge(guest);
	port = guest_gets(f, guest, VSOCK_OP_REQUEST);
	assert_int_equal(port, last_port + 1);
	send_packet(guest, 0, VSOCK_OP_RESPONSE, port);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(guest_gets(f, guest, VSOCK_OP_RW), port);
	assert_false(host_got_end(fd));
	close(fd);
}

static void both_go_on(struct fixture *f, uint64_t features)
{
	struct state_file file;
	struct guest clone;
	uint32_t port;
	int fd;

	start(f, features, EVENTS);
	port = connection(f, &f->guest, f->path, &fd);
	slot_edges(&f->guest.slot);
	virtio_device_acknowledge(f->guest.slot.dev, 1);
	slot_save(&f->guest.slot, &file);
	assert_true(slot_edges(&f->guest.slot) > 0);
	assert_true(host_got_end(fd)); /* at once, and before going on */
	assert_int_equal(f->guest.vsock->conn_count, 0);
	close(fd);

	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	assert_true(slot_edges(&clone.slot) > 0);
	reset_and_go_on(f, &clone, f->clone_path, port);
	clone_destroy(f, &clone);
	slot_resume(&f->guest.slot);
	reset_and_go_on(f, &f->guest, f->path, port);
	state_file_release(&file);
}

static void test_both_go_on_without_event_idx(void **state)
{
	both_go_on(*state, ~EVENT_IDX);
}

static void test_both_go_on_with_event_idx(void **state)
{
	both_go_on(*state, ALL);
}

/* More than a turn of the loop would take apart, which stands still. */
static void test_all_connections_end_at_once(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	int fds[3 * CONNS_PER_TURN];

	start(f, ALL, EVENTS);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = host_connects(f->path);
	turn_briefly(f->loop);
	assert_int_equal(f->guest.vsock->conn_count, ARRAY_SIZE(fds));
	slot_save(&f->guest.slot, &file);
	state_file_release(&file);
	assert_int_equal(f->guest.vsock->conn_count, 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_true(host_got_end(fds[i]));
		close(fds[i]);
	}
}

static void test_bare_pause_keeps_connections(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd;

	start(f, ALL, EVENTS);
	port = connection(f, &f->guest, f->path, &fd);
	loop_enable_devices(f->loop, false);
	virtio_device_hold(f->guest.slot.dev, true);
	assert_int_equal(write(fd, "x", 1), 1);
	slot_resume(&f->guest.slot);
	assert_int_equal(guest_gets(f, &f->guest, VSOCK_OP_RW), port);
	assert_int_equal(take_event(&f->guest), -1);
	close(fd);
}

/* A request to connect that was published, its kick lost. The guest's own
 * sockets that are about to connect survive the event. */
static void test_transmission_pending_at_save_is_served(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct state_file file;
	struct guest clone;
	uint32_t id, len;

	start(f, ALL, EVENTS);
	assert_true(snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_7",
			     f->clone_path) > 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	assert_int_equal(listen(listener, 8), 0);
	publish_packet(&f->guest, 0, VSOCK_OP_REQUEST, 7, "");
	slot_save(&f->guest.slot, &file);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	turn_briefly(f->loop);
	assert_true(ring_take(&clone.tx, &id, &len));
	guest_gets_nothing(f, &clone);
	acknowledge(&clone);
	assert_int_equal(guest_gets(f, &clone, VSOCK_OP_RESPONSE), 7);
	clone_destroy(f, &clone);
	unlink(addr.sun_path);
	close(listener);
	state_file_release(&file);
}

/* The second time there is no buffer. */
static void save_twice(struct fixture *f, struct state_file *file)
{
	slot_save(&f->guest.slot, file);
	state_file_release(file);
	slot_resume(&f->guest.slot);
	slot_save(&f->guest.slot, file);
	assert_true(f->guest.vsock->reset_owed);
}

static void owed(struct fixture *f, uint64_t features)
{
	struct state_file file;
	struct guest clone;
	int fd;

	start(f, features, 1);
	save_twice(f, &file);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	assert_int_equal(take_event(&clone), 0);
	assert_int_equal(take_event(&clone), -1);
	fd = host_connects(f->clone_path);
	guest_gets_nothing(f, &clone);
	post_event(&clone, 0, 2); /* is of no use, but comes back */
	post_event(&clone, 1, 4);
	assert_true(ring_take(&clone.event, &(uint32_t){0}, &(uint32_t){0}));
	guest_gets_nothing(f, &clone);
	acknowledge(&clone);
	guest_gets(f, &clone, VSOCK_OP_REQUEST);
	close(fd);
	clone_destroy(f, &clone);
	state_file_release(&file);
}

static void test_reset_without_a_buffer_is_owed(void **state)
{
	owed(*state, ~EVENT_IDX);
}

static void test_reset_without_a_buffer_is_owed_with_event_idx(void **state)
{
	owed(*state, ALL);
}

static struct conn *first_due(struct guest *guest)
{
	assert_false(conn_list_empty(&guest->vsock->due));
	return container_of(guest->vsock->due.next, struct conn, due);
}

/* However long the guest takes to deal with the reset. */
static void test_request_has_its_time_from_when_the_guest_has_it(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct guest clone;
	uint32_t port;
	int fd;

	start(f, ALL, EVENTS);
	slot_save(&f->guest.slot, &file);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	fd = host_connects(f->clone_path);
	guest_gets_nothing(f, &clone);
	conn_timed_out(first_due(&clone));
	guest_gets_nothing(f, &clone);
	assert_false(host_got_end(fd));
	first_due(&clone)->deadline_ns = 0;
	acknowledge(&clone);
	port = guest_gets(f, &clone, VSOCK_OP_REQUEST);
	assert_true(first_due(&clone)->deadline_ns > 0);
	conn_timed_out(first_due(&clone));
	vsock_turn(clone.vsock, false);
	assert_int_equal(guest_gets(f, &clone, VSOCK_OP_RST), port);
	assert_true(host_got_end(fd));
	close(fd);
	clone_destroy(f, &clone);
	state_file_release(&file);
}

static void hears_without_events(struct fixture *f, struct guest *guest,
				 const char *path)
{
	int fd;
	uint32_t port = connection(f, guest, path, &fd);

	/* This one is for the next time. */
	post_event(guest, 0, 4);
	assert_int_equal(take_event(guest), -1);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(guest_gets(f, guest, VSOCK_OP_RW), port);
	close(fd);
}

static void test_guest_without_events_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct guest clone;
	uint32_t port;
	int fd;

	start(f, ALL, 0);
	port = connection(f, &f->guest, f->path, &fd);
	slot_save(&f->guest.slot, &file);
	assert_true(host_got_end(fd));
	close(fd);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	send_packet(&clone, 0, VSOCK_OP_CREDIT_UPDATE, port);
	assert_int_equal(guest_gets(f, &clone, VSOCK_OP_RST), port);
	hears_without_events(f, &clone, f->clone_path);
	clone_destroy(f, &clone);
	slot_resume(&f->guest.slot);
	hears_without_events(f, &f->guest, f->path);
	state_file_release(&file);
}

/* A snapshot of a clone that has not got to the first event: one more comes. */
static void test_snapshots_in_a_row(void **state)
{
	struct fixture *f = *state;
	struct state_file file;

	start(f, ALL, EVENTS);
	for (int i = 0; i < EVENTS + 3; i++) {
		slot_save(&f->guest.slot, &file);
		state_file_release(&file);
		slot_resume(&f->guest.slot);
		turn_briefly(f->loop);
	}
	/* all buffers are used up, and what is owed follows */
	for (uint16_t i = 0; i < EVENTS; i++)
		assert_int_equal(take_event(&f->guest), i);
	assert_int_equal(take_event(&f->guest), -1);
	for (uint16_t i = 0; i < EVENTS; i++)
		post_event(&f->guest, i, 4);
	acknowledge(&f->guest);
	assert_false(f->guest.vsock->awaits_ack);
}

static void test_guest_reset_ends_the_waiting(void **state)
{
	struct fixture *f = *state;
	struct virtio_device *dev;
	struct state_file file;

	start(f, ALL, 1);
	dev = f->guest.slot.dev;
	save_twice(f, &file);
	state_file_release(&file);
	slot_resume(&f->guest.slot);
	pthread_mutex_lock(&dev->lock);
	virtio_device_reset(dev);
	virtio_device_settle(dev);
	pthread_mutex_unlock(&dev->lock);
	assert_false(f->guest.vsock->awaits_ack);
	assert_false(f->guest.vsock->reset_owed);
}

static void test_broken_event_queue_needs_reset(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct guest clone;

	start(f, ALL, 0);
	ring_publish(&f->guest.event, RING_SIZE); /* no such descriptor */
	slot_save(&f->guest.slot, &file);
	assert_int_equal(f->guest.slot.dev->status, 15 | 64);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	assert_int_equal(clone.slot.dev->status, 15 | 64);
	clone_destroy(f, &clone);
	state_file_release(&file);
}

/* A driver that posts such buffers faster than they are given back must not
 * keep the loop: a ring full of them is enough. */
static void test_useless_event_buffers_need_reset(void **state)
{
	struct fixture *f = *state;
	struct state_file file;

	start(f, ALL, 0);
	for (uint16_t i = 0; i < RING_SIZE; i++)
		post_event(&f->guest, i, 2);
	slot_save(&f->guest.slot, &file);
	state_file_release(&file);
	assert_int_equal(f->guest.slot.dev->status, 15 | 64);
}

static void test_other_cid_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct state_file file;
	struct guest clone;

	start(f, ALL, EVENTS);
	slot_save(&f->guest.slot, &file);
	f->cid = CID + 1;
	assert_int_equal(clone_load(f, &clone, &file, &err), -EINVAL);
	assert_string_equal(err.text, "Device 0 (vsock): guest_cid must be the "
				      "same as in the snapshot");
	clone_destroy(f, &clone);
	state_file_release(&file);
}

static void test_port_of_guests_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct state_file file, bad;
	struct guest clone;

	start(f, ALL, EVENTS);
	slot_save(&f->guest.slot, &file);
	/* the highest byte, before reset_owed and the CRC */
	assert_true(file_damage(&file, file.len - 6, 0x80, &bad));
	assert_int_equal(clone_load(f, &clone, &bad, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is not a port that hosts connect"));
	clone_destroy(f, &clone);
	state_file_release(&bad);
	state_file_release(&file);
}

static void damage_byte(struct fixture *f, const struct state_file *file,
			size_t off, uint8_t value)
{
	struct error err = {0};
	struct state_file bad;
	struct guest clone;
	int fd;

	if (!file_damage(file, off, value, &bad))
		return;
	if (clone_load(f, &clone, &bad, &err)) {
		assert_true(err.text[0] != '\0');
		assert_false(clone.slot.dev->active);
	} else {
		fd = host_connects(f->clone_path);
		turn_once(f->loop);
		for (uint16_t q = 0; q < VSOCK_QUEUE_COUNT; q++)
			slot_kick(&clone.slot, q);
		post_event(&clone, 0, 4);
		turn_once(f->loop);
		close(fd);
	}
	clone_destroy(f, &clone);
	state_file_release(&bad);
}

static void test_damaged_bytes_do_no_harm(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	int fd;

	start(f, ALL, EVENTS);
	connection(f, &f->guest, f->path, &fd);
	publish_packet(&f->guest, 1, VSOCK_OP_RW, 7, "hello");
	slot_save(&f->guest.slot, &file);
	for (size_t off = 0; off < file.len; off++) {
		damage_byte(f, &file, off, (uint8_t)(file.bytes[off] ^ 1));
		damage_byte(f, &file, off, (uint8_t)(file.bytes[off] ^ 0x80));
		damage_byte(f, &file, off, 0xff);
	}
	close(fd);
	state_file_release(&file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_both_go_on_without_event_idx),
		CASE(test_both_go_on_with_event_idx),
		CASE(test_all_connections_end_at_once),
		CASE(test_bare_pause_keeps_connections),
		CASE(test_transmission_pending_at_save_is_served),
		CASE(test_reset_without_a_buffer_is_owed),
		CASE(test_reset_without_a_buffer_is_owed_with_event_idx),
		CASE(test_request_has_its_time_from_when_the_guest_has_it),
		CASE(test_guest_without_events_is_not_waited_for),
		CASE(test_snapshots_in_a_row),
		CASE(test_guest_reset_ends_the_waiting),
		CASE(test_broken_event_queue_needs_reset),
		CASE(test_useless_event_buffers_need_reset),
		CASE(test_other_cid_is_refused),
		CASE(test_port_of_guests_is_refused),
		CASE(test_damaged_bytes_do_no_harm),
	};
#undef CASE

	return cmocka_run_group_tests(tests, NULL, NULL);
}
