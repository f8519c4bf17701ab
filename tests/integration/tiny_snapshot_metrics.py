# SPDX-License-Identifier: Apache-2.0
"""What snapshots spend their time on, in metrics and log."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, guest, need_kvm
from tap import main, test

SECTION = "snapshot_phases_us"
CREATE = ("create_files", "create_state", "create_state_file", "create_dirty_log",
          "create_scan", "create_write", "create_sync", "create_publish")
LOAD = ("load_state_file", "load_config", "load_vm", "load_memory",
        "load_vcpus", "load_devices", "load_identity", "load_working_set",
        "load_start")


def lines(path):
    with open(path) as source:
        return [json.loads(line) for line in source]


def last_line(m, path):
    m.put("/actions", action_type="FlushMetrics")
    return lines(path)[-1]


def logged(m, first):
    """The phases of the last log line that begins with this one."""
    found = re.findall(r"Snapshot phases in us: (%s .*)\." % first, m.log)[-1]
    return {name: int(us) for name, us in
            (part.split(" ") for part in found.split(", "))}


def taken(t, **metrics):
    """A monitor that has taken a snapshot; its metrics, the snapshot's two
    files."""
    need_kvm()
    m = Monitor(test=t)
    m.put("/metrics", metrics_path=t.path("metrics"), **metrics)
    m.start(guest("counter"), mem_size_mib=128, track_dirty_pages=True)
    m.expect(b"\n20\n")
    m.patch("/vm", state="Paused")
    files = t.path("state"), t.path("memory")
    m.put("/snapshot/create", snapshot_path=files[0], mem_file_path=files[1])
    return m, files


def restored(t, files, *args):
    return Monitor(test=t, args=["--restore", files[0], "--mem", files[1],
                                 *args])


@test
def nobody_asks_nobody_is_told(t):
    m, files = taken(t)
    t.point(SECTION not in last_line(m, t.path("metrics")),
            "nothing is added to the published schema")
    t.point(set(logged(m, "create_files")) == set(CREATE),
            "the log has it all", m.log)
    path = t.path("clone-metrics")
    clone = restored(t, files, "--metrics-path", path)
    clone.expect(b"\n")
    t.point(SECTION not in last_line(clone, path), "nor by a clone")
    t.point(set(logged(clone, "load_state_file")) == set(LOAD),
            "whose log has it, too", clone.log)


@test
def phases_of_taking(t):
    m, files = taken(t, emit_snapshot_phases=True)
    line = last_line(m, t.path("metrics"))
    t.point(list(line)[-1] == SECTION, "the section is the last one",
            str(list(line)))
    t.point(set(line[SECTION]) == set(CREATE + LOAD), "all names",
            str(line[SECTION]))
    phases = {name: line[SECTION][name] for name in CREATE}
    t.point(phases == logged(m, "create_files"), "as in the log",
            "%s %s" % (phases, m.log))
    whole = line["latencies_us"]["vmm_full_create_snapshot"]
    total = sum(phases.values())
    t.point(phases["create_state"] > 0 and phases["create_write"] > 0 and
            total <= whole, "they are parts of the whole",
            "%d of %d" % (total, whole))
    t.point(all(line[SECTION][name] == 0 for name in LOAD),
            "nothing was loaded", str(line[SECTION]))
    m.put("/snapshot/create", snapshot_path=files[0], mem_file_path=files[1],
          snapshot_type="Diff", sync=False)
    phases = last_line(m, t.path("metrics"))[SECTION]
    t.point({name: phases[name] for name in CREATE} ==
            logged(m, "create_files"), "the last one counts", str(phases))


@test
def phases_of_loading(t):
    _, files = taken(t)
    path = t.path("clone-metrics")
    clone = restored(t, files, "--metrics-path", path,
                     "--emit-snapshot-phases")
    clone.expect(b"\n")
    clone.wait_log("Snapshot phases")
    phases = lines(path)[0][SECTION]
    t.point({name: phases[name] for name in LOAD} ==
            logged(clone, "load_state_file"), "in the first line already",
            str(phases))
    line = last_line(clone, path)
    whole = line["latencies_us"]["vmm_load_snapshot"]
    total = sum(phases[name] for name in LOAD)
    t.point(phases["load_vm"] > 0 and phases["load_vcpus"] > 0 and
            total <= whole, "they are parts of the whole",
            "%d of %d" % (total, whole))


if __name__ == "__main__":
    main()
