"""Lists of users, and the exclusion file."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaStorageError
from airflow_provider_aha.lists.exclusions import Exclusions, load_exclusions
from airflow_provider_aha.lists.matching import Entry, UserMatcher, Who, protects_nobody, unmatched
from airflow_provider_aha.store.store import Store, sha256

HEADER = "id,email,pattern,reason,owner,expires_on\n"
TODAY = date(2026, 3, 10)


def at(path: Path) -> Store:
    return Store(LocalFileSystem(), str(path), str(path))


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
        ({"emails": ["Ann <ann@example.com>"]}, ("7", "ann@example.com", None), "protected email"),
        ({"emails": ["bob@example.com; ann@example.com"]}, ("7", "ann@example.com", None), "protected email"),
        ({"emails": ["ann@example.com"]}, ("7", "ann+aha@example.com", None), "protected email"),
        ({"emails": ["ann+hr@example.com"]}, ("7", "ann@example.com", None), "protected email"),
        ({"emails": ["ann@example.com"]}, ("7", "anna+aha@example.com", None), None),
        ({"emails": ["zoë@example.com"]}, ("7", "zoe\u0308@example.com", None), "protected email"),
        ({"emails": ["STRASSE@example.com"]}, ("7", "straße@example.com", None), "protected email"),
        ({"domains": ["Example.com"]}, ("7", "ann@example.COM", None), "protected domain"),
        ({"domains": ["example.com"]}, ("7", "ann@sub.example.com", None), None),
        ({"domains": [" @example.com."]}, ("7", "ann@example.com", None), "protected domain"),
        ({"domains": ["münchen.example"]}, ("7", "ann@xn--mnchen-3ya.example", None), "protected domain"),
        ({"domains": ["*.münchen.example"]}, ("7", "ann@a.xn--mnchen-3ya.example", None), "protected domain"),
        ({"domains": ["example.com"]}, ("7", "ann@notexample.com", None), None),
        ({"domains": ["*.example.com"]}, ("7", "ann@a.b.example.com", None), "protected domain"),
        ({"domains": ["*.example.com"]}, ("7", "ann@example.com", None), None),
        ({"domains": ["*.example.com"]}, ("7", "ann@notexample.com", None), None),
        ({"patterns": ["svc-*"]}, ("7", "SVC-jira@example.com", None), "protected pattern"),
        ({"patterns": ["*bot"]}, ("7", "ann@example.com", "Build BOT"), "protected pattern"),
        ({"patterns": ["svc[.]*"]}, ("7", "svc.sync@example.com", None), "protected pattern"),
        ({"patterns": ["svc[0-9]*"]}, ("7", "svc7@example.com", None), "protected pattern"),
        ({"patterns": ["*(service)"]}, ("7", None, "Import (service)"), "protected pattern"),
        ({"patterns": ["*+test@*"]}, ("7", "ann+test@example.com", None), "protected pattern"),
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
        {"emails": ["Ann Example"]},
        {"emails": ["n/a"]},
        {"domains": ["@"]},
        {"domains": ["https://example.com/"]},
        {"domains": ["ann@example.com"]},
        {"domains": ["*example.com"]},
        {"domains": [""]},
        {"patterns": [" "]},
        {"patterns": ["^svc"]},
        {"patterns": ["svc$"]},
        {"patterns": [".*@example.com"]},
        {"patterns": ["ann.+"]},
        {"patterns": ["ann\\d"]},
        {"patterns": ["ann@example\\.com"]},
        {"patterns": ["ann|bob"]},
        {"patterns": ["{ann,bob}@example.com"]},
        {"patterns": ["[^a]nn@example.com"]},
        {"patterns": ["[a-z]+@example.com"]},
        {"patterns": ["ann[@example.com"]},
        {"patterns": ["(?i)ann@example.com"]},
        {"patterns": ["ann@%"]},
        {"ids": ["6.77676E+18"]},
        {"ids": ["123.0"]},
        {"ids": ["9" * 5000]},
        {"ids": "77"},
    ],
)
def test_an_entry_that_could_match_nobody_is_refused_without_repeating_it(lists):
    with pytest.raises(AhaConfigurationError) as caught:
        UserMatcher(**lists)
    assert "ann@" not in str(caught.value)


def test_a_pattern_that_is_a_regular_expression_is_refused_and_the_sentence_says_what_a_pattern_is():
    with pytest.raises(AhaConfigurationError, match=r"Entry 2 of .* patterns .*regular expression.*shell"):
        UserMatcher(patterns=["svc-*", "^svc"])


# --- entries that protect nobody -----------------------------------------------------------------

# As of an account from the field: ids are close together.
USERS: list[Who] = [
    (str(6776757454431870834 + 7919 * number), f"user{number}@example.com", f"First{number} Last{number}")
    for number in range(20)
]


def nobody(*rows: str) -> list[Entry]:
    return unmatched(UserMatcher(ids=rows).entries, USERS)


@pytest.mark.parametrize(
    "rounded",
    [
        "6776757454431890000",
        "6776757454431894000",
        "6776757454431894528",
        "6776757454431894592",
        "677675745443189",
        "6776757454432022000",
    ],
)
def test_an_id_that_was_rounded_is_refused_by_its_place(rounded):
    with pytest.raises(AhaConfigurationError, match=r"Entry 2 of the protected ids: no such user, but one has"):
        nobody("1", rounded)


def test_an_id_that_a_rounding_carried_over_the_15th_digit_is_refused():
    users: list[Who] = [("6776757454431999990", "carry@example.com", None)]
    with pytest.raises(AhaConfigurationError, match="6776757454431999990"):
        unmatched(UserMatcher(ids=["6776757454432000000"]).entries, users)


def test_a_whole_id_is_found_though_its_neighbour_begins_like_it():
    assert nobody(USERS[3][0], USERS[4][0]) == []
    assert [entry.text for entry in nobody(USERS[3][0], "1234", "6776757454531894591")] == [
        "1234",
        "6776757454531894591",
    ]


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ({"emails": ["USER3@example.com"]}, 0),
        ({"emails": ["user3+hr@example.com"]}, 0),
        ({"emails": ["user33@example.com"]}, 1),
        ({"emails": ["user3@example.com, gone@example.com"]}, 1),
        ({"domains": ["example.com"]}, 0),
        ({"domains": ["*.example.com"]}, 1),
        ({"domains": ["example.org", "com"]}, 2),
        ({"patterns": ["user3@*", "first3 *"]}, 0),
        ({"patterns": ["user3", "first3"]}, 2),
        ({}, 0),
    ],
)
def test_entries_that_protect_nobody_are_found(entries, found):
    assert len(unmatched(UserMatcher(**entries).entries, USERS)) == found


def test_they_are_told_by_where_they_stand_and_by_nothing_else():
    matcher = UserMatcher(emails=["gone@example.com", "left@example.com"], where=" in the Variable aha_guards")
    (sentence,) = protects_nobody(unmatched(matcher.entries, USERS))
    assert sentence == (
        "2 entries protect nobody in this account: entry 1 of the protected emails in the Variable aha_guards, "
        "entry 2 of the protected emails in the Variable aha_guards."
    )
    assert protects_nobody([]) == []
    many = UserMatcher(ids=[str(number) for number in range(30)])
    assert protects_nobody(many.entries)[0].endswith("entry 20 of the protected ids and 10 more.")


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


# --- files from the field ------------------------------------------------------------------------


def holding(folder: Path, row: str) -> UserMatcher:
    return read(folder, f"{HEADER}{row}".replace("\n", "\r\n")).holding(TODAY)


def test_an_id_that_excel_rounded_is_refused_by_its_row(tmp_path):
    entries = holding(tmp_path, "6776757454431890000,,,legal hold,Legal,\n").entries
    with pytest.raises(AhaConfigurationError, match="Row 1 of the exclusion file: no such user, but one has"):
        unmatched(entries, USERS)


def test_an_email_with_a_character_that_nobody_sees_protects_its_owner(tmp_path):
    matcher = holding(tmp_path, ",user3@example.com\u200b,,leave,HR,\n")
    assert matcher.match(*USERS[3]) == "exclusion file row 1"
    assert unmatched(matcher.entries, USERS) == []


def test_a_regular_expression_as_a_pattern_is_refused_by_its_row(tmp_path):
    with pytest.raises(AhaConfigurationError, match="Row 1 of the exclusion file looks like a regular expression"):
        holding(tmp_path, ",,^user3@.*$,leave,HR,\n")


def test_rows_of_several_files_are_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"{HEADER}7,,,hold,IT,\n")
    found = load_exclusions(at(tmp_path / "a.csv"), at(tmp_path / "b.csv"))
    assert [row.place for row in found.rows] == [f"row 1 of the exclusion file {tmp_path}/{n}.csv" for n in "ab"]
    assert found.match("7", None, None, TODAY) == f"exclusion file {tmp_path}/a.csv row 1"


@pytest.mark.parametrize("text", ["\u200b", " \u2060 "])
def test_what_nobody_sees_is_no_reason_and_no_owner(tmp_path, text):
    for row in (f"7,,,{text},IT,\n", f"7,,,hold,{text},\n"):
        with pytest.raises(AhaConfigurationError, match=r"Row 1 of .* has no (reason|owner)"):
            read(tmp_path, HEADER + row)


def test_a_mark_for_no_day_is_no_expiry(tmp_path):
    with pytest.raises(AhaConfigurationError, match="expires_on that is no day"):
        read(tmp_path, f"{HEADER}7,,,hold,IT,1900-01-01\n")
