# SPDX-License-Identifier: Apache-2.0
"""System call filters: each thread has its own, what it does not allow ends
the process, and what somebody else compiled is held to as well."""
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import injail
from ember import (BINARY, TIMEOUT, Monitor, guest, need_kvm, request_bytes,
                   run, sanitized)
from injection import (FILTERED, FREE, VIOLATION, check_violation, inject,
                       need_filters, need_ptrace, seccomp_modes,
                       waiting_monitor)
from snapshots import Snapshot, start_guest
from tap import Skip, main, test
from touch import PAGES, READ, WAIT, WRITE, TouchSnapshot

COMPILER = os.path.join(os.path.dirname(os.path.abspath(BINARY)),
                        "ember-seccomp")
BAD_FILTERS = "Seccomp error: Filter deserialization failed"


def need_compiler():
    if not os.path.exists(COMPILER):
        raise Skip("there is no ember-seccomp beside the monitor")


def compiler(*args):
    """(exit code, standard output, standard error)"""
    done = subprocess.run([COMPILER, *args], capture_output=True, text=True,
                          timeout=TIMEOUT)
    return done.returncode, done.stdout, done.stderr


def default_rules():
    need_compiler()
    code, text, _ = compiler("print")
    assert code == 0
    return json.loads(text)


def compiled(t, rules, name="filters"):
    """A file of filters from these rules."""
    source = t.write(name + ".json", json.dumps(rules))
    code, _, errors = compiler("compile", source, t.path(name))
    assert code == 0, errors
    return t.path(name)


def check_modes(t, m, names, mode, what=""):
    """Waits a little: threads get their filters as they begin."""
    wanted = {name: mode for name in names}
    deadline = time.monotonic() + TIMEOUT
    while seccomp_modes(m.pid) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    found = seccomp_modes(m.pid)
    t.point(found == wanted, what + "Seccomp is %d" % mode[0], str(found))


# ------------------------------------------------------------ who has one

@test
def every_thread_has_a_filter(t):
    need_filters()
    m = Monitor(test=t)
    m.wait_log("API server started")
    found = seccomp_modes(m.pid)
    t.point(found["ember"] == FREE, "the loop is free before the start")
    t.point(found["ember_api"] == FILTERED, "the API is not")
    m.start(guest("echo"), vcpu_count=2)
    m.expect(b"ready")
    check_modes(t, m, ["ember", "ember_api", "ember_vcpu 0", "ember_vcpu 1"],
                FILTERED)


@test
def no_thread_has_one_if_so_wanted(t):
    need_kvm()
    m = waiting_monitor(t, args=["--no-seccomp"])
    check_modes(t, m, ["ember", "ember_api", "ember_vcpu 0"], FREE)


@test
def without_the_api(t):
    need_filters()
    config = t.write("config", json.dumps({
        "boot-source": {"kernel_image_path": guest("echo")}, "drives": []}))
    m = Monitor(test=t, api=False, args=["--config-file", config])
    m.expect(b"ready")
    check_modes(t, m, ["ember", "ember_vcpu 0"], FILTERED)
    m = Monitor(test=t, args=["--config-file", config])
    m.expect(b"ready")
    check_modes(t, m, ["ember", "ember_api", "ember_vcpu 0"], FILTERED,
                "with the API: ")


@test
def after_a_restore(t):
    need_filters()
    m = start_guest(t, "echo", b"ready")
    m.patch("/vm", state="Paused")
    snapshot = Snapshot(t)
    snapshot.create(m)
    m.close()
    for resume in (True, False):
        m = snapshot.load(t, resume=resume)
        check_modes(t, m, ["ember", "ember_api", "ember_vcpu 0"], FILTERED,
                    "running: " if resume else "paused: ")
        m.close()
    m = Monitor(test=t, args=["--restore", snapshot.state, "--mem",
                              snapshot.memory])
    check_modes(t, m, ["ember", "ember_api", "ember_vcpu 0"], FILTERED,
                "from the command line: ")


@test
def a_start_that_failed_may_be_tried_again(t):
    need_filters()
    m = Monitor(test=t)
    m.put("/boot-source", kernel_image_path=t.write("bad", b"no kernel"))
    m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    m.wait_log("API server started")
    t.point(seccomp_modes(m.pid)["ember"] == FREE, "the loop is still free")
    m.start(guest("echo"))
    m.expect(b"ready")
    check_modes(t, m, ["ember", "ember_api", "ember_vcpu 0"], FILTERED)


# ------------------------------------- what is allowed, and seldom needed

@test
def large_bodies(t):
    """libc maps what is large, and the client does not read for a while."""
    m = Monitor(test=t, args=["--http-api-max-payload-size", "4000000"])
    m.put("/mmds", **{"text": "x" * 1500000})
    client = m.connect()
    for _ in range(3):
        client.send(request_bytes("GET", "/mmds"))
    time.sleep(0.2)
    t.point(all(len(client.receive().body) > 1500000 for _ in range(3)),
            "all of it arrives")
    m.start(guest("echo"))
    m.expect(b"ready")


@test
def snapshots_of_many_kinds(t):
    need_kvm()
    m = Monitor(test=t, cwd=t.dir)
    m.start(guest("echo"), boot_args="noapic", mem_size_mib=8192,
            track_dirty_pages=True)
    m.expect(b"ready")
    m.patch("/vm", state="Paused")
    for kind in ("Full", "Diff"):
        m.put("/snapshot/create", snapshot_type=kind,
              snapshot_path=injail.relative(t.path("state"), t.dir),
              mem_file_path=injail.relative(t.path(kind), t.dir))
    t.point(os.stat(t.path("Diff")).st_size == 8192 << 20,
            "large, with a timer, under a relative path")


@test
def snapshots_of_many_vcpus(t):
    """Their state grows until libc moves it from one mapping to another."""
    m = start_guest(t, "echo", b"ready", vcpu_count=32, mem_size_mib=16)
    m.patch("/vm", state="Paused")
    snapshot = Snapshot(t)
    snapshot.create(m)
    t.point(os.stat(snapshot.state).st_size > 128 << 10, "are large, and made",
            str(os.stat(snapshot.state).st_size))


@test
def another_file_for_a_disk_that_is_read_only(t):
    need_kvm()
    m = Monitor(test=t)
    m.put("/drives/d", drive_id="d", path_on_host=t.write("a", bytes(512)),
          is_root_device=False, is_read_only=True)
    m.start(guest("echo"))
    m.expect(b"ready")
    m.patch("/drives/d", drive_id="d",
            path_on_host=t.write("b", bytes(1024)))
    t.point(m.alive(), "is taken")


@test
def dense_working_sets(t):
    """Copied by two threads; and recorded under a relative path."""
    need_kvm()
    injail.give_proc(t)
    m = Monitor(test=t)
    snapshot = TouchSnapshot(m, t.path("touch"))
    snapshot.set_steps((WRITE, 0, PAGES, 1), (WAIT,))
    m.close()
    m = Monitor(test=t, cwd=t.dir, args=snapshot.args(
        "--record-working-set", injail.relative(t.path("set"), t.dir),
        "--record-until", "request"))
    m.expect(b"waiting")
    m.put("/vm/working-set")
    m.close()
    m = Monitor(test=t, args=snapshot.args(
        "--working-set", t.path("set"), "--prefetch", "copy"))
    m.expect(b"waiting")
    t.point(m.alive(), "and used")


# --------------------------------------------------------- files of filters

@test
def what_is_printed_compiles_to_what_is_built_in(t):
    need_compiler()
    code, text, _ = compiler("print")
    assert code == 0
    rules = t.write("rules.json", text)
    for source, name in ((rules, "again"), ("--default", "default")):
        assert compiler("compile", source, t.path(name))[0] == 0
    files = [open(t.path(name), "rb").read() for name in ("again", "default")]
    t.point(files[0] == files[1], "byte for byte")
    with open(BINARY, "rb") as file:
        t.point(sanitized() or files[0] in file.read(), "what is built in")


@test
def a_filter_that_allows_less(t):
    need_filters()
    rules = default_rules()
    rules["api"] = [rule for rule in rules["api"]
                    if rule["syscall"] != "accept4"]
    m = Monitor(test=t, wait=False,
                args=["--seccomp-filter", compiled(t, rules)])
    m.wait_log("API server started")
    m.api_quietly("GET", "/")
    t.point(m.wait() == 148, "it ends the process")
    t.point("Thread ember_api " + VIOLATION % "accept4" in m.log,
            "where it does not fit", m.log)


@test
def a_filter_that_allows_more(t):
    need_filters()
    need_ptrace()
    rules = default_rules()
    getppid = 110
    rules["api"].append({"syscall": "getppid"})
    m = waiting_monitor(t, args=["--seccomp-filter", compiled(t, rules)])
    t.point(inject(m.pid, "ember_api", getppid) ==
            ("returned", os.getpid()), "one more")
    check_violation(t, m, "ember", "getppid", getppid, ())


@test
def a_build_without_filters_takes_those_of_a_file(t):
    need_kvm()
    if not sanitized():
        raise Skip("this build has filters")
    m = Monitor(test=t)
    m.wait_log("This build has no system call filters.")
    m.close()
    rules = default_rules()
    rules["api"] = rules["vcpu"]
    m = Monitor(test=t, wait=False,
                args=["--seccomp-filter", compiled(t, rules)])
    # The sanitizer's runtime may want more calls for an orderly end.
    assert m.wait() in (148, -signal.SIGSYS)


def damaged(good):
    """(what is wrong, bytes)"""
    yield "nothing", b""
    yield "cut short", good[:-1]
    yield "one byte more", good + b"\0"
    yield "a bit turned", good[:40] + bytes([good[40] ^ 1]) + good[41:]
    yield "something else", b"\x7fELF" + good[4:]
    yield "too long", good + bytes(100001 - len(good))


@test
def a_bad_file_of_filters(t):
    need_compiler()
    assert compiler("compile", "--default", t.path("good"))[0] == 0
    with open(t.path("good"), "rb") as file:
        good = file.read()
    for what, data in damaged(good):
        code, out, err = run("--api-sock", t.path("s"), "--seccomp-filter",
                             t.write("bad", data))
        t.point(code == 1 and BAD_FILTERS in out and
                not os.path.exists(t.path("s")), what, out + err)
    code, out, err = run("--api-sock", t.path("s"), "--seccomp-filter",
                         t.path("none"))
    t.point(code == 1 and "Seccomp error: " in out and
            "No such file or directory (os error 2)" in out, "none at all",
            out + err)


def spoilt(t, kind):
    """A file of filters in which that of a class is nonsense."""
    assert compiler("compile", "--default", t.path("good"))[0] == 0
    with open(t.path("good"), "rb") as file:
        data = bytearray(file.read())
    struct.pack_into("<H", data, data.index(kind + b"\0") + 16, 0xffff)
    struct.pack_into("<I", data, len(data) - 4, zlib.crc32(bytes(data[:-4])))
    return t.write("bad", bytes(data))


@test
def a_filter_the_kernel_does_not_take(t):
    """A thread without its filter is the end."""
    need_kvm()
    need_compiler()
    why = " cannot be installed: Invalid argument (os error 22)"
    kinds = ((b"api", "thread ember_api"), (b"vcpu", "thread ember_vcpu 0"),
             (b"loop", "the loop thread"))
    # With sanitizers the first filter that is in order is the end.
    for kind, who in kinds[:1] if sanitized() else kinds:
        m = Monitor(test=t, wait=False,
                    args=["--seccomp-filter", spoilt(t, kind)])
        if kind != b"api":
            m.wait_log("API server started")
            m.put("/boot-source", kernel_image_path=guest("echo"))
            m.api_quietly("PUT", "/actions", {"action_type": "InstanceStart"})
        t.point(m.wait() == 1 and
                "Seccomp error: The filter of " + who + why in m.log,
                who, m.log)


@test
def filters_and_none_exclude_each_other(t):
    code, _, err = run("--no-seccomp", "--seccomp-filter", t.write("f"))
    assert code == 153, code
    assert "Argument 'seccomp-filter' cannot be used together with " \
        "argument 'no-seccomp'." in err, err


# ------------------------------------------------------------- the compiler

GETPID_RULE = {"syscall": "getpid"}
BAD_RULES = (
    ([], "The rules are no object of lists, class by class"),
    ({"vmm": []}, 'The rules: unknown field "vmm"'),
    ({"loop": []}, 'class "api" is missing'),
    ({"loop": {}}, 'class "loop": it is no list of rules'),
    ({"loop": [1]}, 'class "loop", rule 0: it is no object'),
    ({"loop": [GETPID_RULE, {}]},
     'class "loop", rule 1: field "syscall" is missing'),
    ({"loop": [{"syscall": 39}]},
     'class "loop", rule 0: field "syscall" is no string'),
    ({"loop": [{"syscall": "getpid", "why": ""}]},
     'class "loop", rule 0: unknown field "why"'),
    ({"loop": [{"syscall": "getpid", "comment": 1}]},
     'class "loop", rule 0 (getpid): field "comment" is no string'),
    ({"loop": [{"syscall": "getpid", "args": {}}]},
     'class "loop", rule 0 (getpid): field "args" is no list of at most 3 '
     'conditions'),
)
BAD_CONDITIONS = (
    (1, "it is no object"),
    ({"index": 0, "op": "eq", "value": 1, "x": 1}, 'unknown field "x"'),
    ({"op": "eq", "value": 1},
     'field "index" is no number, nor a string with one'),
    ({"index": 6, "op": "eq", "value": 1}, 'field "index" is not 0 to 5'),
    ({"index": 0, "op": "lt", "value": 1},
     'field "op" is neither "eq" nor "masked_eq"'),
    ({"index": 0, "op": "eq"},
     'field "value" is no number, nor a string with one'),
    ({"index": 0, "op": "eq", "value": -1},
     'field "value" is no number, nor a string with one'),
    ({"index": 0, "op": "eq", "value": "0x1g"},
     'field "value" is no number, nor a string with one'),
    ({"index": 0, "op": "eq", "value": "0x10000000000000000"},
     'field "value" is no number, nor a string with one'),
    ({"index": 0, "op": "eq", "value": 1, "mask": 1},
     'field "mask" is for "masked_eq" only'),
    ({"index": 0, "op": "masked_eq", "value": 1},
     'field "mask" is no number, nor a string with one'),
    ({"index": 0, "op": "masked_eq", "value": 2, "mask": 1},
     'field "value" has bits that are not in "mask"'),
)


def check_refused(t, text, story):
    source = t.write("rules.json", text)
    code, _, errors = compiler("compile", source, t.path("out"))
    t.point(code == 1 and errors == "ember-seccomp: %s: %s\n" % (
        source, story) and not os.path.exists(t.path("out")), story, errors)


@test
def rules_that_are_none(t):
    need_compiler()
    for rules, story in BAD_RULES:
        check_refused(t, json.dumps(rules), story)
    for condition, story in BAD_CONDITIONS:
        rules = {"loop": [{"syscall": "getpid", "args": [condition]}]}
        check_refused(t, json.dumps(rules), 'class "loop", rule 0 (getpid), '
                      "condition 0: " + story)
    twice = {"index": 0, "op": "eq", "value": 1}
    check_refused(t, json.dumps(
        {"loop": [{"syscall": "getpid", "args": [twice, twice]}]}),
        'class "loop", rule 0 (getpid), condition 1: a second one of '
        "argument 0")
    empty = {"api": [], "vcpu": [], "memory": []}
    check_refused(t, json.dumps({"loop": [{"syscall": "nonsense"}], **empty}),
                  'class "loop", rule 0: there is no system call "nonsense"')


@test
def text_that_is_no_json(t):
    need_compiler()
    source = t.write("rules.json", '{"loop": [}')
    code, _, errors = compiler("compile", source, t.path("out"))
    t.point(code == 1 and errors.startswith(
        "ember-seccomp: %s:1:11: " % source), "says where", errors)
    code, _, errors = compiler("compile", t.path("none"), t.path("out"))
    t.point(code == 1 and "none" in errors, "there is no file", errors)
    for args in ((), ("compile",), ("print", "x"), ("nonsense",)):
        code, _, errors = compiler(*args)
        t.point(code == 1 and "ember-seccomp print" in errors,
                "usage: " + " ".join(args))
    code, out, _ = compiler("--help")
    t.point(code == 0 and "ember-seccomp print" in out, "--help")


if __name__ == "__main__":
    main()
