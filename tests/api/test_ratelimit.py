"""Pacing, on a clock that only moves when somebody sleeps."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_aha.api.ratelimit import Clock, RateLimiter, never
from airflow_provider_aha.exceptions import AhaCancelledError
from airflow_provider_aha.sandbox.limits import RateLimiter as Server
from airflow_provider_aha.sandbox.limits import Verdict
from tests.api.conftest import SimulatedClock, steady

EPOCH = 1_800_000_000
NO_LIMIT = {"per_second": 10**5, "per_minute": 10**6, "max_in_flight": 32}


def limiter_of(clock: Clock, **limits: int) -> RateLimiter:
    return RateLimiter(**{**NO_LIMIT, **limits}, clock=clock)


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def departures(limiter: RateLimiter, clock: SimulatedClock, count: int) -> list[float]:
    moments = []
    for _ in range(count):
        limiter.acquire()
        moments.append(clock.monotonic())
        limiter.release()
    return moments


def wait_after(limiter: RateLimiter, clock: SimulatedClock, headers: dict[str, str]) -> float:
    limiter.acquire()
    limiter.release(headers)
    before = clock.now
    limiter.acquire()
    return clock.now - before


class Traffic:
    """Requests on their way to a server that counts as strictly as it can, and the answers back.

    :param latency: seconds there, and seconds back.
    """

    def __init__(self, limiter: RateLimiter, clock: SimulatedClock, server: Server, latency: float) -> None:
        self.limiter, self.clock, self.server, self.latency = limiter, clock, server, latency
        self.sent: list[float] = []
        self.refused = 0
        self.answered = 0
        self.most_in_flight = 0
        self._in_flight = 0

    def send(self, jitter: float = 0.0) -> None:
        number = self.limiter.acquire()
        self.sent.append(self.clock.now)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self.clock.at(self.clock.now + self.latency + jitter, lambda: self._arrive(number))

    def finish(self) -> None:
        self.clock.sleep(2 * self.latency + 1.0)

    def gaps(self) -> list[float]:
        return [later - sooner for sooner, later in itertools.pairwise(self.sent)]

    def _arrive(self, number: int) -> None:
        verdict = self.server.admit()
        self.refused += not verdict.allowed
        self.clock.at(self.clock.now + self.latency, lambda: self._answer(number, verdict.headers))

    def _answer(self, number: int, headers: dict[str, str]) -> None:
        self._in_flight -= 1
        self.answered += 1
        self.limiter.release(headers, number)


# --- both limits ---------------------------------------------------------------------------------


def test_requests_are_spaced_evenly_a_little_below_the_limit_of_a_second(simulated):
    moments = departures(limiter_of(simulated, per_second=20), simulated, 41)

    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert gaps == pytest.approx([0.053] * 40)


def test_lost_time_is_made_up_for_at_half_the_spacing_and_never_past_the_limit_of_a_second(simulated):
    limiter = limiter_of(simulated, per_second=20)
    departures(limiter, simulated, 1)
    simulated.sleep(0.3)

    moments = departures(limiter, simulated, 40)

    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert gaps[:5] == pytest.approx([0.0265] * 5)
    assert gaps[-5:] == pytest.approx([0.053] * 5)
    assert min(later - sooner for sooner, later in zip(moments, moments[20:], strict=False)) >= 1.06 - 1e-9


def test_nobody_makes_up_for_a_pause_that_the_server_wanted(simulated):
    limiter = limiter_of(simulated, per_second=20)
    departures(limiter, simulated, 1)
    limiter.pause({"Retry-After": "2"}, 0.5)

    moments = departures(limiter, simulated, 5)

    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert gaps == pytest.approx([0.053] * 4)


def test_the_first_request_leaves_at_once(simulated):
    departures(limiter_of(simulated, per_second=1), simulated, 1)

    assert simulated.sleeps == []


def test_the_limit_of_a_minute_holds_the_next_request_back_until_the_first_one_is_a_minute_old(simulated):
    moments = departures(limiter_of(simulated, per_minute=300), simulated, 301)

    assert moments[299] - moments[0] < 1
    assert moments[300] - moments[0] == pytest.approx(60.5)


@steady
@given(
    per_second=st.integers(1, 60),
    per_minute=st.integers(1, 400),
    jitter=st.lists(st.floats(0, 0.059), min_size=1, max_size=40),
    idle=st.lists(st.tuples(st.integers(0, 300), st.floats(0, 70)), max_size=4),
)
def test_a_strict_server_never_refuses_whatever_the_network_does_to_the_order(per_second, per_minute, jitter, idle):
    clock = SimulatedClock()
    limiter = limiter_of(clock, per_second=per_second, per_minute=per_minute)
    pauses = dict(idle)
    arrivals = []
    for number in range(min(2 * per_minute, 350)):
        clock.sleep(pauses.get(number, 0.0))
        limiter.acquire()
        arrivals.append(clock.now + jitter[number % len(jitter)])
        limiter.release()

    arrivals.sort()
    moments = iter(arrivals)
    server = Server(per_minute, per_second, clock=lambda: next(moments))
    assert all(server.admit().allowed for _ in arrivals)


def test_threads_share_one_pace(simulated):
    limiter = limiter_of(simulated, per_second=20)
    start = simulated.now

    def work() -> None:
        for _ in range(10):
            limiter.acquire()
            limiter.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert limiter.granted == 80
    assert simulated.now - start >= 79 * 0.053 - 1e-6


def test_no_more_are_in_flight_than_allowed_and_an_answer_makes_room(simulated):
    limiter = limiter_of(simulated, max_in_flight=3)
    for _ in range(3):
        limiter.acquire()
    simulated.at(simulated.now + 7, limiter.release)
    start = simulated.now

    limiter.acquire()

    assert simulated.now - start == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize("latency", [0.001, 0.125, 2.0])
def test_100_pages_take_little_more_than_the_limit_allows_whatever_the_latency(simulated, latency):
    limiter = limiter_of(simulated, per_second=20, per_minute=300, max_in_flight=100)
    traffic = Traffic(limiter, simulated, Server(clock=simulated.time), latency)
    start = simulated.now

    for _ in range(100):
        traffic.send()

    assert simulated.now - start < 1.09 * 100 / 20
    traffic.finish()
    assert (traffic.refused, traffic.answered) == (0, 100)


def test_a_long_read_uses_up_every_minute_and_is_never_refused(simulated):
    limiter = limiter_of(simulated, per_second=20, per_minute=300, max_in_flight=8)
    traffic = Traffic(limiter, simulated, Server(clock=simulated.time), 0.125)
    start = simulated.now

    for number in range(1500):
        traffic.send(jitter=0.04 * (number % 2))
    took = simulated.now - start
    traffic.finish()

    assert (traffic.refused, traffic.answered) == (0, 1500)
    assert took < 4 * 62 + 17
    assert traffic.most_in_flight <= 8


@steady
@given(start=st.integers(0, 299), latency=st.floats(0.001, 0.3))
def test_what_others_have_used_up_costs_no_more_than_the_first_blind_requests(start, latency):
    clock = SimulatedClock()
    server = Server(clock=clock.time)
    for _ in range(start):
        server.admit()
    clock.sleep(1.0)
    traffic = Traffic(limiter_of(clock, per_second=20, per_minute=300, max_in_flight=8), clock, server, latency)

    for _ in range(400):
        traffic.send()
    traffic.finish()

    # Before the first answer nobody knows: as many as leave until then may be too many.
    assert traffic.refused <= max(0, start + 1 + 2 * latency * 20 - 300)


# --- a crowd: several clients with one key -------------------------------------------------------


class Crowd(Server):
    """Has other clients, who send some requests whenever ours sends one."""

    def __init__(self, clock: SimulatedClock, others: int) -> None:
        super().__init__(clock=clock.time)
        self.others = others

    def admit(self) -> Verdict:
        verdict = super().admit()
        for _ in range(self.others):
            super().admit()
        return verdict


def in_a_crowd(clock: SimulatedClock, others: int) -> tuple[Traffic, Crowd]:
    crowd = Crowd(clock, others)
    return Traffic(limiter_of(clock, per_second=20, per_minute=300, max_in_flight=8), clock, crowd, 0.02), crowd


@pytest.mark.parametrize("others", [1, 3, 7])
def test_a_client_takes_its_share_of_the_pace_and_leaves_room(simulated, others):
    traffic, _ = in_a_crowd(simulated, others)

    for _ in range(30):
        traffic.send()
    traffic.finish()

    # What is sent before the second answer is sent blindly.
    assert traffic.refused <= 1
    assert traffic.gaps()[-10:] == pytest.approx([0.053 * (others + 1) * 1.25] * 10, rel=0.15)


def test_a_client_is_as_fast_as_before_once_the_crowd_has_left(simulated):
    traffic, crowd = in_a_crowd(simulated, 3)
    for _ in range(20):
        traffic.send()
    crowd.others = 0

    for _ in range(60):
        traffic.send()

    assert traffic.gaps()[-5:] == pytest.approx([0.053] * 5)


def test_a_client_that_follows_a_busy_one_waits_for_one_answer_only(simulated):
    traffic, server = in_a_crowd(simulated, 0)
    for _ in range(150):
        server.admit()
    simulated.sleep(2)

    for _ in range(20):
        traffic.send()
    traffic.finish()

    # The first answer could be of a crowd; the second, a round trip later, tells that it isn't.
    assert sum(traffic.gaps()) < 20 * 0.053 + 0.1


@pytest.mark.parametrize("order", [(2, 1, 3), (3, 2, 1), (1, 3, 2)])
def test_answers_out_of_order_are_no_crowd(simulated, order):
    limiter = limiter_of(simulated, per_second=20)
    for _ in range(12):
        numbers = [limiter.acquire() for _ in order]
        for place in order:
            number = numbers[place - 1]
            limiter.release({"X-Ratelimit-Limit": "300", **low(300 - number)}, number)

    moments = departures(limiter, simulated, 5)

    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert gaps == pytest.approx([0.053] * 4, abs=0.001)


class Turns(Clock):
    """Wakes one sleeper at a time, the last to fall asleep first, and waits until it sleeps again or has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.at_rest = threading.Semaphore(0)
        self._sleepers: list[threading.Event] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, stopped: Callable[[], bool] = never) -> None:
        if seconds > 0:
            woken = threading.Event()
            self._sleepers.append(woken)
            self.at_rest.release()
            assert woken.wait(30)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        sleepers, self._sleepers = self._sleepers, []
        for woken in reversed(sleepers):
            woken.set()
            assert self.at_rest.acquire(timeout=30)


def test_who_comes_first_is_served_first():
    clock = Turns()
    limiter = limiter_of(clock, per_second=20)
    limiter.pause({"Retry-After": "1"}, 1.0)
    served: list[int] = []

    def work(number: int) -> None:
        limiter.acquire()
        served.append(number)
        clock.at_rest.release()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
        assert clock.at_rest.acquire(timeout=30)
    while len(served) < 8:
        clock.tick(0.05)
    for thread in threads:
        thread.join(10)

    assert served == list(range(8))


# --- what the server says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        pytest.param({"Remaining": "0", "Reset": f"{EPOCH + 30}"}, 30, id="epoch"),
        pytest.param({"Remaining": "0", "Reset": f"{EPOCH + 30}.5"}, 30.5, id="epoch with a fraction"),
        pytest.param({"Remaining": "-3", "Reset": f"{EPOCH + 30}"}, 30, id="remaining below zero"),
        pytest.param({"Remaining": "0", "Reset": "12"}, 12, id="seconds in place of an epoch"),
        pytest.param({"Remaining": "0", "Reset": f"{EPOCH - 30}"}, 0, id="in the past"),
        pytest.param({"Remaining": "0", "Reset": "-12"}, 0, id="seconds in the past"),
        pytest.param({"Remaining": "0", "Reset": f"{EPOCH + 3600}"}, 90, id="in an hour"),
        pytest.param({"Remaining": "0", "Reset": f"{EPOCH * 1000}"}, 90, id="milliseconds"),
        pytest.param({"Remaining": "1", "Reset": f"{EPOCH + 30}"}, 0, id="one is left"),
        pytest.param({"Remaining": "0"}, 0, id="no reset"),
        pytest.param({"Reset": f"{EPOCH + 30}"}, 0, id="no remaining"),
        pytest.param({"Remaining": "none", "Reset": f"{EPOCH + 30}"}, 0, id="remaining is a word"),
        pytest.param({"Remaining": "0", "Reset": "soon"}, 0, id="reset is a word"),
        pytest.param({"Remaining": "0", "Reset": ""}, 0, id="reset is empty"),
        pytest.param({"Remaining": "nan", "Reset": "nan"}, 0, id="not a number"),
        pytest.param({"Remaining": "0", "Reset": "inf"}, 0, id="infinite"),
        pytest.param({}, 0, id="nothing"),
    ],
)
def test_the_headers_of_an_answer_say_how_long_the_next_request_waits(simulated, headers, wait):
    named = {f"X-Ratelimit-{name}": value for name, value in headers.items()}

    assert wait_after(limiter_of(simulated), simulated, named) == pytest.approx(wait, abs=0.001)


@pytest.mark.parametrize(
    ("ahead", "wait"),
    [
        pytest.param(-3600, 30, id="server an hour behind"),
        pytest.param(3600, 30, id="server an hour ahead"),
        pytest.param(4, 34, id="a little ahead counts as rounding"),
    ],
)
def test_a_wrong_clock_of_the_worker_is_made_up_for_by_the_date_of_the_answer(simulated, ahead, wait):
    server_now = EPOCH + ahead
    headers = {
        "X-Ratelimit-Remaining": "0",
        "X-Ratelimit-Reset": f"{server_now + 30}",
        "Date": http_date(server_now),
    }

    assert wait_after(limiter_of(simulated), simulated, headers) == pytest.approx(wait, abs=0.001)


@pytest.mark.parametrize(
    "date", ["yesterday", "", "Mon, 23 Nov 99999 10:00:00 GMT", f"Mon, 23 Nov 2026 10:00:00 +{'9' * 20}"]
)
def test_an_unreadable_date_leaves_our_own_clock(simulated, date):
    headers = {"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": f"{EPOCH + 30}", "Date": date}

    assert wait_after(limiter_of(simulated), simulated, headers) == pytest.approx(30, abs=0.001)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        pytest.param({"X-Ratelimit-Reset": f"{EPOCH + 30}"}, 30, id="reset"),
        pytest.param({"X-Ratelimit-Reset": f"{EPOCH + 30}", "Retry-After": "7"}, 30, id="reset before retry-after"),
        pytest.param({"X-Ratelimit-Reset": f"{EPOCH - 30}", "Retry-After": "7"}, 7, id="reset in the past"),
        pytest.param({"X-Ratelimit-Reset": f"{EPOCH - 30}"}, 0.5, id="reset in the past alone"),
        pytest.param({"Retry-After": "7"}, 7, id="retry-after"),
        pytest.param({"Retry-After": http_date(EPOCH + 7)}, 7, id="retry-after as a date"),
        pytest.param(
            {"Retry-After": http_date(EPOCH + 3607), "Date": http_date(EPOCH + 3600)}, 7, id="date of another clock"
        ),
        pytest.param({"Retry-After": http_date(EPOCH - 7)}, 0.5, id="retry-after in the past"),
        pytest.param({"Retry-After": "-7"}, 0.5, id="retry-after below zero"),
        pytest.param({"Retry-After": "later"}, 0.5, id="retry-after is a word"),
        pytest.param({"Retry-After": "86400"}, 90, id="a day"),
        pytest.param({}, 0.5, id="nothing"),
    ],
)
def test_a_429_holds_everybody_back_as_long_as_it_says(simulated, headers, wait):
    limiter = limiter_of(simulated)
    for _ in range(2):
        limiter.acquire()
    limiter.release()
    start = simulated.now

    assert limiter.pause(headers, 0.5) == pytest.approx(wait, abs=0.001)
    limiter.acquire()
    assert simulated.now - start == pytest.approx(wait, abs=0.001)


def test_a_date_without_a_zone_is_utc_wherever_the_worker_is(simulated, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        headers = {"Retry-After": http_date(EPOCH + 7).replace("GMT", "-0000")}
        assert limiter_of(simulated).pause(headers, 0.5) == pytest.approx(7, abs=0.001)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_shorter_pause_does_not_end_a_longer_one(simulated):
    limiter = limiter_of(simulated)
    start = simulated.now
    limiter.pause({"Retry-After": "40"}, 0.5)
    limiter.pause({"Retry-After": "2"}, 0.5)

    limiter.acquire()

    assert simulated.now - start == pytest.approx(40)


@steady
@given(
    st.dictionaries(
        st.sampled_from(["X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Retry-After", "Date"]),
        st.one_of(
            st.binary(max_size=40).map(lambda sent: sent.decode("latin-1")),
            st.floats().map(str),
            st.integers().map(str),
            st.tuples(st.integers(-1, 99), st.integers(-1, 99999), st.integers(-(10**9), 10**9)).map(
                lambda parts: f"Mon, {parts[0]} Nov {parts[1]} 10:00:00 {parts[2]:+05}"
            ),
        ),
    )
)
def test_no_header_can_raise_or_hold_a_client_back_for_longer_than_a_minute_and_a_half(headers):
    clock = SimulatedClock()
    limiter = limiter_of(clock)
    start = clock.now

    assert 0.5 <= limiter.pause(headers, 0.5) <= 90
    limiter.acquire()
    limiter.release(headers)
    limiter.acquire()

    assert clock.now - start <= 181


# --- requests in flight --------------------------------------------------------------------------


def low(remaining: int, reset_in: float = 30.0) -> dict[str, str]:
    return {"X-Ratelimit-Remaining": str(remaining), "X-Ratelimit-Reset": str(EPOCH + reset_in)}


def test_requests_in_flight_are_taken_off_what_is_left(simulated):
    limiter = limiter_of(simulated)
    limiter.acquire()
    limiter.release(low(2))
    limiter.acquire()
    limiter.acquire()
    simulated.at(simulated.now + 1, lambda: limiter.release(low(200)))
    start = simulated.now

    limiter.acquire()

    assert simulated.now - start == pytest.approx(1, abs=0.02)


def test_a_request_that_died_without_an_answer_does_not_block_the_others(simulated):
    limiter = limiter_of(simulated)
    limiter.acquire()
    limiter.release(low(1))
    limiter.acquire()
    simulated.at(simulated.now + 1, limiter.release)
    start = simulated.now

    limiter.acquire()

    assert simulated.now - start == pytest.approx(1, abs=0.02)


def test_after_the_reset_one_request_asks_before_all_others_follow(simulated):
    limiter = limiter_of(simulated)
    limiter.acquire()
    limiter.release(low(0, reset_in=30))
    start = simulated.now

    limiter.acquire()
    asked = simulated.now - start
    simulated.at(simulated.now + 2, lambda: limiter.release(low(100, reset_in=90)))
    limiter.acquire()
    limiter.acquire()

    assert asked == pytest.approx(30, abs=0.001)
    assert simulated.now - start == pytest.approx(32, abs=0.02)


def test_waiting_for_answers_is_not_a_hot_loop(simulated):
    limiter = limiter_of(simulated)
    limiter.acquire()
    limiter.release(low(1))
    limiter.acquire()
    simulated.at(simulated.now + 10, limiter.release)

    limiter.acquire()

    assert len(simulated.sleeps) <= 10 / 0.01 + 3


# --- cancelling ----------------------------------------------------------------------------------


def sleeping(work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except AhaCancelledError as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, failures


def test_cancel_wakes_every_thread_that_waits_for_its_place():
    clock = Clock()
    limiter = limiter_of(clock)
    limiter.pause({"Retry-After": "60"}, 0.5)
    waiting = [sleeping(limiter.acquire) for _ in range(4)]

    clock.cancel()

    for thread, failures in waiting:
        thread.join(5)
        assert len(failures) == 1
    assert limiter.granted == 0


def test_after_a_cancel_no_place_is_given_even_where_one_is_free():
    clock = Clock()
    limiter = limiter_of(clock)
    clock.cancel()

    with pytest.raises(AhaCancelledError):
        limiter.acquire()
    assert limiter.granted == 0


def test_work_that_is_over_wakes_alone():
    clock = Clock()
    limiter = limiter_of(clock)
    limiter.pause({"Retry-After": "60"}, 0.5)
    over: list[bool] = []
    stopped, failures = sleeping(lambda: limiter.acquire(lambda: bool(over)))
    other, _ = sleeping(limiter.acquire)

    over.append(True)
    clock.wake()
    stopped.join(5)

    assert len(failures) == 1
    assert other.is_alive()
    clock.cancel()
    other.join(5)


def test_a_signal_handler_may_cancel_the_very_thread_that_sleeps():
    clock = Clock()
    before = signal.signal(signal.SIGALRM, lambda *_: clock.cancel())
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(AhaCancelledError, match="cancelled"):
            clock.sleep(30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 10


def test_the_real_clock_sleeps_as_long_as_it_was_told():
    clock = Clock()
    start = clock.monotonic()

    clock.sleep(0.02)
    clock.sleep(-1)

    assert clock.monotonic() - start >= 0.02
    assert abs(clock.time() - time.time()) < 1
