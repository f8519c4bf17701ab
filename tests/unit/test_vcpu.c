/* SPDX-License-Identifier: Apache-2.0 */
/* The loop around KVM_RUN, with a KVM that answers by script. */
#include "vmm/vcpu.h"

#include "vmm/kvm.h"
#include "vmm/log.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#define ANSWERS_MAX 16

/* Errnos of one KVM_RUN after the other; 0 ends the script: the guest halts
 * for good, that is, it has a triple fault. */
static struct {
	int answers[ANSWERS_MAX];
	size_t runs;
	struct kvm_run *page;
} script;

struct fixture {
	struct kvm kvm;
	struct vcpu_metrics metrics;
	struct vcpu_machine machine;
	struct vcpu *vcpu;
	sem_t ended;
	char reason[128];
};

int __wrap_ioctl(int fd, unsigned long request, void *arg);

/* Not only on the thread of the test: no assertions of cmocka's. */
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	int code;

	(void)fd;
	(void)arg;
	if (request == KVM_CREATE_VCPU) {
		int page = memfd_create("kvm_run", MFD_CLOEXEC);

		assert(ftruncate(page, PAGE_SIZE_4K) == 0);
		script.page = mmap(NULL, PAGE_SIZE_4K, PROT_READ | PROT_WRITE,
				   MAP_SHARED, page, 0);
		assert(script.page != MAP_FAILED);
		return page;
	}
	assert(request == KVM_RUN);
	assert(script.runs < ANSWERS_MAX);
	code = script.answers[script.runs++];
	if (!code) {
		script.page->exit_reason = KVM_EXIT_SHUTDOWN;
		return 0;
	}
	errno = code;
	return -1;
}

static void note_failure(void *arg, const char *reason)
{
	struct fixture *f = arg;

	snprintf(f->reason, sizeof(f->reason), "%s", reason);
	sem_post(&f->ended);
}

static int set_up(void **state)
{
	static struct fixture fixture;
	struct fixture *f = &fixture;

	memset(&script, 0, sizeof(script));
	*f = (struct fixture){.kvm = {.run_size = PAGE_SIZE_4K}};
	f->machine = (struct vcpu_machine){.metrics = &f->metrics,
					   .failed = note_failure,
					   .stopped = note_failure,
					   .arg = f};
	sem_init(&f->ended, 0, 0);
	assert_int_equal(vcpu_install_kick_handler(), 0);
	assert_int_equal(vcpu_create(&f->vcpu, &f->kvm, 0, &f->machine, NULL),
			 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	vcpu_destroy(f->vcpu);
	munmap(script.page, PAGE_SIZE_4K);
	sem_destroy(&f->ended);
	return 0;
}

/* Runs to the end of the script; returns what was said then. */
static const char *run(struct fixture *f, const int answers[], size_t count)
{
	assert_true(count < ANSWERS_MAX);
	memcpy(script.answers, answers, count * sizeof(*answers));
	assert_int_equal(vcpu_start(f->vcpu, NULL), 0);
	sem_wait(&f->ended);
	vcpu_stop(f->vcpu);
	return f->reason;
}

static void test_run_interrupted_goes_on(void **state)
{
	const int answers[] = {EINTR, EAGAIN, EINTR};
	const char *reason = run(*state, answers, ARRAY_SIZE(answers));

	assert_int_equal(script.runs, 4);
	assert_null(strstr(reason, "KVM_RUN"));
}

static void test_a_thread_made_before_waits_for_the_start(void **state)
{
	const struct timespec a_while = {.tv_nsec = 20000000};
	const int answers[] = {EINTR};
	struct fixture *f = *state;

	assert_int_equal(vcpu_make_thread(f->vcpu, NULL), 0);
	nanosleep(&a_while, NULL);
	assert_int_equal(script.runs, 0);
	run(f, answers, ARRAY_SIZE(answers));
	assert_int_equal(script.runs, 2);
}

static void test_a_thread_that_was_never_started_can_be_stopped(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vcpu_make_thread(f->vcpu, NULL), 0);
	vcpu_request_stop(f->vcpu);
	vcpu_stop(f->vcpu);
	assert_int_equal(script.runs, 0);
}

/* As a snapshot is loaded to be looked at first: what is pending is completed,
 * and nothing else runs. */
static void test_a_thread_asked_to_pause_before_the_start_does(void **state)
{
	const int answers[] = {EINTR};
	struct fixture *f = *state;

	memcpy(script.answers, answers, sizeof(answers));
	assert_int_equal(vcpu_make_thread(f->vcpu, NULL), 0);
	vcpu_request_pause(f->vcpu);
	assert_int_equal(vcpu_start(f->vcpu, NULL), 0);
	assert_int_equal(vcpu_wait_paused(f->vcpu, UINT64_C(10000000000)), 0);
	assert_int_equal(script.runs, 1);
	vcpu_resume(f->vcpu);
	sem_wait(&f->ended);
	assert_int_equal(script.runs, 2);
	assert_int_equal(script.page->immediate_exit, 0);
}

static void test_run_without_memory_for_a_moment_goes_on(void **state)
{
	const int answers[] = {ENOMEM, ENOMEM, EINTR, ENOMEM};
	const char *reason = run(*state, answers, ARRAY_SIZE(answers));

	assert_int_equal(script.runs, 5);
	assert_null(strstr(reason, "KVM_RUN"));
}

static void test_run_without_memory_for_long_fails(void **state)
{
	const int answers[] = {ENOMEM, ENOMEM, ENOMEM, ENOMEM, ENOMEM, ENOMEM};
	const char *reason = run(*state, answers, ARRAY_SIZE(answers));

	assert_int_equal(script.runs, 6);
	assert_string_equal(reason, "KVM_RUN: Out of memory (os error 12)");
}

static void test_run_failing_tells_the_owner_once(void **state)
{
	const int answers[] = {EFAULT};
	const char *reason = run(*state, answers, ARRAY_SIZE(answers));

	assert_int_equal(script.runs, 1);
	assert_string_equal(reason, "KVM_RUN: Bad address (os error 14): a "
				    "file behind the guest's memory was cut, "
				    "or its disk is full");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_thread_made_before_waits_for_the_start),
		TEST(test_a_thread_that_was_never_started_can_be_stopped),
		TEST(test_a_thread_asked_to_pause_before_the_start_does),
		TEST(test_run_interrupted_goes_on),
		TEST(test_run_without_memory_for_a_moment_goes_on),
		TEST(test_run_without_memory_for_long_fails),
		TEST(test_run_failing_tells_the_owner_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
