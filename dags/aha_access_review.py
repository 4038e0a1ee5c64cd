"""Show who has access to Aha!, who uses it and what is to be decided, on one page. It never changes Aha!.

It runs after every extract. The page, the same rows as CSV and the same figures as JSON lie under `reports/` below
the base path. Triggered with a *Review id*, the run also opens a review: population and page are frozen under
`reviews/`; reviewers decide on the page, download their decisions, and submit them with `aha_submit_review`.

What only your company knows comes from Variables: `aha_roster` and `aha_guards` (JSON), `aha_seat_price`,
`aha_seats_purchased` and `aha_renewal_date`. A figure without its data says what to provide. How the page looks
stands on the form; for scheduled runs, and where the form says nothing, in the Variable `aha_review_page`, such as
`{"title": "Access to Aha!", "columns": ["person", "role", "workspace"], "filters": {"chip": "leaver"}}`.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.assets import USER_ROLES, USERS
from airflow_provider_aha.dag_parts import (
    CONNECTION,
    FORM,
    READ,
    connection_field,
    schedule_of,
    settings,
    text_field,
)
from airflow_provider_aha.operators.report import AhaAccessReportOperator
from airflow_provider_aha.review.terms import CHIPS, COLUMNS, SECTIONS

PAGE = "The page"
AS_USUAL = "as usual"
FIRST_FILTER = "{{ '' if params.first_filter == '" + AS_USUAL + "' else {'chip': params.first_filter} | tojson }}"

with DAG(
    dag_id="aha_access_review",
    dag_display_name="Aha! – Show or open an access review",
    schedule=schedule_of("aha_access_review", [USERS, USER_ROLES]),
    params={
        "review_id": Param(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
            title="Review id",
            description="Opens a review of this name, such as 2026-Q4. Empty: a report, nothing to decide. A name "
            "that a spreadsheet program would change, such as 2026-10, is refused.",
        ),
        **connection_field(),
        "title": text_field("Title", "The page's heading, such as Access to Aha!, autumn 2026.", section=PAGE),
        "sections": Param(
            None,
            type=["null", "array"],
            examples=list(SECTIONS),
            values_display=SECTIONS,
            title="Sections",
            description="What the page has below the figures. Empty: all.",
            section=PAGE,
        ),
        "columns": Param(
            None,
            type=["null", "array"],
            examples=list(COLUMNS),
            values_display=COLUMNS,
            title="Columns",
            description="What the table shows. Empty: all. The CSV always has all.",
            section=PAGE,
        ),
        "first_filter": Param(
            AS_USUAL,
            type="string",
            enum=[AS_USUAL, *CHIPS],
            values_display={AS_USUAL: "As usual", **CHIPS},
            title="First filter",
            description=f"Whom the table shows when the page is opened; {AS_USUAL}: whom the Variable "
            "aha_review_page names, else everybody.",
            section=PAGE,
        ),
    },
    tags=["aha", READ, FORM],
    **settings(__doc__, hours=2, retries=2),
):
    AhaAccessReportOperator(
        task_id="report",
        review_id="{{ params.review_id }}",
        title="{{ params.title }}",
        sections="{{ params.sections or '' }}",
        columns="{{ params.columns or '' }}",
        filters=FIRST_FILTER,
        roster="{{ var.value.get('aha_roster', '') }}",
        seat_price="{{ var.value.get('aha_seat_price', '') }}",
        seats_purchased="{{ var.value.get('aha_seats_purchased', '') }}",
        renewal_date="{{ var.value.get('aha_renewal_date', '') }}",
        aha_conn_id=CONNECTION,
    )
