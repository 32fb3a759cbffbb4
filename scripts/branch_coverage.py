"""Fail when parts of the package leave too many branches untested.

    python scripts/branch_coverage.py --at-least 98 protocol wsgi

Reads the data of the last `coverage combine`. The report's own threshold mixes lines
and branches, and lines are easy: it would pass where this does not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from coverage import Coverage

PACKAGE = "django_wsgiserve"


def branches(coverage: Coverage, part: str) -> tuple[int, int, list[str]]:
    """Return the branches taken in a sub-package, those there are, and where some are missing.

    A part without any branch counts as complete; its files must have been measured.
    """
    taken, total, missing = 0, 0, []
    for file in sorted(Path(PACKAGE, part).rglob("*.py")):
        for line, (exits, seen) in coverage.branch_stats(str(file)).items():
            taken, total = taken + seen, total + exits
            if seen < exits:
                missing.append(f"{file}:{line}")
    return taken, total, missing


def main() -> int:
    """Print a line for each part; return 1 when one of them is below the threshold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--at-least", type=float, required=True, metavar="PER CENT")
    parser.add_argument("parts", nargs="+", help=f"sub-packages of {PACKAGE}")
    options = parser.parse_args()

    coverage = Coverage()
    coverage.load()
    passed = True
    for part in options.parts:
        taken, total, missing = branches(coverage, part)
        per_cent = 100 * taken / total if total else 100.0
        print(f"{part}: {per_cent:.1f} % of {total} branches")  # noqa: T201 - a command
        if per_cent < options.at_least:
            passed = False
            print(f"  fewer than {options.at_least:g} %; see", *missing)  # noqa: T201 - a command
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
