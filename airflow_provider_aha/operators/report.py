"""The operator that makes the access review page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_aha.common.values import is_unset, to_dict, to_text, unknown_ones
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_base_path, resolve_path
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.guards import exclusions_of, protected_by_variable
from airflow_provider_aha.operators.links import AccessReportLink, leave_report
from airflow_provider_aha.operators.plan import rosters_reader
from airflow_provider_aha.operators.writes import run_of

# How the page looks where nobody says otherwise, also that of a scheduled run.
PAGE_VARIABLE = "aha_review_page"
_PAGE = ("title", "sections", "columns", "filters")
# Decisions about a hundred thousand rows, with a note on each.
_LARGEST_DECISIONS = 64 * 1024 * 1024

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.report.build import Asked


class AhaAccessReportOperator(AhaOperator):
    """Make the access review of an account from its newest snapshot; Aha! isn't asked.

    ``access_review.html``, ``access_review.csv`` and ``access_summary.json`` lie beside each other below
    ``reports/`` afterwards. With a ``review_id`` they are frozen below ``reviews/`` as well, so that decisions
    can be asked for and submitted.

    ``title``, ``sections``, ``columns`` and ``filters`` that are left out come from the Airflow Variable
    ``aha_review_page``, a JSON object with these keys.

    :param base_path: where the snapshots are; left out: the Airflow Variable ``aha_output_path``, else
        ``$AIRFLOW_HOME/aha``. (templated)
    :param review_id: opens a review of this name, such as ``2026-Q4``; a name is used once, and one that a
        spreadsheet program would change (``2026-10``) is refused. (templated)
    :param title: the page's heading. (templated)
    :param sections: some of ``charts``, ``attention``, ``table``, ``actions``, ``worklist``, ``appendix``; left
        out: all. (templated)
    :param columns: which facts the table shows; left out: all. (templated)
    :param thresholds: dict with ``inactive_days`` (60), ``never_seen_days`` (60), ``review_every_days`` (90) and
        ``max_rows`` (100000: a page with more carries only the rows that need attention). (templated)
    :param filters: dict of filters that the table begins with, such as ``{"chip": "leaver"}``. (templated)
    :param seat_price: the price of one paid seat for a year, such as ``900 EUR``. (templated)
    :param seats_purchased: how many paid seats were bought. (templated)
    :param renewal_date: the day on which the contract is renewed, ``YYYY-MM-DD``. (templated)
    :param roster: dict that says where the roster is and how it is read, as for plans. (templated)
    :param exclusions: path of an exclusion file, beside those of the Variable ``aha_guards``. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: the figures, the one sentence and the page's address, as in ``access_summary.json``; no names, no
        emails.
    :raises AirflowFailException: without retries, when there is no snapshot, a file was changed, the review
        exists, or an argument can't be right.
    """

    operator_extra_links: tuple[Any, ...] = (AccessReportLink(), *AhaOperator.operator_extra_links)
    template_fields: Sequence[str] = (
        "base_path",
        "review_id",
        "title",
        "sections",
        "columns",
        "thresholds",
        "filters",
        "seat_price",
        "seats_purchased",
        "renewal_date",
        "roster",
        "exclusions",
        "aha_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "thresholds": "json",
        "roster": "json",
        "filters": "json",
    }

    def __init__(
        self,
        *,
        base_path: str | None = None,
        review_id: str | None = None,
        title: str | None = None,
        sections: Sequence[str] | str | None = None,
        columns: Sequence[str] | str | None = None,
        thresholds: Mapping[str, Any] | str | None = None,
        filters: Mapping[str, Any] | str | None = None,
        seat_price: str | float | None = None,
        seats_purchased: int | str | None = None,
        renewal_date: str | None = None,
        roster: Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | None = None,
        exclusions: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.base_path = base_path
        self.review_id = review_id
        self.title = title
        self.sections = sections
        self.columns = columns
        self.thresholds = thresholds
        self.filters = filters
        self.seat_price = seat_price
        self.seats_purchased = seats_purchased
        self.renewal_date = renewal_date
        self.roster = roster
        self.exclusions = exclusions

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the report.

        :param context: the task's context.
        :return: the summary.
        """
        from airflow_provider_aha.report.build import make_report

        with without_useless_retries(self.aha_conn_id):
            self.link_to(context)
            location = resolve_base_path(self.base_path)
            summary = make_report(location, self._asked(context))
        self.log.info("%s: %s", summary["account"], summary["sentence"])
        self.log.info("Page: %s", summary["page"])
        leave_report(context, summary)
        return summary

    def _asked(self, context: Context) -> Asked:
        from airflow_provider_aha.lists.roster import RosterSpec
        from airflow_provider_aha.report.build import Asked
        from airflow_provider_aha.review.terms import Terms

        specs = RosterSpec.read_all(self.roster)
        names = ("thresholds", "seat_price", "seats_purchased", "renewal_date")
        return Asked(
            account=self.hook.get_conn().config.account,
            run=run_of(context),
            terms=Terms.read({**{name: getattr(self, name) for name in names}, **self._page()}),
            roster=rosters_reader(specs) if specs else None,
            exclusions=tuple(map(resolve_path, exclusions_of(self.exclusions))),
            protected=protected_by_variable(),
            review_id=to_text(self.review_id, "review_id"),
        )

    def _page(self) -> dict[str, Any]:
        """Return how the page looks, by the arguments and, where they say nothing, by the Variable."""
        from airflow.providers.common.compat.sdk import Variable

        what = f"The Variable {PAGE_VARIABLE}"
        page = to_dict(Variable.get(PAGE_VARIABLE, None), what) or {}
        if unknown := unknown_ones(page, _PAGE):
            raise AhaConfigurationError(f"{what} has what there isn't: {unknown}. There are {', '.join(_PAGE)}.")
        own = {name: getattr(self, name) for name in _PAGE}
        return {name: page.get(name) if is_unset(value) else value for name, value in own.items()}


class AhaSubmitReviewOperator(AhaOperator):
    """Record the decisions of a review, once and for all.

    The file is the one that the review's page downloads; it may have been through a spreadsheet program. It is
    refused unless it is of an open review, younger than 14 days, has every row exactly once, and every row is
    decided, by somebody else than the person that it is about. The login that submits is recorded beside the
    reviewers that the file names. Submitting the same file again changes nothing.

    :param file: path or URL of the CSV file, readable by the worker. (templated)
    :param text: or its content. (templated)
    :param base_path: where the reviews are; left out: the Airflow Variable ``aha_output_path``, else
        ``$AIRFLOW_HOME/aha``. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: ``review_id``, ``decisions`` (count by decision), ``revoke_accounts`` (ids of those who are to lose
        the account, for a plan of class ``named``) and what else was recorded; no names, no emails.
    :raises AirflowFailException: without retries, when the file is refused.
    """

    template_fields: Sequence[str] = ("file", "text", "base_path", "aha_conn_id")

    def __init__(
        self, *, file: str | None = None, text: str | None = None, base_path: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.text = text
        self.base_path = base_path

    def execute(self, context: Context) -> dict[str, Any]:
        """Record the decisions.

        :param context: the task's context.
        :return: what was recorded.
        """
        from airflow_provider_aha.review.submission import submit

        with without_useless_retries(self.aha_conn_id):
            self.link_to(context)
            location = resolve_base_path(self.base_path)
            account = self.hook.get_conn().config.account
            record = submit(location, account, self._body(), run_of(context))
        found = ", ".join(f"{count} {decision}" for decision, count in record["decisions"].items())
        self.log.info("Review %s of %s: %s", record["review_id"], record["account"], found)
        return record

    def _body(self) -> bytes:
        file, text = to_text(self.file, "file"), to_text(self.text, "text")
        if (file is None) == (text is None):
            raise AhaConfigurationError("Give either the path of the file, or its content.")
        if text is not None:
            return text.encode()
        return resolve_path(str(file)).read_limited("The file of decisions", _LARGEST_DECISIONS)
