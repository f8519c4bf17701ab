#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peers.py EMBER BUILD RUNS: ember and the other monitors that are found, on the
same tiny guests, in turn. Prints lines for readings.py, and comments for people.

Each stage is tried with each monitor: what one cannot do is missing from its
figures, and its "why" says so. No monitor has devices but a serial port here; each
is used in the form that suits it best (monitors.py)."""

import os
import statistics
import struct
import sys
import tempfile
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             "..", "lib"))
import bzimage  # noqa: E402
import touch  # noqa: E402
from monitors import Cannot, Guest, all_drivers, now_us  # noqa: E402

Pair = namedtuple("Pair", "name label unit goal_figure drawn")

PEER_FIGURES = (
    Pair("answer_us", "exec to an answered request", "us", "api_wall_us",
         True),
    Pair("answer_cpu_us", "... CPU time of it", "us", "api_cpu_us", False),
    Pair("first_byte_us", "start command to the guest's first byte", "us",
         "first_byte_us", True),
    Pair("run_us", "exec to the guest's first byte, without requests", "us",
         None, True),
    Pair("requests_per_s", "requests on one connection, by a client in Python",
         "per s", None, False),
    Pair("request_p99_us", "... 99 of 100 are faster", "us", None, False),
    Pair("rss_kib", "resident beside guest RAM", "KiB", "rss_kib", True),
    Pair("dirty_kib", "... private and dirty", "KiB", "dirty_kib", False),
    Pair("snapshot_us", "full snapshot of 128 MiB, hardly touched", "us",
         None, False),
    Pair("snapshot_kib", "... its files", "KiB", None, False),
    Pair("changes_us", "snapshot of 16 MiB of changes", "us", "diff_merge_ms",
         False),
    Pair("changes_kib", "... its files", "KiB", None, False),
    Pair("restore_us", "exec to the first byte of a restored copy", "us",
         "restore_first_byte_us", True),
    Pair("restore_cpu_us", "... CPU time of it", "us", None, False),
    Pair("touch_us", "exec of a restore until 24 MB were touched", "us",
         "ws_copy_us", True),
    Pair("copies_16_per_s", "16 copies at once", "per s", None, False),
    Pair("copies_64_per_s", "64 copies at once", "per s", "clones_1000_per_s",
         True),
    Pair("copy_private_kib", "... private and dirty in each, guest RAM too",
         "KiB", "clone_dirty_kib", True),
    Pair("copy_pss_kib", "... proportional set size of each", "KiB", None,
         False),
    Pair("teardown_us", "SIGTERM to the end of the process", "us", None,
         False),
    Pair("program_kib", "program file, without its libraries", "KiB",
         "binary_bytes", False),
)

# Of a Debian guest, in the counted lab (counted_peer.py).
LINUX_FIGURES = (
    Pair("linux_start_ms", "Linux: start command to its answer", "ms",
         "start_call_ms", False),
    Pair("linux_exec_init_ms", "... exec to the guest's first process", "ms",
         None, True),
    Pair("linux_init_ms", "... kernel start to it, by the guest's clock",
         "ms", "boot_to_init_ms", False),
    Pair("linux_exits", "... exits to user space until drivers are up", "",
         "exits", False),
    Pair("linux_rss_kib", "... resident beside guest RAM", "KiB", None,
         False),
    Pair("linux_block_ms", "... CPU for 1,550 requests of 4 KiB and 24 MiB",
         "ms", "block_ms", True),
    Pair("linux_ping_us", "... CPU for an echo by network", "us", "ping_us",
         True),
    Pair("linux_tcp_in_us", "... CPU for a MiB by TCP to the guest", "us",
         "tcp_mib_in_us", False),
    Pair("linux_tcp_out_us", "... CPU for a MiB by TCP from the guest", "us",
         "tcp_mib_out_us", False),
    Pair("linux_vsock_us", "... CPU for a byte by vsock, there and back",
         "us", "vsock_round_trip_us", True),
    Pair("linux_vsock_mib_us", "... CPU for a MiB by vsock to the guest",
         "us", "vsock_mib_in_us", True),
    Pair("linux_snapshot_ms", "... full snapshot of 256 MiB", "ms",
         "full_create_ms", False),
    Pair("linux_snapshot_kib", "... its files", "KiB", "full_memory_kib",
         False),
    Pair("linux_restore_ms", "... exec of a restore to a vsock answer", "ms",
         "tuned_vsock_answer_ms", True),
)
ALL_FIGURES = PEER_FIGURES + LINUX_FIGURES

WARM_UPS = 1
SETTLE_S = 0.05    # after each life
AGE_S = 0.1        # at SIGTERM: a younger machine takes KVM longer to end
REQUESTS = 100     # a run
CHANGES_EVERY = 4  # runs
CHANGES_MIB = 16
MANY_ROUNDS = 3
LOADERS = 4        # threads that ask new processes for copies
FAILURES = 2       # of a stage, until it is not tried any more
TRACKED_RAM_MIB = 64
# In the memory of tests/guests/copy.c; the word behind it lets copies go on.
MARK, GO = b"ember: the copy may go.\0", b"\1"
NOT_AS_IT_IS = "its snapshot does not have the guest's memory as it is"


def let_copies_go(directory, files):
    """Changes a word of the guest in its saved memory. All of it is written
    back: pages that are not count as dirty in whoever maps them."""
    found = 0
    for name in files:
        with open(os.path.join(directory, name), "r+b") as file:
            data = file.read()
            at = data.find(MARK)
            while at >= 0:
                file.seek(at + len(MARK))
                file.write(GO)
                found += 1
                at = data.find(MARK, at + 1)
            file.flush()
            os.fsync(file.fileno())
    if not found:
        raise Cannot(NOT_AS_IT_IS)


def let_copies_touch(directory, files):
    """Tells them what. Memory is saved as it is where pages have their numbers
    in them."""
    for name in files:
        path = os.path.join(directory, name)
        with open(path, "rb") as file:
            file.seek((touch.FIRST + 1) * touch.PAGE)
            if file.read(8) == struct.pack("<Q", 1):
                touch.put_steps(path, touch.SCATTERED)
                return
    raise Cannot(NOT_AS_IT_IS)


def disk_kib(directory, files):
    return sum(os.stat(os.path.join(directory, name)).st_blocks / 2
               for name in files)


def available_kib():
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1])
    return 0


def make_ready(monitor, word=b"ready\n"):
    """A guest that has said so."""
    monitor.launch()
    monitor.configure()
    monitor.boot()
    monitor.console.wait_for(word)


class Peer:
    """A monitor, and what was measured of it."""

    def __init__(self, driver, program, guests, directory):
        self.driver = driver
        self.program = program
        self.directory = directory
        self.guests = guests
        self.samples = {"program_kib": [os.path.getsize(program) / 1024]}
        self.failures = {}  # stage: times
        self.why = {}       # stage: reason
        self.templates = {}  # guest: directory

    @property
    def name(self):
        return self.driver.name

    def guest(self, name, **more):
        """A tiny guest, as this monitor takes it."""
        kernel = self.guests(name)
        if self.driver.only_bzimage:
            kernel = os.path.join(self.directory, name + ".bzImage")
            with open(kernel, "wb") as out:
                out.write(bzimage.wrapped(self.guests(name)))
        return Guest(kernel, **more)

    def took(self, **figures):
        for name, value in figures.items():
            self.samples.setdefault(name, []).append(value)

    # ---------------------------------------------------------------- stages

    def start(self, monitor):
        """A life with requests, up to a snapshot."""
        start = now_us()
        monitor.launch()
        answer_us, answer_cpu_us = now_us() - start, monitor.cpu_us()
        monitor.configure()
        time.sleep(0.02)
        start = now_us()
        monitor.send_boot()
        self.took(answer_us=answer_us, answer_cpu_us=answer_cpu_us,
                  first_byte_us=monitor.first_byte() - start)
        monitor.booted()
        memory = monitor.memory()
        self.took(rss_kib=memory.rss, dirty_kib=memory.dirty)
        for _ in range(REQUESTS):
            start = now_us()
            monitor.ask()
            self.took(request_us=now_us() - start)

    def run(self, monitor):
        """A life without requests."""
        monitor.prepare()
        start = now_us()
        monitor.run()
        self.took(run_us=monitor.first_byte() - start)
        if "rss_kib" in self.why:
            memory = monitor.memory()
            self.took(rss_kib=memory.rss, dirty_kib=memory.dirty)
        time.sleep(AGE_S)
        self.took(teardown_us=monitor.end())

    def save(self, monitor):
        make_ready(monitor)
        took, files = monitor.save()
        self.took(snapshot_us=took,
                  snapshot_kib=disk_kib(monitor.directory, files))

    def changes(self, monitor):
        """Twice the same; the first is everything."""
        if not monitor.saves_changes:
            raise Cannot("it has no snapshots of changes")
        make_ready(monitor)
        for _ in range(2):
            monitor.type(b"%d\n" % CHANGES_MIB)
            monitor.console.wait_for(b"dirty %d\n" % CHANGES_MIB)
            took, files = monitor.save_changes()
            kib = disk_kib(monitor.directory, files)
            for name in files:
                os.unlink(os.path.join(monitor.directory, name))
        self.took(changes_us=took, changes_kib=kib)

    def make_template(self, monitor, word, change):
        """Saves a guest that has said the word, and changes what is saved."""
        make_ready(monitor, word)
        _, files = monitor.save()
        monitor.kill()
        change(monitor.directory, files)

    def restore_and_touch(self, monitor):
        start = now_us()
        monitor.spawn_copy()
        monitor.load_copy()
        monitor.console.wait_for(DONE)
        self.took(touch_us=now_us() - start)

    def restore(self, monitor):
        start = now_us()
        monitor.spawn_copy()
        monitor.load_copy()
        self.took(restore_us=monitor.first_byte() - start)
        monitor.loaded()
        self.took(restore_cpu_us=monitor.cpu_us(),
                  private_kib=monitor.memory().private)

    def copies(self, count):
        """As many at once, and all alive when their memory is looked at."""
        needed = count * statistics.median(self.samples["private_kib"])
        if needed > available_kib() / 2:
            raise Cannot("%d copies would need %d MiB"
                         % (count, needed / 1024))
        guest = self.guest("copy", template=True)
        monitors = [self.driver(self.program, self.templates["copy"], guest,
                                number)
                    for number in range(count)]
        try:
            start = now_us()
            for monitor in monitors:
                monitor.spawn_copy()
            with ThreadPoolExecutor(LOADERS) as pool:
                list(pool.map(lambda monitor: monitor.load_copy(), monitors))
            up_us = max(m.first_byte() for m in monitors) - start
            self.took(**{"copies_%d_per_s" % count: count * 1e6 / up_us})
            time.sleep(0.2)  # what they do after the guest's first byte
            memory = [monitor.memory() for monitor in monitors]
            self.took(**{
                "copy_private_kib_%d" % count: statistics.median(
                    m.private for m in memory),
                "copy_pss_kib_%d" % count: statistics.median(
                    m.pss for m in memory)})
        finally:
            for monitor in monitors:
                if monitor.process:
                    monitor.process.kill()
            for monitor in monitors:
                monitor.kill()

    # ------------------------------------------------------------------ runs

    def attempt(self, stage, figures, work):
        """Does a stage, unless it has failed too often; what is then missing
        has a reason."""
        if self.failures.get(stage, 0) >= FAILURES:
            return
        try:
            work()
        except (Cannot, OSError) as error:
            self.failures[stage] = self.failures.get(stage, 0) + 1
            for name in figures:
                self.why.setdefault(name, str(error))

    def in_a_life(self, stage, figures, guest, **more):
        """A stage of a monitor in a directory of its own."""
        with tempfile.TemporaryDirectory(prefix="ember-perf-") as directory:
            monitor = self.driver(self.program, directory,
                                  self.guest(guest, **more))
            try:
                self.attempt(stage.__name__, figures, lambda: stage(monitor))
            finally:
                monitor.kill()

    def started(self):
        self.in_a_life(self.start, (
            "answer_us", "answer_cpu_us", "first_byte_us", "requests_per_s",
            "request_p99_us", "rss_kib", "dirty_kib"), "copy")

    def ran(self):
        self.in_a_life(self.run, ("run_us", "teardown_us"), "copy")

    def saved(self):
        self.in_a_life(self.save, ("snapshot_us", "snapshot_kib"), "copy")

    def changed(self):
        self.in_a_life(self.changes, ("changes_us", "changes_kib"), "dirty",
                       tracked=True, typed=True, ram_mib=TRACKED_RAM_MIB)

    def prepare(self):
        """Templates, in directories that stay."""
        def copy(monitor):
            self.make_template(monitor, b"ready\n", let_copies_go)

        def touching(monitor):
            self.make_template(monitor, b"filled\n", let_copies_touch)
            monitor.learn(DONE)

        for name, work, figures in (("copy", copy, RESTORED),
                                    ("touch", touching, TOUCHING)):
            self.templates[name] = os.path.join(self.directory, name)
            os.mkdir(self.templates[name])
            self.with_template(name, work, figures)
            if set(figures) & set(self.why):
                del self.templates[name]

    def with_template(self, name, work, figures):
        """A stage of a monitor in the directory of a template."""
        if name not in self.templates:
            return
        monitor = self.driver(self.program, self.templates[name],
                              self.guest(name, template=True))
        try:
            self.attempt(name + "." + work.__name__, figures,
                         lambda: work(monitor))
        finally:
            monitor.kill()

    def restored(self):
        self.with_template("copy", self.restore, RESTORED)

    def touched(self):
        self.with_template("touch", self.restore_and_touch, TOUCHING)

    def many(self, count):
        """Copies at once; the words for a progress line."""
        name = "copies_%d_per_s" % count
        if not self.samples.get("private_kib"):
            return "-"
        self.attempt(name, (name, "copy_private_kib", "copy_pss_kib"),
                     lambda: self.copies(count))
        found = self.samples.get(name)
        return "%.0f per s" % found[-1] if found else self.why[name]

    # ---------------------------------------------------------------- result

    def forget(self):
        """What warming up took."""
        self.samples = {name: values for name, values in self.samples.items()
                        if name == "program_kib"}

    def result(self):
        """{figure: median}, with {figure: p10} and {figure: why not}."""
        samples = dict(self.samples)
        requests = sorted(samples.pop("request_us", ()))
        if requests:
            samples["request_p99_us"] = [requests[len(requests) * 99 // 100]]
            samples["requests_per_s"] = [1e6 / statistics.mean(requests)]
        for name in ("copy_private_kib", "copy_pss_kib"):
            # Of the most that could be.
            for count in MANY:
                samples[name] = samples.get("%s_%d" % (name, count),
                                            samples.get(name, []))
        named = [pair.name for pair in PEER_FIGURES if samples.get(pair.name)]
        values = {name: statistics.median(samples[name]) for name in named}
        values["p10"] = {name: sorted(samples[name])[len(samples[name]) // 10]
                         for name in named if len(samples[name]) > 1}
        values["why"] = {name: why for name, why in self.why.items()
                         if name not in values}
        return values


def one_run(number, peers):
    """A life of each for a stage, each time another one first: what a machine
    that ends leaves to do costs the next one."""
    stages = [Peer.started, Peer.ran, Peer.saved, Peer.restored, Peer.touched]
    if number % CHANGES_EVERY == WARM_UPS:
        stages.append(Peer.changed)
    first = number % len(peers)
    for stage in stages:
        for peer in peers[first:] + peers[:first]:
            time.sleep(SETTLE_S)
            stage(peer)


MANY = (16, 64)
RESTORED = ("restore_us", "restore_cpu_us", "copy_private_kib",
            "copy_pss_kib") + tuple("copies_%d_per_s" % n for n in MANY)
TOUCHING = ("touch_us",)
DONE = b"done\n"


def say(words):
    print("# " + words, flush=True)


def cell(figure, values):
    if figure not in values:
        return "-"
    fast = values["p10"].get(figure)
    return "%.0f" % values[figure] + (" / %.0f" % fast if fast else "")


def table(results):
    """A line for each figure: all monitors, median and fast tenth."""
    say("%-50s%s" % ("", "".join("%17s" % name for name in results)))
    for pair in PEER_FIGURES:
        say("%-50s%s" % (pair.label, "".join(
            "%17s" % cell(pair.name, values) for values in results.values())))
    for name, values in results.items():
        for why in sorted(set(values["why"].values())):
            say("%s: %s" % (name, why))


def lines(results):
    """What readings.py reads."""
    for name, values in results.items():
        name = name.replace(" ", "_")
        for pair in PEER_FIGURES:
            if pair.name in values:
                yield "peer %s %s %.1f p10 %.1f" % (
                    name, pair.name, values[pair.name],
                    values["p10"].get(pair.name, values[pair.name]))
        for figure, why in values["why"].items():
            yield "dash %s %s %s" % (name, figure,
                                     " ".join(why.replace("#", "").split()))


def measure(ember, guests, runs):
    """{monitor: {figure: median}} of all that are there; @guests gives the path
    of a tiny one."""
    with tempfile.TemporaryDirectory(prefix="ember-perf-") as directory:
        found = []
        for driver, program in all_drivers(ember):
            place = os.path.join(directory, driver.__name__)
            os.mkdir(place)
            found.append(Peer(driver, program, guests, place))
            found[-1].prepare()
        for number in range(runs + WARM_UPS):
            say("run %d of %d" % (number, runs))
            for peer in found if number == WARM_UPS else ():
                peer.forget()
            one_run(number, found)
        for count in MANY * MANY_ROUNDS:
            say("%d copies at once: " % count + ", ".join(
                "%s %s" % (peer.name, peer.many(count)) for peer in found))
        return {peer.name: peer.result() for peer in found}


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    ember, build, runs = sys.argv[1:]
    results = measure(ember, lambda name: os.path.join(
        build, "tests/guests", name + ".elf"), int(runs))
    table(results)
    print("\n".join(lines(results)))


if __name__ == "__main__":
    main()
