# SPDX-License-Identifier: Apache-2.0
"""The attacks of jail_attacks.py on another kernel, whose Landlock is older:
what that does not withhold yet must not be withheld in the tables either."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import jail_attacks  # noqa: F401, its tests are these
from tap import main

if __name__ == "__main__":
    main()
