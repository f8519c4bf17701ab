#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""api/openapi.yaml describes what the tables in api/*.c serve: the same paths
and methods, the same fields, the same required ones, the same choices."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from tap import Skip, main, test  # noqa: E402

API = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../api")
# (file, table) of the fields of each schema.
TABLES = {
    "BootSource": ("boot.c", "fields"),
    "Drive": ("drive.c", "put_fields"),
    "PartialDrive": ("drive.c", "patch_fields"),
    "Pmem": ("pmem.c", "put_fields"),
    "PartialPmem": ("pmem.c", "patch_fields"),
    "RateLimiter": ("limiter.c", "limiter_fields"),
    "TokenBucket": ("limiter.c", "bucket_fields"),
    "NetworkInterface": ("net.c", "put_fields"),
    "PartialNetworkInterface": ("net.c", "patch_fields"),
    "Vsock": ("vsock.c", "put_fields"),
    "Entropy": ("entropy.c", "put_fields"),
    "Serial": ("serial.c", "put_fields"),
    "Balloon": ("balloon.c", "put_fields"),
    "BalloonUpdate": ("balloon.c", "resize_fields"),
    "BalloonStatsUpdate": ("balloon.c", "interval_fields"),
    "BalloonStartHinting": ("balloon.c", "hinting_fields"),
    "MemoryHotplug": ("hotplug.c", "put_fields"),
    "MemoryHotplugSize": ("hotplug.c", "patch_fields"),
    "MmdsConfig": ("mmds.c", "config_fields"),
    "Action": ("actions.c", "action_fields"),
    "VmState": ("actions.c", "state_fields"),
    "SnapshotCreate": ("snapshot.c", "create_fields"),
    "SnapshotLoad": ("snapshot.c", "load_fields"),
    "MemoryBackend": ("snapshot.c", "backend_fields"),
    "RecordWorkingSet": ("snapshot.c", "record_fields"),
    "WorkingSet": ("memory.c", "working_set_fields"),
    "PreFaultMemory": ("memory.c", "prefault_fields"),
    "PreFaultRange": ("memory.c", "range_fields"),
    "Logger": ("logger.c", "logger_fields"),
    "Metrics": ("logger.c", "metrics_fields"),
}


def text_of(name):
    with open(os.path.join(API, name)) as source:
        return source.read()


def document():
    try:
        import yaml
    except ImportError:
        raise Skip("python3-yaml is not installed")
    return yaml.safe_load(text_of("openapi.yaml"))


def rows(table):
    """The rows of a C table: a name, and the text up to the next row. One that
    is made by a macro begins with that; STRING makes a required field."""
    starts = list(re.finditer(
        r'\.name\s*= "(\w+)"|\b[A-Z]+\("(\w+)"', table))
    ends = [start.start() for start in starts[1:]] + [len(table)]
    return [(start.group(1) or start.group(2),
             table[start.start():end].replace('STRING("', "FIELD_REQUIRED"))
            for start, end in zip(starts, ends)]


def fields(name, table):
    text = text_of(name)
    start = text.index("json_field %s[] = {" % table)
    return rows(text[start:text.index("\n};", start)])


def machine_fields():
    text = text_of("machine.c")
    start = text.index("#define MACHINE_FIELDS")
    return rows(text[start:text.index("json_field put_fields")])


def choices(name, table):
    text = text_of(name)
    start = text.index("json_choice %s[] = {" % table)
    return re.findall(r'{"(\w+)"', text[start:text.index("};", start)])


@test
def routes_and_paths_agree(t):
    table = text_of("router.c")
    table = table[table.index("api_routes[] = {"):]
    table = table[:table.index("\n};")]
    served = {(method, resource, sub.strip('"') if sub != "NULL" else "")
              for method, resource, sub in re.findall(
                  r'{"(\w+)", "([\w-]*)", (NULL|"[\w-]+")', table)}
    described = set()
    for path, item in document()["paths"].items():
        parts = path.strip("/").split("/") + [""]
        sub = "" if parts[1].startswith("{") else parts[1]
        described |= {(method.upper(), parts[0], sub) for method in item
                      if method != "parameters"}
    assert served, "no routes found"
    assert served == described, served ^ described


@test
def fields_and_schemas_agree(t):
    schemas = document()["components"]["schemas"]
    for schema, (name, table) in TABLES.items():
        found = fields(name, table)
        names = {field for field, _ in found}
        required = {field for field, row in found if "FIELD_REQUIRED" in row}
        wanted = schemas[schema]
        t.point(names == set(wanted["properties"]), schema + ": fields",
                names ^ set(wanted["properties"]))
        t.point(required == set(wanted.get("required", [])),
                schema + ": required", required)


@test
def machine_config_agrees(t):
    schema = document()["components"]["schemas"]["MachineConfig"]
    names = {field for field, _ in machine_fields()}
    assert names == set(schema["properties"]), names


@test
def choices_agree(t):
    schemas = document()["components"]["schemas"]
    for schema, field, name, table in (
            ("MachineConfig", "huge_pages", "machine.c", "huge_pages_choices"),
            ("MachineConfig", "cpu_template", "machine.c",
             "cpu_template_choices"),
            ("Drive", "cache_type", "drive.c", "cache_choices"),
            ("Drive", "io_engine", "drive.c", "engine_choices"),
            ("MmdsConfig", "version", "mmds.c", "version_choices"),
            ("Action", "action_type", "actions.c", "action_choices"),
            ("VmState", "state", "actions.c", "state_choices"),
            ("SnapshotCreate", "snapshot_type", "snapshot.c", "type_choices"),
            ("SnapshotLoad", "huge_pages", "snapshot.c", "pages_choices"),
            ("SnapshotLoad", "prefetch", "snapshot.c", "prefetch_choices"),
            ("MemoryBackend", "backend_type", "snapshot.c",
             "backend_choices"),
            ("RecordWorkingSet", "at", "snapshot.c", "record_choices"),
            ("Logger", "level", "logger.c", "level_choices")):
        wanted = [str(value) for value in
                  schemas[schema]["properties"][field]["enum"]]
        t.point(set(choices(name, table)) == set(wanted),
                schema + "." + field, choices(name, table))


if __name__ == "__main__":
    main()
