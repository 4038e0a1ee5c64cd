"""Lists of users, and the exclusion file."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaStorageError
from airflow_provider_aha.lists.exclusions import Exclusions, load_exclusions
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.store.store import Location, sha256

HEADER = "id,email,pattern,reason,owner,expires_on\n"
TODAY = date(2026, 3, 10)


def at(path: Path) -> Location:
    return Location(LocalFileSystem(), str(path), str(path))


def read(folder: Path, text: str | bytes) -> Exclusions:
    path = folder / "exclusions.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_exclusions(at(path))


# --- matching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "user", "reason"),
    [
        ({"ids": ["7"]}, ("7", None, None), "protected id"),
        ({"ids": [" 7 "]}, ("7", None, None), "protected id"),
        ({"ids": ["7"]}, ("77", None, None), None),
        ({"emails": ["Ann@Example.com"]}, ("7", " ann@EXAMPLE.com ", None), "protected email"),
        ({"emails": ["ann@example.com"]}, ("7", "ann@example.com.evil", None), None),
        ({"emails": ["zoë@example.com"]}, ("7", "zoe\u0308@example.com", None), "protected email"),
        ({"emails": ["STRASSE@example.com"]}, ("7", "straße@example.com", None), "protected email"),
        ({"domains": ["Example.com"]}, ("7", "ann@example.COM", None), "protected domain"),
        ({"domains": ["example.com"]}, ("7", "ann@sub.example.com", None), None),
        ({"domains": ["example.com"]}, ("7", "ann@notexample.com", None), None),
        ({"domains": ["*.example.com"]}, ("7", "ann@a.b.example.com", None), "protected domain"),
        ({"domains": ["*.example.com"]}, ("7", "ann@example.com", None), None),
        ({"domains": ["*.example.com"]}, ("7", "ann@notexample.com", None), None),
        ({"patterns": ["svc-*"]}, ("7", "SVC-jira@example.com", None), "protected pattern"),
        ({"patterns": ["*bot"]}, ("7", "ann@example.com", "Build BOT"), "protected pattern"),
        ({"patterns": ["svc"]}, ("7", "svc@example.com", "my svc"), None),
        ({"patterns": ["a.b@*"]}, ("7", "axb@example.com", None), None),
        ({"patterns": ["?"]}, ("7", None, None), None),
        ({}, ("7", "ann@example.com", "Ann"), None),
    ],
)
def test_a_user_is_on_a_list(lists, user, reason):
    assert UserMatcher(**lists).match(*user) == reason


@pytest.mark.parametrize(
    "lists",
    [
        {"ids": ["ann@example.com"]},
        {"ids": [""]},
        {"ids": ["7/8"]},
        {"ids": ["٧"]},
        {"emails": ["7"]},
        {"emails": ["@example.com"]},
        {"emails": ["a@b@c"]},
        {"emails": ["Ann <ann@example.com>"]},
        {"domains": ["@example.com"]},
        {"domains": ["ann@example.com"]},
        {"domains": ["*example.com"]},
        {"domains": [""]},
        {"patterns": [" "]},
        {"ids": "77"},
    ],
)
def test_an_entry_that_could_match_nobody_is_refused_without_repeating_it(lists):
    with pytest.raises(AhaConfigurationError) as caught:
        UserMatcher(**lists)
    assert "ann@" not in str(caught.value)


# --- the file ------------------------------------------------------------------------------------


def test_a_file_names_users_by_id_email_or_pattern(tmp_path):
    text = HEADER + (
        "7,,,legal hold,Legal,2026-12-31\n,Ann@Example.com,,on leave,HR,\n\n"
        ',,svc-*,"runs the sync, nightly",IT,2026-03-10\n'
    )
    found = read(tmp_path, text)
    assert found.match("7", None, None, TODAY) == "exclusion file row 1"
    assert found.match("8", "ann@example.com", None, TODAY) == "exclusion file row 2"
    assert found.match("8", "SVC-x@example.com", None, TODAY) == "exclusion file row 3"
    assert found.match("8", "bob@example.com", "Bob", TODAY) is None
    assert found.sha256 == sha256(text.encode())


def test_a_row_holds_through_its_last_day_and_is_reported_after_it(tmp_path):
    found = read(tmp_path, f"{HEADER}7,,,legal hold,Legal,2026-03-10\n8,,,legal hold,Legal,\n")
    after = date(2026, 3, 11)
    assert found.match("7", None, None, TODAY)
    assert found.match("7", None, None, after) is None
    assert found.match("8", None, None, after)
    assert found.expired(TODAY) == []
    assert [row.row for row in found.expired(after)] == [1]


def test_an_expired_row_does_not_hide_one_that_holds(tmp_path):
    found = read(tmp_path, f"{HEADER}7,,,old,Legal,2020-01-01\n7,,,new,Legal,\n")
    assert found.match("7", None, None, TODAY) == "exclusion file row 2"


def test_columns_come_in_any_order_case_and_with_a_byte_order_mark(tmp_path):
    found = read(tmp_path, "\ufeffOwner, Expires_On ,REASON,Email\nIT,2026-12-31,hold,ann@example.com\n")
    assert found.match("8", "ann@example.com", None, TODAY)


def test_parquet_with_its_own_types_is_read_too(tmp_path):
    path = tmp_path / "exclusions.parquet"
    columns = {
        "id": [7, None],
        "email": [None, "ann@example.com"],
        "reason": ["hold", "hold"],
        "owner": ["IT", "IT"],
        "expires_on": [date(2026, 12, 31), None],
    }
    pq.write_table(pa.table(columns), path)
    found = load_exclusions(at(path))
    assert found.match("7", None, None, TODAY)
    assert found.match("8", "ann@example.com", None, date(2027, 1, 1))
    assert len(found.expired(date(2027, 1, 1))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        HEADER,
        "7,,,legal hold,Legal,2026-12-31\n",
        "id,reason,owner\n7,hold,IT\n",
        "reason,owner,expires_on\nhold,IT,\n",
        "id,reason,owner,expires_on,until\n7,hold,IT,,\n",
        "id;reason;owner;expires_on\n7;hold;IT;\n",
        "id,id,reason,owner,expires_on\n7,7,hold,IT,\n",
        "id,,reason,owner,expires_on\n7,,hold,IT,\n",
        f"{HEADER}7,ann@example.com,,hold,IT,\n",
        f"{HEADER},,,hold,IT,\n",
        f"{HEADER}7,,,,IT,\n",
        f"{HEADER}7,,,hold,,\n",
        f"{HEADER}7,,,hold,IT,soon\n",
        f"{HEADER}7,,,hold,IT,31.12.2026\n",
        f"{HEADER}7,,,hold,IT,2026-02-30\n",
        f"{HEADER}ann,,,hold,IT,\n",
        f"{HEADER},ann,,hold,IT,\n",
        f"{HEADER}7,,,hold,IT,\n8,,,ho",
        f'{HEADER}7,,,"hold,IT,\n',
        b"id,reason,owner,expires_on\n7,h\xf6ld,IT,\n",
        f"{HEADER}7,,,hold, with a comma,IT,\n",
    ],
)
def test_a_file_that_can_not_be_right_is_refused_and_never_an_empty_list(tmp_path, text):
    with pytest.raises(AhaConfigurationError) as caught:
        read(tmp_path, text)
    assert "ann@" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AhaStorageError):
        load_exclusions(at(tmp_path / "nowhere.csv"))


def test_a_folder_and_another_kind_of_file_are_refused(tmp_path):
    (tmp_path / "exclusions.csv").mkdir()
    (tmp_path / "exclusions.xlsx").write_bytes(b"PK")
    for name in ("exclusions.csv", "exclusions.xlsx"):
        with pytest.raises(AhaError):
            load_exclusions(at(tmp_path / name))


def test_parquet_that_was_cut_short_is_refused(tmp_path):
    path = tmp_path / "exclusions.parquet"
    pq.write_table(pa.table({"id": ["7"], "reason": ["a"], "owner": ["b"], "expires_on": [""]}), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(AhaStorageError):
        load_exclusions(at(path))


def test_a_file_is_read_anew_each_time(tmp_path):
    assert read(tmp_path, f"{HEADER}7,,,hold,IT,\n").match("8", None, None, TODAY) is None
    assert read(tmp_path, f"{HEADER}8,,,hold,IT,\n").match("8", None, None, TODAY)


def test_what_a_row_says_stays_out_of_its_repr(tmp_path):
    found = read(tmp_path, f"{HEADER},ann@example.com,,a secret,Bob,\n")
    assert not any(word in repr(found) for word in ("ann", "secret", "Bob"))
