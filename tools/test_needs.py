"""What the tests need of the machine, beside Python: `make test` says what is missing, `.ci/run` installs it.

Any Python runs this, also before there is an environment.
"""

import argparse
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# How long all tests take one core, in minutes; `make test` uses all cores.
CORE_MINUTES = 28


@dataclass(frozen=True)
class Package:
    """A package of the system, named as on Debian and Ubuntu.

    :param name: its name.
    :param program: a program of it, or its absolute path.
    :param tests: which tests are skipped without it.
    :param folders: where else than on the PATH the program may be, as a glob below the root.
    """

    name: str
    program: str
    tests: str
    folders: str = ""

    @property
    def installed(self) -> bool:
        """Whether the program is there."""
        folders = [str(path) for path in Path("/").glob(self.folders)] if self.folders else []
        return shutil.which(self.program, path=os.pathsep.join([*folders, os.environ.get("PATH", "")])) is not None


PACKAGES = (
    Package("chromium", "/usr/bin/chromium", "pages and forms in a real browser"),
    Package("libreoffice-calc", "soffice", "a file of decisions that went through a spreadsheet program"),
    Package("postgresql", "postgres", "pushes to PostgreSQL", "usr/lib/postgresql/*/bin"),
    Package("mariadb-server", "mariadbd", "pushes to MariaDB", "usr/sbin"),
)


def missing() -> list[Package]:
    """Return what isn't installed."""
    return [package for package in PACKAGES if not package.installed]


def ahead(cores: int) -> Iterator[str]:
    """Yield what somebody should know before all tests run.

    :param cores: how many cores they use.
    """
    minutes = max(1, round(CORE_MINUTES / cores))
    yield f'All tests take some {minutes} minutes on {cores} cores; ARGS="-k completeness" runs some of them.'
    if lacking := missing():
        yield "Skipped, because a package is not installed:"
        width = max(len(package.name) for package in lacking)
        yield from (f"  {package.name:{width}}  {package.tests}" for package in lacking)
        yield f"On Debian and Ubuntu: apt-get install {' '.join(package.name for package in lacking)}"
    else:
        yield "Nothing is skipped for a package that is not installed."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missing", action="store_true", help="print only the names of what isn't installed")
    if parser.parse_args().missing:
        print(*(package.name for package in missing()), sep="\n")
    else:
        print(*ahead(os.cpu_count() or 1), sep="\n", flush=True)
