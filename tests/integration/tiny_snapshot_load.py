# SPDX-License-Identifier: Apache-2.0
"""When a snapshot may be loaded, what the request may change, and what the
host must have."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import NOT_AFTER_START, Monitor, guest, run
from hugepages import HUGE_POOL, HugePool
from network import network, put_net
from snapshots import (LOAD, Snapshot, disk_user, pause, refused_load,
                       taken, turning, turns, uses_disk, whole)
from tap import main, test

TOO_LATE = (LOAD + "Loading a microVM snapshot not allowed after configuring "
            "boot-specific resources.")


def taken_with_disk(t):
    snapshot = taken(t, disk_user(t))
    os.unlink(t.path("vsock"))
    return snapshot


# ---------------------------------------------------------------------- when


@test
def after_configuration(t):
    network(t, "tap0")
    disk = t.write("disk", bytes(4096))
    snapshot = taken(t, turning(t))
    for path, fields in (
            ("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}),
            ("/boot-source", {"kernel_image_path": guest("torn")}),
            ("/drives/d", {"drive_id": "d", "path_on_host": disk,
                           "is_root_device": False}),
            ("/network-interfaces/n", {"iface_id": "n",
                                       "host_dev_name": "tap0"}),
            ("/vsock", {"guest_cid": 3, "uds_path": t.path("v.sock")})):
        m = Monitor(test=t)
        m.put(path, **fields)
        fault = m.fault("PUT", "/snapshot/load", snapshot.body())
        t.point(fault == TOO_LATE, path, fault)
        m.start(guest("torn"))
        t.point(whole(m), "that costs nothing: it boots then")
        m.close()


@test
def what_does_not_come_too_early(t):
    snapshot = taken(t, turning(t))
    m = Monitor(test=t)
    m.put("/metrics", metrics_path=t.write("metrics"))
    m.put("/logger", level="Debug")
    m.put("/mmds", a=1)
    m.patch("/mmds", b=2)
    for path in ("/", "/version", "/machine-config", "/vm/config", "/mmds"):
        m.get(path)
    refused = m.fault("PUT", "/drives/d", {
        "drive_id": "d", "path_on_host": "/nowhere", "is_root_device": False})
    t.point("os error 2" in refused, "nor does what was refused", refused)
    m.put("/snapshot/load", **snapshot.body(resume_vm=True))
    t.point(whole(m), "it runs")
    t.point(m.fault("PUT", "/snapshot/load", snapshot.body()).endswith(
        NOT_AFTER_START), "a second load is too late")
    t.point(m.get("/")["state"] == "Running", "and ends nothing")


@test
def a_load_that_failed_is_the_end(t):
    snapshot = taken(t, turning(t))
    m = Monitor(test=t)
    fault = m.fault("PUT", "/snapshot/load", {
        **snapshot.body(), "snapshot_path": "/nowhere"})
    t.point("os error 2" in fault and m.wait() == 1, "through the API", fault)
    code, _, err = run("--no-api", "--restore", "/nowhere", "--mem",
                       snapshot.memory)
    t.point(code == 1 and "No such file or directory (os error 2)" in err,
            "by the command line", "%s %s" % (code, err))


# ------------------------------------------------------------------ overrides


@test
def disks_of_ones_own(t):
    snapshot = taken_with_disk(t)
    original = t.path("disk")
    sign = b"the clone's disk"
    other = t.write("other", sign + bytes(128 * 512 - len(sign)))
    before = open(original, "rb").read()
    clone = snapshot.load(t, drive_overrides=[
        {"drive_id": "disk", "path_on_host": "/nowhere"},
        {"drive_id": "disk", "path_on_host": other}],
        vsock_override={"uds_path": t.path("own")})
    uses_disk(clone)
    t.point(clone.get("/vm/config")["drives"][0]["path_on_host"] == other,
            "of two for one disk the last one holds")
    t.point(open(original, "rb").read() == before and
            open(other, "rb").read(len(sign)) == sign and
            b"\xaa\xaa\x55\x55" in open(other, "rb").read(),
            "it is the one that is written")
    t.point(os.path.exists(t.path("own")) and
            not os.path.exists(t.path("vsock")), "its socket is its own")
    t.point(clone.get("/vm/config")["vsock"]["uds_path"] == t.path("own"),
            "and known by that name")
    clone.close()
    os.unlink(t.path("own"))
    os.rename(original, t.path("moved"))
    missing = ("Virtio backend error: Error manipulating the backing file: "
               "No such file or directory (os error 2)")
    refused_load(t, snapshot.body(), missing, "a disk that is gone")
    refused_load(t, snapshot.body(drive_overrides=[
        {"drive_id": "disk", "path_on_host": "/nowhere"}]), missing,
                 "one that never was")
    refused_load(t, snapshot.body(drive_overrides=[
        {"drive_id": "disk", "path_on_host": other},
        {"drive_id": "other", "path_on_host": other}]), "Unknown Drive: other",
                 "one too many")
    small = t.write("small", bytes(512))
    clone = snapshot.load(t, drive_overrides=[
        {"drive_id": "disk", "path_on_host": small}],
        vsock_override={"uds_path": t.path("own")})
    clone.send(b"c")
    clone.expect(b"capacity 1 changes 1\n")
    t.point(True, "another size is announced to the guest")


@test
def sockets_in_the_way(t):
    snapshot = taken_with_disk(t)
    t.write("vsock", b"")
    refused_load(t, snapshot.body(), "Error binding to the host-side Unix "
                 "socket: Address in use (os error 98)", "a file is there")
    refused_load(t, snapshot.body(vsock_override={"uds_path": "/no/where"}),
                 "No such file or directory (os error 2)", "no directory")
    os.unlink(t.path("vsock"))
    refused_load(t, snapshot.body(mem_backend={
        "backend_type": "File", "backend_path": "/nowhere"}),
                 "Failed to load guest memory", "a load that fails later")
    t.point(not os.path.exists(t.path("vsock")), "leaves none")
    first = snapshot.load(t)
    refused_load(t, snapshot.body(), "Address in use (os error 98)",
                 "another clone has it")
    t.point(os.path.exists(t.path("vsock")), "and keeps it")
    second = snapshot.load(t, vsock_override={"uds_path": t.path("second")})
    uses_disk(first)
    uses_disk(second)
    t.point(True, "with another both run")


@test
def taps_and_metadata(t):
    network(t, "tap0", "tap1")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0")
    m.put("/mmds/config", network_interfaces=["eth0"], version="V2",
          ipv4_address="169.254.1.1")
    m.put("/mmds", a=1)
    m.start(guest("torn"))
    assert whole(m)
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    clone = snapshot.load(t, network_overrides=[
        {"iface_id": "eth0", "host_dev_name": "tap1"}])
    t.point(whole(clone), "beside the original with another tap")
    config = clone.get("/vm/config")
    t.point(config["network-interfaces"][0]["host_dev_name"] == "tap1",
            "known by its name", str(config))
    t.point(config["mmds-config"]["version"] == "V2" and
            config["mmds-config"]["ipv4_address"] == "169.254.1.1",
            "the metadata service is as it was", str(config))
    t.point(clone.get("/mmds") == {}, "but empty")
    clone.close()
    clone = snapshot.load(t, metadata={"b": [2]}, network_overrides=[
        {"iface_id": "eth0", "host_dev_name": "tap1"}])
    t.point(clone.get("/mmds") == {"b": [2]}, "unless the load fills it")
    clone.close()
    refused_load(t, snapshot.body(), "Open tap device failed: ",
                 "a tap that another has")
    refused_load(t, snapshot.body(network_overrides=[
        {"iface_id": "eth0", "host_dev_name": "x" * 16}]), "tap",
                 "a name that is too long")
    refused_load(t, snapshot.body(network_overrides=[
        {"iface_id": "eth1", "host_dev_name": "tap1"}]),
                 "Unknown Network Device.", "an interface that is none")


@test
def metadata_without_its_service(t):
    snapshot = taken(t, turning(t))
    refused_load(t, snapshot.body(metadata={"a": 1}),
                 "The MMDS data store is not initialized.",
                 "there is nobody to ask for it")


@test
def metadata_is_not_logged(t):
    m = Monitor(test=t)
    for path in ("/snapshot/load", "http://localhost/snapshot/load"):
        m.fault("PUT", path, {"metadata": {"key": "hunter2"}})
    m.fault("PUT", "/snapshot/load", {"metadat": 1})
    t.point("hunter2" not in m.log and "metadat\\" in m.log,
            "other bodies of loads are", m.log)


@test
def null_is_as_good_as_nothing(t):
    """For parts that may be left out, as clients with optional types write
    them; not for lists."""
    snapshot = taken(t, turning(t))
    body = {"snapshot_path": snapshot.state, "mem_file_path": snapshot.memory}
    m = Monitor(test=t)
    fault = m.fault("PUT", "/snapshot/load", {
        **body, "network_overrides": None})
    t.point("invalid type" in fault, "a list", fault)
    m.put("/snapshot/load", **body, mem_backend=None, vsock_override=None,
          record_working_set=None, metadata=None, working_set_path=None,
          resume_vm=True)
    t.point(whole(m), "all others")


@test
def host_pages(t):
    snapshot = taken(t, turning(t))
    for wanted, told in (("Snapshot", "None"), ("None", "None"),
                         ("Transparent", "Transparent")):
        clone = snapshot.load(t, huge_pages=wanted)
        t.point(whole(clone) and clone.get("/machine-config")["huge_pages"]
                == told, wanted, str(clone.get("/machine-config")))
        clone.close()
    with open(HUGE_POOL) as source:
        if int(source.read()) == 0:
            refused_load(t, snapshot.body(huge_pages="2M"),
                         "Cannot create mmap region: Out of memory (os error "
                         "12). The guest needs 64 pages of 2 MiB, and the "
                         "host's pool (/proc/sys/vm/nr_hugepages) has ",
                         "2M without a pool")


@test
def huge_pages_from_a_plain_file(t):
    """Where Firecracker wants a page-fault handler."""
    snapshot = taken(t, turning(t))
    pool = HugePool(t, 130)
    clone = snapshot.load(t, huge_pages="2M", track_dirty_pages=True)
    t.point(whole(clone) and clone.get("/machine-config")["huge_pages"] ==
            "2M", "a copy of the file", str(clone.get("/machine-config")))
    t.point(pool.free() < pool.before - 60, "in pages of the pool")
    pause(clone)
    again = Snapshot(t, "again")
    again.create(clone)
    clone.close()
    clone = again.load(t)
    t.point(clone.get("/machine-config")["huge_pages"] == "2M" and
            whole(clone), "its snapshots are of the same kind")
    clone.close()
    clone = again.load(t, huge_pages="None")
    t.point(clone.get("/machine-config")["huge_pages"] == "None" and
            whole(clone), "unless the load says otherwise")


@test
def clock_realtime_may_be_asked_for(t):
    clone = taken(t, turning(t)).load(t, clock_realtime=True)
    t.point(whole(clone), "it runs", str(clone.console))


@test
def what_the_process_said_before_holds(t):
    """Log, metrics and id are the process's own."""
    snapshot = taken(t, turning(t))
    clone = Monitor(test=t, args=["--id", "the-clone"])
    metrics = t.write("metrics")
    clone.put("/metrics", metrics_path=metrics)
    clone.put("/snapshot/load", **snapshot.body(resume_vm=True))
    t.point(clone.get("/")["id"] == "the-clone", "the id")
    clone.put("/actions", action_type="FlushMetrics")
    with open(metrics) as source:
        t.point('"load_snapshot":' in source.read(), "the metrics")
    t.point(clone.get("/machine-config")["track_dirty_pages"] is False,
            "tracking is as the load says")
    t.point(turns(clone.console) or whole(clone), "the guest runs")


if __name__ == "__main__":
    main()
