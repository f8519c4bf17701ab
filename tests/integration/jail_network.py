#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--new-net-ns and --tap: networks that the jailer makes."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import ember
from jail import GID, UID, Jail, need_root, token
from jailnet import JailedMonitor
from network import add_tap, ip, own_network
from tap import main, test

FULL = "tap0,addr=172.16.0.1/30,addr=fd00::1/64,mac=02:00:00:00:00:01,mtu=1400"
MONITOR = {"exec_file": ember.BINARY}


def links(*prefix):
    """{name: what ip(8) knows of it}"""
    out = subprocess.run([*prefix, "ip", "-j", "-d", "addr"], check=True,
                         stdout=subprocess.PIPE).stdout
    return {link["ifname"]: link for link in json.loads(out)}


def inside(pid):
    return links("nsenter", "--net=/proc/%d/ns/net" % pid)


def check_full(t, link):
    """Whether a tap became what FULL asks for."""
    info = link["linkinfo"]
    addresses = {(a["local"], a["prefixlen"]) for a in link["addr_info"]
                 if a["scope"] == "global"}
    t.point("UP" in link["flags"], "it is up", str(link))
    t.point(link["address"] == "02:00:00:00:00:01", "MAC", str(link))
    t.point(link["mtu"] == 1400, "MTU", str(link))
    t.point(addresses == {("172.16.0.1", 30), ("fd00::1", 64)}, "addresses",
            str(link))
    t.point(not any(a.get("tentative") for a in link["addr_info"]),
            "addresses can be used at once", str(link))
    data = info["info_data"]
    t.point(data["type"] == "tap" and data["vnet_hdr"] and data["persist"]
            and not data["pi"], "made as the monitor opens it", str(data))
    t.point((int(data["user"]), int(data["group"])) == (UID, GID),
            "it belongs to the microVM's user", str(data))


@test
def new_namespace_has_what_was_asked_for(t):
    jail = Jail(t, **MONITOR)
    m = JailedMonitor(t, jail, new_net_ns=True, tap=[FULL, "tap1"])
    seen = inside(m.process.pid)
    t.point(sorted(seen) == ["lo", "tap0", "tap1"], "interfaces", str(seen))
    t.point("UP" in seen["lo"]["flags"], "lo is up", str(seen["lo"]))
    t.point(os.stat("/proc/%d/ns/net" % m.process.pid).st_ino
            != os.stat("/proc/self/ns/net").st_ino, "namespace of its own")
    check_full(t, seen["tap0"])
    for name in ("tap0", "tap1"):
        answer = m.put("/network-interfaces/" + name, iface_id=name,
                       host_dev_name=name)
        t.point(answer[0] == 204, "the monitor opens " + name, str(answer))
    answer = m.put("/network-interfaces/x", iface_id="x", host_dev_name="x")
    t.point(answer[0] == 400 and "os error 1)" in answer[1]["fault_message"],
            "and makes none itself", str(answer))


@test
def joined_namespace_gets_taps_that_stay(t):
    need_root()
    own_network()
    name = "ember-" + token()
    ip("netns", "add", name)
    t.defer(ip, "netns", "delete", name)
    jail = Jail(t, netns="/run/netns/" + name, tap=FULL)
    done = jail.run()
    t.point(done.code == 0, "exit code", str(done))
    seen = links("ip", "netns", "exec", name)
    t.point("UP" not in seen["lo"]["flags"], "lo is left as it was",
            str(seen["lo"]))
    check_full(t, seen["tap0"])


@test
def without_namespace_taps_are_the_caller_s(t):
    own_network()
    jail = Jail(t, tap=FULL)
    done = jail.run()
    t.defer(ip, "link", "delete", "tap0")
    t.point(done.code == 0, "exit code", str(done))
    check_full(t, links()["tap0"])


@test
def failure_takes_taps_away_again(t):
    own_network()
    add_tap(t, "taken")
    before, names = None, sorted(links())
    for taps, sentence in (
            (["tap0", "taken"], "Failed to create tap taken: there is an "
             "interface of this name already."),
            (["tap0", "lo"], "Failed to create tap lo: there is an interface "
             "of this name already."),
            (["tap0,addr=10.0.0.1/8,addr=10.0.0.1/8"], "Failed to add an "
             "address to tap tap0: Object exists.")):
        jail = Jail(t, tap=taps)
        before = before or jail.listing()
        done = jail.run()
        t.point(done.code == 1 and done.err.startswith(sentence + "\n"),
                sentence, str(done))
        t.point(sorted(links()) == names, "interfaces are as before",
                str(sorted(links())))
        t.point(jail.listing() == before, "files are as before", str(done))
    link = links()["taken"]
    t.point(link["linkinfo"]["info_data"]["persist"], "nor was the other's",
            str(link))


@test
def failure_after_taps_takes_them_away_too(t):
    own_network()
    for mode in ({}, {"new_pid_ns": True}, {"daemonize": True}):
        jail = Jail(t, exec_file=t.write("text", "no program"), tap="tap0",
                    **mode)
        os.chmod(t.path("text"), 0o755)
        done = jail.run()
        t.point(done.code == 1 and "Failed to exec" in done.err,
                "no exec %s" % mode, str(done))
        t.point("tap0" not in links(), "no tap %s" % mode)


@test
def refusals(t):
    need_root()
    tap = " of argument 'tap': "
    for arguments, sentence in (
            ({"netns": "/x", "new_net_ns": True}, "Argument 'new-net-ns' "
             "cannot be used together with argument 'netns'."),
            ({"netns": "/x", "new_user_ns": True}, "Argument 'new-user-ns' "
             "cannot be used together with argument 'netns'."),
            ({"new_user_ns": True, "tap": "tap0"},
             "Argument 'new-net-ns' required, but not found."),
            ({"tap": ""}, "''" + tap + "'' is no name of an interface"),
            ({"tap": "tap0,mtu=1"}, "'tap0,mtu=1'" + tap
             + "'mtu=1' is no MTU from 68 to 65521."),
            ({"tap": ["a", "b", "a"]}, "'a'" + tap
             + "'a' is the name of another tap.")):
        jail = Jail(t, **arguments)
        before = jail.listing()
        done = jail.run()
        t.point(done.code == 1 and done.err.startswith(sentence), sentence,
                str(done))
        t.point(jail.listing() == before, "nothing was made", str(done))


if __name__ == "__main__":
    main()
