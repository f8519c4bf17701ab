# SPDX-License-Identifier: Apache-2.0
"""What other monitors need in a job of the lab: their libraries, and drivers for
their guest."""

import os
import re
import shutil
import subprocess
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             "..", "lab"))

import assets  # noqa: E402
from cpio import Cpio  # noqa: E402
from kernel import Modules  # noqa: E402

# Of QEMU's firmware, what its microvm machine loads.
FIRMWARE = ("bios-microvm.bin", "pvh.bin", "linuxboot_dma.bin",
            "kvmvapic.bin")
WRAPPER = """#!/bin/sh
exec %(there)s/%(loader)s --library-path %(there)s %(there)s/program%(more)s "$@"
"""


def libraries(program):
    """Paths of its dynamic linker and of its libraries; none if it is static."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True,
                          check=False)
    return re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE)


def firmware(program):
    """The paths of QEMU's files; another program has none."""
    if "qemu" not in os.path.basename(program):
        return []
    places = subprocess.run([program, "-L", "help"], capture_output=True,
                            text=True, check=True).stdout.split()
    found = []
    for name in FIRMWARE:
        paths = [os.path.join(place, name) for place in places]
        found += [path for path in paths if os.path.exists(path)][:1]
    return found


def pci_drivers():
    """An archive for an initramfs, with what loads after the modules in it:
    ember's guest needs no PCI, and has no drivers."""
    modules = Modules(os.path.join(assets.kernel(), "kernel"))
    there = {name for name, _ in modules.load_order(assets.GUEST_MODULES)}
    archive = Cpio()
    new = [item for item in modules.load_order(("virtio_pci",))
           if item[0] not in there]
    for number, (name, data) in enumerate(new):
        archive.file("modules/pci%d-%s.ko" % (number, name), data)
    return archive.bytes()


def take_along(program, directory, there):
    """Copies it; @there is what the directory is called on that machine. The
    path by which it is started there."""
    os.makedirs(directory)
    shutil.copy(program, os.path.join(directory, "program"))
    paths = libraries(program)
    if not paths:
        return there + "/program"
    for path in paths + firmware(program):
        shutil.copy(path, directory)
    (loader,) = [os.path.basename(path) for path in paths
                 if os.path.basename(path).startswith("ld-linux")]
    more = " -L " + there if firmware(program) else ""
    with open(os.path.join(directory, "run"), "w") as out:
        out.write(WRAPPER % {"there": there, "loader": loader, "more": more})
    os.chmod(os.path.join(directory, "run"), 0o755)
    return there + "/run"
