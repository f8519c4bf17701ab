/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end of vhost-user, against a back end that has said all it will say
 * before it is asked: its answers are in the socket already.
 */
#include "virtio/vhost_user.h"

#include "tests/fake/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cmocka.h>

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
};

#define REPLY 5
#define ALL UINT64_MAX
#define CONFIG_LEN 60
#define FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VHOST_USER_F_PROTOCOL_FEATURES))
#define WANTED (BIT(VIRTIO_F_EVENT_IDX) | BIT(5))
#define PAYLOAD_MAX 256

struct fixture {
	int front, back; /* ends of a connection; front: until it is adopted */
	struct vhost_user vhost;
	struct error err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int ends[2];

	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(socketpair(AF_UNIX,
				    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
				    0, ends),
			 0);
	f->front = ends[0];
	f->back = ends[1];
	f->vhost.fd = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->front);
	close_fd(&f->back);
	vhost_user_close(&f->vhost);
	free(f);
	return 0;
}

static void say(struct fixture *f, const void *bytes, size_t len)
{
	assert_int_equal(send(f->back, bytes, len, 0), len);
}

static void say_header(struct fixture *f, uint32_t request, uint32_t flags,
		       uint32_t size)
{
	const uint32_t header[3] = {request, flags, size};

	say(f, header, sizeof(header));
}

static void say_u64(struct fixture *f, uint32_t request, uint64_t value)
{
	say_header(f, request, REPLY, sizeof(value));
	say(f, &value, sizeof(value));
}

static void say_config(struct fixture *f, uint32_t off, uint32_t size)
{
	const uint32_t head[3] = {off, size, 0};
	uint8_t bytes[CONFIG_LEN];

	for (uint8_t i = 0; i < CONFIG_LEN; i++)
		bytes[i] = i;
	say_header(f, GET_CONFIG, REPLY, sizeof(head) + CONFIG_LEN);
	say(f, head, sizeof(head));
	say(f, bytes, sizeof(bytes));
}

static int adopt(struct fixture *f)
{
	return vhost_user_adopt(&f->vhost, take_fd(&f->front), WANTED, &f->err);
}

struct heard {
	uint32_t header[3];
	union {
		uint8_t bytes[PAYLOAD_MAX];
		uint32_t words[PAYLOAD_MAX / 4];
		uint64_t numbers[PAYLOAD_MAX / 8];
	};
	int fds[8];
	size_t fd_count;
};

/* The next message that the front end has sent. */
static void hear(struct fixture *f, struct heard *heard)
{
	union {
		char bytes[CMSG_SPACE(sizeof(heard->fds))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {heard->header, sizeof(heard->header)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg;

	memset(heard, 0, sizeof(*heard));
	assert_int_equal(recvmsg(f->back, &msg, MSG_CMSG_CLOEXEC),
			 sizeof(heard->header));
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg) {
		heard->fd_count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(heard->fds, CMSG_DATA(cmsg),
		       heard->fd_count * sizeof(int));
	}
	assert_int_equal(heard->header[1], 1);
	assert_true(heard->header[2] <= PAYLOAD_MAX);
	if (heard->header[2])
		assert_int_equal(
			recv(f->back, heard->bytes, heard->header[2], 0),
			heard->header[2]);
}

static void forget(struct heard *heard)
{
	for (size_t i = 0; i < heard->fd_count; i++)
		close_fd(&heard->fds[i]);
}

static void expect_u64(struct fixture *f, uint32_t request, uint64_t value)
{
	struct heard heard;

	hear(f, &heard);
	assert_int_equal(heard.header[0], request);
	assert_int_equal(heard.header[2], 8);
	assert_int_equal(heard.numbers[0], value);
	assert_int_equal(heard.fd_count, 0);
}

/* Index 0 and a number. */
static void expect_state(struct fixture *f, uint32_t request, uint32_t num)
{
	expect_u64(f, request, (uint64_t)num << 32);
}

static void expect_empty(struct fixture *f, uint32_t request)
{
	struct heard heard;

	hear(f, &heard);
	assert_int_equal(heard.header[0], request);
	assert_int_equal(heard.header[2], 0);
}

static void agree(struct fixture *f)
{
	say_u64(f, GET_FEATURES, ALL);
	say_u64(f, GET_PROTOCOL_FEATURES, ALL);
	assert_int_equal(adopt(f), 0);
	expect_empty(f, SET_OWNER);
	expect_empty(f, GET_FEATURES);
	expect_empty(f, GET_PROTOCOL_FEATURES);
	expect_u64(f, SET_PROTOCOL_FEATURES, BIT(9));
}

/* ---------------------------------------------------------------- agreement */

static void test_adopt_takes_what_it_wants_and_no_more(void **state)
{
	struct fixture *f = *state;

	agree(f);
	assert_int_equal(f->vhost.features, FEATURES | WANTED);
}

static void test_adopt_takes_no_more_than_there_is(void **state)
{
	struct fixture *f = *state;

	say_u64(f, GET_FEATURES, FEATURES | BIT(5));
	say_u64(f, GET_PROTOCOL_FEATURES, BIT(9));
	assert_int_equal(adopt(f), 0);
	assert_int_equal(f->vhost.features, FEATURES | BIT(5));
}

static void test_adopt_refuses_what_is_no_answer(void **state)
{
	static const struct {
		uint32_t request, flags, size;
	} cases[] = {
		{SET_FEATURES, REPLY, 8},
		{GET_FEATURES, 1, 8},
		{GET_FEATURES, 4, 8},
		{GET_FEATURES, 6, 8},
		{GET_FEATURES, REPLY, 0},
		{GET_FEATURES, REPLY, 7},
		{GET_FEATURES, REPLY, 9},
		{GET_FEATURES, REPLY, UINT32_MAX},
		{0, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f;

		setup(state);
		f = *state;
		say_header(f, cases[i].request, cases[i].flags, cases[i].size);
		say(f, "\377\377\377\377\377\377\377\377", 8);
		assert_int_equal(adopt(f), -EPROTO);
		assert_string_equal(f->err.text, "The back end's answer to "
						 "GET_FEATURES is not one");
		assert_int_equal(f->vhost.fd, -1);
		teardown(state);
	}
}

static void test_adopt_refuses_back_ends_of_another_kind(void **state)
{
	static const struct {
		uint64_t features, protocol;
		const char *text;
	} cases[] = {
		{BIT(VIRTIO_F_VERSION_1), ALL, "without VERSION_1 or PROTOCOL"},
		{ALL & ~BIT(VIRTIO_F_VERSION_1), ALL, "without VERSION_1 or"},
		{0, 0, "The back end has features 0, without"},
		{ALL, ALL & ~BIT(9), "without CONFIG"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f;

		setup(state);
		f = *state;
		say_u64(f, GET_FEATURES, cases[i].features);
		say_u64(f, GET_PROTOCOL_FEATURES, cases[i].protocol);
		assert_int_equal(adopt(f), -ENOTSUP);
		assert_non_null(strstr(f->err.text, cases[i].text));
		assert_int_equal(f->vhost.fd, -1);
		teardown(state);
	}
}

static void test_adopt_waits_a_second(void **state)
{
	struct fixture *f = *state;
	uint64_t start = monotonic_ns();

	say(f, "\1", 1); /* a beginning is no answer */
	assert_int_equal(adopt(f), -ETIMEDOUT);
	assert_in_range(monotonic_ns() - start, VHOST_USER_TIMEOUT_NS,
			4 * VHOST_USER_TIMEOUT_NS);
	assert_string_equal(f->err.text, "The back end does not answer "
					 "GET_FEATURES within a second");
}

static void test_adopt_end_of_the_connection(void **state)
{
	struct fixture *f = *state;

	say_u64(f, GET_FEATURES, ALL);
	assert_int_equal(shutdown(f->back, SHUT_WR), 0);
	assert_int_equal(adopt(f), -ECONNRESET);
	assert_non_null(strstr(f->err.text, "GET_PROTOCOL_FEATURES: "));
}

static void test_connect_refuses_paths_that_are_none(void **state)
{
	char path[200];
	struct fixture *f = *state;

	memset(path, 'x', sizeof(path));
	path[108] = '\0';
	assert_int_equal(vhost_user_connect(&f->vhost, path, 0, &f->err),
			 -EINVAL);
	path[107] = '\0';
	assert_int_equal(vhost_user_connect(&f->vhost, path, 0, &f->err),
			 -ENOENT);
	assert_int_equal(vhost_user_connect(&f->vhost, "", 0, &f->err),
			 -EINVAL);
	assert_int_equal(f->vhost.fd, -1);
}

/* ------------------------------------------------------------ configuration */

static void test_get_config_gives_bytes(void **state)
{
	struct fixture *f = *state;
	uint8_t config[CONFIG_LEN + 1] = {0};
	struct heard heard;

	agree(f);
	say_config(f, 0, CONFIG_LEN);
	config[CONFIG_LEN] = 0xee;
	assert_int_equal(
		vhost_user_get_config(&f->vhost, config, CONFIG_LEN, &f->err),
		0);
	assert_int_equal(config[1], 1);
	assert_int_equal(config[CONFIG_LEN - 1], CONFIG_LEN - 1);
	assert_int_equal(config[CONFIG_LEN], 0xee);
	hear(f, &heard);
	assert_int_equal(heard.header[0], GET_CONFIG);
	assert_int_equal(heard.header[2], 12 + CONFIG_LEN);
	assert_int_equal(heard.words[0], 0);
	assert_int_equal(heard.words[1], CONFIG_LEN);
}

static void test_get_config_refuses_another_part(void **state)
{
	struct fixture *f = *state;
	uint8_t config[CONFIG_LEN] = {0};

	agree(f);
	say_config(f, 4, CONFIG_LEN);
	assert_int_equal(
		vhost_user_get_config(&f->vhost, config, CONFIG_LEN, &f->err),
		-EPROTO);
	say_config(f, 0, UINT32_MAX);
	assert_int_equal(
		vhost_user_get_config(&f->vhost, config, CONFIG_LEN, &f->err),
		-EPROTO);
	say_header(f, GET_CONFIG, REPLY, 0); /* "I have none" */
	assert_int_equal(
		vhost_user_get_config(&f->vhost, config, CONFIG_LEN, &f->err),
		-EPROTO);
	assert_int_equal(config[1], 0);
}

static int get_config(struct fixture *f)
{
	uint8_t config[CONFIG_LEN];

	return vhost_user_get_config(&f->vhost, config, CONFIG_LEN, &f->err);
}

/* It is not taken for the answer to something else. */
static void test_configuration_that_is_late_is_for_nobody(void **state)
{
	struct fixture *f = *state;

	agree(f);
	assert_int_equal(get_config(f), -ETIMEDOUT);
	assert_int_equal(vhost_user_check_idle(&f->vhost), 0);
	assert_int_equal(vhost_user_ask_stop(&f->vhost), -EBUSY);
	say_config(f, 0, CONFIG_LEN);
	assert_int_equal(vhost_user_check_idle(&f->vhost), 0);
	say_config(f, 0, CONFIG_LEN); /* one too many */
	assert_int_equal(vhost_user_check_idle(&f->vhost), -EPROTO);
}

static void test_late_configuration_is_waited_for_by_the_next(void **state)
{
	struct fixture *f = *state;

	agree(f);
	assert_int_equal(get_config(f), -ETIMEDOUT);
	assert_int_equal(get_config(f), -ETIMEDOUT);
	say_config(f, 0, CONFIG_LEN);
	say_config(f, 0, CONFIG_LEN);
	assert_int_equal(get_config(f), 0);
	assert_int_equal(vhost_user_check_idle(&f->vhost), 0);
	say_u64(f, GET_VRING_BASE, 0);
	assert_int_equal(vhost_user_ask_stop(&f->vhost), 0);
	assert_int_equal(vhost_user_end_stop(&f->vhost), 0);
}

static void test_half_a_configuration_is_none(void **state)
{
	struct fixture *f = *state;

	agree(f);
	say_header(f, GET_CONFIG, REPLY, 12 + CONFIG_LEN);
	assert_int_equal(get_config(f), -EPROTO);
	assert_int_equal(get_config(f), -ETIMEDOUT);
	say_header(f, GET_CONFIG, REPLY, 12 + CONFIG_LEN);
	assert_int_equal(vhost_user_check_idle(&f->vhost), -EPROTO);
}

/* A descriptor that comes with an answer is not kept. */
static void test_descriptors_of_the_back_end_are_dropped(void **state)
{
	struct fixture *f = *state;
	const uint32_t header[3] = {GET_FEATURES, REPLY, 8};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {(void *)(uintptr_t)header, sizeof(header)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	int ends[2];
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.align), &ends[1], sizeof(int));
	assert_int_equal(sendmsg(f->back, &msg, 0), sizeof(header));
	say(f, "\377\377\377\377\377\377\377\377", 8);
	say_u64(f, GET_PROTOCOL_FEATURES, ALL);
	assert_int_equal(adopt(f), 0);
	close(ends[1]);
	/* Nobody has the other end any more. */
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

/* ----------------------------------------------------------- start and stop */

struct board {
	struct ring ring;
	struct virtio_device dev;
	struct loop_source kick;
};

/* A device with a queue in memory of this kind. */
static void board_create(struct board *board, enum gmem_backing backing)
{
	const struct gmem_range range = {0, RING_MEMORY};
	const struct gmem_request request = {
		.ranges = &range,
		.count = 1,
		.backing = backing,
		.fd = -1,
	};

	memset(board, 0, sizeof(*board));
	assert_int_equal(ring_create(&board->ring, 16), 0);
	gmem_destroy(board->ring.mem);
	assert_int_equal(gmem_create(&board->ring.mem, &request, NULL), 0);
	board->dev.mem = board->ring.mem;
	board->dev.driver_features = FEATURES | BIT(VIRTIO_F_EVENT_IDX);
	queue_init(&board->dev.queues[0], 256);
	ring_describe(&board->ring, &board->dev.queues[0]);
	assert_int_equal(queue_activate(&board->dev.queues[0], board->dev.mem,
					true, NULL),
			 0);
	board->kick.fd = eventfd(1, EFD_CLOEXEC);
	board->dev.kicks[0] = &board->kick;
	board->dev.irq.fd = eventfd(2, EFD_CLOEXEC);
}

static void board_destroy(struct board *board)
{
	close_fd(&board->kick.fd);
	close_fd(&board->dev.irq.fd);
	ring_destroy(&board->ring);
}

static void expect_eventfd(struct fixture *f, uint32_t request, uint64_t count)
{
	struct heard heard;
	uint64_t got = 0;

	hear(f, &heard);
	assert_int_equal(heard.header[0], request);
	assert_int_equal(heard.header[2], 8);
	assert_int_equal(heard.numbers[0], 0);
	assert_int_equal(heard.fd_count, 1);
	assert_int_equal(read(heard.fds[0], &got, sizeof(got)), sizeof(got));
	assert_int_equal(got, count);
	forget(&heard);
}

static void expect_table(struct fixture *f, const struct board *board)
{
	const struct gmem_region *region = gmem_region(board->ring.mem, 0);
	struct heard heard;

	hear(f, &heard);
	assert_int_equal(heard.header[0], SET_MEM_TABLE);
	assert_int_equal(heard.header[2], 8 + 32);
	assert_int_equal(heard.words[0], 1);
	assert_int_equal(heard.numbers[1], 0);
	assert_int_equal(heard.numbers[2], RING_MEMORY);
	assert_int_equal(heard.numbers[3], (uintptr_t)region->hva);
	assert_int_equal(heard.numbers[4], 0);
	assert_int_equal(heard.fd_count, 1);
	/* It cannot be made shorter, or longer. */
	assert_int_equal(ftruncate(heard.fds[0], 0), -1);
	assert_int_equal(ftruncate(heard.fds[0], 2 * RING_MEMORY), -1);
	forget(&heard);
}

static void test_start_says_where_everything_is(void **state)
{
	struct fixture *f = *state;
	struct board board;
	struct heard heard;
	const uint8_t *base;

	agree(f);
	board_create(&board, GMEM_MEMFD);
	board.dev.queues[0].next_avail = 7;
	assert_int_equal(vhost_user_start(&f->vhost, &board.dev, &f->err), 0);
	/* RO was agreed on, but is none of what the driver accepted. */
	expect_u64(f, SET_FEATURES, FEATURES | BIT(VIRTIO_F_EVENT_IDX));
	expect_table(f, &board);
	expect_state(f, SET_VRING_NUM, 16);
	expect_state(f, SET_VRING_BASE, 7);
	hear(f, &heard);
	assert_int_equal(heard.header[0], SET_VRING_ADDR);
	assert_int_equal(heard.header[2], 40);
	base = gmem_region(board.ring.mem, 0)->hva;
	assert_int_equal(heard.numbers[0], 0);
	assert_int_equal(heard.numbers[1], (uintptr_t)(base + RING_DESC));
	assert_int_equal(heard.numbers[2], (uintptr_t)(base + RING_DEVICE));
	assert_int_equal(heard.numbers[3], (uintptr_t)(base + RING_DRIVER));
	expect_eventfd(f, SET_VRING_CALL, 2);
	expect_eventfd(f, SET_VRING_KICK, 1);
	expect_state(f, SET_VRING_ENABLE, 1);
	board_destroy(&board);
}

static void test_start_does_not_share_other_memory(void **state)
{
	struct fixture *f = *state;
	struct board board;

	agree(f);
	board_create(&board, GMEM_ANONYMOUS);
	assert_int_equal(vhost_user_start(&f->vhost, &board.dev, &f->err),
			 -ENOTSUP);
	board_destroy(&board);
}

static void test_start_does_not_wait_for_who_does_not_read(void **state)
{
	struct fixture *f = *state;
	struct board board;
	uint64_t start;
	int ret = 0;

	agree(f);
	board_create(&board, GMEM_MEMFD);
	start = monotonic_ns();
	for (int i = 0; i < 10000 && !ret; i++)
		ret = vhost_user_start(&f->vhost, &board.dev, &f->err);
	assert_true(ret < 0);
	assert_non_null(strstr(f->err.text, "cannot be told where"));
	assert_true(monotonic_ns() - start < 4 * VHOST_USER_TIMEOUT_NS);
	board_destroy(&board);
}

static void test_start_with_nobody_there(void **state)
{
	struct fixture *f = *state;
	struct board board;

	agree(f);
	close_fd(&f->back);
	board_create(&board, GMEM_MEMFD);
	assert_int_equal(vhost_user_start(&f->vhost, &board.dev, &f->err),
			 -EPIPE);
	board_destroy(&board);
}

static void test_stop_waits_for_the_answer(void **state)
{
	struct fixture *f = *state;
	uint64_t start = monotonic_ns();

	agree(f);
	assert_int_equal(vhost_user_ask_stop(&f->vhost), -ETIMEDOUT);
	assert_true(monotonic_ns() - start >= VHOST_USER_TIMEOUT_NS);
	expect_state(f, GET_VRING_BASE, 0);
	say_u64(f, GET_VRING_BASE, UINT64_C(5) << 32);
	assert_int_equal(vhost_user_ask_stop(&f->vhost), 0);
	assert_int_equal(vhost_user_check_idle(&f->vhost), -EPROTO);
	assert_int_equal(vhost_user_end_stop(&f->vhost), 0);
	assert_int_equal(vhost_user_check_idle(&f->vhost), 0);
	say_u64(f, GET_FEATURES, 0);
	assert_int_equal(vhost_user_end_stop(&f->vhost), -EPROTO);
}

static void test_idle_or_gone(void **state)
{
	struct fixture *f = *state;

	agree(f);
	assert_int_equal(vhost_user_check_idle(&f->vhost), 0);
	close_fd(&f->back);
	assert_int_equal(vhost_user_check_idle(&f->vhost), -ECONNRESET);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_adopt_takes_what_it_wants_and_no_more),
		CASE(test_adopt_takes_no_more_than_there_is),
		cmocka_unit_test(test_adopt_refuses_what_is_no_answer),
		cmocka_unit_test(test_adopt_refuses_back_ends_of_another_kind),
		CASE(test_adopt_waits_a_second),
		CASE(test_adopt_end_of_the_connection),
		CASE(test_connect_refuses_paths_that_are_none),
		CASE(test_get_config_gives_bytes),
		CASE(test_get_config_refuses_another_part),
		CASE(test_configuration_that_is_late_is_for_nobody),
		CASE(test_late_configuration_is_waited_for_by_the_next),
		CASE(test_half_a_configuration_is_none),
		CASE(test_descriptors_of_the_back_end_are_dropped),
		CASE(test_start_says_where_everything_is),
		CASE(test_start_does_not_share_other_memory),
		CASE(test_start_does_not_wait_for_who_does_not_read),
		CASE(test_start_with_nobody_there),
		CASE(test_stop_waits_for_the_answer),
		CASE(test_idle_or_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
