"""A plan for people to read: Markdown, safe to show wherever Markdown is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_provider_aha.access.plan.plan import CLASSES, Plan, PlanRow

_WORDS = {"left": "left the company", "named": "asked for by name", "unused": "seat that nobody uses"}
_COLUMNS = ("User id", "Email", "Class", "Why", "Administrator", "Sole owner of", "Seen after leaving")


def question(plan: Plan, requested_by: str) -> str:
    """Ask a person whether a plan is to be carried out.

    :param plan: the plan.
    :param requested_by: who, or what, started the run.
    :return: Markdown with emails in it.
    """
    return (
        "**Approve** disables these users in Aha!: they can't log in any more. Nothing of theirs is deleted, and "
        "they can be enabled again. **Reject**, or no answer in time, changes nothing.\n\n"
        f"Started by: {_plain(requested_by)}. Another person has to approve it.\n\n{summary(plan)}"
    )


def summary(plan: Plan, limit: int = 50) -> str:
    """Describe a plan.

    :param plan: the plan.
    :param limit: at most so many users are listed, those that need a second look first.
    :return: Markdown with emails in it.
    """
    return "\n".join(_lines(plan, limit)) + "\n"


def _lines(plan: Plan, limit: int) -> Iterator[str]:
    counts = plan.counts
    if plan.sandbox:
        yield "**SANDBOX DATA**\n"
    planned = f"{len(plan.rows)} of {plan.enabled_users} enabled users"
    yield f"# {planned} of {_plain(plan.account)} are planned to lose access\n"
    for sentence in plan.header["protects_nobody"]:
        yield f"**{_plain(sentence)}**\n"
    if counts["seen_after_leave"]:
        yield f"**{counts['seen_after_leave']} were seen after the day they left.**\n"
    yield "| Class | Users |\n| --- | ---: |"
    for name in CLASSES:
        yield f"| {name}: {_WORDS[name]} | {counts['planned'][name]} |"
    yield f"| of these, administrators | {counts['planned_administrators']} |"
    yield f"| of these, only owners of a workspace | {counts['planned_sole_owners']} |\n"
    for entry in plan.header["unresolved"]:
        yield f"- {_plain(entry['rule'])} asks for {_plain(entry['asked'])}: {_plain(entry['reason'])}"
    yield ""
    yield from _table(plan.rows, limit)
    yield ""
    for note in plan.header["notes"]:
        yield f"- {_plain(note)}"
    if counts["spared"]:
        spared = ", ".join(
            f"{_plain(reason.replace('_', ' '))} {count}" for reason, count in counts["spared"].items()
        )
        yield f"\nLeft alone: {spared}."
    yield f"\nFacts as of {plan.header['as_of']}. `{plan.path}`, SHA-256 `{plan.sha256}`."


def _table(rows: Sequence[PlanRow], limit: int) -> Iterator[str]:
    if not rows:
        yield "Nobody is to lose access."
        return
    first = sorted(
        rows, key=lambda row: (not row.seen_after_leave, not row.is_administrator, not row.sole_owner_of)
    )
    yield f"| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}"
    for row in first[:limit]:
        cells = (
            row.user_id,
            row.email,
            row.user_class,
            row.detail if row.rule == row.user_class else f"{row.rule}: {row.detail}",
            "yes" if row.is_administrator else "",
            row.sole_owner_of or "",
            "yes" if row.seen_after_leave else "",
        )
        yield f"| {' | '.join(_plain(cell) for cell in cells)} |"
    if len(rows) > limit:
        yield f"\n{len(rows) - limit} more are in the plan."


def _plain(value: object) -> str:
    """Make a text mean nothing but itself in Markdown, HTML and Jinja."""
    text = "" if value is None else str(value)
    return "".join(char if char.isalnum() or char in " @.,;:()%-" else f"&#{ord(char)};" for char in text)
