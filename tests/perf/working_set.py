# SPDX-License-Identifier: Apache-2.0
"""working_set.py EMBER BUILD RUNS: what a recorded working set is worth.

A guest of 128 MiB and one vCPU touches 24 MB once, from ring 3: 64 stretches of
96 pages with 32 in between that it leaves alone; of each it reads the first 72
and writes to the others. Measured is the time from the exec of `ember --restore`
to the guest's report that this is done, of all ways in turn, with the memory
file in the page cache as reading it from the disk leaves it there. Prints the
median of each way and the time that a tenth of its runs does not reach, of which
ratios are made: others on the machine only ever add to it.

  ws_lazy_us      pages are mapped when the guest touches them
  ws_beside_us    the recorded set is brought in while the guest runs
  ws_before_us    ... before it runs
  ws_copy_us      ... the same, where it is dense into huge pages of its own
  ws_uffd_us      a page-fault handler fills every page (a fifth of the runs)
  ws_of_lazy_pc   ws_copy_us in percent of ws_lazy_us
  ws_of_uffd_pc   ... and of ws_uffd_us
"""
import os
import shutil
import subprocess
import sys
import tempfile

EMBER, BUILD, RUNS = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.environ["EMBER"] = EMBER
os.environ["EMBER_GUESTS"] = os.path.join(BUILD, "tests", "guests")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor  # noqa: E402
from faults import good_handler  # noqa: E402
from touch import SCATTERED, TouchSnapshot  # noqa: E402

QUIET = ["--no-api", "--log-path", "/dev/null"]


def restore(*args):
    """Microseconds from exec to the guest's last word."""
    done = subprocess.run(
        [os.path.join(BUILD, "tests", "perf", "until"), "done", EMBER, *args,
         *QUIET], capture_output=True, text=True, check=True)
    return int(done.stdout)


def read_anew(path):
    """What was just written may be in the page cache in pieces of any size, up
    to 2 MiB; what is read is in those of the read-ahead."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(1 << 17):
            pass


def record(snapshot, path):
    m = Monitor(args=snapshot.args("--record-working-set", path,
                                   "--record-until", "request"))
    m.expect(b"done\n")
    m.put("/vm/working-set")
    m.close()


def measure(snapshot, path, sock):
    there = snapshot.args("--working-set", path, "--prefetch")
    ways = {
        "lazy": snapshot.args(),
        "beside": there + ["beside"],
        "before": there + ["before"],
        "copy": there + ["copy"],
        "uffd": ["--restore", snapshot.state, "--uffd", sock],
    }
    times = {way: [] for way in ways}
    for turn in range(RUNS):
        for way, args in ways.items():
            if way != "uffd" or turn % 5 == 0:
                times[way].append(restore(*args))
    return {way: sorted(values) for way, values in times.items()}


def main():
    directory = tempfile.mkdtemp(prefix="ember-perf-")
    path, sock = os.path.join(directory, "set"), os.path.join(directory, "sock")
    try:
        m = Monitor()
        snapshot = TouchSnapshot(m, os.path.join(directory, "touch"))
        m.close()
        snapshot.set_steps(*SCATTERED)
        read_anew(snapshot.memory)
        record(snapshot, path)
        handler = good_handler(sock, snapshot.memory)
        times = measure(snapshot, path, sock)
        handler.kill()
        handler.wait()
    finally:
        shutil.rmtree(directory)
    fast = {way: values[len(values) // 10] for way, values in times.items()}
    for way, values in times.items():
        print("ws_%s_us %.0f p10 %.0f" % (way, values[len(values) // 2],
                                          fast[way]))
        print("samples ws_%s_us %s" % (way, " ".join(map(str, values))))
    for way in "lazy", "uffd":
        print("ws_of_%s_pc %.1f" % (way, 100 * fast["copy"] / fast[way]))


main()
