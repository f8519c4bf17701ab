# SPDX-License-Identifier: Apache-2.0
"""Snapshots in a chain: a guest at work is saved and goes on in the next
monitor, again and again, Full and Diff alternating.

    run_chain(t, FileMemory(t), steps=50)
"""
import os
import signal
import time

from ember import Monitor
from faults import good_handler
from snapshots import merge
from soakguest import ECHO, Pump, Soak, tcp_connect
from tap import SLOW

NS = 10 ** 9
# How late a thread that sleeps may be while two vCPUs share one processor, and
# wait for their memory. A timer that was lost is later than that.
LATE_MS = 500 * SLOW
# A fault for each page costs more time in the lab than all else together.
PAGES_AHEAD = 31
CLOCK_SLACK_NS = NS // 20
# The guest has so much memory beside what it was booted with, and a little more
# in each monitor, up to twice as much: the lab's host has to have it several
# times, in files and in monitors.
HOTPLUG_MIB = 32
HOTPLUG_STEP_MIB = 2


class FileMemory:
    """The memory file is mapped; diffs go into it in place."""
    balloon = True

    def __init__(self, t):
        self.path = t.path("snap.mem")
        self.backend = {"backend_type": "File", "backend_path": self.path}

    def target(self, _kind):
        return self.path

    def prepare(self, _kind):
        """The monitor that wrote has ended, the next will load."""


class UffdMemory:
    """A handler of page faults serves the memory file. It is complete before
    a handler has it: a diff comes to stand beside it, and is merged. To have
    memory that was given back come through the handler takes the lab too long:
    linux_balloon has that."""
    balloon = False

    def __init__(self, t):
        self.test = t
        self.path, self.diff = t.path("snap.mem"), t.path("snap.diff")
        self.socket = t.path("fault.sock")
        self.backend = {"backend_type": "Uffd", "backend_path": self.socket}
        self.handler = None
        t.defer(self._stop)

    def target(self, kind):
        return self.diff if kind == "Diff" else self.path

    def _stop(self):
        if self.handler:
            self.handler.kill()
            self.handler.wait()
            self.handler.stdout.close()
            os.unlink(self.socket)
        self.handler = None

    def prepare(self, kind):
        self._stop()
        if kind == "Diff":
            merge(self.diff, self.path)
            os.unlink(self.diff)
        self.handler = good_handler(self.socket, self.path, PAGES_AHEAD)


class Moments:
    """When something was asked and answered, in ns of the wall clock."""

    def __init__(self, action, *args, **fields):
        self.before = time.time_ns()
        action(*args, **fields)
        self.after = time.time_ns()


class Chain:
    def __init__(self, t, memory, **machine):
        self.test = t
        self.memory = memory
        self.state = t.path("snap")
        self.soak = Soak(t, track_dirty_pages=True, hotplug=HOTPLUG_MIB,
                         balloon=memory.balloon, **machine)
        self.plugged = HOTPLUG_MIB
        self.tcp = Pump(tcp_connect(ECHO))
        self.status = self.soak.status()
        self.stopped_ms = 0  # since the guest was asked how late it is
        self.seconds = {"create": [], "load": [], "step": []}

    # ------------------------------------------------------------- one step

    def plan(self, number):
        """Both kinds meet both clocks; sometimes nobody tracks what is
        dirty, and sometimes the guest goes on before it is saved again."""
        return {"kind": "Diff" if number % 2 else "Full",
                "realtime": number // 2 % 2 == 0,
                "tracked": number % 10 != 4,
                "balloon": number % 3 * 8,
                "twice": number % 8 in (2, 5)}

    def name(self, number):
        return "%d: %s" % (number, " ".join(
            "%s=%s" % item for item in self.plan(number).items()))

    def step(self, number):
        """One snapshot and the restore from it; what was not right."""
        plan = self.plan(number)
        start = time.monotonic()
        if self.memory.balloon:
            self.soak.monitor.patch("/balloon", amount_mib=plan["balloon"])
        stream = Pump(self.soak.connect(ECHO).socket)
        bad = [] if stream.goes_on(0) else ["no stream over vsock"]
        if plan["twice"]:
            self.snapshot_and_go_on()
        pause, create = self.save(plan["kind"])
        load = self.load(plan)
        stream.join(10 * SLOW)
        if stream.is_alive() or stream.bad:
            bad.append("stream over vsock: " + (stream.bad or "no end"))
        stream.stop()
        bad += self.check(plan, pause, create, load)
        self.seconds["step"].append(time.monotonic() - start)
        return bad

    def snapshot(self, kind):
        """When the guest was paused, and when it was saved."""
        monitor = self.soak.monitor
        pause = Moments(monitor.patch, "/vm", state="Paused")
        create = Moments(monitor.put, "/snapshot/create",
                         snapshot_path=self.state, snapshot_type=kind,
                         mem_file_path=self.memory.target(kind), sync=False)
        self.seconds["create"].append((create.after - create.before) / NS)
        return pause, create

    def snapshot_and_go_on(self):
        """One more Full, of a guest that then goes on where it is."""
        pause, _ = self.snapshot("Full")
        resume = Moments(self.soak.monitor.patch, "/vm", state="Resumed")
        self.count_stop(pause, resume)

    def count_stop(self, pause, goes_on):
        """A thread that slept then is late by as much."""
        self.stopped_ms += (goes_on.after - pause.before) / 10 ** 6

    def save(self, kind):
        monitor = self.soak.monitor
        pause, create = self.snapshot(kind)
        monitor.signal(signal.SIGKILL)
        monitor.close()
        os.unlink(self.soak.vsock.path)
        self.memory.prepare(kind)
        return pause, create

    def load(self, plan):
        self.soak.monitor = Monitor(test=self.test)
        load = Moments(self.soak.monitor.put, "/snapshot/load",
                       snapshot_path=self.state, resume_vm=True,
                       mem_backend=self.memory.backend,
                       track_dirty_pages=plan["tracked"],
                       clock_realtime=plan["realtime"])
        self.seconds["load"].append((load.after - load.before) / NS)
        return load

    # --------------------------------------------------------------- checks

    def check(self, plan, pause, create, load):
        bad = []
        count = self.tcp.count
        first = self.soak.status()
        bad += self.check_clock(plan, first, create, load)
        self.count_stop(pause, load)
        bad += self.soak.connections()
        bad += self.check_memory()
        last = self.soak.wait_for_ticks(first)
        if last:
            bad += self.check_work(last)
            # Whoever slept through the stop may wake after the first look.
            bad += check_late(last, self.stopped_ms + LATE_MS)
            self.stopped_ms = 0
            self.status = last
        else:
            bad.append("a vCPU ticks no more")
        if self.memory.balloon:
            bad += self.check_balloon(plan["balloon"])
        if not self.tcp.goes_on(count):
            bad.append("the TCP connection stands still " + self.tcp.bad)
        return bad

    def check_balloon(self, mib):
        """It comes to the size that it was asked for before the snapshot."""
        deadline = time.monotonic() + 5 * SLOW
        while True:
            stats = self.soak.monitor.get("/balloon/statistics")
            if stats["actual_mib"] == mib and "free_memory" in stats:
                return []
            if time.monotonic() > deadline:
                return ["balloon: not %d MiB, but %s" % (mib, stats)]
            time.sleep(0.05)

    def check_clock(self, plan, now, create, load):
        """The wall clock lags behind by the time that nothing ran, or, with
        clock_realtime, by no more than before."""
        low, high = load.before - create.after, load.after - create.before
        if plan["realtime"]:
            low = high = 0
        was, lag = self.status.lag_ns, now.lag_ns
        if (lag[1] < was[0] + low - CLOCK_SLACK_NS or
                lag[0] > was[1] + high + CLOCK_SLACK_NS):
            return ["wall clock: lag was %s, is %s, stopped %d to %d" % (
                was, lag, low, high)]
        if now["monotonic_ns"] <= self.status["monotonic_ns"]:
            return ["monotonic clock: %d" % now["monotonic_ns"]]
        return []

    def check_memory(self):
        """What was plugged is there, and more can be had."""
        found = self.soak.monitor.get("/hotplug/memory")["plugged_size_mib"]
        bad = [] if found == self.plugged else [
            "%d MiB are plugged, not %d" % (found, self.plugged)]
        self.plugged = min(self.plugged + HOTPLUG_STEP_MIB, 2 * HOTPLUG_MIB)
        self.soak.plug(self.plugged)
        return bad

    def check_work(self, now):
        bad = []
        if now["went_back"]:
            bad.append("clocks went back %d times" % now["went_back"])
        if now["disk_errors"]:
            bad.append("%d errors of the disk" % now["disk_errors"])
        if now["durable"] <= self.status["durable"]:
            bad.append("no block was written since %d" %
                       self.status["durable"])
        if self.tcp.bad:
            bad.append("TCP: " + self.tcp.bad)
        return bad

    def end(self):
        t, soak = self.test, self.soak
        t.point(self.tcp.is_alive() and self.tcp.count > 0,
                "one TCP connection all the time, %d blocks" %
                self.tcp.count, self.tcp.bad)
        self.tcp.stop()
        complaints = soak.complaints()
        t.point(not complaints, "the guest's kernel has no complaints",
                "\n".join(complaints))
        soak.end(t, soak.status())
        for what, values in self.seconds.items():
            values.sort()
            print("# %s: median %.2f s, longest %.2f s" % (
                what, values[len(values) // 2], values[-1]))


def check_late(status, limit_ms):
    late = [ms for ms in status["late_ms"] if ms > limit_ms]
    return ["sleeps were late by %s ms" % late] if late else []


def run_chain(t, memory, steps, **fields):
    """@fields: of the machine, and `disk` for those of its drive."""
    chain = Chain(t, memory, **fields)
    for number in range(steps):
        bad = chain.step(number)
        t.point(not bad, chain.name(number), "\n".join(bad))
    chain.end()
