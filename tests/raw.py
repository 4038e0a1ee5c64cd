"""The files of a store as somebody changes them who isn't this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_aha.store.store import Store


class Raw:
    """The filesystem behind a store, with names below the store; whole paths are taken as well.

    :param store: the store.
    """

    def __init__(self, store: Store) -> None:
        self._fs, self._root = store.fs, f"{store.path.rstrip('/')}/"

    def __getattr__(self, method: str) -> Callable[..., Any]:
        """Return a method of the filesystem; the paths that it returns are names."""

        def call(name: str, *rest: Any, **options: Any) -> Any:
            self._fs.invalidate_cache()
            path = name if f"{name}/".startswith(self._root) else f"{self._root}{name}"
            found = getattr(self._fs, method)(path, *rest, **options)
            return [path.removeprefix(self._root) for path in found] if isinstance(found, list) else found

        return call


def raw(store: Store) -> Raw:
    """Return what lies in a store, to be changed behind its back.

    :param store: the store.
    """
    return Raw(store)


def place_of(store: Store, url: str) -> Store:
    """Return the place below a store that has an address.

    :param store: the store.
    :param url: the address.
    """
    return store.within(url.removeprefix(f"{store.url}/"))
