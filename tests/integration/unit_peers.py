#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Comparisons with other monitors, without one: what is kept of what a stage
measured, what a failed one leaves, and guests for those that take only a
bzImage."""

import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "perf"))

import bzimage  # noqa: E402
import peers  # noqa: E402
import touch  # noqa: E402
from readings import Readings  # noqa: E402
from monitors import Cannot, Http, Monitor, complaint  # noqa: E402
from tap import main, test  # noqa: E402

ENTRY = 0x100200
NOTE = struct.pack("<III4sQ", 4, 8, 18, b"Xen", ENTRY)


class Nothing(Monitor):
    """A monitor that cannot do anything."""

    name = "nothing"


def peer(t):
    return peers.Peer(Nothing, __file__, lambda name: name, t.dir)


def elf(segments):
    """The least of an ELF file: a header, and (type, address, bytes)."""
    at = 64 + 56 * len(segments)
    head = bytearray(64)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, len(segments))
    table, body = b"", b""
    for kind, address, data in segments:
        table += struct.pack("<IIQQQQQQ", kind, 0, at + len(body), 0, address,
                             len(data), len(data), 1)
        body += data
    return bytes(head) + table + body


@test
def medians_and_fast_tenths_are_kept(t):
    one = peer(t)
    for value in range(1, 21):
        one.took(run_us=value, request_us=value, odd=1)
    found = one.result()
    assert found["run_us"] == 10.5 and found["p10"]["run_us"] == 3, found
    assert found["request_p99_us"] == 20, found
    assert found["requests_per_s"] == 1e6 / 10.5, found
    assert "odd" not in found and not found["why"], found


@test
def warming_up_is_forgotten(t):
    one = peer(t)
    one.took(run_us=1)
    one.forget()
    assert set(one.result()) == {"program_kib", "p10", "why"}, one.result()


@test
def a_stage_that_failed_has_a_reason(t):
    one, tried = peer(t), []

    def work():
        tried.append(1)
        raise Cannot("it is no use")

    for _ in range(10):
        one.attempt("run", ("run_us", "teardown_us"), work)
    one.took(teardown_us=5)
    found = one.result()
    assert len(tried) == peers.FAILURES, tried
    assert found["why"] == {"run_us": "it is no use"}, found


@test
def what_cannot_do_anything_has_a_reason_for_everything(t):
    one = peers.Peer(Nothing, __file__, lambda name: name, t.dir)
    one.driver = type("Able", (Nothing,), {
        "run": lambda self: self.boot()})
    one.prepare()
    for number in range(2):
        peers.one_run(number, [one])
    assert one.many(16) == "-"
    found = one.result()
    missing = {pair.name for pair in peers.PEER_FIGURES} - set(found["why"])
    assert missing == {"program_kib"}, missing
    assert set(found) == {"program_kib", "p10", "why"}, found


@test
def what_is_printed_is_read(t):
    one = peer(t)
    one.took(run_us=7)
    one.took(run_us=9)
    one.why["restore_us"] = "refused:\n#5"
    found = Readings()
    found.take("\n".join(peers.lines({"a b": one.result()})))
    values = found.peers["a b"]
    assert values["run_us"] == 8 and values["p10"]["run_us"] == 7, values
    assert values["why"] == {"restore_us": "refused: 5"}, values


@test
def copies_of_saved_memory_may_go(t):
    page = peers.MARK + bytes(8)
    t.write("memory", b"x" * 100 + page + page)
    t.write("state", b"nothing of it")
    peers.let_copies_go(t.dir, ("state", "memory"))
    with open(t.path("memory"), "rb") as file:
        data = file.read()
    go = peers.MARK + b"\1" + bytes(7)
    assert data == b"x" * 100 + go + go, data
    try:
        peers.let_copies_go(t.dir, ("state",))
    except Cannot:
        return
    raise AssertionError("memory without a mark was taken")


@test
def copies_of_saved_memory_are_told_what_to_touch(t):
    with open(t.path("memory"), "wb") as out:
        out.seek((touch.FIRST + 1) * touch.PAGE)
        out.write(b"\1" + bytes(4095))
    t.write("state", b"nothing of it")
    peers.let_copies_touch(t.dir, ("state", "memory"))
    with open(t.path("memory"), "rb") as file:
        file.seek(touch.TABLE)
        table = file.read(4 + 16 * 128)
    steps = list(struct.iter_unpack("<4I", table[4:]))
    assert table[:4] == struct.pack("<I", 128) and len(steps) == 128
    assert steps[-2:] == [(touch.READ, 8064, 72, 1),
                          (touch.WRITE, 8136, 24, 1)], steps[-2:]
    try:
        peers.let_copies_touch(t.dir, ("state",))
    except Cannot:
        return
    raise AssertionError("memory without numbers was taken")


@test
def a_guest_becomes_a_bzimage(t):
    path = t.write("guest", elf([(1, 0x100000, b"A" * 20),
                                 (1, 0x100100, b"B" * 4), (4, 0, NOTE)]))
    image = bzimage.wrapped(path)
    body = image[bzimage.SETUP_BYTES:]
    assert body[:20] == b"A" * 20 and body[0x100:0x104] == b"B" * 4
    assert len(body) % 16 == 0 and not body[20:0x100].strip(b"\0")
    assert image[0x202:0x206] == b"HdrS" and image[0x1fe:0x200] == b"\x55\xaa"
    # From the entry the jump leads to the code, which ends with one to ours.
    code = 0x202 + image[0x201]
    assert image[code:code + 1] == b"\xfa", image[code:code + 1]
    assert struct.pack("<I", ENTRY) + b"\xff\xe0" in image[code:0x340]
    assert struct.unpack_from("<I", image, 0x340)[0] == bzimage.PVH_MAGIC


@test
def a_guest_without_an_entry_is_refused(t):
    path = t.write("guest", elf([(1, 0x100000, b"A")]))
    try:
        bzimage.wrapped(path)
    except ValueError:
        return
    raise AssertionError("it was taken")


@test
def answers_are_read_to_their_end(t):
    whole = Http._is_whole
    for answer, ended in (
            (b"", False), (b"HTTP/1.1 204 No Content\r\n", False),
            (b"HTTP/1.1 204 No Content\r\n\r\n", True),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", False),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", True)):
        t.point(whole(answer) == ended, repr(answer))


@test
def complaints_are_sentences(t):
    head = b"HTTP/1.1 400 \r\nContent-Length: 9\r\n\r\n"
    for body, sentence in (
            (b'{"fault_message":"no kernel"}', "no kernel"),
            (b'["Error from API","No kernel"]', "No kernel"),
            (b'"odd"', "odd"), (b"[]", "[]"), (b"plain", "plain"),
            (b"", "refused")):
        got = complaint(head + body)
        t.point(got == sentence, sentence, got)


if __name__ == "__main__":
    main()
