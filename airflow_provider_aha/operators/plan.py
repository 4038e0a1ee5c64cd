"""The operator that plans who should lose access."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_aha.common.values import to_int, to_list, to_number, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.hooks.paths import default_base_path, resolve_path
from airflow_provider_aha.operators.base import without_useless_retries
from airflow_provider_aha.operators.guards import GuardedOperator
from airflow_provider_aha.operators.writes import run_of

if TYPE_CHECKING:
    from airflow_provider_aha.access.decide.planning import Request
    from airflow_provider_aha.access.plan.plan import Plan
    from airflow_provider_aha.lists.roster import Roster, Rosters, RosterSpec
    from airflow_provider_aha.record.run import Run
    from airflow_provider_aha.store.store import Location


class AhaPlanDeactivationsOperator(GuardedOperator):
    """Plan who should lose access, and say why; nothing is changed, and Aha! isn't asked.

    The newest snapshot of the account is judged by rules, any of which is enough. ``plan.json``,
    ``plan.parquet`` and ``plan.md`` lie in the DAG run's folder below ``base_path`` afterwards, with a copy of
    everything they stand on. A retry returns the plan that is there.

    :param rules: list of rules: dicts with ``class`` (``unused``, ``left`` or ``named``), ``name`` and the
        settings of the class; see the planning page of the docs. (templated)
    :param base_path: where the snapshots are; left out: the Airflow Variable ``aha_output_path``, else
        ``$AIRFLOW_HOME/aha``. (templated)
    :param roster: dict that says where the roster is and how it is read, or a list of them, of which one that has
        somebody as employed is enough; needed by rules of class ``left``. (templated)
    :param protect_patterns: shell patterns of emails and names that look like service accounts, which are spared
        until a rule of class ``named`` lists them by id; left out: a list that fits most companies. (templated)
    :param max_snapshot_age_hours: an older snapshot is refused. (templated)
    :param policy_max: so many users of the account may lose access within 24 hours without asking a person.
    :param max_left_percent: of the enabled users that the roster covers, so many percent may be planned as
        ``left``, and 5 always; more are refused.
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: ``account``, ``plan_path``, ``plan_sha256`` and ``counts``; no names, no emails.
    :raises AirflowFailException: without retries, when an argument can't be right.
    :raises AhaError: when snapshot or roster can't be trusted enough to take access away, or can't be read.
    """

    template_fields: Sequence[str] = (
        "rules",
        "base_path",
        "roster",
        "protect_patterns",
        "max_snapshot_age_hours",
        *GuardedOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"rules": "json", "roster": "json"}

    def __init__(
        self,
        *,
        rules: Sequence[Mapping[str, Any]] | str,
        base_path: str | None = None,
        roster: Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | None = None,
        protect_patterns: Sequence[str] | str | None = None,
        max_snapshot_age_hours: float | str = 24,
        policy_max: int = 5,
        max_left_percent: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rules = rules
        self.base_path = base_path
        self.roster = roster
        self.protect_patterns = protect_patterns
        self.max_snapshot_age_hours = max_snapshot_age_hours
        self.policy_max = policy_max
        self.max_left_percent = max_left_percent

    def execute(self, context: Any) -> dict[str, Any]:
        """Make the plan.

        :param context: the task's context.
        :return: where it is, and what is in it.
        """
        with without_useless_retries(self.aha_conn_id):
            location = resolve_path(to_text(self.base_path, "base_path") or default_base_path())
            run = run_of(context)
            self.link_to(context)
            plan = self._recorded(location, run, self._request(run))
        planned = ", ".join(f"{count} {name}" for name, count in plan.counts["planned"].items())
        self.log.info("%d of %d users are planned: %s", len(plan.rows), plan.enabled_users, planned)
        for note in [*plan.header["protects_nobody"], *plan.header["notes"]]:
            self.log.warning(note)
        return {
            "account": plan.account,
            "plan_path": location.url + plan.path.removeprefix(location.path),
            "plan_sha256": plan.sha256,
            "counts": plan.counts,
        }

    def _recorded(self, location: Location, run: Run, request: Request) -> Plan:
        """Make the plan, and leave a manifest whatever happens: the control ran."""
        from airflow_provider_aha.access.decide.planning import make_plan
        from airflow_provider_aha.record.chain import close_try
        from airflow_provider_aha.record.run import RunFolder

        about: dict[str, Any] = {"action": "plan", "ended": "failed", **asdict(run)}
        try:
            plan = make_plan(location, request)
            about |= {"ended": "completed", "sandbox": plan.sandbox, "plan_sha256": plan.sha256}
        except AhaError as error:
            about["reason"] = str(error)
            raise
        finally:
            path, digest = close_try(RunFolder(location, request.account, run), about)
            self.log.info("Manifest %s, SHA-256 %s", path, digest)
        return plan

    def _request(self, run: Run) -> Request:
        from airflow_provider_aha.access.decide.planning import Limits, Request
        from airflow_provider_aha.access.decide.rules import Policy, as_given, read_rules
        from airflow_provider_aha.access.plan.plan import LEFT
        from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS, UserMatcher
        from airflow_provider_aha.lists.roster import RosterSpec

        guards = self.guards()
        patterns = to_list(self.protect_patterns, "protect_patterns")
        patterns = list(SERVICE_ACCOUNT_PATTERNS) if patterns is None else patterns
        service_accounts = UserMatcher(patterns=patterns, word="service account", where=" in the DAG")
        policy = Policy(read_rules(self.rules), guards.protected, service_accounts)
        hours = to_number(self.max_snapshot_age_hours, "max_snapshot_age_hours", 24, 0.1, 24 * 31)
        specs = RosterSpec.read_all(self.roster)
        if policy.of_class(LEFT) and not specs:
            raise AhaConfigurationError(
                "A rule of class left needs a roster, and none is given (the example DAG aha_offboard_leavers "
                "takes it from the Variable aha_roster). No plan was made."
            )
        limits = Limits(
            to_int(self.policy_max, "policy_max", 5, 0, 10**6),
            to_number(self.max_left_percent, "max_left_percent", 10, 0, 100),
        )
        return Request(
            account=self.hook.get_conn().config.account,
            dag_id=run.dag_id,
            run_id=run.run_id,
            policy=policy,
            as_given={
                "rules": [as_given(rule) for rule in policy.rules],
                "protected": guards.lists,
                "protect_patterns": patterns,
                "exclusions": guards.exclusions,
                "rosters": [spec.as_given() for spec in specs],
                "max_snapshot_age_hours": hours,
                **asdict(limits),
            },
            max_snapshot_age=timedelta(hours=hours),
            roster=rosters_reader(specs) if policy.of_class(LEFT) else None,
            exclusions=tuple(map(resolve_path, guards.exclusions)),
            limits=limits,
        )


def rosters_reader(specs: Sequence[RosterSpec]) -> Callable[[], Rosters]:
    """Return what reads rosters, from files or with SQL.

    :param specs: where they are and how they are read.
    """
    from airflow_provider_aha.lists.roster import Rosters

    return lambda: Rosters(tuple(map(_read, specs)))


def _read(spec: RosterSpec) -> Roster:
    from airflow_provider_aha.lists.roster import load_roster

    return _query(spec) if spec.path is None else load_roster(spec, resolve_path(spec.path))


def _query(spec: RosterSpec) -> Roster:
    """Read a roster with SQL over an Airflow connection."""
    from airflow_provider_aha.lists.roster import roster_of
    from airflow_provider_aha.lists.tables import table_of

    try:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
    except ImportError:
        raise AhaConfigurationError(
            "A roster by SQL needs the package apache-airflow-providers-common-sql and the database's provider."
        ) from None
    hook = BaseHook.get_hook(str(spec.conn_id))
    if not isinstance(hook, DbApiHook):
        raise AhaConfigurationError(f"The connection {spec.conn_id} of the roster is of no SQL database.")
    columns: list[str] = []

    def fetch(cursor: Any) -> Any:
        columns.extend(column[0] for column in cursor.description or ())
        return cursor.fetchall()

    loaded_at = datetime.now(UTC)
    rows = hook.run(str(spec.sql), handler=fetch)
    table = table_of("The roster's query", columns, [tuple(row) for row in rows or ()])
    return roster_of(spec, table, loaded_at)
