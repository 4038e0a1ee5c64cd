"""Arrow schemas of the datasets: a contract with whoever reads the Parquet files."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "1"

TIMESTAMP = pa.timestamp("ms", tz="UTC")

USERS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("email", pa.string()),
        pa.field("timezone", pa.string()),
        pa.field("created_at", TIMESTAMP),
        pa.field("updated_at", TIMESTAMP),
        pa.field("accessed_at", TIMESTAMP),
        pa.field("is_enabled", pa.bool_()),
        pa.field("is_paid_seat", pa.bool_()),
        pa.field("is_administrator", pa.bool_()),
        pa.field("administers_account", pa.bool_()),
        pa.field("administers_billing", pa.bool_()),
        pa.field("administers_configuration", pa.bool_()),
        pa.field("has_roadmaps_seat", pa.bool_()),
        pa.field("has_develop_seat", pa.bool_()),
        pa.field("paid_seat_group_id", pa.string()),
        pa.field("paid_seat_group_name", pa.string()),
        pa.field("identity_provider_type", pa.string()),
        pa.field("identity_provider_name", pa.string()),
        pa.field("workspace_count", pa.int32()),
        pa.field("occupies_seat", pa.bool_()),
        pa.field("days_inactive", pa.int32()),
        pa.field("activity_status", pa.string()),
        pa.field("extra_json", pa.string()),
        pa.field("subdomain", pa.string(), nullable=False),
        pa.field("connection_id", pa.string(), nullable=False),
        pa.field("synced_at", TIMESTAMP, nullable=False),
    ]
)

USER_ROLES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("user_email", pa.string()),
        pa.field("user_name", pa.string()),
        pa.field("role_kind", pa.string(), nullable=False),
        pa.field("workspace_id", pa.string()),
        pa.field("workspace_name", pa.string()),
        pa.field("role_id", pa.string()),
        pa.field("role", pa.string()),
        pa.field("role_name", pa.string()),
        pa.field("role_rank", pa.int32()),
        pa.field("subdomain", pa.string(), nullable=False),
        pa.field("connection_id", pa.string(), nullable=False),
        pa.field("synced_at", TIMESTAMP, nullable=False),
    ]
)

USER_ROLE_SUMMARY = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("user_email", pa.string()),
        pa.field("role_kind", pa.string(), nullable=False),
        pa.field("role_id", pa.string()),
        pa.field("role", pa.string()),
        pa.field("role_name", pa.string()),
        pa.field("workspace_count", pa.int32(), nullable=False),
        pa.field("workspaces", pa.list_(pa.string()), nullable=False),
    ]
)

USER_CHANGES = pa.schema(
    [
        pa.field("change", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("user_email", pa.string()),
        pa.field("field", pa.string()),
        pa.field("before", pa.string()),
        pa.field("after", pa.string()),
        pa.field("previous_synced_at", TIMESTAMP),
        pa.field("synced_at", TIMESTAMP, nullable=False),
        pa.field("subdomain", pa.string(), nullable=False),
    ]
)

BY_DATASET = {
    "users": USERS,
    "user_roles": USER_ROLES,
    "user_role_summary": USER_ROLE_SUMMARY,
    "user_changes": USER_CHANGES,
}
