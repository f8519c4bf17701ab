#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The metadata service, used by Debian's curl."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import json  # noqa: E402
import re  # noqa: E402

from linuxguest import BOOT_SECONDS  # noqa: E402
from netguest import longest_frame, start  # noqa: E402
from tap import main, test  # noqa: E402


DATA = {"latest": {"meta-data": {"ami-id": "ami-1", "nested": {"a": 1}},
                   "user-data": "#!/bin/sh\n", "list": ["x", "y"]},
        "number": 7}
ADDRESS = "169.254.169.254"


def curl(guest, prefix, path, *args):
    """(status, body) of a request to the service."""
    text = guest.sh(prefix + "curl -s -m 20 -w '\\n%%{http_code}' %s http://%s%s"
                    % (" ".join(args), ADDRESS, path))
    body, _, status = text.rpartition("\n")
    return int(status), body


def start_mmds(t, version, **config):
    def configure(monitor):
        monitor.put("/mmds/config", version=version,
                    network_interfaces=["eth0"], **config)
        monitor.put("/mmds", **DATA)

    guest = start(t, configure, with_tools=True)
    guest.sh("ip route add %s dev eth0" % ADDRESS)
    return guest, guest.enter_tools()


@test
def metadata_with_tokens(t):
    guest, prefix = start_mmds(t, "V2")
    ttl = "-X PUT -H 'X-metadata-token-ttl-seconds: 60'"
    seen = longest_frame("tap0")
    status, token = curl(guest, prefix, "/latest/api/token", ttl)
    t.point(status == 200 and len(token) == 48, "a token is issued", token)
    status, _ = curl(guest, prefix, "/latest")
    t.point(status == 401, "without a token: 401", str(status))
    header = "-H 'X-metadata-token: %s'" % token
    status, body = curl(guest, prefix, "/latest/", header)
    t.point((status, body) == (200, "list\nmeta-data/\nuser-data"),
            "plain text lists the keys", repr(body))
    status, body = curl(guest, prefix, "/latest/meta-data", header,
                        "-H 'Accept: application/json'")
    t.point(json.loads(body) == DATA["latest"]["meta-data"],
            "JSON is the value", body)
    status, body = curl(guest, prefix, "/latest/list/1", header)
    t.point(body == "y", "an array by index", body)
    status, body = curl(guest, prefix, "/nowhere", header)
    t.point(status == 404, "what is not there: 404", body)
    guest.monitor.patch("/mmds", latest={"meta-data": {"ami-id": "ami-2"}})
    status, body = curl(guest, prefix, "/latest/meta-data/ami-id", header)
    t.point(body == "ami-2", "what the host changes is seen", body)
    big = {"big": "x" * 40000}
    guest.monitor.patch("/mmds", **big)
    status, body = curl(guest, prefix, "/big", header)
    t.point(body == big["big"], "a large value arrives whole",
            "%d bytes" % len(body))
    to_guest, from_guest = seen()
    with open("/proc/net/dev") as source:
        line = re.search(r"tap0:.*", source.read()).group(0).split()
    t.point(int(line[2]) < 12, "the tap saw none of it", " ".join(line))
    guest.power_off()


@test
def metadata_survives_many_connections(t):
    guest, prefix = start_mmds(t, "V1", imds_compat=True)
    text = guest.sh(prefix + "sh -c 'for i in $(seq 60); do curl -s -m 60 "
                    "http://%s/number/../latest/meta-data/ami-id & done; "
                    "wait'" % ADDRESS, timeout=BOOT_SECONDS * 4)
    t.point(text.count("ami-1") == 60, "60 requests at once are answered",
            "%d" % text.count("ami-1"))
    status, _ = curl(guest, prefix, "/latest/meta-data/ami-id")
    t.point(status == 200, "and one after them")
    guest.power_off()


if __name__ == "__main__":
    main()
