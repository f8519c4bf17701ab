#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is taken along to the lab for other monitors: programs with libraries that
start without those of the machine they run on."""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "perf"))

from carry import libraries, take_along  # noqa: E402
from tap import Skip, main, test  # noqa: E402


@test
def a_dynamic_program_brings_its_libraries(t):
    place = t.path("job")
    program = shutil.which("ls")
    there = take_along(program, place, place)
    names = {os.path.basename(path) for path in libraries(program)}
    assert there == place + "/run"
    assert names and names <= set(os.listdir(place)), os.listdir(place)
    done = subprocess.run([there, place], capture_output=True, text=True,
                          check=True)
    assert "program" in done.stdout.split()


@test
def a_static_program_comes_alone(t):
    cc = shutil.which("gcc")
    if not cc:
        raise Skip("no gcc")
    source, program = t.write("a.c", "int main(void) { return 7; }\n"), \
        t.path("a")
    subprocess.run([cc, "-static", "-o", program, source], check=True)
    place = t.path("job")
    assert take_along(program, place, place) == place + "/program"
    assert os.listdir(place) == ["program"]
    assert subprocess.run([place + "/program"], check=False).returncode == 7


if __name__ == "__main__":
    main()
