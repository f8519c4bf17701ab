#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""call.py SOCKET PORT COUNT TEXT: calls a function of the guest.

A connection to the vsock device's Unix socket, one line that names the guest's
port; after that it is a stream to the function. Shows the first reply and how
long calls take, connecting included."""
import socket
import sys
import time


def read_line(stream):
    line = stream.readline()
    if not line.endswith(b"\n"):
        sys.exit("call.py: the guest hung up")
    return line


def call(path, port, text):
    """(reply, seconds)"""
    start = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        stream = connection.makefile("rwb")
        stream.write(b"CONNECT %d\n" % port)
        stream.flush()
        if not read_line(stream).startswith(b"OK "):
            sys.exit("call.py: the guest did not accept")
        stream.write(text.encode() + b"\n")
        stream.flush()
        reply = read_line(stream)
    return reply, time.perf_counter() - start


def main():
    path, port, count, text = sys.argv[1:]
    calls = [call(path, int(port), text) for _ in range(int(count))]
    print("request: " + text)
    print("reply:   " + calls[0][0].decode().rstrip())
    times = sorted(1000 * seconds for _, seconds in calls)
    print("%d calls: fastest %.2f ms, median %.2f ms, slowest %.2f ms" % (
        len(times), times[0], times[len(times) // 2], times[-1]))


if __name__ == "__main__":
    main()
