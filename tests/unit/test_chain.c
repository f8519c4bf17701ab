/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct ring ring;
	struct queue queue;
	struct chain chain;
};

/* Readable: 3 + 5 bytes of "abcdefgh"; writable: 2 + 4 bytes. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(ring_create(&f->ring, 8), 0);
	queue_init(&f->queue, 8);
	ring_describe(&f->ring, &f->queue);
	assert_int_equal(queue_activate(&f->queue, f->ring.mem, false, NULL),
			 0);
	assert_int_equal(gmem_write(f->ring.mem, RING_DATA, "abc", 3), 0);
	assert_int_equal(gmem_write(f->ring.mem, RING_DATA + 16, "defgh", 5),
			 0);
	ring_set_desc(&f->ring, 0, RING_DATA, 3, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, RING_DATA + 16, 5, RING_NEXT, 2);
	ring_set_desc(&f->ring, 2, RING_DATA + 32, 2, RING_NEXT | RING_WRITE,
		      3);
	ring_set_desc(&f->ring, 3, RING_DATA + 48, 4, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ring_destroy(&f->ring);
	free(f);
	return 0;
}

static void test_read_crosses_buffers(void **state)
{
	struct fixture *f = *state;
	char buf[8];

	assert_int_equal(chain_read(&f->chain, buf, 4), 0);
	assert_memory_equal(buf, "abcd", 4);
	assert_int_equal(chain_read(&f->chain, buf, 5), -ENODATA);
	assert_int_equal(chain_read(&f->chain, buf, 4), 0);
	assert_memory_equal(buf, "efgh", 4);
	assert_int_equal(chain_read(&f->chain, buf, 1), -ENODATA);
}

static void test_write_crosses_buffers_and_counts(void **state)
{
	struct fixture *f = *state;
	char buf[4];

	assert_int_equal(chain_write(&f->chain, "12345", 5), 0);
	assert_int_equal(chain_write(&f->chain, "67", 2), -ENOSPC);
	assert_int_equal(f->chain.written, 5);
	assert_int_equal(gmem_read(f->ring.mem, RING_DATA + 32, buf, 2), 0);
	assert_memory_equal(buf, "12", 2);
	assert_int_equal(gmem_read(f->ring.mem, RING_DATA + 48, buf, 3), 0);
	assert_memory_equal(buf, "345", 3);
}

static void test_seek_tail_reaches_the_last_byte(void **state)
{
	struct fixture *f = *state;
	char byte;

	assert_int_equal(chain_seek_writable_tail(&f->chain, 7), -ENOSPC);
	assert_int_equal(chain_seek_writable_tail(&f->chain, 1), 0);
	assert_int_equal(chain_write(&f->chain, "!", 1), 0);
	assert_int_equal(gmem_read(f->ring.mem, RING_DATA + 51, &byte, 1), 0);
	assert_int_equal(byte, '!');
}

static void test_borrow_gives_iovecs_up_to_the_limit(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[2];
	size_t len;

	assert_int_equal(chain_borrow_readable(&f->chain, 7, iov, 2, &len), 2);
	assert_int_equal(len, 7);
	assert_memory_equal(iov[1].iov_base, "defg", 4);
	assert_int_equal(chain_borrow_writable(&f->chain, 6, iov, 1, &len), 1);
	assert_int_equal(len, 2);
}

static void test_return_marks_what_was_written(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[2];
	size_t len;

	assert_int_equal(gmem_track_dirty(f->ring.mem), 0);
	assert_int_equal(chain_borrow_writable(&f->chain, 6, iov, 2, &len), 2);
	assert_false(gmem_page_dirty(f->ring.mem, RING_DATA));
	chain_return_writable(&f->chain, 3);
	assert_true(gmem_page_dirty(f->ring.mem, RING_DATA));
	assert_int_equal(f->chain.written, 3);
}

static void test_buffer_outside_memory_fails_and_keeps_the_cursor(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[2];
	char buf[4];
	size_t len;

	f->chain.segments[1].gpa = RING_MEMORY;
	f->chain.segments[3].gpa = UINT64_MAX - 1;
	assert_int_equal(chain_read(&f->chain, buf, 4), -EFAULT);
	assert_int_equal(f->chain.readable.left, 8);
	assert_int_equal(chain_write(&f->chain, "abc", 3), -EFAULT);
	assert_int_equal(chain_borrow_readable(&f->chain, 8, iov, 2, &len),
			 -EFAULT);
	assert_int_equal(chain_borrow_writable(&f->chain, 6, iov, 2, &len),
			 -EFAULT);
	assert_int_equal(f->chain.writable.left, 6);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_read_crosses_buffers),
		CASE(test_write_crosses_buffers_and_counts),
		CASE(test_seek_tail_reaches_the_last_byte),
		CASE(test_borrow_gives_iovecs_up_to_the_limit),
		CASE(test_return_marks_what_was_written),
		CASE(test_buffer_outside_memory_fails_and_keeps_the_cursor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
