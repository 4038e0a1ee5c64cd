"""What a report goes by: thresholds, prices, what it shows."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from airflow_provider_aha.common.values import is_unset, to_dict, to_int, to_list, to_text, unknown_ones
from airflow_provider_aha.exceptions import AhaConfigurationError

SECTIONS = {
    "charts": "Charts",
    "attention": "Needs attention",
    "table": "Who has access to what",
    "actions": "What was done",
    "worklist": "To do by hand",
    "appendix": "Appendix",
}
COLUMNS = {
    "person": "Person",
    "email": "Email",
    "status": "Status",
    "last_seen": "Last seen",
    "account_age": "Account age",
    "seat": "Seat",
    "administrator": "Administrator",
    "workspace": "Workspace",
    "role": "Role",
    "sign_in": "Sign-in",
    "in_roster": "In roster",
    "changed": "Since last review",
    "suggestion": "Suggestion",
    "why": "Why",
    "decision": "Decision",
    "reviewer": "Reviewer",
    "note": "Note",
}
# What puts a user under "needs attention", in this order.
ATTENTION = {
    "seen_after_leave": "Seen after leaving",
    "leaver": "Left, but still has access",
    "came_back": "Came back after being disabled",
    "new_administrator": "New administrator",
    "same_email": "Same email twice",
    "sole_owner": "Sole owner, leaving or unseen",
    "service_account": "Possible service account",
    "expired_exclusion": "Exclusion has expired",
}
# The quick filters of the table that depend on a person, and all of them.
PERSON_CHIPS = {
    **ATTENTION,
    "unused": "Unused seats",
    "never_seen": "Never seen",
    "administrator": "Administrators",
}
CHIPS = {**PERSON_CHIPS, "new": "New since last review", "undecided": "Undecided"}
FILTERS = ("chip", "status", "seat", "workspace", "role", "sign_in", "suggestion", "decision", "search")
_THRESHOLDS = {"inactive_days": 60, "never_seen_days": 60, "review_every_days": 90, "max_rows": 100_000}
_PRICE = re.compile(r"(?:(?P<before>[A-Z]{3}) ?)?(?P<amount>\d+(?:\.\d{1,2})?)(?: ?(?P<after>[A-Z]{3}))?")


@dataclass(frozen=True)
class Price:
    """What a paid seat costs for a year.

    :param amount: the number.
    :param currency: three letters; empty when none were given.
    """

    amount: float
    currency: str

    def __str__(self) -> str:
        """Return the price of one seat, for people."""
        return f"{self.amount:,.2f}".removesuffix(".00") + f" {self.currency}".rstrip()

    def times(self, seats: int) -> str:
        """Return the price of seats, for people, without the currency.

        :param seats: how many.
        """
        return f"{self.amount * seats:,.0f}"


@dataclass(frozen=True)
class Terms:
    """What a report goes by.

    :param title: the page's heading.
    :param sections: which sections the page has below the tiles.
    :param columns: which columns the table shows.
    :param filters: the filters that a page without filters in its address begins with.
    :param inactive_days: a seat is unused when its user was not seen for so many days.
    :param never_seen_days: or never, and was created so many days ago.
    :param review_every_days: the control is overdue when the last submitted review is older.
    :param max_rows: a page with more rows carries those that need attention only.
    :param seat_price: what a paid seat costs for a year.
    :param seats_purchased: how many were bought.
    :param renewal_date: when the contract is renewed.
    """

    title: str = "Access review"
    sections: tuple[str, ...] = tuple(SECTIONS)
    columns: tuple[str, ...] = tuple(COLUMNS)
    filters: Mapping[str, str] = field(default_factory=dict)
    inactive_days: int = 60
    never_seen_days: int = 60
    review_every_days: int = 90
    max_rows: int = 100_000
    seat_price: Price | None = None
    seats_purchased: int | None = None
    renewal_date: date | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Terms:
        """Read what somebody wrote, also as text.

        :param given: keys as the operator's arguments.
        :raises AhaConfigurationError: when it can't be right.
        """
        thresholds = to_dict(given.get("thresholds"), "thresholds") or {}
        _check_names(thresholds, _THRESHOLDS, "thresholds")
        purchased = given.get("seats_purchased")
        return cls(
            title=to_text(given.get("title"), "title") or "Access review",
            sections=_some(given.get("sections"), "sections", tuple(SECTIONS)),
            columns=_some(given.get("columns"), "columns", tuple(COLUMNS)),
            filters=_filters(given.get("filters")),
            seat_price=_price(to_text(given.get("seat_price"), "seat_price")),
            seats_purchased=None if is_unset(purchased) else to_int(purchased, "seats_purchased", 0, 0, 10**7),
            renewal_date=_date(to_text(given.get("renewal_date"), "renewal_date")),
            **{
                name: to_int(thresholds.get(name), f"thresholds.{name}", default, 1, 10**7)
                for name, default in _THRESHOLDS.items()
            },
        )


def _check_names(given: Mapping[str, Any], known: Collection[str], what: str) -> None:
    if unknown := unknown_ones(given, known):
        raise AhaConfigurationError(f"{what} has what there isn't: {unknown}. There are {', '.join(known)}.")


def _some(value: object, what: str, known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = to_list(value, what)
    if chosen is None:
        return known
    _check_names(dict.fromkeys(chosen), known, what)
    return tuple(name for name in known if name in chosen)


def _filters(value: object) -> dict[str, str]:
    given = to_dict(value, "filters") or {}
    _check_names(given, FILTERS, "filters")
    texts = {name: to_text(text, f"filters.{name}") for name, text in given.items()}
    found = {name: text for name, text in texts.items() if text}
    if "chip" in found:
        _check_names({found["chip"]: None}, CHIPS, "filters.chip")
    return found


def _price(text: str | None) -> Price | None:
    if text is None:
        return None
    match = _PRICE.fullmatch(text)
    if match is None or (match["before"] and match["after"]):
        raise AhaConfigurationError("seat_price must be the price of one seat for a year, such as 900 or 900 EUR.")
    return Price(float(match["amount"]), match["before"] or match["after"] or "")


def _date(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise AhaConfigurationError("renewal_date must be a day such as 2026-12-31.") from None
