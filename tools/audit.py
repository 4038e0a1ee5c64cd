"""`make audit`: look every pinned version up among the known vulnerabilities (PyPI's, by pip-audit).

Ends in 0 when none is known, 1 when there are some, and 2 when nobody could be asked. With `--report` it says the
same and ends in 0: what is pinned is mostly Airflow's own choice, and a new entry in that list is no fault of a
change that happens to be tested then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
AUDIT = ("tool", "run", "--quiet", "--from", "pip-audit==2.10.1", "pip-audit")
OPTIONS = ("--strict", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
NONE, SOME, NOT_ASKED = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Look the versions up, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", required=True, help="the program uv")
    parser.add_argument("--report", action="store_true", help="end in 0 whatever is found")
    options = parser.parse_args(arguments)
    found = findings(options.uv)
    if found is None:
        print("The list of known vulnerabilities could not be asked, so nothing was looked up.")
    else:
        print("\n".join(sorted(found)) or "No pinned version has a known vulnerability.")
    status = NOT_ASKED if found is None else SOME if found else NONE
    return NONE if options.report else status


def findings(uv: str) -> set[str] | None:
    """Return a line for each vulnerability of a pinned version; None when nobody could be asked."""
    found: set[str] = set()
    for path in sorted((ROOT / "constraints").glob("airflow-*.txt")):
        done = subprocess.run(
            [uv, *AUDIT, *OPTIONS, "-r", str(path)], capture_output=True, text=True, check=False, cwd=ROOT
        )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            return None
        found.update(line for one in answer["dependencies"] for line in lines(one, path.stem))
    return found


def lines(dependency: dict[str, Any], where: str) -> list[str]:
    """Write down what is known of a version that a file of constraints pins."""
    return [
        f"{dependency['name']} {dependency['version']} ({where}): {one['id']}, "
        f"mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for one in dependency.get("vulns", ())
    ]


if __name__ == "__main__":
    sys.exit(main())
