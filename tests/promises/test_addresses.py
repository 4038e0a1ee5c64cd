"""Cells with addresses: what each is read as. The expectations are data, written before the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_aha.common.addresses import fold, look, read_addresses, spelled

CASES = yaml.safe_load((Path(__file__).parent / "addresses.yaml").read_text())["cases"]


def cell_of(case: dict[str, Any]) -> Any:
    if "repeat_cell" in case:
        return case["cell"] * case["repeat_cell"] + case.get("suffix", "")
    return case["cell"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_cell_is_read_as_its_addresses_or_refused(case):
    allowed = [case["expect"]] if "expect" in case else case["either"]
    reason = "has "
    try:
        found: Any = read_addresses(cell_of(case))
    except ValueError as error:
        found, reason = "refused", str(error)
    assert reason.startswith(("has ", "is ")), "the reason ends a sentence about the cell"
    assert "user" not in reason
    assert found in allowed, case["why"]
    assert found not in case.get("never", [])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_an_address_that_was_read_is_compared_as_itself(case):
    try:
        found = read_addresses(cell_of(case))
    except ValueError:
        return
    for address in found:
        assert read_addresses(address) == [address]
        assert spelled(address) == address
        assert fold(address) == fold(address.upper()) or "ß" in address


@pytest.mark.parametrize(
    "part", ["xmpp:u3@example.org", "Email:u3@example.org", "none", "u3@", "https://example.org"]
)
def test_a_part_that_is_no_address_refuses_the_cell_whatever_is_beside_it(part):
    for cell in (f"user3@example.com;{part}", f"{part} user3@example.com", [part, "user3@example.com"]):
        if cell != ["none", "user3@example.com"]:
            with pytest.raises(ValueError, match="no address"):
                read_addresses(cell)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("user3@münchen.example", "USER3@XN--MNCHEN-3YA.example"),
        ("user3@example.com\u200b", "user3@example.com"),
        ("jose\u0301@example.com", "JOSÉ@example.com"),
    ],
)
def test_two_spellings_of_an_address_are_compared_as_one(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("user3+aha@example.com", "user3@example.com", True),
        ("user3+aha@example.com", "user3+hr@example.com", True),
        ("o’brien@example.com", "o'brien@example.com", True),
        ("straße@example.com", "strasse@example.com", True),
        ("user3@example.com", "user4@example.com", False),
        ("user3@example.com", "user3@example.org", False),
        ("+user3@example.com", "+user4@example.com", False),
    ],
)
def test_addresses_look_alike(one, other, alike):
    assert (look(one) == look(other)) is alike
