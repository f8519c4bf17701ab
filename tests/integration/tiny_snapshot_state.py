# SPDX-License-Identifier: Apache-2.0
"""State files that are not what they should be, given to a real monitor."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, sanitized
from snapshots import (RESTORE, Snapshot, disk_user, refused_load, taken,
                       uses_disk)
from statefile import HEAD, State, change_cpuid, sign
from tap import main, test

FILE = RESTORE + ("Failed to get snapshot state from file: Failed to load "
                  "snapshot state from file: ")
# What has a default, or is not there in every microVM.
OPTIONAL = ("PAIR", "MMDS")


class Loads:
    """Loads of one snapshot with other states."""

    def __init__(self, t):
        self.t = t
        self.snapshot = taken(t, disk_user(t))
        self.forget()
        self.count = 0

    def state(self):
        return State(self.snapshot.state)

    def body(self, data, **fields):
        self.count += 1
        path = self.t.write("state%d" % self.count, data)
        self.forget()
        return {**self.snapshot.body(**fields), "snapshot_path": path}

    def forget(self):
        """The socket of a monitor that is no more would be in the way."""
        if os.path.exists(self.t.path("vsock")):
            os.unlink(self.t.path("vsock"))

    def refused(self, data, text, name, prefix=RESTORE):
        refused_load(self.t, self.body(data), text, name, prefix)

    def either(self, data):
        """True if it loads; otherwise it must have been refused properly."""
        m = Monitor(test=self.t)
        status, body = m.api("PUT", "/snapshot/load",
                             self.body(data, resume_vm=True))
        if status == 204:
            # The guest may do anything: also fail, or reset the machine.
            m.signal(15)
            code = m.wait()
            assert code in (-15, 0, 1), "exit code %s" % code
        else:
            assert status == 400, status
            assert body["fault_message"].startswith(RESTORE), body
            assert len(body["fault_message"]) > len(RESTORE), body
            code = m.wait()
            assert code == 1, "%s: exit code %s" % (body, code)
        m.close()
        return status == 204


@test
def a_file_cut_short(t):
    loads = Loads(t)
    with open(loads.snapshot.state, "rb") as source:
        whole = source.read()
    for size in (0, 1, 15, 19):
        loads.refused(whole[:size], "IO Error: File too short to contain CRC",
                      "%d bytes" % size, FILE)
    for size in (20, 100, len(whole) // 2, len(whole) - 1):
        loads.refused(whole[:size], "CRC validation failed",
                      "%d bytes" % size, FILE)
    for size in (16, 30, 100, len(whole) // 2, len(whole) - 5):
        loads.refused(sign(whole[:size]), "does not fit",
                      "%d bytes with a CRC" % size, FILE)
    loads.refused(sign(whole[:-4] + b"x"), "Bytes behind the last section",
                  "one byte more", FILE)
    loads.refused(bytes(11 << 20), "not a file of at most 10485760 bytes",
                  "eleven MiB", FILE)


@test
def sections_that_are_missing(t):
    loads = Loads(t)
    for i, section in enumerate(loads.state().sections):
        state = loads.state()
        del state.sections[i]
        if section.tag in OPTIONAL:
            t.point(loads.either(state.bytes()), "%s has a default"
                    % section.tag)
        elif section.tag == "DRIV":
            loads.refused(state.bytes(), "Device 0 (vsock): the snapshot has "
                          "a device of type 2 there, not of type 19",
                          section.tag)
        elif section.tag == "VSOK":
            loads.refused(state.bytes(), "The snapshot has more devices than "
                          "the 1 that are configured in it", section.tag)
        elif section.tag == "META":
            t.point(loads.either(state.bytes()), "META is for people")
        else:
            loads.refused(state.bytes(), "Section %s %d is missing" % (
                section.tag, section.instance), section.tag)


@test
def sections_that_are_there_twice(t):
    loads = Loads(t)
    for section in loads.state().sections:
        state = loads.state()
        state.sections.append(section)
        loads.refused(state.bytes(), "Section %d occurs twice" % len(
            state.sections[:-1]), section.tag, FILE)
    state = loads.state()
    state.sections += [state.sections[0]] * 1100
    loads.refused(state.bytes(), "sections are too many", "1,100 of them",
                  FILE)


@test
def sections_of_another_length(t):
    loads = Loads(t)
    for i, section in enumerate(loads.state().sections):
        if section.tag == "META":
            continue
        state = loads.state()
        state.sections[i].data += b"\0"
        loads.refused(state.bytes(), "is malformed: it is too long",
                      section.tag + ", a byte more")
        state = loads.state()
        state.sections[i].data = section.data[:-1]
        loads.refused(state.bytes(), "is malformed",
                      section.tag + ", a byte less")


@test
def sections_of_a_newer_version(t):
    loads = Loads(t)
    for i, section in enumerate(loads.state().sections):
        if section.tag == "META":
            continue
        state = loads.state()
        state.sections[i].version += 1
        loads.refused(state.bytes(), "Section %s has version %d, this program "
                      "knows %d" % (section.tag, section.version + 1,
                                    section.version), section.tag)


@test
def files_of_another_version(t):
    loads = Loads(t)
    ours = loads.state()
    for major, minor in ((ours.major, ours.minor + 1), (ours.major + 1, 0),
                         (0, 9)):
        state = loads.state()
        state.major, state.minor = major, minor
        loads.refused(state.bytes(), "Invalid data version: %d.%d, this "
                      "program reads %d.0 to %d.%d" % (
                          major, minor, ours.major, ours.major, ours.minor),
                      "%d.%d" % (major, minor), FILE)


@test
def file_of_the_first_version_is_read(t):
    """As the program wrote it before it had what came with 1.1."""
    loads = Loads(t)
    state = loads.state()
    state.remove(state.find("PAIR"))
    state.minor = 0
    m = Monitor(test=t)
    m.put("/snapshot/load", **loads.body(state.bytes(), resume_vm=True))
    uses_disk(m)
    m.patch("/vm", state="Paused")
    again = Snapshot(t, "again")
    again.create(m)
    m.close()
    loads.forget()
    t.point(State(again.state).minor > 0, "its snapshots are of our version")
    uses_disk(again.load(t))
    t.point(True, "and load")


@test
def other_processors_features(t):
    loads = Loads(t)
    state = loads.state()
    change_cpuid(state.find("VCPU"), 1, 3, 1 << 10 | 1 << 20)
    m = Monitor(test=t)
    fault = m.fault("PUT", "/snapshot/load", loads.body(state.bytes()))
    assert m.wait() == 1
    # No processor has these two. An emulated KVM gives guests more features
    # than it says it has: those are named as well there.
    named = re.search(r"The snapshot needs CPU features that this host lacks: "
                      r".*leaf 0x1\.0 edx bits ([0-9, ]*)", fault)
    t.point(named and {"10", "20"} <= set(named.group(1).split(", ")),
            "they are named", fault)


@test
def any_byte_may_be_another(t):
    """With a CRC that is right. What is harmless loads; what is not is
    refused. Nothing else may happen, whatever the guest does then."""
    loads = Loads(t)
    with open(loads.snapshot.state, "rb") as source:
        whole = source.read()[:-4]
    step = len(whole) // (80 if sanitized() else 160)
    outcome = [0, 0]
    for turn, at in enumerate(range(HEAD.size, len(whole), step)):
        value = whole[at] ^ (0xff, 0x01, 0x80)[turn % 3]
        data = sign(whole[:at] + bytes([value]) + whole[at + 1:])
        outcome[loads.either(data)] += 1
    t.point(min(outcome) > 2, "some load, some are refused", str(outcome))


if __name__ == "__main__":
    main()
