# SPDX-License-Identifier: Apache-2.0
"""ember and the other monitors that are found, on the same tiny guests, in turn."""

import os
import statistics
import tempfile
import time
from collections import namedtuple

from monitors import Cannot, Guest, all_drivers, now_us

Pair = namedtuple("Pair", "name label unit goal_figure drawn")

PEER_FIGURES = (
    Pair("answer_us", "exec to an answered request", "us", "api_wall_us",
         True),
    Pair("answer_cpu_us", "... CPU time of it", "us", "api_cpu_us", False),
    Pair("first_byte_us", "start command to the guest's first byte", "us",
         "first_byte_us", True),
    Pair("rss_kib", "resident beside guest RAM", "KiB", "rss_kib", True),
    Pair("dirty_kib", "... private and dirty", "KiB", "dirty_kib", False),
    Pair("snapshot_us", "full snapshot of 128 MiB, hardly touched", "us",
         None, False),
    Pair("snapshot_kib", "... its files", "KiB", None, False),
    Pair("restore_us", "exec to the first byte of a restored copy", "us",
         "restore_first_byte_us", True),
    Pair("teardown_us", "SIGTERM to the end of the process", "us", None,
         False),
    Pair("program_kib", "program file, without its libraries", "KiB",
         "binary_bytes", False),
)


def measure_start(monitor, figures):
    start = now_us()
    monitor.launch()
    figures["answer_us"] = now_us() - start
    figures["answer_cpu_us"] = monitor.cpu_us()
    monitor.configure()
    time.sleep(0.02)
    start = now_us()
    monitor.boot()
    figures["first_byte_us"] = monitor.console.first() - start
    figures["rss_kib"], figures["dirty_kib"] = monitor.memory()


def measure_copy(monitor, figures):
    figures["snapshot_us"], files = monitor.save()
    figures["snapshot_kib"] = sum(
        os.stat(os.path.join(monitor.directory, name)).st_blocks / 2
        for name in files)
    monitor.kill()
    start = now_us()
    monitor.restore()
    figures["restore_us"] = monitor.console.first() - start
    figures["teardown_us"] = monitor.end()


def one_run(driver, program, guest):
    """The figures of one life, as many as it has."""
    figures = {"program_kib": os.path.getsize(program) / 1024}
    with tempfile.TemporaryDirectory(prefix="ember-perf-") as directory:
        monitor = driver(program, directory, Guest(guest))
        try:
            measure_start(monitor, figures)
            measure_copy(monitor, figures)
        except (Cannot, OSError) as error:
            figures["why"] = str(error)
        finally:
            monitor.kill()
    return figures


def measure(ember, guest, runs, progress):
    """{name: {figure: median}} of all that are there."""
    drivers = all_drivers(ember)
    values = {driver.name: {} for driver, _ in drivers}
    for run in range(runs + 1):
        progress("run %d of %d" % (run, runs))
        for driver, program in drivers:
            found = one_run(driver, program, guest)
            if "why" in found:
                progress("%s: %s" % (driver.name, found.pop("why")))
            for name, value in found.items() if run else ():
                values[driver.name].setdefault(name, []).append(value)
    return {name: {figure: statistics.median(samples)
                   for figure, samples in found.items()}
            for name, found in values.items()}
