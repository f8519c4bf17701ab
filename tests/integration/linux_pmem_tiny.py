# SPDX-License-Identifier: Apache-2.0
"""What tiny_pmem.py does, where the processor runs all of the guest: there
read-only windows, files that were cut and the width of addresses are another
matter than where the kernel interprets."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_pmem  # noqa: F401, its tests are these
from tap import main

if __name__ == "__main__":
    main()
