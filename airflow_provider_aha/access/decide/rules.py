"""The rules of a plan: which facts about a user say that access should go, and what speaks against it.

A policy is a list of rules, any of which is enough; inside a rule every condition must hold. All of it is
decided user by user in :func:`judge`, from the snapshot and never from the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_aha.access.operations.base import TAKEN
from airflow_provider_aha.access.operations.registry import OPERATIONS, USER_FIELDS, WORKSPACE_ROLE
from airflow_provider_aha.access.operations.user_fields import ACCOUNT
from airflow_provider_aha.access.plan.plan import CLASSES, LEFT, NAMED, UNUSED
from airflow_provider_aha.common.addresses import is_id, read_address
from airflow_provider_aha.common.values import is_unset, to_bool, to_dict, to_int, to_list, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.lists.exclusions import Exclusions
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.lists.roster import Departure, Known, Roster, Rosters, latest

_DAY_MS = 24 * 60 * 60 * 1000
_ABSENT_FOR = timedelta(hours=24)
# Of whom the roster knows too little to say that they left.
LISTED = {
    "unowned": "are in no load of the roster so far",
    "renamed": "have a row in the roster that has another address now",
    "look_alike": "have an address that the roster only has in another spelling",
}
# Policy takes access for news, not for what has been so for long.
NEWS_FOR_DAYS = 30
_READ_ALWAYS = frozenset({"enabled", "email", "administrator", "administrator_roles"})
# Where the names of a rule come from. A wrong one must be put right, but for what was right once, in a record; who
# is protected is spared by rules, and refused to a person who asks.
RULES, FORM, RECORD = "rules", "form", "record"
# What a rule that doesn't say otherwise wants of its users.
TO_DISABLE = {"enabled": False}


@dataclass(frozen=True)
class UnusedRule:
    """A paid seat that nobody uses.

    :param name: what the rule is called.
    :param inactive_days: not seen for so many days; None: users who were seen once are left alone.
    :param never_seen: users who were never seen, too.
    :param min_age_days: created, and enabled again, at least so many days ago.
    :param grace_days: flagged by a plan at least so many days ago.
    :param include_administrators: administrators, too.
    """

    name: str
    inactive_days: int | None
    never_seen: bool
    min_age_days: int = 60
    grace_days: int = 14
    include_administrators: bool = False
    user_class: str = field(default=UNUSED, init=False)
    reads: frozenset[str] = field(
        default=_READ_ALWAYS | {"created_at", "accessed_at", "paid_seat"}, init=False, repr=False
    )


@dataclass(frozen=True)
class LeftRule:
    """A person who left, by the roster.

    :param name: what the rule is called.
    :param absence: whether an address that the roster doesn't know any more counts, once two loads say so.
    """

    name: str
    absence: bool = True
    user_class: str = field(default=LEFT, init=False)
    reads: frozenset[str] = field(default=_READ_ALWAYS | {"accessed_at"}, init=False, repr=False)


@dataclass(frozen=True)
class Recorded:
    """What a review or evidence says of a user who is named by it.

    :param detail: the facts, in words without a name.
    :param reviewer: who decided it, where a review asks.
    :param note: why, in the reviewer's words.
    :param unless: what must not have changed since: values by field, as Aha! shows them.
    :param updated_at: when the user was last changed then; None when later changes don't matter.
    :param to: what this user is to be; None: what the rule says.
    :param not_ours: why evidence can't tell that its run took the access, so that the user is left as it is.
    """

    detail: str
    reviewer: str | None = None
    note: str | None = None
    unless: Mapping[str, Any] = field(default_factory=dict)
    updated_at: str | None = None
    to: Mapping[str, Any] | None = None
    not_ours: str | None = None


@dataclass(frozen=True)
class NamedRule:
    """Users whom somebody asked for, one by one.

    :param name: what the rule is called.
    :param ids: their ids.
    :param emails: their addresses, as :func:`spelled`; each must belong to one user.
    :param to: what they are to be: fields of the ``user`` object, or the ``role`` in a workspace.
    :param operation: by which operation they are changed.
    :param object: what of them is changed: ``account``, or the role in a workspace as ``w456``.
    :param origin: where the names come from: ``rules``, a ``form``, or a ``record`` (a review, evidence).
    :param known: what a review or evidence says of users, by id; see :class:`Recorded`.
    """

    name: str
    ids: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    to: Mapping[str, Any] = field(default_factory=lambda: dict(TO_DISABLE))
    origin: str = RULES
    known: Mapping[str, Recorded] = field(default_factory=dict, repr=False)
    operation: str = USER_FIELDS
    object: str = ACCOUNT
    user_class: str = field(default=NAMED, init=False)

    @property
    def reads(self) -> frozenset[str]:
        """The fields of the API that it reads."""
        return _READ_ALWAYS | {"product_roles"} if self.operation == WORKSPACE_ROLE else _READ_ALWAYS

    def wanted(self, user_id: str) -> Mapping[str, Any]:
        """Return what a user is to be.

        :param user_id: the user.
        """
        known = self.known.get(user_id)
        return known.to if known is not None and known.to is not None else self.to


Rule = UnusedRule | LeftRule | NamedRule
_SETTINGS = {
    UNUSED: {"inactive_days", "never_seen", "min_age_days", "grace_days", "include_administrators"},
    LEFT: {"absence"},
    NAMED: {"ids", "emails"},
}


def read_rules(value: object) -> tuple[Rule, ...]:
    """Read the rules of a policy.

    :param value: a list of dicts, or JSON text of one.
    :return: at least one rule; no two of the same name.
    :raises AhaConfigurationError: when they can't be right.
    """
    given = (to_dict(f'{{"rules": {value}}}', "rules") or {}).get("rules") if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not given:
        raise AhaConfigurationError(
            'rules must be a list with at least one rule, such as [{"class": "unused", "inactive_days": 90}].'
        )
    rules = tuple(_read_rule(item, number) for number, item in enumerate(given, 1))
    if len({rule.name for rule in rules}) != len(rules):
        raise AhaConfigurationError("Two rules have the same name: give each a name of its own.")
    return rules


def _read_rule(value: object, number: int) -> Rule:
    what = f"Rule {number}"
    given = to_dict(value, what)
    user_class = to_text((given or {}).get("class"), f"{what}: class")
    if given is None or user_class not in _SETTINGS:
        raise AhaConfigurationError(f"{what} must be an object with the class unused, left or named.")
    if unknown := given.keys() - _SETTINGS[user_class] - {"class", "name"}:
        raise AhaConfigurationError(
            f"{what} has no setting {', '.join(sorted(unknown))}; of class {user_class} it has "
            f"{', '.join(sorted(_SETTINGS[user_class]))}."
        )
    name = to_text(given.get("name"), f"{what}: name") or user_class
    if user_class == UNUSED:
        return _read_unused(name, given, what)
    if user_class == LEFT:
        return LeftRule(name, to_bool(given.get("absence"), f"{what}: absence", default=True))
    return _read_named(name, given, what)


def _read_unused(name: str, given: Mapping[str, Any], what: str) -> UnusedRule:
    inactive = given.get("inactive_days")
    never_seen = given.get("never_seen")
    if is_unset(inactive) and not to_bool(never_seen, f"{what}: never_seen", default=False):
        raise AhaConfigurationError(f"{what} needs inactive_days, or never_seen: true.")
    return UnusedRule(
        name,
        None if is_unset(inactive) else to_int(inactive, f"{what}: inactive_days", 0, 1, 36500),
        to_bool(never_seen, f"{what}: never_seen", default=True),
        to_int(given.get("min_age_days"), f"{what}: min_age_days", 60, 0, 36500),
        to_int(given.get("grace_days"), f"{what}: grace_days", 14, 0, 36500),
        to_bool(given.get("include_administrators"), f"{what}: include_administrators", default=False),
    )


def _read_named(name: str, given: Mapping[str, Any], what: str) -> NamedRule:
    ids = tuple(dict.fromkeys(to_list(given.get("ids"), f"{what}: ids") or ()))
    written = to_list(given.get("emails"), f"{what}: emails") or ()
    try:
        emails = tuple(dict.fromkeys(read_address(email) for email in written))
    except ValueError:
        raise AhaConfigurationError(f"{what} has an email that is none.") from None
    if not ids and not emails:
        raise AhaConfigurationError(f"{what} names nobody: give ids or emails.")
    if not all(is_id(user_id) for user_id in ids):
        raise AhaConfigurationError(f"{what} has an id that is none: a user id has digits only.")
    return NamedRule(name, ids, emails)


def ask_for(
    name: str, users: Iterable[str], to: Mapping[str, Any], operation: str = USER_FIELDS, place: str = ACCOUNT
) -> NamedRule:
    """Make the rule of what a person asked for at a form.

    :param name: what the rule is called: the reason.
    :param users: ids and emails.
    :param to: what the users, or their role, are to be.
    :param operation: by which operation they are changed.
    :param place: what of them is changed.
    :raises AhaConfigurationError: when nobody is named, or something is neither id nor email.
    """
    named = list(users)
    wrong = [f"no. {place}" for place, user in enumerate(named, 1) if "@" not in user and not is_id(user)]
    if wrong:
        verb = "is" if len(wrong) == 1 else "are"
        raise AhaConfigurationError(
            f"users: {', '.join(wrong)} {verb} neither an id, which is made of digits, nor an email."
        )
    given = {
        "class": NAMED,
        "ids": [user for user in named if "@" not in user],
        "emails": [user for user in named if "@" in user],
    }
    rule = _read_named(name, given, "users")
    return replace(rule, to=dict(to), origin=FORM, operation=operation, object=place)


@dataclass(frozen=True)
class Policy:
    """What a plan goes by.

    :param rules: any of them is enough.
    :param protected: users that no rule may touch.
    :param protect_patterns: emails and names that look like service accounts; spared until listed by id.
    """

    rules: tuple[Rule, ...]
    protected: UserMatcher = field(default_factory=UserMatcher)
    protect_patterns: UserMatcher = field(default_factory=UserMatcher)

    def of_class(self, user_class: str) -> list[Any]:
        """Return the rules of a class.

        :param user_class: one of :data:`CLASSES`.
        """
        return [rule for rule in self.rules if rule.user_class == user_class]

    @property
    def reads(self) -> frozenset[str]:
        """The fields of the API that the rules read."""
        return frozenset().union(*(rule.reads for rule in self.rules))


def as_given(rule: Rule) -> dict[str, Any]:
    """Return a rule for the record.

    :param rule: the rule.
    """
    settings = {name: value for name, value in asdict(rule).items() if name in _SETTINGS[rule.user_class]}
    return {"class": rule.user_class, "name": rule.name, **settings}


@dataclass(slots=True)
class Subject:
    """What the snapshot says about an enabled user; times are milliseconds since 1970.

    :param user_id: the id.
    :param email: the email, folded; empty when there is none.
    :param address: the email, as :func:`spelled`; empty when there is none.
    :param name: the name.
    :param created_at: when the user was created.
    :param accessed_at: when it was last seen.
    :param days_inactive: whole days since then, at the snapshot.
    :param is_paid_seat: whether the seat is paid for.
    :param is_administrator: whether the user has any administrator right.
    :param is_visit_unknown: whether Aha! doesn't say when the user was last seen, though it was seen once.
    """

    user_id: str
    email: str
    address: str
    name: str | None
    created_at: int | None
    accessed_at: int | None
    days_inactive: int | None
    is_paid_seat: bool | None
    is_administrator: bool
    is_visit_unknown: bool = False


@dataclass(frozen=True)
class Circumstances:
    """All that a decision goes by beside the user.

    :param as_of: the moment that counts as now: when the snapshot was read.
    :param policy: the rules.
    :param key_owner_id: whose key the snapshot was read with.
    :param exclusions: the exclusion file.
    :param roster: the rosters, for rules of class ``left``.
    :param before: what named users are now, by rule and user id, where it matters for what a change takes.
    :param named_by: addresses that somebody named users by, and that belong to one record only, by user id.
    :param settled: why users who were named need no change, or can't be changed, by rule and user id.
    :param enabled_again: when users were last enabled again, as far as that is known.
    :param enabled_unknown: days whose snapshots should say who was enabled again, but can't be read.
    :param flagged_since: since when users have been flagged by plan after plan.
    :param known: what earlier loads said of addresses, by roster.
    """

    as_of: datetime
    policy: Policy
    key_owner_id: str = ""
    exclusions: Exclusions | None = None
    roster: Rosters | None = None
    before: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    named_by: Mapping[str, str] = field(default_factory=dict)
    settled: Mapping[tuple[str, str], str] = field(default_factory=dict)
    enabled_again: Mapping[str, datetime] = field(default_factory=dict)
    enabled_unknown: Sequence[str] = ()
    flagged_since: Mapping[str, datetime] = field(default_factory=dict)
    known: Mapping[str, Mapping[str, Known]] = field(default_factory=dict)

    def known_by(self, roster: Roster, address: str) -> Known | None:
        """Return what earlier loads of a roster said of an address; None: none of them had it.

        :param roster: the roster.
        :param address: the address, as :func:`spelled`.
        """
        return self.known.get(roster.spec.name, {}).get(address)


@dataclass(slots=True)
class Verdict:
    """What becomes of a user, and why.

    :param user_class: the class of the rule; None when no rule applies.
    :param rule: the rule's name.
    :param detail: the facts, in words without a name.
    :param spared_by: what speaks for the user; None: planned.
    :param departure: for ``left``, what the roster says.
    :param first_flagged_at: since when rules of class ``unused`` have held but for the grace period.
    :param absent_since: since when the roster has not known the address.
    :param asked_because: of whom is planned, why a person must be asked; None: policy lets it pass.
    :param also: what else is planned of the same user: other roles, each by a rule of its own.
    :param listed: what a reader should know of the address, whatever becomes of the user: one of :data:`LISTED`.
    :param is_settled: whether the user left and an exclusion that covers leavers spares them.
    """

    user_class: str | None = None
    rule: str | None = None
    detail: str = "no rule applies"
    spared_by: str | None = "no_rule"
    departure: Departure | None = None
    first_flagged_at: datetime | None = None
    absent_since: datetime | None = None
    asked_because: str | None = None
    listed: str | None = None
    also: tuple[Verdict, ...] = ()
    is_settled: bool = False


def judge(user: Subject, on: Circumstances) -> Verdict:
    """Decide about a user.

    :param user: an enabled user.
    :param on: what the decision goes by.
    """
    found = [(rule, verdict) for rule in on.policy.rules if (verdict := _apply(rule, user, on)) is not None]
    if not found:
        return Verdict()
    if any(verdict.spared_by is None for _, verdict in found):
        why = _spared_everywhere(user, on)
        for rule, verdict in found:
            if verdict.spared_by is None and isinstance(rule, LeftRule) and (row := _covered(user, on)) is not None:
                verdict.spared_by, verdict.detail, verdict.is_settled = "excluded", f"{verdict.detail}; {row}", True
            elif verdict.spared_by is None and (here := _spared_by(rule, user, on, why)) is not None:
                verdict.spared_by, verdict.detail = here[0], verdict.detail + here[1]
            elif verdict.spared_by is None and isinstance(rule, UnusedRule):
                _grant_grace(verdict, user, rule, on)
    best = min((verdict for _, verdict in found), key=_rank)
    best.first_flagged_at = min((v.first_flagged_at for _, v in found if v.first_flagged_at), default=None)
    best.absent_since = next((v.absent_since for _, v in found if v.absent_since), None)
    best.listed = next((v.spared_by for _, v in found if v.spared_by in LISTED), None)
    if best.spared_by is None:
        best.asked_because = "; ".join(_doubts(user, best, on)) or None
        best.also = tuple(v for rule, v in found if v is not best and v.spared_by is None and _is_role(rule))
        for more in best.also:
            more.asked_because = best.asked_because
    return best


def _is_role(rule: Rule) -> bool:
    return isinstance(rule, NamedRule) and rule.operation == WORKSPACE_ROLE


def _rank(verdict: Verdict) -> tuple[bool, bool, int]:
    """Order what several rules say: planned first, then what came closest to it."""
    says_little = verdict.spared_by == "not_covered" or verdict.spared_by in LISTED
    return verdict.spared_by is not None, says_little, CLASSES.index(str(verdict.user_class))


def _apply(rule: Rule, user: Subject, on: Circumstances) -> Verdict | None:
    if isinstance(rule, UnusedRule):
        return _unused(rule, user, on)
    if isinstance(rule, LeftRule):
        return _left(rule, user, on)
    return _named(rule, user, on)


def _unused(rule: UnusedRule, user: Subject, on: Circumstances) -> Verdict | None:
    if user.is_visit_unknown:
        return None
    if user.accessed_at is None:
        if not rule.never_seen:
            return None
        detail = "never seen"
    elif rule.inactive_days is not None and (user.days_inactive or 0) >= rule.inactive_days:
        detail = f"not seen for {user.days_inactive} days"
    else:
        return None
    if user.created_at is None:
        return Verdict(UNUSED, rule.name, f"{detail}, creation unknown", "age_unknown")
    now = round(on.as_of.timestamp() * 1000)
    age = now - user.created_at
    verdict = Verdict(UNUSED, rule.name, f"{detail}, created {max(age, 0) // _DAY_MS} days ago", None)
    again = on.enabled_again.get(user.user_id)
    if user.is_paid_seat is not True:
        verdict.spared_by = "free_seat"
    elif user.is_administrator and not rule.include_administrators:
        verdict.spared_by = "administrator"
    elif user.user_id == on.key_owner_id:
        verdict.spared_by = "key_owner"
    elif age < rule.min_age_days * _DAY_MS:
        verdict.spared_by = "too_new"
    elif again is not None and on.as_of - again < timedelta(days=rule.min_age_days):
        verdict.spared_by = "enabled_again"
        verdict.detail += f", enabled again by {again:%Y-%m-%d}"
    return verdict


def _grant_grace(verdict: Verdict, user: Subject, rule: UnusedRule, on: Circumstances) -> None:
    """Flag a user, and spare it until the flag is old enough; a user seen since it was flagged starts anew."""
    since = on.flagged_since.get(user.user_id, on.as_of)
    again = on.enabled_again.get(user.user_id)
    seen = user.accessed_at is not None and user.accessed_at > since.timestamp() * 1000
    if seen or (again is not None and again > since):
        since = on.as_of
    verdict.first_flagged_at = since
    verdict.detail += f", flagged since {since:%Y-%m-%d}"
    if on.as_of - since < timedelta(days=rule.grace_days):
        verdict.spared_by = "grace"


def _left(rule: LeftRule, user: Subject, on: Circumstances) -> Verdict | None:
    rosters = on.roster
    if rosters is None:
        raise AhaConfigurationError(f"The rule {rule.name} of class left needs a roster.")
    if not rosters.covers(user.email):
        detail = "an address that the roster doesn't cover" if user.email else "no address"
        return Verdict(LEFT, rule.name, detail, "not_covered")
    departures = [r.departure(user.address, on.as_of) for r in rosters.each if r.knows(user.address)]
    if None in departures:
        return None
    verdict = _missing(rule, user, rosters, on)
    if not departures:
        return verdict or Verdict(LEFT, rule.name, "an address that no load of the roster has had", "unowned")
    departure = latest(one for one in departures if one)
    return Verdict(
        LEFT, rule.name, departure.detail, None, departure, absent_since=verdict.absent_since if verdict else None
    )


def _missing(rule: LeftRule, user: Subject, rosters: Rosters, on: Circumstances) -> Verdict | None:
    """Judge by the rosters that don't know the address; None: none of them ever knew it."""
    if rosters.resembles(user.address):
        return Verdict(LEFT, rule.name, "an address that the roster spells otherwise", "look_alike")
    sinces = []
    for roster in rosters.each:
        known = on.known_by(roster, user.address)
        if known is None or roster.knows(user.address):
            continue
        since = min(known.missing_since or roster.loaded_at, roster.loaded_at)
        if roster.continues(known):
            detail = f"the row of this address has another one since the load of {_day_of(since)}"
            return Verdict(LEFT, rule.name, detail, "renamed", absent_since=since)
        sinces.append((since, roster))
    if not sinces:
        return None
    since, roster = max(sinces, key=lambda pair: pair[0])
    verdict = Verdict(LEFT, rule.name, f"not in the roster since the load of {_day_of(since)}", absent_since=since)
    if not rule.absence:
        verdict.spared_by = "only_absent"
    else:
        verdict.spared_by = "absent_once" if roster.loaded_at - since < _ABSENT_FOR else None
    return verdict


def _day_of(load: datetime) -> str:
    return f"{load:%Y-%m-%d %H:%M} UTC"


def _doubts(user: Subject, verdict: Verdict, on: Circumstances) -> Iterator[str]:
    """Yield why policy doesn't let a planned user pass: it acts on a change that was seen, never on a state."""
    departure = verdict.departure
    if verdict.user_class != LEFT or on.roster is None:
        yield "policy lets only people pass who left"
        return
    if departure is None or departure.leave_date is None or departure.left_at is None:
        yield "the roster names no last day"
        return
    if verdict.absent_since is not None or any(one.resembles(user.address) for one in on.roster.each):
        # Its export may have failed, or spell the address otherwise: the person may be here.
        yield "another roster had the person before, or has a similar address"
    if departure.days_ago > NEWS_FOR_DAYS:
        yield f"the last day was {departure.days_ago} days ago"
    if user.created_at is None:
        yield "when the user was created is unknown"
    elif user.created_at >= _ms(departure.left_at):
        yield "the user was created after the last day"
    if user.is_visit_unknown:
        yield "when the user was last seen is unknown"
    elif seen_after_leave(user.accessed_at, departure):
        yield "seen after the last day"
    again = on.enabled_again.get(user.user_id)
    if again is not None and again >= departure.left_at:
        yield f"enabled again by {again:%Y-%m-%d}"
    elif any(day >= departure.leave_date.isoformat() for day in on.enabled_unknown):
        yield "whether the user was enabled again can't be said"
    if not _was_employed(user.address, departure, on):
        yield "no earlier load of the roster showed the person as employed"


def _was_employed(address: str, departure: Departure, on: Circumstances) -> bool:
    """Tell whether an earlier load of the roster that names the last day showed the person as employed."""
    saying = [
        roster
        for roster in (on.roster.each if on.roster else ())
        if roster.knows(address) and roster.departure(address, on.as_of) == departure
    ]
    return any((known := on.known_by(roster, address)) and known.employed_at for roster in saying)


def seen_after_leave(accessed_at: int | None, departure: Departure | None) -> bool:
    """Tell whether somebody was seen after the last day that the roster says.

    :param accessed_at: when last seen; milliseconds since 1970.
    :param departure: what the roster says.
    """
    left_at = departure.left_at if departure else None
    return bool(left_at and accessed_at is not None and accessed_at >= _ms(left_at))


def _ms(moment: datetime) -> float:
    return moment.timestamp() * 1000


def _named(rule: NamedRule, user: Subject, on: Circumstances) -> Verdict | None:
    if user.user_id in rule.ids:
        known = rule.known.get(user.user_id)
        return Verdict(NAMED, rule.name, known.detail if known else "named by id", None)
    if on.named_by.get(user.user_id) in rule.emails:
        return Verdict(NAMED, rule.name, "named by email", None)
    return None


def _spared_by(
    rule: Rule, user: Subject, on: Circumstances, everywhere: tuple[str, str] | None
) -> tuple[str, str] | None:
    """Return what speaks for a user under a rule, and what to add to the facts."""
    if not isinstance(rule, NamedRule):
        return everywhere
    key = (rule.name, user.user_id)
    if key in on.settled:
        return on.settled[key], ""
    wanted, before = rule.wanted(user.user_id), on.before.get(key, {})
    access = OPERATIONS[rule.operation].access(wanted, before)
    if access is not None and user.user_id == on.key_owner_id:
        return "key_owner", ""
    if access != TAKEN:
        # Exclusions and the look of a service account keep access from being taken, not from being given.
        protected = on.policy.protected.match(user.user_id, user.email, user.name)
        return (protected.replace(" ", "_"), "") if protected else None
    return everywhere


def _covered(user: Subject, on: Circumstances) -> str | None:
    """Return the row of the exclusion files that holds for a user who left, where there is one."""
    if on.exclusions is None:
        return None
    return on.exclusions.match_leaver(user.user_id, user.email, user.name, on.as_of.date())


def _spared_everywhere(user: Subject, on: Circumstances) -> tuple[str, str] | None:
    """Return what speaks for a user whatever the rule, and what to add to the facts."""
    who = (user.user_id, user.email, user.name)
    if reason := on.policy.protected.match(*who):
        return reason.replace(" ", "_"), ""
    if on.exclusions and (reason := on.exclusions.match(*who, on.as_of.date())):
        return "excluded", f"; {reason}"
    listed = any(user.user_id in rule.ids for rule in on.policy.of_class(NAMED))
    if not listed and on.policy.protect_patterns.match(*who):
        return "service_account", ""
    return None
