# SPDX-License-Identifier: Apache-2.0
"""What holds for a monitor that joins its cgroups late, whichever version they
are of. Each takes a jailcgroup.Host whose last value is for pids."""
import os

import ember
from ember import Monitor, guest, need_kvm
from jail import GID, UID, cgroup_of, end, wait_until
from jailnet import JailedMonitor, place


def late(host, name="vm-1", **arguments):
    """A monitor that has not joined yet, and a kernel for it."""
    need_kvm()
    jail = host.jail(name, exec_file=ember.BINARY, late_cgroup=True,
                     cgroup=host.arguments(), **arguments)
    kernel = place(jail, guest("counter"), "kernel", UID, GID)
    return JailedMonitor(host.t, jail), kernel


def own(host, name="vm-1"):
    return {"/%s/%s" % (host.parent, name)}


def members(host, name="vm-1"):
    """The processes in each of a jail's cgroups."""
    found = []
    for root in host.cgroups.roots:
        with open(os.path.join(root, host.parent, name,
                               "cgroup.procs")) as file:
            found.append([int(line) for line in file])
    return found


def open_files(host, pid):
    """Which of a process's descriptors are files of a cgroup."""
    links = (os.path.join("/proc/%d/fd" % pid, fd)
             for fd in os.listdir("/proc/%d/fd" % pid))
    return [path for path in map(os.readlink, links)
            if path.endswith("/cgroup.procs")]


def check_start(host):
    """It joins with the start, whole, and not before."""
    t = host.t
    before = host.of("self")
    m, kernel = late(host)
    pid, count = m.process.pid, len(host.cgroups.roots)
    t.point(host.of(pid) == before, "until then it is where the jailer was",
            str(host.of(pid)))
    t.point(members(host) == [[]] * count, "and they are empty")
    t.point(len(open_files(host, pid)) == count, "their files are open",
            str(open_files(host, pid)))
    for file, value in host.values.items():
        t.point(host.read(file, m.jail) == value, file + " is set")
    answer = m.start(kernel)
    t.point(answer[0] == 204, "it starts", str(answer))
    t.point(members(host) == [[pid]] * count, "then it is in them",
            str(members(host)))
    # v1 can hold threads of a process in different cgroups.
    tasks = [host.of("%d/task/%s" % (pid, tid))
             for tid in os.listdir("/proc/%d/task" % pid)]
    t.point(all(task == own(host) for task in tasks), "with all threads",
            str(tasks))
    t.point(open_files(host, pid) == [], "and the files are closed")


def check_pid_ns(host):
    """In a PID namespace its own id is another one."""
    need_kvm()
    jail = host.jail(exec_file=ember.BINARY, late_cgroup=True,
                     cgroup=host.arguments())
    kernel = place(jail, guest("counter"), "kernel", UID, GID)
    m = JailedMonitor(host.t, jail, stays=False, new_pid_ns=True)
    pid = jail.pid
    host.t.point(m.start(kernel)[0] == 204, "it starts", m.output())
    host.t.point(host.of(pid) == own(host), "and is in them",
                 str(cgroup_of(pid)))
    # Its threads may outlive what end() waits for.
    end(pid)
    wait_until(lambda: not any(members(host)), "empty cgroups")


def check_load(host):
    """A restored guest runs where it should."""
    t = host.t
    first, kernel = late(host)
    assert first.start(kernel)[0] == 204
    first.api("PATCH", "/vm", state="Paused")
    answer = first.put("/snapshot/create", snapshot_path="/state",
                       mem_file_path="/memory")
    assert answer[0] == 204, answer
    jail = host.jail("vm-2", exec_file=ember.BINARY, late_cgroup=True,
                     cgroup=host.arguments())
    for name in ("state", "memory"):
        place(jail, first.jail.path(name), name, UID, GID)
    clone = JailedMonitor(t, jail)
    before = host.of(clone.process.pid)
    answer = clone.put("/snapshot/load", snapshot_path="/state",
                       mem_backend={"backend_type": "File",
                                    "backend_path": "/memory"},
                       resume_vm=True)
    t.point(answer[0] == 204, "it is loaded", str(answer))
    t.point(before != own(host, "vm-2"), "not there before", str(before))
    t.point(host.of(clone.process.pid) == own(host, "vm-2"), "there after",
            str(host.of(clone.process.pid)))


def check_refused(host):
    """What cannot be joined does not run, and the monitor lives."""
    t = host.t
    m, kernel = late(host)
    root = host.root(list(host.values)[-1])
    os.rmdir(os.path.join(root, host.parent, "vm-1"))
    for _ in range(2):
        status, answer = m.start(kernel)
        t.point(status == 400 and "The microVM cannot be moved into its "
                "cgroup: No such device (os error 19)"
                in answer["fault_message"], "the start is refused",
                str(answer))
    t.point(m.process.poll() is None, "and the monitor lives", m.output())


def check_alone(host):
    """The monitor needs no jailer for it."""
    need_kvm()
    t = host.t
    root = host.root(list(host.values)[-1])
    path = os.path.join(root, host.parent)
    os.mkdir(path)
    with open(os.path.join(path, "cgroup.procs"), "w") as procs:
        m = Monitor(test=t, args=["--cgroup-fd", str(procs.fileno())],
                    pass_fds=[procs.fileno()])
        where = "/" + host.parent
        t.point(where not in cgroup_of(m.process.pid).values(), "not yet")
        m.start(guest("counter"))
        t.point(where in cgroup_of(m.process.pid).values(), "now",
                str(cgroup_of(m.process.pid)))
    m.close()
