# SPDX-License-Identifier: Apache-2.0
"""Kernels and initrds that cannot be booted: each is refused with a sentence,
and the same process then boots one that can."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import images
from ember import Monitor, guest, need_kvm, sanitized
from tap import main, skip_unless, test

TOP = 2 ** 64 - 1
START = {"action_type": "InstanceStart"}


def refuse(t, cases):
    """Tries each (name, kernel path, initrd path, part of the fault) in one
    monitor; then a good kernel must start in it."""
    need_kvm()
    m = Monitor(test=t)
    for name, kernel, initrd, text in cases:
        source = {"kernel_image_path": kernel}
        if initrd:
            source["initrd_path"] = initrd
        m.put("/boot-source", **source)
        status, body = m.api("PUT", "/actions", START)
        if status == 204:  # it was started: no other case in this monitor
            t.point(False, name, "started")
            m = Monitor(test=t)
            continue
        fault = body["fault_message"]
        sentence = fault.removeprefix("Start microvm error: ")
        t.point(status == 400 and sentence != fault and len(sentence) > 10
                and text in fault, name, fault)
        assert m.get("/")["state"] == "Not started"
    m.start(guest("hello"), boot_args="")
    m.expect(b"hello\n")
    assert m.wait() == 0


def written(t, cases):
    """(name, kernel bytes, text) as cases of refuse()."""
    return [(name, t.write("kernel%d" % i, data), None, text)
            for i, (name, data, text) in enumerate(cases)]


@test
def files_that_are_no_kernel(t):
    os.mkfifo(t.path("fifo"))
    good = images.load(guest("hello"))
    cases = [("directory", t.dir, None, ""), ("fifo", t.path("fifo"), None, ""),
             ("/dev/null", "/dev/null", None, ""),
             ("/dev/zero", "/dev/zero", None, "")]
    cases += written(t, [
        ("empty", b"", ""),
        ("one byte", b"\x7f", ""),
        ("text", b"#!/bin/sh\n" * 100, ""),
        ("zeroes", bytes(1 << 20), ""),
        ("only the magic", bytes(good[:4]), ""),
    ])
    refuse(t, cases)


@test
def truncated_elf(t):
    good = bytes(images.load(guest("hello")))
    lengths = (16, 63, 64, 119, 120, 287, 4096, 4600, 0x3000, 0x4000)
    refuse(t, written(t, [("first %d bytes" % n, good[:n], "")
                          for n in lengths]))


@test
def corrupted_elf_header(t):
    elf = guest("hello")
    changes = [
        ("32-bit class", {"class": 1}), ("big endian", {"data": 2}),
        ("other machine", {"machine": 183}),
        ("no program headers", {"phnum": 0}),
        ("too many program headers", {"phnum": 0xffff}),
        ("small program headers", {"phentsize": 8}),
        ("program headers behind the end", {"phoff": 1 << 40}),
        ("program headers at the very top", {"phoff": TOP - 10}),
        ("wrong magic", {"magic": b"\x7fELG"}),
    ]
    refuse(t, written(t, [(name, images.changed(elf, **values), "")
                          for name, values in changes]))


@test
def corrupted_elf_entry(t):
    elf = guest("hello64")
    changes = [("zero entry", 0), ("entry behind the image", 0x7000000),
               ("entry above memory", 1 << 40), ("entry at the top", TOP)]
    refuse(t, written(t, [(name, images.changed(elf, entry=value), "")
                          for name, value in changes]))


@test
def corrupted_elf_segments(t):
    elf = guest("hello")
    changes = [
        ("offset behind the file", {"p_offset": 1 << 40}),
        ("offset overflows", {"p_offset": TOP}),
        ("offset and size overflow", {"p_offset": TOP - 0xfff}),
        ("longer than the file", {"p_filesz": 1 << 30, "p_memsz": 1 << 30}),
        ("file size above memory size", {"p_memsz": 16}),
        ("file size overflows", {"p_filesz": TOP, "p_memsz": TOP}),
        ("larger than memory", {"p_memsz": 1 << 40}),
        ("memory size overflows", {"p_memsz": TOP}),
        ("across the end of memory", {"p_paddr": 0x8000000 - 0x1000}),
        ("above memory", {"p_paddr": 1 << 40}),
        ("in the MMIO gap", {"p_paddr": 0xc0000000}),
        ("address overflows", {"p_paddr": TOP - 0xfff}),
        ("at address zero", {"p_paddr": 0}),
        ("over the boot structures", {"p_paddr": 0x7000}),
        ("over the ACPI tables", {"p_paddr": 0x9f000}),
    ]
    cases = [(name, images.changed(elf, segment=1, **values), "")
             for name, values in changes]
    cases.append(("overlapping", images.changed(elf, segment=1,
                                                p_paddr=0x100000), ""))
    cases.append(("nothing to load", images.changed(
        t.write("x", images.changed(elf, segment=0, p_type=4)), segment=1,
        p_type=4), ""))
    refuse(t, written(t, cases))


@test
def corrupted_pvh_note_is_survived(t):
    """Such an image may still be bootable the other way; nothing may break."""
    need_kvm()
    elf = guest("hello")
    note = bytes(images.load(elf)).index(b"Xen\0") - 12
    for name, offset, value in (
            ("name length", 0, b"\xff\xff\xff\xff"),
            ("value length", 4, b"\xff\xff\xff\xff"),
            ("no value", 4, b"\0\0\0\0"),
            ("other type", 8, b"\x01\0\0\0"),
            ("other name", 12, b"Xem\0"),
            ("entry zero", 16, bytes(8)),
            ("entry above memory", 16, b"\0\0\0\xff\0\0\0\0"),
            ("entry of 64 bits", 16, b"\xff" * 8)):
        image = images.load(elf)
        image[note + offset:note + offset + len(value)] = value
        m = Monitor(test=t)
        m.put("/boot-source", kernel_image_path=t.write("k", image))
        status, body = m.api("PUT", "/actions", START)
        if status == 204:
            good = m.wait() in (0, 1)
        else:
            good = status == 400 and m.get("/")["state"] == "Not started"
        t.point(good, name, "%s %s" % (status, body))
        m.close()


@test
def bad_bzimages(t):
    elf = guest("hello64")
    no_entry = "bzImage does not provide a 64-bit entry point"
    huge = 0xffffffff
    refuse(t, written(t, [
        ("no 64-bit entry", images.bzimage(elf, xloadflags=0), no_entry),
        ("old protocol", images.bzimage(elf, version=0x20b), no_entry),
        ("oldest protocol", images.bzimage(elf, version=0x200), no_entry),
        ("no boot flag", images.bzimage(elf, boot_flag=0), ""),
        ("not loaded high", images.bzimage(elf, loadflags=0), ""),
        ("no header magic", images.bzimage(elf, header=b"HdrX"), ""),
        ("setup longer than the file", images.bzimage(elf, setup_sects=255),
         ""),
        ("loads at zero", images.bzimage(elf, code32_start=0), ""),
        ("loads below 1 MiB", images.bzimage(elf, code32_start=0xff000), ""),
        ("loads behind memory", images.bzimage(elf, code32_start=0x8000000),
         ""),
        ("loads across the end", images.bzimage(elf, code32_start=0x7fff000),
         ""),
        ("loads at the top", images.bzimage(elf, code32_start=huge), ""),
        ("body longer than the file", images.bzimage(elf, syssize=huge), ""),
        ("header cut", images.bzimage(elf, cut=0x220), ""),
        ("no body", images.bzimage(elf, cut=1024), ""),
        ("half a body", images.bzimage(elf, cut=4096), ""),
    ]))


@test
def bad_initrds(t):
    kernel = guest("hello")
    os.mkfifo(t.path("fifo"))
    large = t.write("large")
    os.truncate(large, 200 << 20)
    exact = t.write("exact")
    os.truncate(exact, 128 << 20)
    refuse(t, [
        ("larger than memory", kernel, large, ""),
        ("as large as memory", kernel, exact, ""),
        ("directory", kernel, t.dir, ""),
        ("fifo", kernel, t.path("fifo"), ""),
    ])


@test
def initrd_over_the_kernel(t):
    """It fits into memory, but not beside the kernel."""
    initrd = t.write("initrd")
    os.truncate(initrd, (128 << 20) - (1 << 20) - 4096)
    refuse(t, [("overlaps the kernel", guest("hello"), initrd, "")])


@test
def kernel_larger_than_memory(t):
    need_kvm()
    m = Monitor(test=t)
    m.put("/boot-source", kernel_image_path=guest("hello"))
    m.patch("/machine-config", mem_size_mib=1)
    fault = m.fault("PUT", "/actions", START)
    assert fault.startswith("Start microvm error: "), fault
    m.patch("/machine-config", mem_size_mib=2)
    m.start()
    assert m.wait() == 0


@test
def more_memory_than_there_can_be(t):
    need_kvm()
    m = Monitor(test=t)
    m.put("/boot-source", kernel_image_path=guest("hello"))
    for mib in (2 ** 64 - 1, 2 ** 44, 2 ** 43, 1 << 30):
        m.patch("/machine-config", mem_size_mib=mib)
        fault = m.fault("PUT", "/actions", START)
        t.point("Invalid Memory Configuration: Cannot create mmap region: Out "
                "of memory (os error 12)" in fault, "%d MiB" % mib, fault)
    m.patch("/machine-config", mem_size_mib=128)
    m.start()
    assert m.wait() == 0


@test
def address_space_limit(t):
    """RLIMIT_AS: a refusal, and a smaller machine under the same limit."""
    need_kvm()
    skip_unless(not sanitized(), "a sanitizer maps more than the limit")
    m = Monitor(test=t, limits={"as": 512 << 20})
    m.put("/boot-source", kernel_image_path=guest("hello"))
    m.patch("/machine-config", mem_size_mib=1024)
    fault = m.fault("PUT", "/actions", START)
    assert "Invalid Memory Configuration: Cannot create mmap region: Out of " \
        "memory (os error 12)" in fault, fault
    m.patch("/machine-config", mem_size_mib=64)
    m.start()
    assert m.wait() == 0


@test
def kernel_that_changes_after_it_was_named(t):
    """The file is opened by the request that names it."""
    need_kvm()
    kernel = t.write("kernel", bytes(images.load(guest("hello"))))
    m = Monitor(test=t)
    m.put("/boot-source", kernel_image_path=kernel)
    os.unlink(kernel)
    m.start()
    assert m.wait() == 0
    t.point(b"hello" in m.console, "removed file")
    kernel = t.write("kernel", bytes(images.load(guest("hello"))))
    m = Monitor(test=t)
    m.put("/boot-source", kernel_image_path=kernel)
    os.truncate(kernel, 100)
    fault = m.fault("PUT", "/actions", START)
    t.point(fault.startswith("Start microvm error: "), "shrunk file", fault)


if __name__ == "__main__":
    main()
