#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the counted lab, where a nanosecond is an instruction: boots a Debian
guest with a disk and prints one line per figure.

    start_call_ms    PUT InstanceStart to its answer
    exits            exits to user space until the drivers are up and the
                     guest has said so on its console (bytes given apart)
    boot_to_init_ms  kernel start to its first process, by the guest's clock

The first machine on a fresh host pays for what is shared later: it is thrown
away and only the second one counts.
"""
import json
import os
import re
import socket
import subprocess
import sys
import time

ARGS = ("console=ttyS0 quiet panic=1 8250.nr_uarts=1 i8042.noaux i8042.nomux "
        "i8042.dumbkbd")
EXITS = ("exit_io_in", "exit_io_out", "exit_mmio_read", "exit_mmio_write")


def call(path, method, url, body=None):
    data = json.dumps(body).encode() if body is not None else b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"%s %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (
            method.encode(), url.encode(), len(data), data))
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 2"), answer
    return answer


def all_lines(path):
    with open(path) as source:
        return [json.loads(line) for line in source.read().splitlines()]


def boot(ember, assets, run):
    """One machine from start to power-off; returns its figures."""
    sock, metrics = "/tmp/api%d" % run, "/tmp/metrics%d" % run
    disk = "/tmp/disk%d" % run
    with open(disk, "wb") as out:
        out.truncate(1 << 20)
    open(metrics, "w").close()
    process = subprocess.Popen(
        [ember, "--api-sock", sock, "--log-path", "/dev/null",
         "--metrics-path", metrics], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, bufsize=0)
    while not os.path.exists(sock):
        time.sleep(0.001)
    call(sock, "PUT", "/machine-config",
         {"vcpu_count": 1, "mem_size_mib": 256})
    call(sock, "PUT", "/boot-source",
         {"kernel_image_path": assets + "/bzImage",
          "initrd_path": assets + "/initrd", "boot_args": ARGS})
    call(sock, "PUT", "/drives/disk",
         {"drive_id": "disk", "path_on_host": disk, "is_root_device": False})
    start = time.monotonic_ns()
    call(sock, "PUT", "/actions", {"action_type": "InstanceStart"})
    start_ms = (time.monotonic_ns() - start) / 1e6
    console = b""
    while b"EMBER-READY" not in console:
        part = process.stdout.read(4096)
        assert part, console
        console += part
    call(sock, "PUT", "/actions", {"action_type": "FlushMetrics"})
    lines = all_lines(metrics)
    exits = {name: sum(line["vcpu"][name] for line in lines)
             for name in EXITS}
    # What the guest printed by then is none of the drivers' business.
    exits["for the console"] = sum(
        line["uart"]["write_count"] for line in lines)
    process.stdin.write(b"dmesg | grep Run./init\n")
    found = None
    while not found:
        console += process.stdout.read(4096)
        found = re.search(rb"\[ *([\d.]+)\] Run /init", console)
    init = float(found.group(1))
    process.stdin.write(b"poweroff\n")
    process.stdout.read()
    assert process.wait() == 0
    return start_ms, exits, init * 1000


def main():
    ember, assets = sys.argv[1:3]
    boot(ember, assets, 0)
    start_ms, exits, init_ms = boot(ember, assets, 1)
    print("start_call_ms %.2f" % start_ms)
    print("exits %d (%s)" % (sum(exits[name] for name in EXITS), ", ".join(
        "%s %d" % item for item in exits.items())))
    print("boot_to_init_ms %.0f" % init_ms)


if __name__ == "__main__":
    main()
