# SPDX-License-Identifier: Apache-2.0
"""What is measured, and by which program. A benchmark needs some of these, or
`run` skips it and says why: /dev/kvm for tiny guests ("kvm"), namespaces
("root"), the counted lab ("lab"). It fills sections of figures.py, one or with
others: what of them does not come is missed."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor, as_completed

import monitors
from carry import pci_drivers, take_along
from figures import FIGURES, SECTIONS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LAB = os.path.join(ROOT, "tests/lab/lab.py")
# Whoever dies takes along what it started.
ALONE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
LIMIT_SECONDS = 600
NATIVE_LIMIT_SECONDS = 180

Benchmark = namedtuple("Benchmark", "name needs seconds what run fills")


class Failed(Exception):
    """A program that did not end well."""


class Bench:
    """Where things are, and how programs are run."""

    def __init__(self, build):
        self.build = build
        self.ember = os.path.join(build, "ember")
        self.jailer = os.path.join(build, "ember-jailer")

    def guest(self, name):
        return os.path.join(self.build, "tests/guests", name + ".elf")

    def run(self, argv, prefix=(), limit=2 * LIMIT_SECONDS):
        """What a program prints, in lines, while it prints them."""
        process = subprocess.Popen(
            [*prefix, *argv], cwd=ROOT, stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            with process.stdout:
                yield from process.stdout
            if process.wait():
                raise Failed("%s ended with %d" % (os.path.basename(argv[0]),
                                                   process.returncode))
        finally:
            timer.cancel()

    def native(self, program, *words):
        """A program of this directory, in a pid namespace of its own."""
        return self.run([os.path.join(self.build, "tests/perf", program),
                         *map(str, words)], ALONE, NATIVE_LIMIT_SECONDS)

    def script(self, name, *words):
        return self.run([sys.executable, os.path.join(HERE, name),
                         *map(str, words)], ALONE, NATIVE_LIMIT_SECONDS)

    def counted(self, script, files, own_initrd):
        """A script of this directory in the counted lab."""
        with tempfile.TemporaryDirectory(prefix="ember-perf-") as job:
            shutil.copy(self.ember, job)
            self._fill(job, "counted", own_initrd and self._initrd)
            yield from self._count(job, files, script, "/job/ember",
                                   "/assets")

    def counted_peers(self):
        """The same Linux guest on each monitor that is found, each on a host of
        its own; there is room for a host on each processor."""
        initrd = self._initrd + pci_drivers()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for one in as_completed(
                    pool.submit(self._counted_peer, driver, program, initrd)
                    for driver, program in monitors.all_drivers(self.ember)):
                yield from one.result()

    def _counted_peer(self, driver, program, initrd):
        """Lines of one monitor."""
        lines = []
        with tempfile.TemporaryDirectory(prefix="ember-perf-") as job:
            self._fill(job, ("counted", "monitors"), initrd)
            there = take_along(program, os.path.join(job, "peer"),
                               "/job/peer")
            try:
                lines.extend(self._count(
                    job, "bzImage,vmlinux", "counted_peer.py",
                    driver.__name__, there, "/assets"))
            except Failed as error:
                lines.append("# %s: %s\n" % (driver.name, error))
        return lines

    @staticmethod
    def _fill(job, scripts, initrd):
        """Scripts by the beginning of their names; the guest's initramfs."""
        for name in os.listdir(HERE):
            if name.startswith(scripts):
                shutil.copy(os.path.join(HERE, name), job)
        if initrd:
            with open(os.path.join(job, "initrd"), "wb") as out:
                out.write(initrd)
        # Who else may read them here depends on the checkout.
        for name in os.listdir(job):
            os.chmod(os.path.join(job, name), 0o755)

    def _count(self, job, files, *words):
        """A script of a job in the counted lab."""
        return self.run(
            [sys.executable, LAB, "count", "--job", job, "--python",
             "--files", files, "--timeout", str(LIMIT_SECONDS),
             "--env", "PYTHONHASHSEED=0",
             "--env", "PYTHONDONTWRITEBYTECODE=1", "python3", *words])

    @functools.cached_property
    def _initrd(self):
        """The guests' own, with the agent in it: the same for all scripts."""
        for line in self.run([sys.executable, LAB, "assets"]):
            name, _, path = line.strip().partition("=")
            if name == "initrd":
                return subprocess.run(
                    [sys.executable, os.path.join(ROOT, "tests/lab/cpio.py"),
                     path, os.path.join(self.build, "tests/guests/agent"),
                     "bin/agent"], stdout=subprocess.PIPE, check=True).stdout
        raise Failed("there is no initrd for guests")


def sizes(bench):
    yield "binary_bytes %d\n" % os.path.getsize(bench.ember)
    yield "jailer_bytes %d\n" % os.path.getsize(bench.jailer)


# How many at once, and how often.
CLONES = ((1, 15), (4, 15), (16, 9), (64, 5), (256, 5), (1000, 3))


def clones(bench):
    """The curves, and the figures at 256; at 1,000 clones_1000_up_ms,
    clones_1000_per_s and clones_1000_down_ms."""
    curves = {"clones_up_ms": [], "clone_dirty_kib": [], "clone_pss_kib": []}
    for count, rounds in CLONES:
        for line in bench.native("clones", bench.ember, bench.guest("clone"),
                                 count, rounds):
            name, value = line.split()[:2]
            if name in curves:
                curves[name].append("%d=%s" % (count, value))
            if count == 256:
                yield line
            elif count == 1000 and name.startswith("clones_"):
                yield line.replace("_", "_1000_", 1)
    for name, points in curves.items():
        yield "curve %s %s\n" % (name, " ".join(points))


BENCHMARKS = (
    Benchmark("size", "", 1, "files of the build", sizes, ("Size",)),
    Benchmark("start", "kvm root", 5, "exec, API, a tiny guest's first byte",
              lambda b: b.native("start", b.ember, b.guest("dirty"), 100),
              ("Start",)),
    Benchmark("teardown", "kvm root", 15, "the ways to end a microVM",
              lambda b: b.native("teardown", b.ember, b.guest("dirty"), 11),
              ("End",)),
    Benchmark("api", "kvm root", 5, "requests to the API",
              lambda b: b.native("api", b.ember, b.guest("clone"), 5000),
              ("API",)),
    Benchmark("restore", "kvm root", 10, "exec of a restore to the first byte",
              lambda b: b.native("restore", b.ember, b.guest("clone"), 100),
              ("Restore",)),
    Benchmark("clones", "kvm root", 15, "1 to 1,000 copies at once", clones,
              ("Clones",)),
    Benchmark("snapshot", "kvm root", 15, "full ones and diffs of 1 GiB",
              lambda b: b.native("snapshot", b.ember, b.guest("dirty"), 9),
              ("Snapshots",)),
    Benchmark("restore-working-set", "kvm root", 30,
              "restore and touch 24 MB",
              lambda b: b.script("working_set.py", b.ember, b.build, 40),
              ("Restore and touch 24 MB",)),
    Benchmark("disk", "kvm root", 10, "a tiny guest's reads and writes",
              lambda b: b.native("disk", b.ember, b.guest("load"), 9),
              ("Disk of a tiny guest",)),
    Benchmark("jail", "kvm root", 30, "the jailer, one and a hundred",
              lambda b: b.native("jail", b.ember, b.jailer,
                                 b.guest("clone"), 100),
              ("Jails",)),
    Benchmark("balloon", "kvm root", 10, "1 GiB given back by a balloon",
              lambda b: b.script("balloon.py", b.ember, b.build),
              ("Memory that is given back",)),
    Benchmark("hotplug", "kvm root", 10, "1 GiB plugged in and out",
              lambda b: b.script("hotplug.py", b.ember, b.build),
              ("Memory that comes and goes",)),
    Benchmark("filter", "kvm root", 20, "what system call filters cost",
              lambda b: b.native("filter", b.ember, b.guest("clone"),
                                 b.guest("exits"), 100),
              ("System call filters",)),
    Benchmark("counted-boot", "lab", 30, "boot of a Debian guest",
              lambda b: b.counted("counted_boot.py", "bzImage,initrd", False),
              ("Boot of a Debian guest",)),
    Benchmark("counted-api", "lab", 20, "requests to a monitor",
              lambda b: b.counted("counted_api.py", "", False),
              ("API, CPU of the monitor's threads",)),
    Benchmark("counted-io", "lab", 40, "vsock and network of a Debian guest",
              lambda b: b.counted("counted_io.py", "bzImage", True),
              ("Traffic of a Debian guest, CPU of the monitor's threads",)),
    Benchmark("counted-block", "lab", 40, "disks of a Debian guest",
              lambda b: b.counted("counted_block.py", "bzImage", True),
              ("Disks of a Debian guest, CPU of the monitor's threads",)),
    Benchmark("counted-snapshot", "lab", 60, "snapshots of a Debian guest",
              lambda b: b.counted("counted_snapshot.py", "bzImage", True),
              ("Snapshots of a Debian guest",)),
    Benchmark("counted-peers", "lab", 200, "a Debian guest on all monitors",
              Bench.counted_peers, ()),
)


def missed(ran, values):
    """Figures that the benchmarks whose names are in @ran should have brought
    and did not."""
    names = []
    for title, _, figures in SECTIONS:
        by = {b.name for b in BENCHMARKS if title in b.fills}
        if by and by <= set(ran):
            names += [figure.name for figure in figures
                      if figure.name not in values]
    return names


def unknown(values):
    """What came and is no figure of ours."""
    return [name for name in values if name not in FIGURES]
