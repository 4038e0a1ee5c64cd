"""Operators that land an account's users and roles as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_aha.assets import attach_manifest, check_outlets
from airflow_provider_aha.common.values import to_list, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.lineage import users_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class AhaExtractUsersOperator(AhaOperator):
    """Read all users of an account in one crawl and land datasets as Parquet.

    ::

        AhaExtractUsersOperator(
            task_id="extract",
            base_path="s3://aws_default@bucket/aha",
            datasets=["users", "user_roles"],
            outlets=[USERS, USER_ROLES],
        )

    Files and manifest lie under ``base_path`` by the package's layout; a second run on the same UTC day
    replaces the day's snapshot. When the read is not complete, nothing is landed. Outlets ``aha://<dataset>``
    get the manifest as the extra of their asset event; one whose dataset isn't landed is refused.

    :param base_path: absolute local path or object-store URL. (templated)
    :param datasets: some of ``users``, ``user_roles``, ``user_role_summary``, ``user_changes``, as a list or
        the text of one; not set: ``users``. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: the manifest; its ``files`` name path, rows, bytes and SHA-256 of each dataset.
    :raises AirflowFailException: without retries, when the key is refused or lacks the right to read users,
        or an argument can't be right.
    :raises AhaError: when Aha! or the path failed in a way that a retry may cure.
    """

    template_fields: Sequence[str] = ("base_path", "datasets", "aha_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"datasets": "json"}

    def __init__(self, *, base_path: str, datasets: Sequence[str] | str = ("users",), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base_path = base_path
        self.datasets = datasets

    def execute(self, context: Context) -> dict[str, Any]:
        """Land the datasets.

        :param context: the task's context.
        :return: the manifest.
        """
        from airflow_provider_aha.datasets.extract import extract

        with without_useless_retries(self.aha_conn_id):
            datasets = to_list(self.datasets, "datasets")
            if datasets is None:
                datasets = ["users"]
            base_path = to_text(self.base_path, "base_path")
            if base_path is None:
                raise AhaConfigurationError("base_path is not set.")
            check_outlets(self.outlets, datasets)
            self.link_to(context)
            manifest = extract(
                self.hook.get_conn(),
                resolve_path(base_path),
                datasets=datasets,
                connection_id=self.aha_conn_id,
            )
        attach_manifest(context, self.outlets, manifest)
        # What an earlier run of the day has landed is in the manifest, too.
        landed = [file["path"] for file in manifest["files"] if file["dataset"] in datasets]
        self.report_lineage(self.hook, inputs=[users_of(manifest["host"])], outputs=landed)
        for file in manifest["files"]:
            self.log.info("%s: %d rows in %s", file["dataset"], file["rows"], file["path"])
        return manifest


class AhaExtractRolesOperator(AhaExtractUsersOperator):
    """Read all users of an account in one crawl and land ``user_roles`` and ``user_role_summary``.

    :param base_path: absolute local path or object-store URL. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: the manifest, as :class:`AhaExtractUsersOperator`.
    """

    template_fields: Sequence[str] = ("base_path", "aha_conn_id")

    def __init__(self, *, base_path: str, **kwargs: Any) -> None:
        super().__init__(base_path=base_path, datasets=("user_roles", "user_role_summary"), **kwargs)
