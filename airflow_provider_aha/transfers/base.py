"""What the operators that push mapped records have in common."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_aha.assets import dataset_of, manifests
from airflow_provider_aha.common.values import is_unset, to_bool, to_dict, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_base_path, resolve_path
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.lineage import target_of
from airflow_provider_aha.operators.writes import run_of
from airflow_provider_aha.store.layout import Layout

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.push.mapping.spec import MappingSpec
    from airflow_provider_aha.push.targets.base import Target
    from airflow_provider_aha.store.store import Store


class AhaPushOperator(AhaOperator):
    """Base of the operators that push mapped records to a target.

    With the asset of the mapping's dataset among its ``inlets``, the task pushes the snapshot of every account
    whose event started the run; else the newest snapshot of the account of ``aha_conn_id``. Outcomes, one per
    row, lie under ``base_path`` in ``push/`` afterwards, whatever happened.

    :param mapping: a dict, YAML or JSON text, the absolute path of a file with it, or the name of one of the
        package's ready mappings. (templated)
    :param dataset: the dataset, for those who want to see it in the DAG; it must be the mapping's. (templated)
    :param mapping_params: values for fields of the mapping that ask for one by ``param``. (templated)
    :param base_path: where the snapshots are; left out: the Airflow Variable ``aha_output_path``, else
        ``$AIRFLOW_HOME/aha``. (templated)
    :param dry_run: plan only, and say what would be sent; a mapping that isn't ``launched`` is always a dry run.
        (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: the summary of each push, in a list: counts by status, paths and hashes; no names, no emails.
    """

    # What is pushed is nowhere in Aha! to be looked at.
    operator_extra_links: tuple[Any, ...] = ()
    template_fields: Sequence[str] = (
        "mapping",
        "dataset",
        "mapping_params",
        "base_path",
        "dry_run",
        "aha_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"mapping": "json", "mapping_params": "json"}

    def __init__(
        self,
        *,
        mapping: Mapping[str, Any] | str,
        dataset: str | None = None,
        mapping_params: Mapping[str, Any] | str | None = None,
        base_path: str | None = None,
        dry_run: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mapping = mapping
        self.dataset = dataset
        self.mapping_params = mapping_params
        self.base_path = base_path
        self.dry_run = dry_run  # type: ignore[method-assign,assignment]
        self._stopped = threading.Event()

    @abstractmethod
    def make_target(self, account: str, snapshot: str) -> Target:
        """Return the target of a push; it is not asked for anything yet.

        :param account: whose users are pushed.
        :param snapshot: the day of the snapshot.
        """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Push.

        :param context: the task's context.
        :return: the summary of each push.
        """
        from airflow_provider_aha.push.push import PushRequest, push

        summaries = []
        with without_useless_retries(self.connections()):
            spec = self._spec()
            location = self.location()
            dry_run = to_bool(self.dry_run, "dry_run", default=False)
            names: set[str] = set()
            for account, snapshot in self._snapshots(context, spec, location):
                target = self.make_target(account, snapshot)
                if target.takes_all and target.name in names:
                    raise AhaConfigurationError(
                        f"{target.name} would hold only the last of several accounts: put {{account}} into it."
                    )
                names.add(target.name)
                request = PushRequest(
                    location=location,
                    account=account,
                    snapshot=snapshot,
                    spec=spec,
                    target=target,
                    run=run_of(context),
                    dry_run=dry_run,
                    stopped=self._stopped.is_set,
                )
                summaries.append(push(request))
                self._report(summaries[-1], location, account)
        for summary in summaries:
            self.log.info("Outcomes of %s: %s", summary["account"], summary["outcomes"]["path"])
        return summaries

    def _report(self, summary: Mapping[str, Any], location: Store, account: str) -> None:
        read = location.url_of(Layout(account).dataset(summary["dataset"], summary["snapshot"]))
        target = target_of(summary["target"]["kind"], summary["target"]["name"])
        written = [] if summary["dry_run"] else [target]
        self.report_lineage(self, inputs=[read], outputs=[*written, summary["outcomes"]["path"]])

    def on_kill(self) -> None:
        """Stop after the batch that is on its way; its answer is kept."""
        self._stopped.set()
        super().on_kill()

    def connections(self) -> str:
        """Name the Airflow connections that an error may be about."""
        return self.aha_conn_id

    def location(self) -> Store:
        """Return the base path."""
        return resolve_base_path(self.base_path)

    def params_of_mapping(self) -> dict[str, Any] | None:
        """Return the values for fields of the mapping that ask for one."""
        return to_dict(self.mapping_params, "mapping_params")

    def _spec(self) -> MappingSpec:
        from airflow_provider_aha.push.mapping.load import load_spec

        if is_unset(self.mapping):
            raise AhaConfigurationError("mapping is not set.")
        spec = load_spec(self.mapping, self.params_of_mapping(), resolve_path)
        dataset = to_text(self.dataset, "dataset")
        if dataset and dataset != spec.dataset:
            raise AhaConfigurationError(f"The mapping {spec.name} is of the dataset {spec.dataset}, not {dataset}.")
        return spec

    def _snapshots(self, context: Context, spec: MappingSpec, location: Store) -> Iterator[tuple[str, str]]:
        """Yield account and day of each snapshot that is to be pushed."""
        inlet = next((inlet for inlet in self.inlets if dataset_of(inlet) == spec.dataset), None)
        if inlet is not None:
            found = manifests(context, inlet)
            # What an event says only chooses: the manifest on disk is the one that is believed.
            yield from ((str(manifest["account"]), str(manifest.get("snapshot"))) for manifest in found)
            return
        from airflow_provider_aha.datasets.snapshot import Snapshot

        account = self.hook.get_conn().config.account
        yield account, Snapshot.newest(location, account).day
