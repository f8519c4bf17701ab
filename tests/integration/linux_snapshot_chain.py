#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Linux guest at work goes through fifty snapshots."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from snapshotchain import FileMemory, run_chain  # noqa: E402
from tap import main, test  # noqa: E402


@test
def fifty_restores_from_files(t):
    run_chain(t, FileMemory(t), int(os.environ.get("CHAIN_STEPS", "50")))


if __name__ == "__main__":
    main()
