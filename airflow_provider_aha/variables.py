"""What the example DAGs take from Airflow Variables, as templates: a DAG file that is parsed asks for none."""

from __future__ import annotations

# An expression, for a template: whether scheduled DAGs may write to Aha!.
WRITES_ENABLED = "var.value.get('aha_writes_enabled', 'false') | lower | trim == 'true'"
