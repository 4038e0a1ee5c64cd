"""One reader of moments; what a text means that is none is for its caller to say."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_aha
from airflow_provider_aha.common.moments import milliseconds_text, moment_of, read_moment, timestamp

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-08-01T12:00:00Z",
        "2026-08-01T14:00:00+02:00",
        "2026-08-01 12:00:00+00:00",
        NOON,
        NOON.astimezone(timezone(timedelta(hours=-7))),
    ],
)
def test_a_moment_is_read_in_utc(value: Any) -> None:
    assert read_moment(value, needs_offset=True) == NOON
    assert read_moment(value).utcoffset() == timedelta(0)  # type: ignore[union-attr]


@pytest.mark.parametrize("value", ["2026-08-01T12:00:00", datetime(2026, 8, 1, 12)])  # noqa: DTZ001
def test_one_without_an_offset_is_utc_or_none_and_never_the_workers_own_time(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert read_moment(value) == NOON
    assert read_moment(value, needs_offset=True) is None


@pytest.mark.parametrize(
    "value", [None, "", "yesterday", 5, {}, "0001-01-01T00:00:00+14:00", "2026-13-01T00:00:00Z"]
)
def test_what_is_no_moment_is_none_or_an_error(value: Any) -> None:
    assert read_moment(value) is None
    with pytest.raises(ValueError, match="no moment"):
        moment_of(value)


def test_a_moment_is_written_in_utc_with_micro_or_milliseconds() -> None:
    moment = (NOON + timedelta(microseconds=1500)).astimezone(timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-08-01T12:00:00.001500Z"
    assert milliseconds_text(moment) == "2026-08-01T12:00:00.001Z"


def test_no_other_module_reads_moments_by_itself() -> None:
    root = Path(airflow_provider_aha.__file__).parent
    # Dates are read there, and the fast path of the users' dataset.
    known = {"common/moments.py", "common/values.py", "datasets/users.py"}
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"datetime\.(?:fromisoformat|strptime)\(", path.read_text()) and "sandbox" not in path.parts
    }
    assert found <= known
