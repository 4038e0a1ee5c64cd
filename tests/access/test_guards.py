"""What must hold before the first write: caps, protected people, the last administrator."""

from typing import Any

import pytest

from airflow_provider_aha.access.operations.user_fields import (
    LAST_RIGHTS,
    access_of,
    administrator_rights,
    is_administrator,
    rights_lost,
)
from airflow_provider_aha.access.plan.plan import Target
from airflow_provider_aha.access.write.guards import Caps, Protection, last_holders
from airflow_provider_aha.exceptions import AhaGuardError
from airflow_provider_aha.lists.matching import Entry, UserMatcher

ALL = {"administer_account": True, "administer_billing": True, "administer_configuration": True}
NONE = dict.fromkeys(ALL, False)


def user(user_id: str = "1", **more: Any) -> dict[str, Any]:
    roles = more.pop("roles", NONE)
    return {
        "id": user_id,
        "enabled": True,
        "administrator": any(roles.values()),
        "administrator_roles": roles,
    } | more


# --- caps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "recent", "enabled", "passes"),
    [
        (25, 0, 1000, True),
        (26, 0, 1000, False),
        (20, 5, 1000, True),
        (20, 6, 1000, False),
        (20, 0, 100, True),
        (21, 0, 100, False),
        (1, 0, 2, True),
        (1, 0, 0, True),
        (2, 0, 2, False),
        (0, 99, 2, True),
    ],
)
def test_the_caps_count_both_the_users_and_the_percentage(wanted, recent, enabled, passes):
    if passes:
        Caps().check(wanted, recent, enabled, None)
    else:
        with pytest.raises(AhaGuardError, match="Nothing was done"):
            Caps().check(wanted, recent, enabled, None)


def test_a_larger_plan_passes_by_its_own_hash_only():
    caps = Caps(approved_plan_sha256="aa")
    caps.check(900, 0, 1000, "aa")
    for other in ("bb", None):
        with pytest.raises(AhaGuardError, match="approved_plan_sha256"):
            caps.check(900, 0, 1000, other)
    with pytest.raises(AhaGuardError):
        Caps(approved_plan_sha256=None).check(900, 0, 1000, None)


def test_caps_can_be_narrowed_to_nothing():
    with pytest.raises(AhaGuardError):
        Caps(max_users=0).check(1, 0, 1000, None)


# --- who is protected ----------------------------------------------------------------------------


def test_the_owner_of_the_key_is_protected():
    assert Protection("1").reason(user("1")) == "owner of the API key"
    assert Protection("1").reason(user("2")) is None


@pytest.mark.parametrize(
    "given",
    [
        {"ids": ["2"]},
        {"emails": ["Ann@Example.com"]},
        {"domains": ["example.com"]},
        {"patterns": ["svc-*"]},
    ],
)
def test_lists_protect_by_id_email_domain_and_pattern(given):
    protection = Protection("1", UserMatcher(**given))
    reason = protection.reason(user("2", email="ANN@example.com", name="svc-reports"))
    assert reason is not None
    assert reason.startswith("protected")
    assert "example" not in reason
    assert protection.reason(user("3", email="bob@example.org", name="Bob")) is None


@pytest.mark.parametrize("kind", [("id", "2"), ("email", "a@b.c"), ("pattern", "ann*")])
def test_the_exclusion_file_is_asked_by_id_email_and_name(kind):
    entry = Entry(kind[0], kind[1], "row 3 of the exclusion file", "exclusion file row 3")
    protection = Protection("1", excluded=UserMatcher.of([entry]))
    ann = user("2", email="a@b.c", name="Ann")
    assert protection.exclusion(ann) == "exclusion file row 3"
    assert protection.reason(ann) is None
    assert Protection("1").exclusion(ann) is None


@pytest.mark.parametrize(
    ("shown", "known_as", "reason"),
    [
        ("Ann Example", None, "protected pattern"),
        ("Ann Example", "Bob Example", "protected pattern"),
        ("Renamed Since", "Ann Example", "protected pattern"),
        (None, "Ann Example", "protected pattern"),
        (" ", "Ann Example", "protected pattern"),
        (None, None, "Aha! shows no name, which a protected pattern may fit"),
        ("", " ", "Aha! shows no name, which a protected pattern may fit"),
        (7, None, "Aha! shows no name, which a protected pattern may fit"),
        ("Bob Example", "Bob Example", None),
        (None, "Bob Example", None),
    ],
)
def test_a_pattern_is_held_to_either_name_and_a_name_that_is_not_known_lifts_no_protection(shown, known_as, reason):
    protection = Protection("1", UserMatcher(patterns=["ann ex*"]))
    assert protection.reason(user("2", email="a@b.c", name=shown), known_as) == reason
    excluding = Protection("1", excluded=UserMatcher(patterns=["ann ex*"]))
    assert (excluding.exclusion(user("2", email="a@b.c", name=shown), known_as) is None) == (reason is None)


def test_a_name_that_is_not_known_matters_to_patterns_of_names_only():
    protection = Protection("1", UserMatcher(ids=["3"], emails=["b@b.c"], patterns=["svc-*@example.com"]))
    assert protection.reason(user("2", email="a@b.c")) is None


# --- what changes mean ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "access"),
    [
        ({"enabled": False}, "taken"),
        ({"enabled": True}, "given"),
        ({"administrator": False}, "taken"),
        ({"administrator": True}, "given"),
        ({"administrator_roles": {"administer_billing": False}}, "taken"),
        ({"administrator_roles": {"administer_billing": True}}, "given"),
        ({"administrator_roles": {"administer_billing": True, "administer_account": False}}, "taken"),
        ({"enabled": True, "administrator": False}, "taken"),
        ({"email": "a@b.c"}, "taken"),
        ({"first_name": "Zoe"}, None),
        ({"developer": False}, "taken"),
    ],
)
def test_changes_are_told_apart_by_what_they_do_to_access(changes, access):
    assert access_of(changes) == access


def test_an_administrator_is_who_has_any_right():
    assert not is_administrator(user())
    assert is_administrator(user(administrator=True))
    assert is_administrator({"id": "1", "administrator_roles": {"administer_configuration": True}})
    assert not is_administrator({"id": "1", "administrator": None, "administrator_roles": None})


def test_configuration_makes_an_administrator_in_total_only():
    assert administrator_rights(user(roles=NONE | {"administer_configuration": True})) == {"administrator"}
    assert administrator_rights(user(roles=ALL)) == {"administrator", "administer_account", "administer_billing"}
    assert administrator_rights(user()) == set()


@pytest.mark.parametrize(
    ("roles", "changes", "lost"),
    [
        (ALL, {"enabled": False}, {"administrator", "administer_account", "administer_billing"}),
        (ALL, {"administrator": False}, {"administrator", "administer_account", "administer_billing"}),
        (ALL, {"administrator_roles": {"administer_billing": False}}, {"administer_billing"}),
        (
            NONE | {"administer_billing": True},
            {"administrator_roles": {"administer_billing": False}},
            {"administrator", "administer_billing"},
        ),
        (ALL, {"administrator_roles": {"administer_configuration": False}}, set()),
        (
            NONE | {"administer_configuration": True},
            {"administrator_roles": {"administer_configuration": False}},
            {"administrator"},
        ),
        (NONE | {"administer_billing": True}, {"administrator_roles": {"administer_account": True}}, set()),
        (ALL, {"email": "a@b.c"}, set()),
        (NONE, {"enabled": False}, set()),
    ],
)
def test_what_a_change_loses(roles, changes, lost):
    assert rights_lost(user(roles=roles), changes) == lost
    assert rights_lost(user(roles=roles, enabled=False), changes) == set()


# --- the last administrator ----------------------------------------------------------------------


def judge(losing: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> dict[str, str]:
    users = {**losing, **others}
    targets = [Target(user_id, {"enabled": False}) for user_id in losing]
    holders = dict.fromkeys(LAST_RIGHTS, ("gone", *users))
    found = last_holders(targets, holders, users.get)
    return {key.removeprefix("u").removesuffix(".account"): reason for key, reason in found.items()}


def test_another_administrator_with_all_rights_lets_go():
    assert judge({"1": user("1", roles=ALL)}, {"2": user("2", roles=ALL)}) == {}


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({}, "last enabled administrator for account, for billing, in total"),
        ({"2": user("2", roles=ALL, enabled=False)}, "for account, for billing, in total"),
        ({"2": user("2", roles=ALL | {"administer_billing": False})}, "last enabled administrator for billing"),
        ({"2": user("2", roles=ALL | {"administer_account": False})}, "last enabled administrator for account"),
    ],
)
def test_the_last_one_for_anything_stays(others, reason):
    assert judge({"1": user("1", roles=ALL)}, others)["1"].endswith(reason)


def test_administrators_who_all_go_are_not_each_others_reserve():
    assert judge({"1": user("1", roles=ALL), "2": user("2", roles=ALL)}, {}).keys() == {"1", "2"}


def test_rights_may_be_spread_over_several():
    others = {
        "2": user("2", roles=NONE | {"administer_account": True}),
        "3": user("3", roles=NONE | {"administer_billing": True}),
    }
    assert judge({"1": user("1", roles=ALL)}, others) == {}


def test_an_administrator_who_can_not_be_read_is_no_reserve_and_holds_up_nobody():
    assert judge({"1": user("1", roles=ALL)}, {"2": {}}).keys() == {"1"}
    assert judge({"1": user("1", roles=ALL)}, {"2": {}, "3": user("3", roles=ALL)}) == {}


def test_nobody_else_is_read_when_nobody_loses_a_right():
    def read(user_id: str) -> dict[str, Any]:
        assert user_id == "1"
        return user("1", roles=NONE)

    assert last_holders([Target("1", {"enabled": False})], dict.fromkeys(LAST_RIGHTS, ("1", "2")), read) == {}


def test_nobody_is_read_who_is_no_administrator_by_the_decision():
    target = Target("1", {"enabled": False}, is_administrator=False)
    assert last_holders([target], dict.fromkeys(LAST_RIGHTS, ("2",)), lambda _: pytest.fail("was read")) == {}


# --- the last owner of a workspace ---------------------------------------------------------------


def owner(user_id: str, *places: str, enabled: bool = True) -> dict[str, Any]:
    roles = [{"role": 20, "product_id": place} for place in places]
    return {**user(user_id, roles=NONE, enabled=enabled), "product_roles": roles}


def to_viewer(user_id: str, place: str) -> Target:
    return Target(
        user_id,
        {"role": "viewer"},
        operation="workspace_role",
        object=f"w{place}",
        before={"role": "product_owner"},
    )


def stuck(targets: list[Target], holders: dict[str, list[str]], *users: dict[str, Any]) -> dict[str, str]:
    return last_holders(targets, holders, {one["id"]: one for one in users}.get)


def test_all_owners_but_one_may_go():
    two = [to_viewer("7", "1"), to_viewer("8", "1")]
    owners = [owner(one, "1") for one in "789"]
    assert stuck(two, {"owner of 1": ["7", "8", "9"]}, *owners) == {}
    both = {"u7.w1": "last owner of 1", "u8.w1": "last owner of 1"}
    assert stuck(two, {"owner of 1": ["7", "8"]}, *owners) == both, "nobody else holds it"
    assert stuck(two, {"owner of 1": ["7", "8", "9"]}, *owners[:2], owner("9", "2")) == both, "not any more"
    assert stuck(two, {"owner of 1": ["7", "8", "9"]}, *owners[:2], owner("9", "1", enabled=False)) == both


def test_an_owner_who_leaves_one_workspace_counts_in_another():
    targets = [to_viewer("7", "1"), to_viewer("8", "2")]
    holders = {"owner of 1": ["7", "9"], "owner of 2": ["7", "8"]}
    assert stuck(targets, holders, owner("7", "1", "2"), owner("8", "2"), owner("9", "1")) == {}


def test_an_owner_who_is_disabled_by_the_same_plan_owns_nothing():
    targets = [Target("7", {"enabled": False}), to_viewer("8", "2")]
    holders = {"owner of 2": ["7", "8"]}
    assert stuck(targets, holders, owner("7", "2"), owner("8", "2")) == {"u8.w2": "last owner of 2"}


def test_disabling_the_last_owner_is_not_held_up():
    target = Target("7", {"enabled": False})
    assert stuck([target], {"owner of 2": ["7"]}, owner("7", "2")) == {}


def test_two_roles_in_one_workspace_are_no_answer():
    """Whichever comes last: the other one may be the owner's."""
    for codes in ((20, 50), (50, 20)):
        both = {**owner("7"), "product_roles": [{"role": code, "product_id": "1"} for code in codes]}
        assert stuck([to_viewer("7", "1")], {"owner of 1": ["7"]}, both).keys() == {"u7.w1"}
        assert stuck([to_viewer("8", "1")], {"owner of 1": ["7", "8"]}, both, owner("8", "1")).keys() == {"u8.w1"}


def test_roles_that_are_not_shown_may_be_the_last():
    hidden = {key: value for key, value in owner("7", "1").items() if key != "product_roles"}
    assert stuck([to_viewer("7", "1")], {"owner of 1": ["7"]}, hidden).keys() == {"u7.w1"}
