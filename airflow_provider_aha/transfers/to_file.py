"""The operator that writes mapped records to a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.values import to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.transfers.base import AhaPushOperator

if TYPE_CHECKING:
    from airflow_provider_aha.push.targets.base import Target


class AhaToFileOperator(AhaPushOperator):
    """Write mapped records as Parquet, CSV or JSON lines.

    ::

        AhaToFileOperator(
            task_id="write",
            mapping="users_table",
            path="s3://aws_default@bucket/exports/{account}/users.csv",
            inlets=[USERS],
        )

    The file is replaced in every run, whole or not at all, and holds all valid records. In CSV, text that a
    spreadsheet would run as a formula gets a quote in front.

    :param path: absolute local path or object-store URL of the file; ``{account}`` and ``{snapshot}`` in it
        stand for the account and the day of the snapshot. (templated)
    :param format: ``parquet``, ``csv`` or ``jsonl``; left out: what the path ends in. (templated)
    """

    template_fields: Sequence[str] = (*AhaPushOperator.template_fields, "path", "format")

    def __init__(self, *, path: str, format: str | None = None, **kwargs: Any) -> None:  # noqa: A002
        super().__init__(**kwargs)
        self.path = path
        self.format = format

    def make_target(self, account: str, snapshot: str) -> Target:
        """Return the file of an account.

        :param account: whose users are written.
        :param snapshot: the day of the snapshot.
        """
        from airflow_provider_aha.push.targets.files import FORMATS, FileTarget

        path = to_text(self.path, "path")
        if path is None:
            raise AhaConfigurationError("path is not set.")
        kind = to_text(self.format, "format") or path.rpartition(".")[2].lower()
        if kind not in FORMATS:
            raise AhaConfigurationError(f"format must be one of {', '.join(FORMATS)}, or the end of the path.")
        return FileTarget(resolve_path(path.replace("{account}", account).replace("{snapshot}", snapshot)), kind)
