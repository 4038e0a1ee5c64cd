"""What a task has read and written, for OpenLineage and for Airflow's own collector of lineage.

Neither is needed: where OpenLineage isn't installed nobody asks, and the collector keeps nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit


class ReportsLineage:
    """For an operator: call :meth:`report_lineage` when the work is done."""

    _inputs: tuple[str, ...] = ()
    _outputs: tuple[str, ...] = ()

    def report_lineage(self, context: Any, *, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        """Say what was read and written; called again, it says more.

        :param context: on whose behalf, for Airflow's collector: the hook or the operator.
        :param inputs: absolute paths and URIs; :func:`users_of` names an account.
        :param outputs: likewise.
        """
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        inputs, outputs = list(map(_plain, inputs)), list(map(_plain, outputs))
        self._inputs += tuple(inputs)
        self._outputs += tuple(outputs)
        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        for uri in inputs:
            collector.add_input_asset(context=context, uri=uri)
        for uri in outputs:
            collector.add_output_asset(context=context, uri=uri)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 (OpenLineage's signature)
        """Return what was reported, as OpenLineage's provider asks for it.

        :param task_instance: the task that has ended.
        """
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        return OperatorLineage(
            inputs=[Dataset(*_namespace_and_name(uri)) for uri in dict.fromkeys(self._inputs)],
            outputs=[Dataset(*_namespace_and_name(uri)) for uri in dict.fromkeys(self._outputs)],
        )


def users_of(host: str) -> str:
    """Return the URI of an account's users.

    :param host: the account's host.
    """
    return f"aha://{host}/users"


def target_of(kind: str, name: str) -> str:
    """Return the URI of what a push writes to.

    :param kind: the target's kind.
    :param name: the target's name: a file's address, or connection or instance and what is meant there.
    """
    if name.startswith("/") or "://" in name:
        return name
    where, *what = re.split(r"[ .]", name, maxsplit=1)
    return f"push-{kind}://{where}/{quote(''.join(what))}"


def _plain(place: str) -> str:
    """Make a URI of a path, and leave an Airflow connection out of it."""
    if "://" not in place:
        return f"file://{place}"
    return re.sub(r"://[^/@]*@", "://", place)


def _namespace_and_name(uri: str) -> tuple[str, str]:
    """Name a dataset as OpenLineage's naming has it: local files, buckets, hosts."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")
