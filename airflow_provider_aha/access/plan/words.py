"""A plan for people to read: Markdown, safe to show wherever Markdown is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_aha.access.operations.registry import WORKSPACE_ROLE
from airflow_provider_aha.access.operations.user_fields import ADMINISTRATOR_ROLES, is_administrator
from airflow_provider_aha.access.operations.workspace_role import workspace_of
from airflow_provider_aha.access.plan.plan import CHANGE_ROLES, CLASSES, DEACTIVATE, REACTIVATE, Plan, PlanRow
from airflow_provider_aha.common.persons import names_nobody
from airflow_provider_aha.common.text import visible

_CLASSES = {"left": "left the company", "named": "asked for by name", "unused": "seat that nobody uses"}
_TITLES = {
    DEACTIVATE: "planned to lose access",
    REACTIVATE: "planned to get access again",
    CHANGE_ROLES: "planned to get another role in a workspace",
}
_EFFECTS = {
    DEACTIVATE: "disables these users in Aha!: they can't log in any more. Nothing of theirs is deleted, and they "
    "can be enabled again",
    REACTIVATE: "enables these users in Aha! again: they can log in, with the roles and rights that the table "
    "shows. Aha! may bill for each paid seat at once",
    CHANGE_ROLES: "changes the roles of these users in Aha! as the table says. Whether a smaller role frees a paid "
    "seat depends on the contract with Aha!; the next extracts show it",
}
_UPDATE = "changes these users in Aha! as the table says"
_COLUMNS = ("User id", "Name", "Email", "What", "Why", "Role and seat", "Last seen", "Loses its owner")
# So many workspaces of one role, and so many roles, are named in a cell; the plan has all of them.
_PLACES, _ROLES = 5, 4
# Characters of a cell or a line: a reason has fewer, but a name of Aha!'s may have a million.
_LONGEST = 2500
_REASONS = {
    "unknown": "no user of the account",
    "unknown_workspace": "nobody has a role in this workspace: is its id right?",
    "roles_not_known": "the snapshot doesn't say which roles the user has",
    "not_undoable": "a developer can't be given back by Aha!'s API: change this role in Aha! itself",
    "last_owner": "the workspace has no other owner",
    "disabled": "is disabled, so roles are left alone",
    "ambiguous": "several users have this email: name the one you mean by its id",
    "look_alike": "only looks like the email of a user: name the user by id",
    "already_as_wanted": "already as wanted, nothing to do",
    "no_room_in_the_caps": "more than the caps allow within seven days: name fewer, or ask again later",
    "gone": "not in the account any more",
    "not_proven": "nothing proves that the run took the access: look who did",
    "changed_since": "was changed since, so it is left alone",
    "email_taken": "another user has the new email",
    "key_owner": "owns the API key of the connection",
    "excluded": "is in the exclusion file",
    "service_account": "looks like a service account: name it by id if you mean it",
}


_UNDO = (
    "gives back to these users what a run took, as the table says: a login with the roles and rights that it "
    "brings, an email, an administrator right. Aha! may bill for each paid seat at once"
)


def question(plan: Plan, requested_by: str, asked: Sequence[PlanRow] | None = None) -> str:
    """Ask a person whether a plan is to be carried out.

    :param plan: the plan.
    :param requested_by: who, or what, started the run.
    :param asked: the rows that the answer is about; None: all.
    :return: Markdown with names and emails in it.
    """
    asked = plan.rows if asked is None else asked
    passing = len(plan.rows) - len(asked)
    others = f"Policy lets {passing} more pass: they don't wait for your answer.\n\n" if passing else ""
    owners = ", ".join(map(_plain, plan.roster_owners))
    of_roster = f" No owner of the roster may: {owners}." if owners else ""
    what = _UNDO if plan.is_undo else _EFFECTS.get(plan.action, _UPDATE)
    return (
        f"{''.join(_changed(plan))}**Approve** {what}. **Reject**, or no answer in time, changes nothing.\n\n"
        f"Started by: {_plain(requested_by)}. {_who_answers(plan, requested_by)}{of_roster}\n\n{others}"
        f"{summary(plan, asked=asked)}"
    )


def _who_answers(plan: Plan, requested_by: str) -> str:
    """Say who may approve; see :func:`airflow_provider_aha.access.plan.approval.check_approval`."""
    if not names_nobody(requested_by):
        return "Another person has to approve it."
    if plan.sandbox:
        return "This is the sandbox: where Airflow has no logins, the same person may approve it."
    return "A person whom Airflow knows by name has to approve it."


def document(plan: Plan) -> str:
    """Describe a plan for a file beside it.

    :param plan: the plan.
    :return: Markdown with names and emails in it.
    """
    return f"{''.join(_changed(plan))}{summary(plan)}"


def _changed(plan: Plan) -> Iterator[str]:
    """Say what has changed since the last plan, where anything has."""
    if changed := plan.header["changed"]:
        yield f"**Changed since the last plan, of {changed['since']}:**\n\n"
        yield from (f"- {_plain(one['setting'])}: {_plain(one['text'])}\n" for one in changed["settings"])
        yield "\n"


def subject(plan: Plan, asked: int | None = None) -> str:
    """Say in one line what a person is asked.

    :param plan: the plan.
    :param asked: how many users the answer is about; None: all.
    """
    verb = {DEACTIVATE: "Disable", REACTIVATE: "Enable"}.get(plan.action, "Change")
    verb = "Give access back to" if plan.is_undo else verb
    users = _users(len(plan.rows) if asked is None else asked)
    return f"{verb} {users} of {_plain(plan.account)} in Aha!?"


def summary(plan: Plan, limit: int = 50, asked: Sequence[PlanRow] | None = None) -> str:
    """Describe a plan.

    :param plan: the plan.
    :param limit: at most so many users are listed, those that need a second look first.
    :param asked: the rows to list; None: all.
    :return: Markdown with names and emails in it.
    """
    return "\n".join(_lines(plan, limit, plan.rows if asked is None else asked)) + "\n"


def _lines(plan: Plan, limit: int, listed: Sequence[PlanRow]) -> Iterator[str]:
    counts, header = plan.counts, plan.header
    if plan.sandbox:
        yield "**SANDBOX DATA**\n"
    of = f"{plan.enabled_users} enabled users" if plan.action == DEACTIVATE else f"{counts['users']} users"
    title = f"{'is' if len(plan.rows) == 1 else 'are'} {_TITLES.get(plan.action, 'planned to be changed')}"
    yield f"# {len(plan.rows)} of {of} of {_plain(plan.account)} {title}\n"
    yield from _unresolved(header["unresolved"])
    for sentence in plan.header["protects_nobody"]:
        yield f"**{_plain(sentence)}**\n"
    yield from _caps(plan)
    if blocked := header["blocked"]:
        named = ", ".join(f"{_plain(one['user_id'])} ({_plain(_words(one['reason']))})" for one in blocked)
        yield f"**{_users(len(blocked))} left, and the access stays, because a guard holds it:** {named}\n"
    if counts["seen_after_leave"]:
        yield f"**{counts['seen_after_leave']} were seen after the day they left.**\n"
    asked = (("Reason", "reason"), ("Ticket", "ticket"), ("Asked for by", "asked_by"))
    yield from (f"- {word}: {_plain(header[name])}" for word, name in asked if header[name])
    yield from _review(header.get("policy") or {})
    yield from _classes(counts)
    yield from _table(listed, limit)
    yield ""
    for note in header["notes"]:
        yield f"- {_plain(note)}"
    # Of most users no rule says anything: that is nobody to look at.
    spared = {reason: count for reason, count in counts["spared"].items() if reason != "no_rule"}
    if spared:
        named = ", ".join(f"{_plain(_words(reason))} {count}" for reason, count in spared.items())
        yield f"\nLeft alone: {named}."
    yield f"\nFacts as of {header['as_of']}. `{plan.path}`, SHA-256 `{plan.sha256}`."


def _review(policy: Mapping[str, Any]) -> Iterator[str]:
    """Name the review that decided, and who submitted it; who decided stands in each row."""
    if policy.get("review"):
        by = f", submitted by {_plain(policy['submitted_by'])}" if policy.get("submitted_by") else ""
        yield f"- Review: {_plain(policy['review'])}{by}"


def _classes(counts: Mapping[str, Any]) -> Iterator[str]:
    """Count the users by class, without rows of zeros."""
    rows = [(f"{name}: {_CLASSES[name]}", counts["planned"][name]) for name in CLASSES]
    rows.append(("of these, administrators", counts["planned_administrators"]))
    rows.append(("of these, only owners of a workspace", counts["planned_sole_owners"]))
    if any(count for _, count in rows):
        yield "\n| Class | Users |\n| --- | ---: |"
        yield from (f"| {name} | {count} |" for name, count in rows if count)
    yield ""


def _unresolved(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not entries:
        return
    yield f"**{len(entries)} of those who were named are not on the plan:**\n"
    for entry in entries:
        reason = str(entry["reason"])
        ids = [f"id {_plain(one)}" for one in entry["ids"] if one != entry["asked"]]
        who = ", ".join([_plain(entry["asked"]), *ids])
        yield f"- {who}: {_plain(entry['detail'] or _REASONS.get(reason, _words(reason)))}"
    yield ""


def _caps(plan: Plan) -> Iterator[str]:
    """Say whom the caps postpone, and whether the plan can be carried out."""
    caps, more = plan.header["caps"], plan.counts["postponed"]
    if not caps:
        return
    held = (
        f"{caps['max_users']} users and {caps['max_percent']:g} % of the enabled users may be changed within seven "
        f"days, so {caps['allowed']}; {caps['recent']} were changed already"
    )
    if more:
        yield (
            f"**{more} more are postponed.** {held}.{_room(caps)} Who hasn't been seen for longest goes first. "
            "Those who are postponed come first in the next plan; those who were named have to be named again.\n"
        )
    if caps["over"]:
        yield (
            f"**{caps['over']} users too many to be carried out.** {held}. The writing task does nothing unless "
            "the DAG's code passes the SHA-256 of this plan as `approved_plan_sha256`.\n"
        )


def _room(caps: Mapping[str, Any]) -> str:
    """Say when there will be room again, if there is none now."""
    if not caps["room_from"]:
        return ""
    first, all_of_it = caps["room_from"], caps["all_room_from"]
    return f" There is room again from {first} on, and for as many as allowed from {all_of_it} on."


def _table(rows: Sequence[PlanRow], limit: int) -> Iterator[str]:
    if not rows:
        yield "Nobody's access is to change."
        return
    first = sorted(rows, key=lambda row: (not row.seen_after_leave, not _has_rights(row), not row.sole_owner_of))
    # Nobody gets an administrator right back whom the person who approves hasn't seen.
    limit = max(limit, sum(row.seen_after_leave or _has_rights(row) for row in rows))
    yield f"| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}"
    for row in first[:limit]:
        cells = (
            row.user_id,
            row.name,
            row.email,
            effect(row),
            _why(row),
            standing(row),
            row.accessed_at or "never",
            _owned(row),
        )
        yield f"| {' | '.join(_plain(cell) for cell in cells)} |"
    if len(rows) > limit:
        yield f"\n{len(rows) - limit} more are in the plan."


def _why(row: PlanRow) -> str:
    parts = [row.detail if row.rule == row.user_class else f"{row.rule}: {row.detail}"]
    if row.seen_after_leave:
        parts.append("seen after leaving")
    if row.asked_because:
        parts.append(f"asked because: {row.asked_because}")
    if row.reviewer:
        parts.append(f"decided by {row.reviewer}")
    if row.note:
        parts.append(f"note: {row.note}")
    return "; ".join(parts)


def effect(row: PlanRow) -> str:
    """Say what a row of a plan does to its user, without the user's name.

    :param row: the row.
    :return: plain text; an email that is set is in it.
    """
    return "; ".join(_effects(row))


def _effects(row: PlanRow) -> Iterator[str]:
    wanted, before = row.wanted, row.before
    if row.operation == WORKSPACE_ROLE:
        place = workspace_of(row.object)
        where = f"{row.object_name} ({place})" if row.object_name else place
        yield f"role from {before.get('role')} to {wanted['role']} in {where}"
    if wanted.get("enabled") is False:
        yield "disable: no login any more"
    if wanted.get("enabled") is True:
        yield f"enable; what comes back: {standing(row) if _has_any(row) else 'no role and no right'}"
    if "email" in wanted:
        yield (
            f"email from {before.get('email') or 'none'} to {wanted['email']}: whoever reads that mailbox has the "
            "account"
        )
    if "administrator" in wanted:
        verb = "give" if wanted["administrator"] else "take"
        yield f"{verb} all administrator rights ({_rights(ADMINISTRATOR_ROLES)})"
    for name, given in (wanted.get("administrator_roles") or {}).items():
        yield f"{'give' if given else 'take'} the administrator right for {_right(name)}"
    for name in ("first_name", "last_name"):
        if name in wanted:
            yield f"{name.replace('_', ' ')} to {wanted[name]}"


def standing(row: PlanRow) -> str:
    """Say which rights, roles and seat a user of a plan has.

    :param row: the row.
    """
    parts = [f"administrator for {_rights(row.rights)}"] if row.rights else []
    if not row.rights and row.is_administrator:
        parts.append("administrator")
    if row.roles is None:
        parts.append("roles not known")
    else:
        parts += [_role(role) for role in row.roles[:_ROLES]]
        if len(row.roles) > _ROLES:
            parts.append(f"{len(row.roles) - _ROLES} more roles")
    parts.append({True: "paid seat", False: "free seat", None: "seat not known"}[row.is_paid_seat])
    return ", ".join(parts)


def _has_rights(row: PlanRow) -> bool:
    """Tell whether a user has administrator rights, or gets any."""
    return row.is_administrator or is_administrator(row.wanted)


def _has_any(row: PlanRow) -> bool:
    return bool(row.is_administrator or row.roles is None or row.roles or row.is_paid_seat)


def _role(role: Mapping[str, Any]) -> str:
    places = [str(place) for place in role["workspaces"]]
    if not places:
        return str(role["role"])
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return f"{role['role']} in {', '.join(places[:_PLACES])}{more}"


def _owned(row: PlanRow) -> str:
    """Name the workspaces that nobody would own any more."""
    if row.operation == WORKSPACE_ROLE or row.wanted.get("enabled") is not False:
        # The last owner of a workspace keeps the role.
        return ""
    if row.sole_owner_of is None:
        return "not known"
    places = [str(place) for place in row.sole_owner_of]
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return f"{', '.join(places[:_PLACES])}{more}"


def _rights(names: Sequence[str]) -> str:
    return ", ".join(map(_right, names))


def _right(name: str) -> str:
    return name.removeprefix("administer_")


def _words(reason: object) -> str:
    return str(reason).replace("_", " ")


def _users(count: int) -> str:
    return f"{count} user" if count == 1 else f"{count} users"


def _plain(value: object) -> str:
    """Make a text mean nothing but itself in Markdown, HTML and Jinja; what hides in it, or turns it, is seen."""
    text = "" if value is None else visible(" ".join(str(value).split()))
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} (cut)"
    return "".join(char if char.isalnum() or char in " @.,;:()%-" else f"&#{ord(char)};" for char in text)
