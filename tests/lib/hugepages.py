# SPDX-License-Identifier: Apache-2.0
"""The host's huge pages."""
from tap import Skip

HUGE_POOL = "/proc/sys/vm/nr_hugepages"


class HugePool:
    """The host's pool of huge pages, for as long as a test runs."""

    def __init__(self, t, count):
        with open(HUGE_POOL) as source:
            old = int(source.read())
        try:
            self._set(old + count)
        except OSError as error:
            raise Skip("no huge pages: " + error.strerror)
        t.defer(self._set, old)
        self.before = self.free()
        if self.before < count:
            raise Skip("the host has %d huge pages to spare" % self.before)

    @staticmethod
    def _set(count):
        with open(HUGE_POOL, "w") as target:
            target.write(str(count))

    @staticmethod
    def free():
        """Pages that nobody has, or was promised."""
        with open("/proc/meminfo") as source:
            counts = dict(line.split()[:2] for line in source)
        return (int(counts["HugePages_Free:"])
                - int(counts["HugePages_Rsvd:"]))


def spare():
    """Pages of the pool that a guest could have now."""
    return HugePool.free()


def smaps_kib(pid, field, guest_kib):
    """Sum of a field over the process's mappings of about that size."""
    total, size = 0, 0
    with open("/proc/%d/smaps" % pid) as source:
        for line in source:
            name, _, rest = line.partition(":")
            if name == "Size":
                size = int(rest.split()[0])
            elif name == field and guest_kib <= size < 2 * guest_kib:
                total += int(rest.split()[0])
    return total


class Setting:
    """A file of the kernel's with the chosen word in brackets."""

    def __init__(self, path):
        self.path = path

    def get(self):
        try:
            with open(self.path) as source:
                text = source.read()
        except OSError as error:
            raise Skip("%s: %s" % (self.path, error.strerror))
        return text[text.index("[") + 1:text.index("]")]

    def set(self, t, word):
        """Until the test is over."""
        old = self.get()
        try:
            self._write(word)
        except OSError as error:
            raise Skip("%s: %s" % (self.path, error.strerror))
        t.defer(self._write, old)

    def _write(self, word):
        with open(self.path, "w") as target:
            target.write(word)
