# SPDX-License-Identifier: Apache-2.0
"""What the host's pages behind a guest are: huge_pages of /machine-config."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, guest, need_kvm
from faults import good_handler
from hugepages import HugePool, Setting, smaps_kib, spare
from snapshots import taken, turning, whole
from tap import Skip, main, test

KIB_OF_GUEST = 128 << 10
PAGES = 64  # of 2 MiB
THP = Setting("/sys/kernel/mm/transparent_hugepage/enabled")
THP_OF_FILES = Setting("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


def running(t, args=(), **machine):
    need_kvm()
    m = Monitor(test=t, args=args)
    m.start(guest("counter"), boot_args="quiet", mem_size_mib=128, **machine)
    m.expect(b"counting\n")
    return m


def kib(m, field):
    return smaps_kib(m.pid, field, KIB_OF_GUEST)


@test
def guest_in_the_pool(t):
    pool = HugePool(t, PAGES)
    for backing in ("anonymous", "memfd"):
        m = running(t, ["--memory-backing", backing], huge_pages="2M")
        got = kib(m, "Private_Hugetlb") + kib(m, "Shared_Hugetlb")
        t.point(got >= 2048, backing + ": huge pages are in use", got)
        t.point(kib(m, "KernelPageSize") >= 2048, backing + ": as mapped",
                kib(m, "KernelPageSize"))
        t.point(pool.before - pool.free() >= PAGES,
                backing + ": all of them are reserved", pool.free())
        m.close()
    t.point(pool.free() == pool.before, "and given back", pool.free())


@test
def pool_that_is_too_small(t):
    """The start is refused, and may be tried again."""
    need_kvm()
    free = spare()
    wanted = free + PAGES
    m = Monitor(test=t)
    m.put("/boot-source", kernel_image_path=guest("counter"),
          boot_args="quiet")
    for args in ({}, {"track_dirty_pages": True}):
        m.put("/machine-config", vcpu_count=1, mem_size_mib=2 * wanted,
              huge_pages="2M", **args)
        fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
        t.point(fault.startswith(
            "Start microvm error: Invalid Memory Configuration: Cannot create "
            "mmap region: Out of memory (os error 12). The guest needs %d "
            "pages of 2 MiB, and the host's pool (/proc/sys/vm/nr_hugepages) "
            "has " % wanted), "it says what is missing", fault)
        t.point(fault.endswith((" %d to spare" % free, " fewer to spare")),
                "and what there is", fault)
        t.point(m.get("/")["state"] == "Not started", "it is not started")
    m.put("/machine-config", vcpu_count=1, mem_size_mib=2 * PAGES,
          huge_pages="2M")
    HugePool(t, PAGES)
    m.put("/actions", action_type="InstanceStart")
    m.expect(b"counting\n")


@test
def memfd_of_a_pool_that_is_too_small(t):
    need_kvm()
    m = Monitor(test=t, args=["--memory-backing", "memfd"])
    wanted = spare() + PAGES
    m.put("/boot-source", kernel_image_path=guest("counter"))
    m.patch("/machine-config", mem_size_mib=2 * wanted, huge_pages="2M")
    fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    assert "needs %d pages of 2 MiB" % wanted in fault, fault
    m.patch("/machine-config", huge_pages="None", mem_size_mib=128)
    m.put("/actions", action_type="InstanceStart")
    m.expect(b"counting\n")


@test
def transparent_pages(t):
    if THP.get() == "never":
        raise Skip("transparent huge pages are off (%s)" % THP.path)
    m = running(t, huge_pages="Transparent")
    t.point(kib(m, "AnonHugePages") >= 2048, "anonymous memory has them",
            kib(m, "AnonHugePages"))
    m.close()
    if THP.get() == "madvise":
        m = running(t)
        t.point(kib(m, "AnonHugePages") == 0, "not without being asked for",
                kib(m, "AnonHugePages"))


@test
def transparent_pages_of_a_memfd(t):
    if THP_OF_FILES.get() in ("never", "deny"):
        THP_OF_FILES.set(t, "advise")
    m = running(t, ["--memory-backing", "memfd"], huge_pages="Transparent")
    got = kib(m, "ShmemPmdMapped") + kib(m, "AnonHugePages")
    assert got >= 2048, got


@test
def loaded_from_a_handler_into_the_pool(t):
    """What Firecracker asks for with pages of 2 MiB. The handler is told how
    large pages are, and its pages must be of that size."""
    snapshot = taken(t, turning(t))
    pool = HugePool(t, PAGES)
    handler = good_handler(t.path("handler"), snapshot.memory)
    t.defer(handler.wait)
    t.defer(handler.kill)
    clone = Monitor(test=t)
    clone.put("/snapshot/load", **{
        **snapshot.body(resume_vm=True, huge_pages="2M"),
        "mem_backend": {"backend_type": "Uffd",
                        "backend_path": t.path("handler")}})
    t.point(whole(clone), "the guest goes on", clone.console)
    t.point(clone.get("/machine-config")["huge_pages"] == "2M", "it says so")
    t.point(pool.free() < pool.before and
            kib(clone, "Private_Hugetlb") >= 2048, "in pages of the pool",
            kib(clone, "Private_Hugetlb"))


@test
def odd_sizes_are_refused(t):
    m = Monitor(test=t)
    bad = ("The memory size (MiB) is either 0, or not a multiple of the "
           "configured page size.")
    for kind in ("2M", "Transparent"):
        for size, good in ((127, False), (0, False), (126, True),
                           (1 << 20, True)):
            body = {"vcpu_count": 1, "mem_size_mib": size, "huge_pages": kind}
            status, answer = m.api("PUT", "/machine-config", body)
            t.point(status == 204 if good else bad in answer["fault_message"],
                    "%s %d" % (kind, size), answer)


if __name__ == "__main__":
    main()
