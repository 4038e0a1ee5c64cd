"""Show who has access to Aha!, who uses it and what is to be decided, on one page. It never changes Aha!.

It runs after every extract. The page, the same rows as CSV and the same figures as JSON lie under `reports/` below
the base path. Triggered with a *Review id*, the run also opens a review: population and page are frozen under
`reviews/`; reviewers decide on the page, download their decisions, and submit them with `aha_submit_review`.

What only your company knows comes from Variables: `aha_roster` and `aha_guards` (JSON), `aha_seat_price`,
`aha_seats_purchased` and `aha_renewal_date`. A figure without its data says what to provide.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.assets import USER_ROLES, USERS
from airflow_provider_aha.dag_parts import CONNECTION, FORM, READ, connection_field, schedule_of, settings
from airflow_provider_aha.operators.report import AhaAccessReportOperator

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
            description="Opens a review of this name, such as 2026-Q4. Empty: a report, nothing to decide.",
        ),
        **connection_field(),
    },
    tags=["aha", READ, FORM],
    **settings(__doc__, hours=2, retries=2),
):
    AhaAccessReportOperator(
        task_id="report",
        review_id="{{ params.review_id }}",
        roster="{{ var.value.get('aha_roster', '') }}",
        seat_price="{{ var.value.get('aha_seat_price', '') }}",
        seats_purchased="{{ var.value.get('aha_seats_purchased', '') }}",
        renewal_date="{{ var.value.get('aha_renewal_date', '') }}",
        aha_conn_id=CONNECTION,
    )
