"""A filesystem that fails now and then, as a run's seed says: before an operation, or when it is done."""

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

# How a file comes to its place on each: beside it and by a rename, or by one request that is whole or isn't.
RENAMES, PUTS = "frail", "s3"
_OPERATIONS = ("open", "cat_file", "pipe_file", "put_file", "mv", "rm_file", "ls", "info", "makedirs")
_CAUSES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.ETIMEDOUT)


class Faults:
    """When the next operations fail.

    :param chance: what decides.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.left = 0
        self.hits = 0

    def again(self) -> None:
        """Let a few of the next operations fail."""
        self.left = self._chance.choice((0, 1, 1, 2, 3, 8))
        self._rare = self._chance.choice((2, 5, 12, 30))

    def meet(self, operation: str, path: object) -> None:
        """Fail, perhaps."""
        if self.left and self._chance.randrange(self._rare) == 0:
            self.left -= 1
            self.hits += 1
            code = self._chance.choice(_CAUSES)
            raise OSError(code, os.strerror(code), str(path) if self._chance.random() < 0.5 else None)

    def before_or_after(self) -> bool:
        """Tell whether the operation is not done at all, or done and its answer lost."""
        return self._chance.random() < 0.7


class FrailFileSystem(LocalFileSystem):
    """The local disk, as a store that is reached by requests.

    :param faults: when they fail.
    :param protocol: :data:`RENAMES` or :data:`PUTS`.
    """

    cachable = False

    def __init__(self, faults: Faults, protocol: str) -> None:
        super().__init__(auto_mkdir=True)
        self.faults = faults
        self.protocol = protocol

    def find(self, path: str, *, detail: bool = False, **_: Any) -> Any:
        """List all files below a folder by one request, as a store does that can."""
        self.faults.meet("find", path)
        found = {
            str(one): {"name": str(one), "size": one.stat().st_size}
            for one in Path(path).rglob("*")
            if one.is_file()
        }
        return found if detail else list(found)


def _failing(name: str) -> Callable[..., Any]:
    done = getattr(LocalFileSystem, name)

    def operation(self: FrailFileSystem, path: Any, *arguments: Any, **options: Any) -> Any:
        if self.faults.before_or_after():
            self.faults.meet(name, path)
            return done(self, path, *arguments, **options)
        result = done(self, path, *arguments, **options)
        if name != "open":
            self.faults.meet(name, path)
        return result

    return operation


for _name in _OPERATIONS:
    setattr(FrailFileSystem, _name, _failing(_name))


@contextmanager
def full_disk(faults: Faults, folder: Path) -> Iterator[None]:
    """Let the worker's own disk fail below a folder, where files are written and come to their places.

    No disk fails on command, so what the operating system is asked is stood in for.
    """

    def failing(name: str) -> Callable[..., Any]:
        done = getattr(os, name)

        def operation(*arguments: Any, **options: Any) -> Any:
            if name == "fsync" or str(folder) in str(arguments[-1]):
                faults.meet(name, arguments[-1])
            return done(*arguments, **options)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in ("link", "replace", "fsync"):
            patch.setattr(os, name, failing(name))
        yield
