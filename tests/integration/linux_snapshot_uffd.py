#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The chain of linux_snapshot_chain, with memory that a handler of page faults
brings in."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from snapshotchain import UffdMemory, run_chain  # noqa: E402
from tap import main, test  # noqa: E402


@test
def fifty_restores_through_a_fault_handler(t):
    run_chain(t, UffdMemory(t), int(os.environ.get("CHAIN_STEPS", "50")))


if __name__ == "__main__":
    main()
