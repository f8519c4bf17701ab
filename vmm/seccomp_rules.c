/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default rules. Each row is a call as it is really made: with the flags
 * and requests that the code uses, and no others. The first row of a class is
 * what it does most.
 *
 * Knowingly left out, for all classes:
 *
 *   execve, execveat, fork, vfork, clone, clone3  there is nothing to start;
 *       threads are there before the filters
 *   mmap and mprotect with PROT_EXEC, and mprotect at all  no new code
 *   ptrace, process_vm_*, pidfd_*, kcmp, kill, tkill, signals to others
 *   rt_sigaction  the handler of violations stays
 *   mount, chroot, pivot_root, setns, unshare, mknod, link, symlink, mkdir
 *   set*id, capset, setrlimit, keyctl, personality, prctl but for the name
 *   socket other than Unix streams, bind, listen  the sockets are there
 *   io_uring_setup: the ring of disks is there, and does I/O on them only
 *       (virtio/block_ring.c); what is registered later are their files
 *   bpf, perf_event_open, userfaultfd, memfd_create, modules
 *   open_by_handle_at, openat2, O_PATH, O_TMPFILE, getdents
 *   ioctl: whatever creates (KVM_CREATE_*, new memory slots) or types
 *       (TIOCSTI, TIOCLINUX)
 */
#include "vmm/seccomp_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <termios.h>

/* Of arguments that are an int to the kernel it looks at 32 bits, and so do we:
 * comparing the others costs two instructions each in programs that every
 * thread pays for at its start. */
#define ARG(n, number)                                                         \
	{                                                                      \
		.op = RULE_MASKED, .arg = (n), .mask = UINT32_MAX,             \
		.value = (uint32_t)(number)                                    \
	}
/* Pointers, and what is a long to the kernel. */
#define LONG(n, number)                                                        \
	{                                                                      \
		.op = RULE_EQ, .arg = (n), .value = (uint64_t)(number)         \
	}
/* The bits that are not in @allowed are zero. */
#define ONLY(n, allowed)                                                       \
	{                                                                      \
		.op = RULE_MASKED, .arg = (n), .mask = ~(uint64_t)(allowed)    \
	}
#define CALL(name, why, ...)                                                   \
	{                                                                      \
		.syscall = (name), .reason = (why), .when = { __VA_ARGS__ }    \
	}
/* What tests do not come to, and why not. */
#define RARE(name, why, why_not, ...)                                          \
	{                                                                      \
		.syscall = (name), .reason = (why), .untested = (why_not),     \
		.when = {                                                      \
			__VA_ARGS__                                            \
		}                                                              \
	}
#define IOCTL(request, why) CALL("ioctl", why, ARG(1, request))
#define FCNTL(command, why) CALL("fcntl", why, ARG(1, command))
#define FUTEX(operation, why) CALL("futex", why, ARG(1, operation))
#define OPEN(flags, why) CALL("openat", why, ARG(2, flags))

/* Why tests do not come to some rows in each class. */
#define BROKEN "only when something is broken"
#define DYING "by threads that get a fatal signal"
#define SIGNALS "by threads that get a signal at the right moment"
#define CLOCKS "depends on the host's clock"
#define LARGE "only for guests of a GiB and more"
#define ROOM_LEFT "it mostly has room left"
#define JAILED "only where there is no /proc"
#define NO_PAGEMAP "only where /proc/self/pagemap does not open"
#define OTHER_HOSTS "other kernels, other versions of libc"

/* ---------------------------------------------------------- all classes */

static const struct rule everywhere[] = {
	CALL("write", "log lines, eventfds, files, the guest's console"),
	FUTEX(FUTEX_WAIT_PRIVATE, "waits for a lock"),
	FUTEX(FUTEX_WAKE_PRIVATE, "gives a lock back, wakes who waits"),
	CALL("prctl", "reads the thread's name for a log line",
	     ARG(0, PR_GET_NAME)),
	RARE("rt_sigreturn", "leaves the handlers of SIGPIPE and of kicks",
	     SIGNALS),
	CALL("rt_sigprocmask", "kicks, aborts, and the end of a thread"),
	RARE("restart_syscall", "goes on after SIGSTOP and SIGCONT", SIGNALS),
	RARE("clock_gettime", "time, where the vDSO cannot tell it", CLOCKS),
	RARE("exit_group", "ends the process", DYING),
	RARE("ioctl", "the terminal as it was", DYING, ARG(1, TCSETS)),
	RARE("ioctl", "the same, looked at by libc", DYING, ARG(1, TCGETS)),
	RARE("ioctl", "metrics: how full is the pipe?", DYING,
	     ARG(1, FIONREAD)),
	RARE("fcntl", "metrics: how large is the pipe?", DYING,
	     ARG(1, F_GETPIPE_SZ)),
	RARE("getpid", "abort", BROKEN),
	RARE("gettid", "abort", BROKEN),
	RARE("tgkill", "abort", BROKEN, LONG(0, SECCOMP_OWN_PID),
	     ARG(2, SIGABRT)),
};

/* Threads that end before the process does. */
static const struct rule ending[] = {
	RARE("writev", "what libc says before it aborts", BROKEN),
	CALL("madvise", "the thread's stack is no longer needed",
	     ARG(2, MADV_DONTNEED)),
	CALL("exit", "ends the thread"),
};

/* ------------------------------------------------- loop, API and memory */

/* Much is what malloc has from mmap: 32 KiB, see main.c. */
static const struct rule allocation[] = {
	CALL("close", "what is no longer used"),
	CALL("mmap", "malloc of much", LONG(2, PROT_READ | PROT_WRITE),
	     LONG(3, MAP_PRIVATE | MAP_ANONYMOUS)),
	CALL("munmap", "free of much"),
};

static const struct rule any_allocation[] = {
	CALL("brk", "malloc and free"),
	CALL("mremap", "realloc of much", LONG(3, MREMAP_MAYMOVE)),
};

/* The same for those who allocate little else. */
static const struct rule rare_allocation[] = {
	RARE("brk", "malloc and free", ROOM_LEFT),
	RARE("mremap", "realloc of much", LARGE, LONG(3, MREMAP_MAYMOVE)),
};

/* What may happen to every malloc. */
static const struct rule tuned_allocation[] = {
	RARE("madvise", "malloc that was told to use huge pages",
	     "GLIBC_TUNABLES is not set", ARG(2, MADV_HUGEPAGE)),
};

/* Files of snapshots and working sets (snapshot/new_file.c, page_set.c). */
static const struct rule files[] = {
	CALL("pread64", "page tables, memory files, the guest reads its disk"),
	OPEN(O_RDONLY | O_CLOEXEC, "the process's page tables"),
	CALL("openat", "a new file, under a temporary name",
	     ARG(2, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC), ARG(3, 0600)),
	OPEN(O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
	     "temporary files that somebody left behind"),
	OPEN(O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
	     "the file that is replaced"),
	FCNTL(F_OFD_SETLK, "who lives holds a lock on its files"),
	CALL("newfstatat", "what is there?"),
	RARE("fstat", "the same, as libc asks from 2.39 on", OTHER_HOSTS),
	CALL("statx", "is a file mounted, or the one that it was?"),
	CALL("readlink", "where a path leads to"),
	CALL("faccessat2", "the same"),
	RARE("faccessat", "the same, where there is no faccessat2",
	     OTHER_HOSTS),
	CALL("fchown", "the owner of the file that is replaced", ),
	CALL("fchmod", "and its mode", ONLY(1, 0777)),
	CALL("rename", "puts the new file into its place"),
	CALL("renameat2", "the same, where there was one",
	     ARG(4, RENAME_EXCHANGE)),
	CALL("unlink", "what was replaced"),
};

static const struct rule relative_paths[] = {
	CALL("getcwd", "where a relative path leads to"),
};

static const struct rule rare_relative_paths[] = {
	RARE("getcwd", "where a relative path leads to",
	     "working sets have absolute ones in tests"),
};

/* ------------------------------------------------------------- the loop */

static const struct rule loop_only[] = {
	CALL("epoll_wait", "waits for something to do"),
	CALL("read", "eventfds, the console, sockets"),
	IOCTL(KVM_IRQ_LINE, "interrupts of devices"),
	IOCTL(KVM_SET_USER_MEMORY_REGION,
	      "memory is plugged into the guest, or unplugged"),
	CALL("epoll_ctl", "what to wait for"),
	CALL("timerfd_settime", "timers", ARG(1, TFD_TIMER_ABSTIME)),

	/* devices */
	CALL("preadv", "the guest reads its disk into many pieces"),
	CALL("pwritev", "the same for writes, and memory files"),
	CALL("fdatasync", "the guest flushes its disk"),
	CALL("io_uring_enter", "the same for disks that are Async", ARG(2, 0),
	     ARG(3, 0), LONG(4, 0)),
	CALL("io_uring_enter", "waits for what is in flight to pause",
	     ARG(1, 0), ARG(3, IORING_ENTER_GETEVENTS), LONG(4, 0)),
	CALL("io_uring_register", "another file behind such a disk",
	     ARG(1, IORING_REGISTER_FILES_UPDATE)),
	CALL("fcntl", "which is read by threads of the kernel's",
	     ARG(1, F_SETFL), LONG(2, 0)),
	OPEN(O_RDWR | O_CLOEXEC | O_NONBLOCK,
	     "another file behind a disk, memory files"),
	OPEN(O_RDONLY | O_CLOEXEC | O_NONBLOCK,
	     "the same, for what is not written to"),
	RARE("lseek", "the size of a block device", "there is none to use",
	     ARG(2, SEEK_END)),
	CALL("readv", "frames from the tap, data from sockets"),
	CALL("writev", "frames to the tap, data to sockets"),
	CALL("recvmsg", "data from sockets", ARG(2, 0)),
	CALL("recvfrom", "looks at the line that a client begins with",
	     ARG(3, MSG_PEEK)),
	CALL("accept4", "host programs that want to talk to the guest",
	     ARG(3, SOCK_NONBLOCK | SOCK_CLOEXEC)),
	CALL("sendmsg", "tells a vhost-user back end where things are",
	     ARG(2, MSG_NOSIGNAL | MSG_DONTWAIT)),
	CALL("poll", "waits for its answer; has a page-fault handler ended?"),
	CALL("socket", "the guest wants to talk to a host program",
	     ARG(0, AF_UNIX),
	     ARG(1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC), ARG(2, 0)),
	CALL("connect", "the same"),
	RARE("shutdown", "the guest will not receive any more",
	     "programs in guests do not say so", ARG(1, SHUT_RD)),
	CALL("shutdown", "or not send", ARG(1, SHUT_WR)),
	CALL("shutdown", "at the end libmicrohttpd leaves its clients",
	     ARG(1, SHUT_RDWR)),
	FCNTL(F_DUPFD_CLOEXEC, "keeps low numbers for clients of the API"),
	CALL("getrandom", "keys, identifiers, random bytes for the guest",
	     ARG(2, GRND_NONBLOCK)),

	/* memory that the guest gives back (gmem_discard) */
	CALL("madvise", "pages of the process's own", ARG(2, MADV_DONTNEED)),
	CALL("madvise", "pages of a memfd", ARG(2, MADV_REMOVE)),
	CALL("mmap", "nothing, in place of a memory file's pages",
	     LONG(2, PROT_READ | PROT_WRITE),
	     LONG(3, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)),
	CALL("madvise", "the same in huge pages, malloc too if told so",
	     ARG(2, MADV_HUGEPAGE)),

	/* pause, resume, the end */
	CALL("tgkill", "kicks a vCPU out of the guest",
	     LONG(0, SECCOMP_OWN_PID), ARG(2, RULES_KICK_SIGNAL)),
	FUTEX(FUTEX_WAIT_BITSET_PRIVATE, "waits for a vCPU to pause"),
	FUTEX(FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME,
	      "waits for the end of a thread"),
	IOCTL(KVM_KVMCLOCK_CTRL, "the guest was stopped"),
	IOCTL(UFFDIO_UNREGISTER, "lets go who waits for a page"),

	/* snapshots: the machine */
	IOCTL(KVM_CHECK_EXTENSION, "what the host can do"),
	CALL("uname", "the same"),
	IOCTL(KVM_GET_MSR_INDEX_LIST, "which MSRs to save"),
	IOCTL(KVM_GET_MSRS, "MSRs"),
	IOCTL(KVM_GET_REGS, "registers"),
	IOCTL(KVM_GET_SREGS, "registers"),
	IOCTL(KVM_GET_XCRS, "registers"),
	IOCTL(KVM_GET_DEBUGREGS, "registers"),
	IOCTL(KVM_GET_XSAVE, "registers"),
	RARE("ioctl", "registers", "processors with AMX",
	     ARG(1, KVM_GET_XSAVE2)),
	IOCTL(KVM_GET_LAPIC, "interrupts of a vCPU"),
	IOCTL(KVM_GET_VCPU_EVENTS, "what is pending"),
	IOCTL(KVM_GET_MP_STATE, "whether it runs"),
	IOCTL(KVM_GET_CPUID2, "CPUID"),
	IOCTL(KVM_GET_TSC_KHZ, "TSC"),
	IOCTL(KVM_GET_DEVICE_ATTR, "TSC"),
	IOCTL(KVM_GET_CLOCK, "kvmclock"),
	IOCTL(KVM_GET_IRQCHIP, "interrupt controllers"),
	IOCTL(KVM_GET_PIT2, "timer"),

	/* snapshots: the memory */
	IOCTL(KVM_GET_DIRTY_LOG, "dirty pages"),
	CALL("lseek", "holes", ARG(2, SEEK_DATA)),
	CALL("lseek", "holes", ARG(2, SEEK_HOLE)),
	CALL("pwrite64", "memory files, the guest writes its disk"),
	CALL("copy_file_range", "pages that are the parent's"),
	CALL("ftruncate", "a file's length"),
	CALL("fallocate", "room on the disk", ARG(1, FALLOC_FL_KEEP_SIZE)),
	CALL("fallocate", "pages that are zeros now, what a guest discards",
	     ARG(1, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)),
	CALL("fallocate", "the guest writes zeros to its disk",
	     ARG(1, FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE)),
	CALL("fstatfs", "room on the disk"),
	CALL("fsync", "files, directories"),
	OPEN(O_RDONLY | O_DIRECTORY | O_CLOEXEC, "directories, to sync them"),
	RARE("mincore", "pages, without /proc; a memfd's huge pages", JAILED),
	RARE("sysinfo", "is there swap?", JAILED),
	RARE("time", "a snapshot's date, without a vDSO", CLOCKS),
};

/* Working sets where page tables were there to see, and then are not, for want
 * of a descriptor. */
static const struct rule without_pagemap[] = {
	RARE("mincore", "pages that are there", NO_PAGEMAP),
	RARE("sysinfo", "is there swap?", NO_PAGEMAP),
};

/* What hands a tap to vhost, and takes it back: on pause and resume, and by
 * vCPUs where the driver starts and resets the device. */
static const struct rule vhost[] = {
	IOCTL(VHOST_SET_MEM_TABLE, "vhost: guest memory"),
	IOCTL(VHOST_SET_LOG_BASE, "vhost: where to log dirty pages"),
	IOCTL(VHOST_SET_FEATURES, "vhost: what was negotiated"),
	IOCTL(VHOST_SET_VRING_NUM, "vhost: rings"),
	IOCTL(VHOST_SET_VRING_BASE, "vhost: rings"),
	IOCTL(VHOST_SET_VRING_ADDR, "vhost: rings"),
	IOCTL(VHOST_SET_VRING_KICK, "vhost: rings"),
	IOCTL(VHOST_SET_VRING_CALL, "vhost: rings"),
	IOCTL(VHOST_SET_VRING_ERR, "vhost: rings"),
	IOCTL(VHOST_GET_VRING_BASE, "vhost: rings"),
	IOCTL(VHOST_NET_SET_BACKEND, "vhost: begins and ends"),
};

/* ----------------------------------------------------------------- vCPUs */

static const struct rule vcpu_first[] = {
	IOCTL(KVM_RUN, "runs the guest"),
};

static const struct rule vcpu_only[] = {
	IOCTL(KVM_IRQ_LINE, "interrupts of devices"),
	FUTEX(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, "stays paused"),
	IOCTL(TUNSETOFFLOAD, "the driver starts a network interface"),
	CALL("io_uring_enter", "the driver resets a disk that is Async",
	     ARG(1, 0), ARG(3, IORING_ENTER_GETEVENTS), LONG(4, 0)),
	CALL("poll", "the driver resets a device that somebody else serves"),
	RARE("brk", "malloc of a log for vhost", ROOM_LEFT),
	RARE("mmap", "the same", LARGE, LONG(2, PROT_READ | PROT_WRITE),
	     LONG(3, MAP_PRIVATE | MAP_ANONYMOUS)),
};

/* -------------------------------------------------------------- the API */

static const struct rule api_only[] = {
	CALL("pselect6", "waits for clients"),
	CALL("recvfrom", "requests", ARG(3, 0)),
	CALL("sendmsg", "answers", ARG(2, MSG_NOSIGNAL | MSG_DONTWAIT)),
	FUTEX(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME,
	      "waits for the loop to act"),
	CALL("accept4", "clients", ARG(3, SOCK_NONBLOCK | SOCK_CLOEXEC)),
	FCNTL(F_GETFL, "how a client's socket is set, asked by libmicrohttpd"),
	CALL("setsockopt", "what libmicrohttpd thinks is good for TCP",
	     ARG(1, IPPROTO_TCP)),
	CALL("shutdown", "ends a connection", ARG(1, SHUT_WR)),
	CALL("sendto", "turns a client away",
	     ARG(3, MSG_NOSIGNAL | MSG_DONTWAIT)),
	CALL("poll", "waits for a client that reads slowly"),
	CALL("prlimit64", "looks at the limit of descriptors", ARG(0, 0),
	     ARG(1, RLIMIT_NOFILE), LONG(2, 0)),
	FCNTL(F_DUPFD_CLOEXEC, "keeps low numbers for clients"),
	RARE("dup3", "gives a client a low number",
	     "sockets of the guest's keep away from low numbers",
	     ARG(2, O_CLOEXEC)),
	CALL("access", "can a working set be recorded?"),
	CALL("madvise", "brings memory in", ARG(2, MADV_POPULATE_READ)),
	CALL("madvise", "brings memory in", ARG(2, MADV_POPULATE_WRITE)),
};

/* --------------------------------------------------------------- memory */

static const struct rule memory_only[] = {
	CALL("madvise", "brings memory in", ARG(2, MADV_POPULATE_READ)),
	CALL("madvise", "brings memory in", ARG(2, MADV_POPULATE_WRITE)),
	CALL("fadvise64", "has the disk begin", ARG(3, POSIX_FADV_WILLNEED)),
	FUTEX(FUTEX_WAIT_BITSET_PRIVATE, "waits for the next look"),
	FUTEX(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME,
	      "waits until the guest runs, or to be asked"),
	IOCTL(UFFDIO_UNREGISTER, "lets go who waits for a page"),
};

/* ------------------------------------------------------------ the lists */

enum {
	LOOP = 1 << SECCOMP_LOOP,
	API = 1 << SECCOMP_API,
	VCPU = 1 << SECCOMP_VCPU,
	MEMORY = 1 << SECCOMP_MEMORY,
};

#define PART(list) list, ARRAY_SIZE(list)

static const struct {
	const struct rule *rules;
	size_t count;
	unsigned classes; /* LOOP | ... */
} parts[] = {
	{PART(vcpu_first), VCPU},
	{PART(everywhere), LOOP | API | VCPU | MEMORY},
	{PART(loop_only), LOOP},
	{PART(api_only), API},
	{PART(vcpu_only), VCPU},
	{PART(memory_only), MEMORY},
	{PART(vhost), LOOP | VCPU},
	{PART(allocation), LOOP | API | MEMORY},
	{PART(any_allocation), LOOP | API},
	{PART(rare_allocation), MEMORY},
	{PART(tuned_allocation), API | VCPU | MEMORY},
	{PART(without_pagemap), API | MEMORY},
	{PART(files), LOOP | API | MEMORY},
	{PART(relative_paths), LOOP | API},
	{PART(rare_relative_paths), MEMORY},
	{PART(ending), API | VCPU | MEMORY},
};

static int append(struct rule_list *list, const struct rule *rules,
		  size_t count)
{
	struct rule *grown =
		reallocarray(list->rules, list->count + count, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	memcpy(grown + list->count, rules, count * sizeof(*rules));
	list->rules = grown;
	list->count += count;
	return 0;
}

int rules_default(struct rule_set *ret_set)
{
	struct rule_set set = {0};
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (size_t kind = 0; kind < SECCOMP_CLASSES && !ret; kind++)
			if (parts[i].classes & BIT(kind))
				ret = append(&set.lists[kind], parts[i].rules,
					     parts[i].count);
	if (ret)
		rules_release(&set);
	else
		*ret_set = set;
	return ret;
}

void rules_release(struct rule_set *set)
{
	for (size_t i = 0; i < SECCOMP_CLASSES; i++)
		free(take_ptr(set->lists[i].rules));
}
