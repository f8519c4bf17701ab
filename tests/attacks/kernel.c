/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that reach deep into the kernel, or reach everybody. */
#include "tests/attacks/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/reboot.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

/* ------------------------------------------------------------------- code */

static int executable_memory(const struct target *target)
{
	const void *page = mmap(NULL, PAGE, PROT_READ | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)target;
	return page == MAP_FAILED ? -errno : 0;
}

static int make_executable(const struct target *target)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)target;
	if (page == MAP_FAILED)
		return -errno;
	return outcome(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
}

/* A program that ends with 0 at once: where the exec worked, so did this. */
static int exec_in_child(int fd, const char *path, int flags)
{
	char *argv[] = {(char[]){"attack"}, (char[]){"--role"},
			(char[]){"nothing"}, NULL};
	char *none[] = {NULL};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execveat(fd, path, argv, none, flags);
		_exit(errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

static int exec_again(const struct target *target)
{
	return exec_in_child(AT_FDCWD, target->program, 0);
}

/* Without a child, which has a wall of its own; never comes back. */
static int exec_itself(const struct target *target)
{
	char *argv[] = {(char[]){"attack"}, (char[]){"--role"},
			(char[]){"nothing"}, NULL};
	char *none[] = {NULL};

	return outcome(execve(target->program, argv, none));
}

static int exec_from_memory(const struct target *target)
{
	int from = open(target->program, O_RDONLY);
	int fd = memfd_create("program", 0);
	char buf[PAGE];
	ssize_t n;

	if (from < 0 || fd < 0)
		return -errno;
	while ((n = read(from, buf, sizeof(buf))) > 0)
		if (write(fd, buf, (size_t)n) != n)
			return -errno;
	return exec_in_child(fd, "", AT_EMPTY_PATH);
}

/* ---------------------------------------------------------------- the host */

static int restart(const struct target *target)
{
	(void)target;
	return outcome(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1,
			       LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF,
			       NULL));
}

static int set_clock(const struct target *target)
{
	struct timespec now;

	(void)target;
	clock_gettime(CLOCK_REALTIME, &now);
	return outcome(clock_settime(CLOCK_REALTIME, &now));
}

static int set_time_zone(const struct target *target)
{
	const struct timezone zone = {0};

	(void)target;
	return outcome(syscall(SYS_settimeofday, NULL, &zone));
}

static int set_name(const struct target *target)
{
	char name[65];

	(void)target;
	if (gethostname(name, sizeof(name)))
		return -errno;
	return outcome(sethostname(name, strlen(name)));
}

static int load_kernel(const struct target *target)
{
	(void)target;
	return outcome(syscall(SYS_kexec_load, 0, 0, NULL, 0));
}

static int load_module(const struct target *target)
{
	static const char nothing[64];

	(void)target;
	return outcome(syscall(SYS_init_module, nothing, sizeof(nothing), ""));
}

static int read_kernel_log(const struct target *target)
{
	char text[64];

	(void)target;
	return outcome(klogctl(3, text, sizeof(text)));
}

static int ports(const struct target *target)
{
	(void)target;
	return outcome(ioperm(0x80, 1, 1));
}

static int type_into_terminal(const struct target *target)
{
	const char key = ' ';

	(void)target;
	if (!isatty(STDIN_FILENO))
		return NOT_HERE;
	return outcome(ioctl(STDIN_FILENO, TIOCSTI, &key));
}

/* ---------------------------------------------------------- the kernel's code
 */

static int ring(const struct target *target)
{
	struct io_uring_params params = {0};

	(void)target;
	return outcome(syscall(SYS_io_uring_setup, 4, &params));
}

/* A ring would open files for us; it is under the same rules as we are. */
static int open_by_ring(const struct target *target)
{
	struct io_uring_params params = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 4, &params);
	struct io_uring_sqe *entries;
	unsigned char *rings;
	const struct io_uring_cqe *answer;

	if (fd < 0)
		return -errno;
	rings = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
	entries = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
	if (rings == MAP_FAILED || entries == MAP_FAILED)
		return -errno;
	entries[0] = (struct io_uring_sqe){
		.opcode = IORING_OP_OPENAT,
		.fd = AT_FDCWD,
		.addr = (unsigned long)target->secret,
		.open_flags = O_RDONLY,
	};
	*(unsigned int *)(void *)(rings + params.sq_off.array) = 0;
	__atomic_store_n((unsigned int *)(void *)(rings + params.sq_off.tail),
			 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL,
		    0) != 1)
		return -errno;
	answer = (const void *)(rings + params.cq_off.cqes);
	return answer->res < 0 ? answer->res : 0;
}

static int join_keyring(const struct target *target)
{
	(void)target;
	return outcome(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
}

static int add_key(const struct target *target)
{
	(void)target;
	return outcome(syscall(SYS_add_key, "user", "attack", "x", 1,
			       KEY_SPEC_PROCESS_KEYRING));
}

static int make_map(const struct target *target)
{
	union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY,
			       .key_size = 4,
			       .value_size = 4,
			       .max_entries = 1};

	(void)target;
	return outcome(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

static int count_events(int pid, int cpu)
{
	struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
				       .size = sizeof(attr),
				       .config = PERF_COUNT_SW_CPU_CLOCK,
				       .exclude_kernel = 1};

	return outcome(syscall(SYS_perf_event_open, &attr, pid, cpu, -1, 0));
}

static int count_own_events(const struct target *target)
{
	(void)target;
	return count_events(0, -1);
}

static int count_all_events(const struct target *target)
{
	(void)target;
	return count_events(-1, 0);
}

static int fault_handler(const struct target *target)
{
	(void)target;
	return outcome(syscall(SYS_userfaultfd, O_CLOEXEC));
}

static int change_personality(const struct target *target)
{
	(void)target;
	return outcome(personality(ADDR_NO_RANDOMIZE));
}

static int be_dumpable(const struct target *target)
{
	(void)target;
	return outcome(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int be_traced(const struct target *target)
{
	(void)target;
	return outcome(prctl(PR_SET_PTRACER, -1, 0, 0, 0));
}

static int move_brk(const struct target *target)
{
	(void)target;
	return outcome(prctl(PR_SET_MM, PR_SET_MM_BRK, sbrk(0), 0, 0));
}

static int secret_memory(const struct target *target)
{
	(void)target;
	return outcome(syscall(SYS_memfd_secret, 0));
}

static int watch_files(const struct target *target)
{
	(void)target;
	return outcome(syscall(SYS_fanotify_init, 0, O_RDONLY));
}

static int other_architecture(const struct target *target)
{
	long ret;

	(void)target;
	/* getpid of the 32-bit interface; -ENOSYS where there is none. */
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20L) : "memory");
	return ret < 0 ? (int)ret : 0;
}

static int x32_interface(const struct target *target)
{
	(void)target;
	return outcome(syscall(0x40000000 | SYS_getpid));
}

static const struct attack attacks[] = {
	/* Code of one's own, beside that of the monitor. */
	{"executable memory", executable_memory, FILTER, 0, {0}},
	{"make memory executable", make_executable, FILTER, 0, {0}},
	{"run a program", exec_again, FILTER, 0, {0}},
	{"become a program", exec_itself, FILTER, 0, {0}},
	{"run a program from memory", exec_from_memory, FILTER, 0, {0}},
	/* What only root may do, wherever it is. */
	{"reboot", restart, JAIL, ONLY_JAILED, {EPERM}},
	{"set the clock", set_clock, JAIL, ONLY_JAILED, {EPERM}},
	{"set the time zone", set_time_zone, JAIL, ONLY_JAILED, {EPERM}},
	{"set the host's name", set_name, JAIL, 0, {EPERM}},
	{"kexec", load_kernel, JAIL, ONLY_JAILED, {EPERM, ENOSYS}},
	{"load a module", load_module, JAIL, ONLY_JAILED, {EPERM, ENOSYS}},
	{"read the kernel's log", read_kernel_log, JAIL, HOST_DECIDES, {EPERM}},
	{"I/O ports", ports, JAIL, HOST_DECIDES, {EPERM, ENOSYS}},
	{"watch all files", watch_files, JAIL, HOST_DECIDES, {EPERM, ENOSYS}},
	{"change the memory map",
	 move_brk,
	 JAIL,
	 HOST_DECIDES,
	 {EPERM, EINVAL}},
	{"type into the terminal",
	 type_into_terminal,
	 FILTER,
	 HOST_DECIDES,
	 {EIO, EPERM}},
	/* Kernel code that nobody needs rights to reach. */
	{"io_uring", ring, FILTER, HOST_DECIDES, {EPERM}},
	{"open a file by io_uring", open_by_ring, JAIL, HOST_DECIDES, {ENOENT}},
	{"join a keyring", join_keyring, FILTER, HOST_DECIDES, {ENOSYS}},
	{"add a key", add_key, FILTER, HOST_DECIDES, {ENOSYS}},
	{"bpf", make_map, FILTER, HOST_DECIDES, {EPERM}},
	{"perf events of its own",
	 count_own_events,
	 FILTER,
	 HOST_DECIDES,
	 {EACCES, ENOENT}},
	{"perf events of a processor",
	 count_all_events,
	 JAIL,
	 HOST_DECIDES,
	 {EACCES, EPERM, ENOENT}},
	{"userfaultfd", fault_handler, FILTER, HOST_DECIDES, {EPERM}},
	{"personality", change_personality, FILTER, 0, {0}},
	{"be dumpable", be_dumpable, FILTER, 0, {0}},
	{"let others trace it", be_traced, FILTER, HOST_DECIDES, {EINVAL}},
	{"secret memory", secret_memory, FILTER, HOST_DECIDES, {ENOSYS}},
	{"32-bit system calls",
	 other_architecture,
	 FILTER,
	 HOST_DECIDES,
	 {ENOSYS}},
	{"x32 system calls", x32_interface, FILTER, HOST_DECIDES, {ENOSYS}},
};

const struct attack_table kernel_attacks = {
	attacks, sizeof(attacks) / sizeof(attacks[0])};
