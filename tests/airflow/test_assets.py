"""The asset helpers with contexts as Airflow's versions make them."""

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Asset

from airflow_provider_aha.assets import USER_ROLES, USERS, check_outlets, dataset_of, manifests
from airflow_provider_aha.exceptions import AhaConfigurationError


def manifest(account: str, hour: int) -> dict[str, Any]:
    return {"account": account, "started_at": f"2026-03-01T{hour:02}:00:00.000Z", "files": []}


def event(extra: Any) -> Any:
    return SimpleNamespace(extra=extra)


# Keys as Airflow 2 has them; in Airflow 3 they are assets.
USERS_KEY = "aha://users/"
ROLES_KEY = "aha://user_roles/"


def context(triggering: Any = None, inlet: Any = None, key: str = "triggering_asset_events") -> Any:
    return {key: triggering or {}, "inlet_events": {USERS_KEY: inlet} if inlet is not None else {}}


def test_every_account_that_started_the_run_is_worked_on():
    events = {USERS_KEY: [event(manifest("b", 3)), event(manifest("a", 4))]}
    assert manifests(context(events), USERS) == [manifest("a", 4), manifest("b", 3)]


@pytest.mark.parametrize("order", [(5, 3, 4), (3, 4, 5), (5, 4, 3)])
def test_newest_of_an_account_counts_whatever_the_order_of_events(order):
    events = {USERS_KEY: [event(manifest("a", hour)) for hour in order]}
    assert manifests(context(events), USERS) == [manifest("a", 5)]


def test_name_of_the_key_in_airflow_2():
    events = {USERS_KEY: [event(manifest("a", 1))]}
    assert manifests(context(events, key="triggering_dataset_events"), USERS) == [manifest("a", 1)]


def test_events_of_other_assets_do_not_count():
    events = {ROLES_KEY: [event(manifest("b", 9))], USERS_KEY: [event(manifest("a", 1))]}
    assert manifests(context(events), USERS) == [manifest("a", 1)]


def test_run_that_a_person_started_takes_the_newest_event():
    inlet = [event(manifest("a", 1)), event(manifest("b", 2))]
    assert manifests(context(inlet=inlet), USERS) == [manifest("b", 2)]


def test_what_was_announced_after_the_event_that_started_the_run_counts_too():
    """Airflow gives the run only the first event; the files of `a` have been replaced since."""
    inlet = [event(manifest(account, hour)) for account, hour in (("c", 1), ("a", 2), ("a", 3), ("b", 4))]
    found = manifests(context({USERS_KEY: [inlet[1]]}, inlet=inlet), USERS)
    assert found == [manifest("a", 3), manifest("b", 4)]


def test_inlet_that_is_not_listed_leaves_the_events_that_started_the_run():
    assert manifests(context({USERS_KEY: [event(manifest("a", 1))]}), USERS) == [manifest("a", 1)]


@pytest.mark.parametrize("extra", [None, {}, {"from_rest_api": True}, {"account": "a", "files": []}])
def test_events_that_somebody_made_by_hand_are_passed_over(extra):
    inlet = [event(manifest("a", 1)), event(extra)]
    assert manifests(context({USERS_KEY: [event(extra)]}, inlet=inlet), USERS) == [manifest("a", 1)]
    assert manifests(context({USERS_KEY: [event(extra), event(manifest("b", 2))]}), USERS) == [manifest("b", 2)]


@pytest.mark.parametrize("found", [{}, {"inlet_events": {}}, {"inlet_events": {USERS_KEY: [event(None)]}}])
def test_nothing_announced_yet_says_which_dag_to_run(found):
    with pytest.raises(
        AirflowFailException, match=r"No snapshot of aha://users .* run the DAG aha_extract first\."
    ):
        manifests(found, USERS)


@pytest.mark.parametrize(
    ("asset", "dataset"),
    [
        (USERS, "users"),
        ("aha://users", "users"),
        ("aha://users/", "users"),
        (USER_ROLES, "user_roles"),
        (Asset("s3://bucket/users"), None),
        ("something else", None),
    ],
)
def test_dataset_of_an_asset(asset, dataset):
    assert dataset_of(asset) == dataset


def test_outlet_without_data_is_refused():
    check_outlets([USERS, Asset("s3://bucket/key")], ["users"])
    with pytest.raises(AhaConfigurationError, match="aha://user_roles"):
        check_outlets([USERS, USER_ROLES], ["users"])
