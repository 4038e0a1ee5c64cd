"""The columns of the datasets, in order and type: a contract with every warehouse that loads them."""

import pyarrow as pa
import pytest

from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.schemas import BY_DATASET

COLUMNS = {
    "users": """
        id string!, name string, email string, timezone string, created_at timestamp, updated_at timestamp,
        accessed_at timestamp, is_enabled bool, is_paid_seat bool, is_administrator bool,
        administers_account bool, administers_billing bool, administers_configuration bool,
        has_roadmaps_seat bool, has_develop_seat bool, paid_seat_group_id string, paid_seat_group_name string,
        identity_provider_type string, identity_provider_name string, workspace_count int32, occupies_seat bool,
        days_inactive int32, activity_status string, extra_json string, subdomain string!,
        connection_id string!, synced_at timestamp!""",
    "user_roles": """
        user_id string!, user_email string, user_name string, role_kind string!, workspace_id string,
        workspace_name string, role_id string, role string, role_name string, role_rank int32,
        subdomain string!, connection_id string!, synced_at timestamp!""",
    "user_role_summary": """
        user_id string!, user_email string, role_kind string!, role_id string, role string, role_name string,
        workspace_count int32!, workspaces list!""",
    "user_changes": """
        change string!, user_id string!, user_email string, field string, before string, after string,
        previous_synced_at timestamp, synced_at timestamp!, subdomain string!""",
}
TYPES = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "timestamp": pa.timestamp("ms", tz="UTC"),
    "list": pa.list_(pa.string()),
}


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_dataset_has_exactly_its_columns(dataset: str):
    columns = [column.split() for column in COLUMNS[dataset].split(",")]
    expected = [pa.field(name, TYPES[kind.rstrip("!")], not kind.endswith("!")) for name, kind in columns]
    assert list(BY_DATASET[dataset]) == expected


def test_each_dataset_has_a_schema():
    assert list(BY_DATASET) == list(DATASETS)
