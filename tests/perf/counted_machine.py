# SPDX-License-Identifier: Apache-2.0
"""What the counted scripts share: requests to a monitor, the CPU time of its
threads, and a Debian guest to talk to.

A script runs in the counted lab, where a nanosecond is an instruction, and gets
the same figures whenever it runs. So nothing here may depend on the machine
outside: names of files are fixed, and nobody else runs."""

import json
import os
import re
import socket
import subprocess
import sys
import time

ARGS = ("console=ttyS0 quiet panic=1 8250.nr_uarts=1 i8042.noaux i8042.nomux "
        "i8042.dumbkbd")
LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
MIB = 1 << 20
AGENT_INITRD = "/job/initrd"


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def request(connection, method, url, body=None):
    """The answer to a request, which has to be a good one."""
    data = json.dumps(body).encode() if body is not None else b""
    connection.sendall(b"%s %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (
        method.encode(), url.encode(), len(data), data))
    answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 2"), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    while length and len(body) < int(length.group(1)):
        body += connection.recv(65536)
    return body


def call(path, method, url, body=None):
    """The same on a connection of its own."""
    with connect(path) as connection:
        return request(connection, method, url, body)


def monitor_ns(pid):
    """CPU time of all threads but the vCPUs'."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        base = "/proc/%d/task/%s/" % (pid, task)
        with open(base + "comm") as source:
            if "vcpu" in source.read():
                continue
        with open(base + "schedstat") as source:
            total += int(source.read().split()[0])
    return total


def cost(pid, work):
    """What work() takes: (CPU of the monitor, elapsed) in ns."""
    cpu, start = monitor_ns(pid), time.monotonic_ns()
    work()
    whole = time.monotonic_ns() - start
    return monitor_ns(pid) - cpu, whole


def show_cost(name, cost_ns, units):
    """NAME_us <monitor's microseconds per unit> whole <elapsed ones>"""
    print("%s_us %.3f whole %.3f" % (name, cost_ns[0] / 1e3 / units,
                                     cost_ns[1] / 1e3 / units))
    sys.stdout.flush()


def took_ms(work):
    start = time.monotonic_ns()
    work()
    return (time.monotonic_ns() - start) / 1e6


def start_monitor(ember, sock, *options):
    """A monitor that listens; its console is a pair of pipes."""
    process = subprocess.Popen(
        [ember, "--api-sock", sock, "--log-path", "/dev/null", *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    while not os.path.exists(sock):
        time.sleep(0.001)
    return process


class Machine:
    """A guest that has come up. What differs from script to script: devices,
    options of the monitor, fields of the machine configuration."""

    options = ()
    config = {}

    def __init__(self, ember, assets, initrd=AGENT_INITRD, run=0):
        self.run = run
        self.sock = "/tmp/api%d" % run
        self.process = start_monitor(ember, self.sock, *self.options)
        self.console = b""
        self.put("/machine-config", vcpu_count=1, mem_size_mib=256,
                 **self.config)
        self.put("/boot-source", kernel_image_path=assets + "/bzImage",
                 initrd_path=initrd, boot_args=ARGS)
        self.add_devices()
        self.start_ms = took_ms(
            lambda: self.put("/actions", action_type="InstanceStart"))
        self.wait_for(b"EMBER-READY")

    def add_devices(self):
        raise NotImplementedError

    def add_disk(self, name, path, data, **more):
        with open(path, "wb") as disk:
            disk.write(data)
        self.put("/drives/" + name, drive_id=name, path_on_host=path,
                 is_root_device=False, **more)

    def add_network(self):
        self.put("/network-interfaces/eth0", iface_id="eth0",
                 host_dev_name="tap0", guest_mac="06:00:ac:10:00:02")

    def put(self, path, **fields):
        call(self.sock, "PUT", path, fields)

    def wait_for(self, text):
        """What the guest says before that text."""
        while text not in self.console:
            part = self.process.stdout.read(4096)
            assert part, self.console
            self.console += part
        said, _, self.console = self.console.partition(text)
        return said

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    def sh(self, line):
        """What a command that does well says."""
        self.type(line)
        return self.wait_for(b"EMBER-EXIT 0")

    def cost(self, work):
        return cost(self.process.pid, work)

    def power_off(self):
        self.type("poweroff")
        self.process.stdout.read()
        assert self.process.wait() == 0

    def kill(self):
        self.process.kill()
        self.process.wait()
