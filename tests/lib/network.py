# SPDX-License-Identifier: Apache-2.0
"""Networks of a test's own: nothing on the machine is touched.

    network(t, "tap0", "tap1")         # a network with these taps
    put_net(m, "eth0", "tap0")         # an interface on one of them
    own_network()                      # this process and its children
    add_tap("tap0", "172.16.0.1/24")
"""
import ctypes
import os
import subprocess

import injail
from tap import Skip

CLONE_NEWNET = 0x40000000


def ip(*args):
    """Runs ip(8)."""
    subprocess.run(["ip", *args], check=True)


def own_network():
    """Moves this process into a new network namespace, once."""
    if os.environ.get("TEST_OWN_NETWORK") == str(os.getpid()):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise Skip("no network namespace: " + os.strerror(ctypes.get_errno()))
    os.environ["TEST_OWN_NETWORK"] = str(os.getpid())
    ip("link", "set", "lo", "up")


def add_tap(t, name, address=None, **link):
    """A tap that ends with the test."""
    if not os.path.exists("/dev/net/tun"):
        raise Skip("/dev/net/tun does not exist")
    ip("tuntap", "add", name, "mode", "tap", *(
        ["user", str(injail.UID)] if injail.JAILER else []))
    t.defer(ip, "link", "delete", name)
    for key, value in link.items():
        ip("link", "set", name, key, str(value))
    if address:
        ip("address", "add", address, "dev", name)
    ip("link", "set", name, "up")
    return name


def network(t, *taps):
    """Taps in a network of this process's own."""
    if not os.path.exists("/dev/net/tun"):
        raise Skip("/dev/net/tun does not exist")
    own_network()
    for name in taps:
        add_tap(t, name)


def put_net(m, iface_id, tap, **more):
    """An interface that the monitor must accept."""
    m.put("/network-interfaces/" + iface_id, iface_id=iface_id,
          host_dev_name=tap, **more)
