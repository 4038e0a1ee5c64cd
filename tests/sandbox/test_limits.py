"""The rate limits, with a clock that the tests turn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_aha.sandbox.limits import RateLimiter
from airflow_provider_aha.sandbox.testing import SandboxServer


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admit(limiter, times):
    return [limiter.admit().allowed for _ in range(times)]


def test_20_requests_pass_in_a_second_and_the_next_does_not(clock):
    limiter = RateLimiter(clock=clock)
    assert admit(limiter, 20) == [True] * 20
    refused = limiter.admit()
    assert (refused.allowed, refused.remaining, refused.reset) == (False, 0, 1_000_001)


def test_the_second_slides(clock):
    limiter = RateLimiter(clock=clock)
    clock.now += 0.9
    assert all(admit(limiter, 20))
    clock.now += 0.2
    assert admit(limiter, 1) == [False], "another calendar second, but the same window"
    clock.now += 1.0
    assert admit(limiter, 20) == [True] * 20


def test_300_requests_pass_in_a_minute_and_the_next_does_not(clock):
    limiter = RateLimiter(clock=clock)
    for number in range(300):
        verdict = limiter.admit()
        assert (verdict.allowed, verdict.remaining) == (True, 299 - number)
        assert verdict.reset == 1_000_060
        clock.now += 0.1
    refused = limiter.admit()
    assert (refused.allowed, refused.limit, refused.remaining) == (False, 300, 0)


def test_who_waits_until_the_reset_passes(clock):
    limiter = RateLimiter(per_minute=10, per_second=5, clock=clock)
    for _ in range(10):
        limiter.admit()
        clock.now += 0.37
    clock.now = float(limiter.admit().reset)
    assert admit(limiter, 1) == [True]


def test_a_refused_request_counts(clock):
    limiter = RateLimiter(per_minute=100, per_second=2, clock=clock)
    assert admit(limiter, 3) == [True, True, False]
    clock.now += 0.6
    assert admit(limiter, 1) == [False]
    clock.now += 0.6
    assert admit(limiter, 1) == [True]
    assert limiter.admit().allowed is False, "the refused one of 0.6 s ago fills the window"


def test_limits_can_be_off_and_still_show(clock):
    limiter = RateLimiter(enabled=False, clock=clock)
    assert all(admit(limiter, 1000))
    assert limiter.admit().headers == {
        "X-Ratelimit-Limit": "300",
        "X-Ratelimit-Remaining": "300",
        "X-Ratelimit-Reset": "1000060",
    }


def test_requests_can_be_forgotten(clock):
    limiter = RateLimiter(per_second=1, clock=clock)
    assert admit(limiter, 2) == [True, False]
    limiter.reset()
    assert admit(limiter, 1) == [True]


@pytest.mark.parametrize("limits", [{"per_minute": 0}, {"per_second": -1}])
def test_limits_below_one_are_refused(limits):
    with pytest.raises(ValueError, match="at least 1"):
        RateLimiter(**limits)


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=80),
    st.integers(1, 12),
    st.integers(1, 6),
)
def test_no_window_ever_holds_more_than_its_limit(gaps, per_minute, per_second):
    clock = Clock()
    limiter = RateLimiter(per_minute, per_second, clock=clock)
    passed: list[float] = []
    for gap in gaps:
        clock.now += gap
        verdict = limiter.admit()
        assert verdict.reset >= math.floor(clock.now)
        if verdict.allowed:
            passed.append(clock.now)
    for length, limit in ((60.0, per_minute), (1.0, per_second)):
        for start in passed:
            assert sum(start <= hit < start + length for hit in passed) <= limit


# --- over HTTP -----------------------------------------------------------------------------------


def test_the_server_turns_requests_away_with_the_documented_headers(valid, connect):
    with SandboxServer(users=1, limits=True, requests_per_minute=5) as server, connect(server) as api:
        answers = [api.get("/me") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        remaining = [answer.headers["X-Ratelimit-Remaining"] for answer in answers]
        assert remaining == ["4", "3", "2", "1", "0", "0"]
        assert {answer.headers["X-Ratelimit-Limit"] for answer in answers} == {"5"}
        arrived = server.requests[0].time
        assert 59 <= int(answers[-1].headers["X-Ratelimit-Reset"]) - arrived <= 62
        valid("error", answers[-1].json())


def test_all_keys_share_the_limits_and_bad_keys_count(connect):
    with SandboxServer(users=9, limits=True, requests_per_minute=3) as server:
        keys = (server.key, server.viewer_key, "wrong", server.key)
        statuses = []
        for key in keys:
            with connect(server, key) as api:
                statuses.append(api.get("/me").status_code)
        assert statuses == [200, 200, 401, 429]


def test_limits_can_be_switched_at_run_time(connect):
    with SandboxServer(users=1, limits=True, requests_per_minute=1) as server, connect(server) as api:
        assert [api.get("/me").status_code for _ in range(2)] == [200, 429]
        server.limiter.enabled = False
        assert api.get("/me").status_code == 200


def test_the_controls_are_not_limited(connect):
    with SandboxServer(users=1, limits=True, requests_per_minute=1) as server, connect(server) as api:
        assert [api.get("/_sandbox/state").status_code for _ in range(3)] == [200] * 3
        assert api.get("/me").status_code == 200
