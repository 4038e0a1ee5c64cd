"""The name by which Airflow knows each part of the demo, all of which run on one host."""

import os


def name() -> str:
    """Return it."""
    return os.environ["AHA_SCALE_PLACE"]
