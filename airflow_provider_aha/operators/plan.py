"""The operator that plans who should lose, get or change access."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_aha.common.values import is_unset, to_dict, to_int, to_list, to_number, to_text, to_words
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_base_path, resolve_path
from airflow_provider_aha.operators.guards import GuardedOperator
from airflow_provider_aha.operators.writes import evidence_at, names_to_fix, run_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.access.decide.planning import Request
    from airflow_provider_aha.access.decide.rules import NamedRule, Rule
    from airflow_provider_aha.access.plan.plan import Plan
    from airflow_provider_aha.lists.roster import Roster, Rosters, RosterSpec
    from airflow_provider_aha.record.run import Run
    from airflow_provider_aha.store.store import Store


# At most this many users are named in a log.
_NAMED = 20
# What a roster by SQL is, for sentences.
_QUERY = "The roster's query"


class AhaPlanAccessOperator(GuardedOperator):
    """Plan who should lose, get or change access, and say why; nothing is changed, and Aha! isn't asked.

    Give one of ``rules``, ``users`` with ``to``, ``review`` and ``undo``. The newest snapshot of the account is
    judged by it. ``plan.json``, ``plan.parquet`` and ``plan.md`` lie in the DAG run's folder below ``base_path``
    afterwards, with a copy of everything they stand on. A retry returns the plan that is there.

    A name that fits nobody, several users, or somebody who must not be changed is listed in the plan, and the
    task fails: an unresolved name is not a success, also where another name is right.

    :param rules: list of rules: dicts with ``class`` (``unused``, ``left`` or ``named``), ``name`` and the
        settings of the class; see the planning page of the docs. (templated)
    :param users: ids and emails of the users who are to be changed; needs ``to``, ``reason`` and ``ticket``.
        (templated)
    :param to: what these users are to be: a dict with some of ``enabled``, ``email``, ``administrator``,
        ``administrator_roles``, ``first_name`` and ``last_name``; what is not set stays as it is. Or ``role``
        (``product_owner``, ``contributor``, ``reviewer``, ``viewer`` or ``none``) and ``workspace``, the id of the
        workspace in which they are to have it. (templated)
    :param review: id of a submitted access review: the users whose account it revokes are to be disabled.
        (templated)
    :param undo: path of an ``evidence.parquet`` of this account: what its run took is to be given back, field by
        field, but to nobody who was changed since; needs ``reason`` and ``ticket``. (templated)
    :param reason: why, for the person who approves and for the record. (templated)
    :param ticket: number of the ticket that asks for it, likewise. (templated)
    :param asked_by: login of who asked for it, where that is another than who starts the run, such as a service
        account: neither of them may approve it. (templated)
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
    :param fit_to_caps: whether the plan is made to fit the caps; one that isn't can only be carried out by its
        SHA-256. People who left are never postponed. Not templated on purpose.
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: ``account``, ``plan_path``, ``plan_sha256``, ``counts`` and ``sandbox`` (whether the snapshot is of
        one); no names, no emails.
    :raises AirflowFailException: without retries, when an argument can't be right, or a name is unresolved.
    :raises AhaError: when snapshot or roster can't be trusted enough to take access away, or can't be read.
    """

    template_fields: Sequence[str] = (
        "rules",
        "users",
        "to",
        "review",
        "undo",
        "reason",
        "ticket",
        "asked_by",
        "base_path",
        "roster",
        "protect_patterns",
        "max_snapshot_age_hours",
        *GuardedOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"rules": "json", "to": "json", "roster": "json"}

    def __init__(
        self,
        *,
        rules: Sequence[Mapping[str, Any]] | str | None = None,
        users: Sequence[str] | str | None = None,
        to: Mapping[str, Any] | str | None = None,
        review: str | None = None,
        undo: str | None = None,
        reason: str | None = None,
        ticket: str | None = None,
        asked_by: str | None = None,
        base_path: str | None = None,
        roster: Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | None = None,
        protect_patterns: Sequence[str] | str | None = None,
        max_snapshot_age_hours: float | str = 24,
        policy_max: int = 5,
        max_left_percent: float = 10.0,
        fit_to_caps: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rules = rules
        self.users = users
        self.to = to
        self.review = review
        self.undo = undo
        self.reason = reason
        self.ticket = ticket
        self.asked_by = asked_by
        self.base_path = base_path
        self.roster = roster
        self.protect_patterns = protect_patterns
        self.max_snapshot_age_hours = max_snapshot_age_hours
        self.policy_max = policy_max
        self.max_left_percent = max_left_percent
        self.fit_to_caps = fit_to_caps

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the plan.

        :param context: the task's context.
        :return: where it is, and what is in it.
        """
        with without_useless_retries(self.aha_conn_id):
            location = resolve_base_path(self.base_path)
            run = run_of(context)
            self.link_to(context)
            plan = self._recorded(location, run, self._request(run, location))
            self._say_plan(plan)
            if plan.wrong_names:
                raise AhaConfigurationError(names_to_fix(plan))
        return {
            "account": plan.account,
            "plan_path": plan.path,
            "plan_sha256": plan.sha256,
            "counts": plan.counts,
            "sandbox": plan.sandbox,
        }

    def _recorded(self, location: Store, run: Run, request: Request) -> Plan:
        """Make the plan, and leave a manifest whatever happens: the control ran."""
        from airflow_provider_aha.access.decide.planning import make_plan
        from airflow_provider_aha.record.chain import close_try
        from airflow_provider_aha.record.run import RunFolder

        about: dict[str, Any] = {"action": "plan", "ended": "failed", **asdict(run)}
        try:
            plan = make_plan(location, request)
            about |= {"ended": "completed", "sandbox": plan.sandbox, "plan_sha256": plan.sha256}
            if plan.wrong_names:
                about |= {"ended": "failed", "reason": names_to_fix(plan)}
        except AhaError as error:
            about["reason"] = str(error)
            raise
        finally:
            close_try(RunFolder(location, request.account, run), about)
        return plan

    def _say_plan(self, plan: Plan) -> None:
        """Say who is planned, by id, and what a reader of the plan should know."""
        if changed := plan.header["changed"]:
            names = ", ".join(dict.fromkeys(one["setting"] for one in changed["settings"]))
            self.log.warning("Changed since the last plan, of %s: %s", changed["since"], names)
        planned = ", ".join(f"{count} {name}" for name, count in plan.counts["planned"].items())
        self.log.info("%d of %d users are planned: %s", len(plan.rows), plan.counts["users"], planned)
        for row in plan.rows[:_NAMED]:
            self.log.info("User %s: %s, %s: %s", row.user_id, plan.action, row.user_class, row.detail)
        if len(plan.rows) > _NAMED:
            self.log.info("and %d more", len(plan.rows) - _NAMED)
        for entry in plan.header["unresolved"]:
            if not entry["must_fix"]:
                ids = ", ".join(entry["ids"])
                why = entry["detail"] or entry["reason"].replace("_", " ")
                self.log.warning("User %s is not on the plan: %s", ids, why)
        if later := plan.counts["postponed"]:
            again = f" before {caps['room_from']}" if (caps := plan.header["caps"]) and caps["room_from"] else ""
            self.log.warning("%d more are postponed, since the caps leave no room for them%s", later, again)
        for note in [*plan.header["protects_nobody"], *plan.header["notes"]]:
            self.log.warning(note)
        self.log.info("Plan: %s, SHA-256 %s", plan.path, plan.sha256)

    def _asked(self, location: Store, account: str) -> tuple[tuple[Rule, ...], dict[str, Any]]:
        """Read what the plan is to go by: its rules, and what of it is kept in the plan."""
        from airflow_provider_aha.access.decide.named import undo_rules
        from airflow_provider_aha.access.decide.rules import as_given, ask_for, read_rules
        from airflow_provider_aha.access.operations.registry import read_to
        from airflow_provider_aha.record.evidence import read_evidence

        users = to_list(self.users, "users")
        operation, place, wanted = read_to(to_dict(self.to, "to") or {})
        review, undo = to_text(self.review, "review"), to_text(self.undo, "undo")
        given = {
            "rules": None if is_unset(self.rules) else self.rules,
            "users": users,
            "review": review,
            "undo": undo,
        }
        if len(found := [name for name, value in given.items() if value is not None]) != 1:
            raise AhaConfigurationError(
                f"{' and '.join(found) or 'Nothing'} {'were' if found else 'was'} given: give one of "
                f"{', '.join(given)}. On a form, User ids and Emails are users, and Evidence is undo. "
                "No plan was made."
            )
        if (users is None) != (not wanted):
            raise AhaConfigurationError("users and to belong together: who is to be changed, and to what.")
        reason = to_words(self.reason, "reason")
        if users is not None or undo is not None:
            missing = [name for name in ("reason", "ticket") if to_words(getattr(self, name), name) is None]
            if missing:
                raise AhaConfigurationError(f"{' and '.join(missing)} must be given. No plan was made.")
        if users is not None:
            rule = ask_for(str(reason), users, wanted, operation, place)
            return (rule,), {"users": users, "to": {"object": place, **wanted}}
        if undo is not None:
            rows = read_evidence(evidence_at(undo, location, account))
            return undo_rules(str(reason), rows, account), {"undo": undo}
        if review is not None:
            rule, submitted_by = self._reviewed(review, location, account)
            return (rule,), {"review": review, "submitted_by": submitted_by}
        rules = read_rules(self.rules)
        return rules, {"rules": [as_given(rule) for rule in rules]}

    def _reviewed(self, review_id: str, location: Store, account: str) -> tuple[NamedRule, str]:
        from airflow_provider_aha.access.decide.rules import RECORD, NamedRule, Recorded
        from airflow_provider_aha.review.records import find_review
        from airflow_provider_aha.review.worklist import revoked_accounts

        review = find_review(location, account, review_id)
        if review is None or review.submission is None:
            raise AhaConfigurationError(
                f"There is no review {review_id} of {account} whose decisions were submitted below {location.url}."
            )
        known = {
            user_id: Recorded("decided by a review", reviewer, note)
            for user_id, reviewer, note in revoked_accounts(location, review)
        }
        rule = NamedRule(f"review {review_id}", tuple(known), origin=RECORD, known=known)
        return rule, str(review.submission["submitted_by"])

    def _request(self, run: Run, location: Store) -> Request:
        from airflow_provider_aha.access.decide.planning import Limits, Request
        from airflow_provider_aha.access.decide.rules import Policy
        from airflow_provider_aha.access.plan.plan import LEFT
        from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS, UserMatcher
        from airflow_provider_aha.lists.roster import RosterSpec

        guards = self.guards()
        patterns = to_list(self.protect_patterns, "protect_patterns")
        patterns = list(SERVICE_ACCOUNT_PATTERNS) if patterns is None else patterns
        account = self.hook.get_conn().config.account
        rules, asked = self._asked(location, account)
        service_accounts = UserMatcher(patterns=patterns, word="service account", where=" in the DAG")
        policy = Policy(rules, guards.protected, service_accounts)
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
            account=account,
            dag_id=run.dag_id,
            run_id=run.run_id,
            policy=policy,
            as_given={
                "rules": [],
                **asked,
                "protected": guards.lists,
                "protect_patterns": patterns,
                "exclusions": guards.exclusions,
                "caps": {"max_users": guards.caps.max_users, "max_percent": guards.caps.max_percent},
                "fit_to_caps": self.fit_to_caps,
                "guards_set": guards.is_set,
                "rosters": [spec.as_given() for spec in specs],
                "max_snapshot_age_hours": hours,
                **asdict(limits),
            },
            max_snapshot_age=timedelta(hours=hours),
            reason=to_words(self.reason, "reason"),
            ticket=to_words(self.ticket, "ticket"),
            asked_by=to_words(self.asked_by, "asked_by"),
            roster=rosters_reader(specs) if policy.of_class(LEFT) else None,
            exclusions=tuple(map(resolve_path, guards.exclusions)),
            caps=guards.caps,
            fit_to_caps=self.fit_to_caps,
            limits=limits,
            approvers=guards.approvers,
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
    from airflow_provider_aha.lists.tables import rows_of, table_of

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
        return rows_of(cursor, _QUERY)

    loaded_at = datetime.now(UTC)
    rows = hook.run(str(spec.sql), handler=fetch)
    table = table_of(_QUERY, columns, [tuple(row) for row in rows or ()])
    return roster_of(spec, table, loaded_at)
