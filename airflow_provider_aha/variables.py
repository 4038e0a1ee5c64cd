"""What the example DAGs take from Airflow Variables, as templates: a DAG file that is parsed asks for none."""

from __future__ import annotations

import logging

from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

# An expression, for a template: whether scheduled DAGs may write to Aha!.
WRITES_ENABLED = "var.value.get('aha_writes_enabled', 'false') | lower | trim == 'true'"


def may_write(writes_enabled: str) -> bool:
    """Tell whether a scheduled run may write to Aha!, and say why where it stays a dry run.

    :param writes_enabled: :data:`WRITES_ENABLED` as it was rendered.
    """
    log = logging.getLogger(__name__)
    if not AIRFLOW_V_3_1_PLUS:
        log.warning("The approval by a person needs Airflow 3.1 or newer: this stays a dry run.")
    elif writes_enabled != "True":
        log.warning("The Variable aha_writes_enabled is not true: this stays a dry run.")
    return AIRFLOW_V_3_1_PLUS and writes_enabled == "True"
