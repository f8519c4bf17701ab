#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""call.py SOCKET PORT COUNT TEXT [START]: calls a function of the guest.

A connection to the vsock device's Unix socket, one line that names the guest's
port; after that it is a stream to the function. Shows the first reply and how
long calls take, connecting included. With START (seconds since the epoch) it
tries until the guest answers, and shows how long after START that was."""
import socket
import sys
import time


class NoAnswer(Exception):
    """Nobody listens there, or not yet."""


def read_line(stream):
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise NoAnswer("the guest hung up")
    return line


def call(path, port, text):
    """(reply, seconds)"""
    start = time.perf_counter()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            stream = connection.makefile("rwb")
            stream.write(b"CONNECT %d\n" % port)
            stream.flush()
            if not read_line(stream).startswith(b"OK "):
                raise NoAnswer("the guest did not accept")
            stream.write(text.encode() + b"\n")
            stream.flush()
            reply = read_line(stream)
    except ConnectionError as error:
        raise NoAnswer(error) from error
    return reply.decode().rstrip(), time.perf_counter() - start


def call_until_answered(path, port, text, limit=300):
    """The reply of a guest that may still be on its way up."""
    deadline = time.monotonic() + limit
    while True:
        try:
            return call(path, port, text)[0]
        except (NoAnswer, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def main():
    path, port, count, text = sys.argv[1:5]
    if len(sys.argv) > 5:
        call_until_answered(path, int(port), text)
        print("first reply %.0f ms after the start" % (
            1000 * (time.time() - float(sys.argv[5]))))
    calls = [call(path, int(port), text) for _ in range(int(count))]
    print("request: " + text)
    print("reply:   " + calls[0][0])
    times = sorted(1000 * seconds for _, seconds in calls)
    print("%d calls: fastest %.2f ms, median %.2f ms, slowest %.2f ms" % (
        len(times), times[0], times[len(times) // 2], times[-1]))


if __name__ == "__main__":
    main()
