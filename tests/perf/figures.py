# SPDX-License-Identifier: Apache-2.0
"""What the measuring programs print, one row per figure: what it means, its
unit, and what is expected of it; and the goals that some of them belong to.

An expectation is a limit (`<= 1500`) or a least value (`>= 1000`). Wall times on
a shared machine say little: figures from the counted lab (COUNTED) repeat to a
part in a thousand, and tests/perf/baseline.json holds what they were."""

from collections import namedtuple

Figure = namedtuple("Figure", "name label unit promise", defaults=(None,))
# A figure that has a target of its own, or a share of Firecracker's, or both.
Target = namedtuple("Target", "figure limit share", defaults=(None, None))
Goal = namedtuple("Goal", "name text targets")

# (title, where from, figures); WALL is measured on this machine's /dev/kvm.
WALL, COUNTED, FILES = "wall", "counted", "files"

SECTIONS = (
    ("Size", FILES, (
        Figure("binary_bytes", "static stripped monitor", "bytes",
               "<= 1300000"),
        Figure("jailer_bytes", "static stripped jailer", "bytes"),
    )),
    ("Start", WALL, (
        Figure("api_wall_us", "exec to the first API answer", "us",
               "<= 1500"),
        Figure("api_cpu_us", "... CPU time of it", "us", "<= 1200"),
        Figure("start_call_us", "InstanceStart to its answer", "us"),
        Figure("first_byte_us", "InstanceStart to a tiny guest's first byte",
               "us", "<= 1300"),
        Figure("rss_kib", "resident beside guest RAM, 128 MiB, 1 vCPU", "KiB",
               "<= 1843"),
        Figure("dirty_kib", "... of it private and dirty", "KiB", "<= 307"),
    )),
    ("End", WALL, (
        Figure("teardown_us", "SIGTERM to the end, memory hardly touched",
               "us"),
        Figure("teardown_touched_us", "... with 128 MiB touched", "us"),
        Figure("teardown_kill_us", "SIGKILL to the end, 128 MiB touched",
               "us"),
        Figure("teardown_reset_us", "the guest's reset to the end, 128 MiB "
               "touched", "us"),
    )),
    ("API", WALL, (
        Figure("api_requests_per_s", "GET / on one connection", "per s"),
        Figure("api_request_p50_us", "... a request, median", "us"),
        Figure("api_request_p99_us", "... 99 of 100 are faster", "us"),
        Figure("api_8_requests_per_s", "GET / on 8 connections at once",
               "per s"),
        Figure("api_8_request_p50_us", "... a request, median", "us"),
        Figure("api_8_request_p99_us", "... 99 of 100 are faster", "us"),
        Figure("api_connections_per_s", "GET / on a connection each",
               "per s"),
        Figure("api_put_p50_us", "PUT /machine-config", "us"),
        Figure("api_config_p50_us", "GET /vm/config of a running guest",
               "us"),
    )),
    ("Restore", WALL, (
        Figure("restore_first_byte_us", "exec to the copy's first byte", "us",
               "<= 2300"),
        Figure("restore_floor_us", "a bare program with the same KVM objects",
               "us"),
        Figure("restore_ratio", "... ratio of the two, of the fast tenth",
               "", "<= 1.8"),
        Figure("restore_api_us", "exec to the first API answer", "us"),
        Figure("load_call_us", "PUT /snapshot/load to its answer", "us"),
        Figure("load_first_byte_us", "... to the copy's first byte", "us"),
        Figure("restore_rss_kib", "resident beside guest RAM", "KiB",
               "<= 1843"),
        Figure("restore_dirty_kib", "... of it private and dirty", "KiB",
               "<= 256"),
        Figure("restore_ram_dirty_kib", "guest RAM that the copy wrote to",
               "KiB", "<= 64"),
    )),
    ("Restore and touch 24 MB", WALL, (
        Figure("ws_copy_us", "with a recorded working set, copied before",
               "us", "<= 4000"),
        Figure("ws_before_us", "... mapped before the guest runs", "us"),
        Figure("ws_beside_us", "... mapped while the guest runs", "us"),
        Figure("ws_lazy_us", "page by page", "us"),
        Figure("ws_uffd_us", "through an external page-fault handler", "us"),
        Figure("ws_of_lazy_pc", "copied, of page by page", "%", "<= 40"),
        Figure("ws_of_uffd_pc", "copied, of a handler's", "%", "<= 10"),
    )),
    ("Clones", WALL, (
        Figure("clones_per_s", "256 clones at once", "per s", ">= 1000"),
        Figure("clones_up_ms", "... until all have answered", "ms"),
        Figure("clones_1000_per_s", "1,000 clones at once", "per s"),
        Figure("clones_1000_up_ms", "... until all have answered", "ms"),
        Figure("clones_down_ms", "SIGKILL of 256 to the end of the last",
               "ms"),
        Figure("clones_1000_down_ms", "SIGKILL of 1,000 to the end of the "
               "last", "ms"),
        Figure("clone_dirty_kib", "private and dirty in each", "KiB",
               "<= 256"),
        Figure("clone_dirty_max_kib", "... in the largest", "KiB", "<= 307"),
        Figure("clone_ram_dirty_kib", "guest RAM that each wrote to", "KiB"),
        Figure("clone_pss_kib", "proportional set size of each", "KiB"),
    )),
    ("Snapshots", WALL, (
        Figure("full_ms", "full, 1 GiB with 100 MiB touched", "ms"),
        Figure("full_pause_ms", "... the guest's whole pause for it", "ms"),
        Figure("full_kib", "... written", "KiB", "<= 110000"),
        Figure("full_rss_growth_kib", "... more resident after it", "KiB",
               "<= 64"),
        Figure("diff_new_ms", "diff of 57 MiB into a new file", "ms"),
        Figure("diff_merge_ms", "diff of 57 MiB, merged into the full one",
               "ms", "<= 10"),
        Figure("diff_pause_ms", "... the guest's whole pause for it", "ms"),
        Figure("diff_kib", "... written", "KiB", "<= 60000"),
        Figure("loop_new_ms", "57 MiB by a loop of pwritev, a new file",
               "ms"),
        Figure("loop_again_ms", "... over what is there", "ms"),
        Figure("diff_new_ratio", "diff to that loop, new", "", "<= 1.3"),
        Figure("diff_merge_ratio", "diff to that loop, merged", "",
               "<= 1.3"),
    )),
    ("Disk of a tiny guest", WALL, (
        Figure("disk_sync_read_per_s", "Sync: reads of 4 KiB", "per s"),
        Figure("disk_sync_read_cpu_us", "... CPU of the loop for each",
               "us"),
        Figure("disk_sync_write_per_s", "Sync: writes of 4 KiB", "per s"),
        Figure("disk_sync_write_cpu_us", "... CPU of the loop for each",
               "us"),
        Figure("disk_sync_read_mib_per_s", "Sync: reading", "MiB/s"),
        Figure("disk_sync_write_mib_per_s", "Sync: writing", "MiB/s"),
        Figure("disk_async_read_per_s", "Async: reads of 4 KiB", "per s"),
        Figure("disk_async_read_cpu_us", "... CPU of the loop for each",
               "us"),
        Figure("disk_async_write_per_s", "Async: writes of 4 KiB", "per s"),
        Figure("disk_async_write_cpu_us", "... CPU of the loop for each",
               "us"),
        Figure("disk_async_read_mib_per_s", "Async: reading", "MiB/s"),
        Figure("disk_async_write_mib_per_s", "Async: writing", "MiB/s"),
    )),
    ("Memory that is given back", WALL, (
        Figure("balloon_inflate_ms", "1 GiB by the balloon: CPU of the loop",
               "ms"),
        Figure("balloon_inflate_wall_ms", "... until the guest knows", "ms"),
        Figure("balloon_inflate_mib", "... fewer resident", "MiB",
               ">= 1000"),
        Figure("balloon_inflate_file_ms", "the same over a memory file",
               "ms"),
        Figure("balloon_inflate_file_wall_ms", "... until the guest knows",
               "ms"),
        Figure("balloon_inflate_file_mib", "... fewer resident", "MiB",
               ">= 1000"),
        Figure("balloon_report_ms", "1 GiB by reports of free pages: CPU",
               "ms"),
        Figure("balloon_report_wall_ms", "... until the guest knows", "ms"),
        Figure("balloon_report_mib", "... fewer resident", "MiB", ">= 1000"),
        Figure("balloon_report_file_ms", "the same over a memory file", "ms"),
        Figure("balloon_report_file_wall_ms", "... until the guest knows",
               "ms"),
        Figure("balloon_report_file_mib", "... fewer resident", "MiB",
               ">= 1000"),
    )),
    ("Memory that comes and goes", WALL, (
        Figure("hotplug_plug_gib_us", "1 GiB plugged in, 8 slots", "us"),
        Figure("hotplug_unplug_gib_us", "... and out, unused", "us"),
        Figure("hotplug_unplug_used_gib_us", "... and out, all of it used",
               "us"),
        Figure("hotplug_plug_slot_us", "a block that brings a slot", "us"),
        Figure("hotplug_unplug_slot_us", "... that takes one along", "us"),
        Figure("hotplug_plug_block_us", "a block in a slot", "us"),
        Figure("hotplug_unplug_block_us", "... and out of it", "us"),
    )),
    ("Jails", WALL, (
        Figure("bare_entry_us", "spawn to main, no jail", "us"),
        Figure("jail_entry_us", "through the jailer, by copy", "us",
               "<= 4000"),
        Figure("jail_link_entry_us", "... by link", "us"),
        Figure("jail_bind_entry_us", "... by bind", "us"),
        Figure("jail_mounts_entry_us", "... with 500 mounts more", "us"),
        Figure("jails_copy_entry_us", "each of 100 at once, by copy", "us"),
        Figure("jails_copy_p99_us", "... 99 of 100 are faster", "us"),
        Figure("jails_bind_entry_us", "each of 100 at once, by bind", "us"),
        Figure("jails_bind_p99_us", "... 99 of 100 are faster", "us"),
        Figure("bare_restore_us", "restore to the first byte, no jail", "us"),
        Figure("jail_restore_us", "... in a jail", "us", "<= 6300"),
        Figure("jail_restore_more_us", "... the difference", "us"),
        Figure("jails_restore_us", "each of 100 at once, in jails", "us"),
        Figure("jails_restore_p99_us", "... 99 of 100 are faster", "us"),
        Figure("jails_restored_per_s", "... as a rate", "per s"),
    )),
    ("System call filters", WALL, (
        Figure("filter_api_us", "first API answer: more with filters", "us",
               "<= 300"),
        Figure("filter_first_byte_us", "restore: more with filters", "us",
               "<= 300"),
        Figure("exit_us", "an exit to user space", "us"),
        Figure("filter_exit_ratio", "... with filters, in ratio", "",
               "<= 1.1"),
    )),
    ("Boot of a Debian guest", COUNTED, (
        Figure("start_call_ms", "InstanceStart to its answer", "ms",
               "<= 10"),
        Figure("exits", "exits to user space until drivers are up", "",
               "<= 250"),
        Figure("boot_to_init_ms", "kernel start to init", "ms", "<= 1340"),
    )),
    ("API, CPU of the monitor's threads", COUNTED, (
        Figure("api_get_us", "GET /, on one connection", "us"),
        Figure("api_put_us", "PUT /machine-config", "us"),
        Figure("api_config_us", "GET /vm/config", "us"),
        Figure("api_get_new_us", "GET /, on a connection of its own", "us"),
        Figure("api_put_new_us", "PUT /machine-config", "us"),
        Figure("api_config_new_us", "GET /vm/config", "us"),
    )),
    ("Disks of a Debian guest, CPU of the monitor's threads", COUNTED, (
        Figure("block_ms", "1,050 reads, 500 writes of 4 KiB, 24 of 1 MiB",
               "ms", "<= 30"),
        Figure("block_sync_read_1_us", "a read of 4 KiB, Sync", "us",
               "<= 13"),
        Figure("block_sync_write_1_us", "a write of 4 KiB, Sync", "us",
               "<= 13"),
        Figure("block_sync_mib_1_us", "a read of 1 MiB, Sync", "us",
               "<= 340"),
        Figure("block_sync_read_16_us", "a read of 16 at once, Sync", "us",
               "<= 4.5"),
        Figure("block_async_read_1_us", "a read of 4 KiB, Async", "us",
               "<= 15"),
        Figure("block_async_write_1_us", "a write of 4 KiB, Async", "us",
               "<= 30"),
        Figure("block_async_mib_1_us", "a read of 1 MiB, Async", "us",
               "<= 360"),
        Figure("block_async_read_16_us", "a read of 16 at once, Async", "us",
               "<= 5.5"),
    )),
    ("Traffic of a Debian guest, CPU of the monitor's threads", COUNTED, (
        Figure("vsock_round_trip_us", "vsock, a byte there and back", "us",
               "<= 26"),
        Figure("vsock_mib_in_us", "vsock, a MiB to the guest", "us",
               "<= 1110"),
        Figure("vsock_mib_out_us", "vsock, a MiB from the guest", "us"),
        Figure("entropy_kib_us", "entropy, a KiB", "us", "<= 215"),
        Figure("ping_us", "network, an echo", "us", "<= 30"),
        Figure("tcp_mib_in_us", "network, a MiB of TCP to the guest", "us",
               "<= 665"),
        Figure("tcp_mib_out_us", "network, a MiB of TCP from the guest",
               "us", "<= 1325"),
    )),
    ("Snapshots of a Debian guest", COUNTED, (
        Figure("full_create_ms", "full of 256 MiB", "ms", "<= 100"),
        Figure("full_memory_kib", "... its memory file", "KiB",
               "<= 110000"),
        Figure("full_write_ms", "... the part that writes memory", "ms"),
        Figure("copy_ms", "a plain write of as many bytes", "ms"),
        Figure("diff_create_ms", "diff of a second of an idle guest", "ms",
               "<= 10"),
        Figure("vsock_answer_ms", "exec of a restore to a vsock answer", "ms",
               "<= 5"),
        Figure("answer_cpu_us", "... CPU of the monitor's threads by then",
               "us"),
        Figure("console_byte_ms", "... to the echo of a key that waits",
               "ms"),
        Figure("ready_ms", "... to the line on --ready-fd", "ms"),
        Figure("load_us", "... what of it the monitor's phases are", "us"),
        Figure("load_call_ms", "PUT /snapshot/load to its answer", "ms"),
        Figure("tuned_vsock_answer_ms", "with favordynmods: a vsock answer",
               "ms", "<= 5"),
        Figure("tuned_set_answer_ms", "... with a recorded working set",
               "ms"),
        Figure("tuned_answer_cpu_us", "... CPU of the monitor's threads",
               "us"),
        Figure("tuned_console_byte_ms", "... the echo", "ms"),
        Figure("tuned_ready_ms", "... the line on --ready-fd", "ms"),
        Figure("tuned_load_us", "... the monitor's phases", "us"),
        Figure("tuned_load_call_ms", "... PUT /snapshot/load", "ms",
               "<= 2.5"),
        Figure("resident_kib", "resident beside guest RAM", "KiB",
               "<= 1843"),
        Figure("touched_kib", "guest RAM that is mapped by then", "KiB"),
        Figure("tuned_resident_kib", "with favordynmods: resident", "KiB"),
        Figure("tuned_touched_kib", "... guest RAM that is mapped", "KiB"),
    )),
)

# docs/performance.md has the reasons. Shares are of what Firecracker takes for the
# same in the same run.
GOALS = (
    Goal("P1", "exec to an answered API request", (
        Target("api_wall_us", "<= 1000", 0.4),
        Target("api_cpu_us", "<= 1000", 0.4))),
    Goal("P2", "InstanceStart to a tiny guest's first byte", (
        Target("first_byte_us", "<= 1000", 0.12),)),
    Goal("P3", "the monitor's share of a Linux boot", (
        Target("start_call_ms", None, 0.25),
        Target("exits", "<= 250", 0.5),
        Target("boot_to_init_ms", None, 1.0))),
    Goal("P4", "restore to the first byte; to the first vsock answer", (
        Target("restore_first_byte_us", "<= 1000", 0.15),
        Target("tuned_vsock_answer_ms", "<= 5", 0.2),
        Target("vsock_answer_ms", "<= 5", 0.2))),
    Goal("P5", "restore and touch a working set of 24 MB", (
        Target("ws_copy_us", "<= 4000"),)),
    Goal("P6", "1,000 clones of one template", (
        Target("clones_1000_per_s", ">= 1000"),
        Target("clone_dirty_kib", "<= 256"))),
    Goal("P7", "pause of a live guest of 1 GiB while it is forked", (
        Target("fork_pause_ms", "<= 5"),)),
    Goal("P8", "pause for a diff of 57 MiB; a full snapshot of 256 MiB", (
        Target("diff_merge_ms", "<= 10"),
        Target("full_create_ms", None, 0.3),
        Target("full_memory_kib", "<= 110000"))),
    Goal("P9", "memory beside guest RAM, 1 vCPU, 128 MiB", (
        Target("rss_kib", "<= 1536"),
        Target("dirty_kib", "<= 256"))),
    Goal("P10", "CPU of the monitor per operation", (
        Target("block_ms", None, 0.6),
        Target("vsock_round_trip_us", None, 0.6),
        Target("vsock_mib_in_us", None, 0.6),
        Target("ping_us", None, 0.6),
        Target("tcp_mib_in_us", None, 0.6),
        Target("tcp_mib_out_us", None, 0.6))),
    Goal("P11", "size of the monitor", (
        Target("binary_bytes", "<= 1300000"),)),
)

# Figures of goals that nothing measures yet, and why.
UNMEASURED = {
    "fork_pause_ms": "live forks are not built yet",
}

FIGURES = {figure.name: figure
           for _, _, figures in SECTIONS for figure in figures}
ORIGIN = {figure.name: origin
          for _, origin, figures in SECTIONS for figure in figures}


def within(limit, value):
    """Whether a value keeps `<= 5` or `>= 5`; None where one is missing."""
    if not limit or value is None:
        return None
    relation, number = limit.split()
    return value <= float(number) if relation == "<=" else \
        value >= float(number)


def kept(figure, value):
    return within(figure.promise, value)
