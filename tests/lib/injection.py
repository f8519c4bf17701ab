# SPDX-License-Identifier: Apache-2.0
"""Has a running monitor's thread make a system call of our choice."""
import os
import re
import signal
import subprocess

import injail
from ember import GUESTS, TIMEOUT, Monitor, guest, need_kvm, sanitized
from tap import Skip

FILTERED = (2, 1)
FREE = (0, 1 if injail.JAILER else 0)  # a jail has no_new_privs already
VIOLATION = "made the system call %s, which its filter does not allow."

# x86_64. Those that no filter of ours may let pass, whatever the arguments.
FORBIDDEN = {
    "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "clone": 56,
    "clone3": 435, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "pidfd_open": 434, "pidfd_getfd": 438,
    "kill": 62, "tkill": 200, "rt_sigaction": 13, "rt_sigqueueinfo": 129,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
    "unshare": 272, "setns": 308, "mknod": 133, "mknodat": 259, "link": 86,
    "symlink": 88, "mkdir": 83, "setuid": 105, "setresuid": 117,
    "capset": 126, "chdir": 80, "mprotect": 10, "pkey_mprotect": 329,
    "bind": 49, "listen": 50, "socketpair": 53, "io_uring_setup": 425,
    "io_uring_register": 427, "bpf": 321, "perf_event_open": 298,
    "userfaultfd": 323, "memfd_create": 319, "open": 2, "openat2": 437,
    "open_by_handle_at": 304, "name_to_handle_at": 303, "getdents64": 217,
    "keyctl": 250, "add_key": 248, "init_module": 175, "finit_module": 313,
    "kexec_load": 246, "personality": 135, "seccomp": 317, "modify_ldt": 154,
    "arch_prctl": 158, "iopl": 172, "swapon": 167, "reboot": 169,
    "settimeofday": 164, "sethostname": 170, "shmget": 29, "semget": 64,
    "msgget": 68, "landlock_create_ruleset": 444, "move_mount": 429,
    "fsopen": 430, "quotactl": 179, "acct": 163, "setrlimit": 160,
    "sched_setaffinity": 203, "pipe2": 293, "splice": 275, "vmsplice": 278,
}

# Those that some filters let pass in other forms: (name, number, arguments).
PROT_RX, PROT_RWX, MAP_ANON = 5, 7, 0x22
AT_FDCWD = 0xffffff9c
FORMS = (
    ("mmap", 9, (0, 4096, PROT_RX, MAP_ANON, 0xffffffff, 0)),
    ("mmap", 9, (0, 4096, PROT_RWX, MAP_ANON, 0xffffffff, 0)),
    ("mmap", 9, (0, 4096, 3, 1, 1, 0)),             # shared, of a file
    ("mmap", 9, (0, 4096, 0x1_0000_0003, MAP_ANON, 0xffffffff, 0)),  # a long
    ("socket", 41, (2, 1, 0)),                      # AF_INET
    ("socket", 41, (2, 3, 1)),                      # raw
    ("socket", 41, (17, 3, 0)),                     # AF_PACKET
    ("socket", 41, (16, 3, 0)),                     # AF_NETLINK
    ("socket", 41, (40, 1, 0)),                     # AF_VSOCK
    ("socket", 41, (1, 2, 0)),                      # Unix datagrams
    ("ioctl", 16, (0, 0x5412, 0)),                  # TIOCSTI
    ("ioctl", 16, (0, 0x541c, 0)),                  # TIOCLINUX
    ("ioctl", 16, (0, 0xae01, 0)),                  # KVM_CREATE_VM
    ("ioctl", 16, (0, 0xae41, 0)),                  # KVM_CREATE_VCPU
    ("ioctl", 16, (0, 0x400454ca, 0)),              # TUNSETIFF
    ("fcntl", 72, (1, 4, 0x2000)),                  # F_SETFL, O_ASYNC
    ("fcntl", 72, (1, 1033, 0)),                    # F_ADD_SEALS
    ("fcntl", 72, (1, 8, 1)),                       # F_SETOWN
    ("prctl", 157, (4, 1)),                         # PR_SET_DUMPABLE
    ("prctl", 157, (15, 0)),                        # PR_SET_NAME
    ("prctl", 157, (22, 2, 0)),                     # PR_SET_SECCOMP
    ("futex", 202, (0, 4, 0)),                      # requeue
    ("openat", 257, (AT_FDCWD, 0, 0x241, 0o666)),   # create, truncate
    ("openat", 257, (AT_FDCWD, 0, 0x200000)),       # O_PATH
    ("openat", 257, (AT_FDCWD, 0, 0x410002)),       # O_TMPFILE
    ("openat", 257, (AT_FDCWD, 0, 0x800c2, 0o4755)),  # setuid
    ("fchmod", 91, (1, 0o4755)),
    ("madvise", 28, (0, 4096, 100)),                # MADV_HWPOISON
    ("io_uring_enter", 426, (0, 1, 1, 1)),          # submit and wait
    ("io_uring_enter", 426, (0, 0, 0, 2)),          # wake a thread
    ("io_uring_enter", 426, (0, 0, 1, 9, 1)),       # more arguments
    ("io_uring_register", 427, (0, 2, 0, 0)),       # other files
    ("tgkill", 234, (1, 1, 9)),                     # somebody else
)

# And of all threads but the loop's: guest memory that comes and goes.
NOT_OF_OTHERS = (
    ("ioctl", 16, (0, 0x4020ae46, 0)),              # new memory slots
    ("madvise", 28, (0, 4096, 9)),                  # MADV_REMOVE
)


def need_filters():
    need_kvm()
    if sanitized():
        raise Skip("a build with sanitizers has no filters")


def need_ptrace():
    if os.geteuid():
        raise Skip("only root may have another program's calls made")


def threads(pid):
    """{name: thread id} of those that are ours: kernels put workers of KVM and
    vhost beside them."""
    found = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/comm" % (pid, tid)) as file:
            name = file.read().strip()
        if name.startswith("ember"):
            found[name] = int(tid)
    return found


def seccomp_modes(pid):
    """{thread's name: (Seccomp, NoNewPrivs)} of /proc/PID/task/*/status."""
    modes = {}
    for name, tid in threads(pid).items():
        with open("/proc/%d/task/%d/status" % (pid, tid)) as file:
            text = file.read()
        modes[name] = tuple(int(re.search(r"^%s:\s+(\d)" % key, text,
                                          re.M).group(1))
                            for key in ("Seccomp", "NoNewPrivs"))
    return modes


def inject(pid, thread, number, *arguments):
    """("returned", value) or ("signal", number)."""
    done = subprocess.run(
        [os.path.join(GUESTS, "inject"), str(pid), str(threads(pid)[thread]),
         *(str(word) for word in (number, *arguments))],
        capture_output=True, text=True, timeout=TIMEOUT)
    if "Operation not permitted" in done.stderr:
        raise Skip("ptrace is not permitted here")
    assert done.returncode == 0, done.stderr
    what, value = done.stdout.split()
    return what, int(value)


def waiting_monitor(t, args=(), **keywords):
    m = Monitor(test=t, args=args, **keywords)
    m.start(guest("echo"))
    m.expect(b"ready")
    return m


def check_violation(t, m, thread, name, number, arguments):
    what = "%s %s%s" % (thread, name, list(map(hex, arguments)) or "")
    outcome = inject(m.pid, thread, number, *arguments)
    code = m.wait()
    story = "Thread %s " % thread + VIOLATION % name
    wanted = [story, "bad syscall (%d)" % number, "exit_code=148",
              "intercepting signal 31, code 1"]
    missing = [text for text in wanted if text not in m.log]
    t.point(outcome == ("signal", signal.SIGSYS) and code == 148 and
            m.log.count(story) == 1 and not missing,
            what, "%s, exit code %d, not in the log: %s" % (
                outcome, code, missing))
    m.close()
