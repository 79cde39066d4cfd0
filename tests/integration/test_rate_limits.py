"""Rate limits on a real Valkey: the script that counts, under a clock of our own and under the store's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from pipeline.policy import Call, Entity, Policy, PolicyBook, RateLimit, Scope
from pipeline.store.keys import Keys
from pipeline.store.scripts import source
from pipeline.store.tables import PolicyStore

START_US = 1_773_561_898_000_000
SLOTS = 60


def limit(most: int, window_s: int, **changes: object) -> RateLimit:
    fields = {"entity": Entity.USER, "scope": Scope.GLOBAL, **changes}
    return RateLimit(max_requests=most, time_window=f"{window_s}s", window_s=window_s, **fields)  # type: ignore[arg-type]


class Clocked:
    """Two clients of the store that run the real script at times of our choosing."""

    def __init__(self, url: str) -> None:
        self.clients = [redis.Redis.from_url(url) for _ in range(2)]
        body = source("admit")
        assert body.count("local now = now_us()") == 1
        self._source = body.replace("local now = now_us()", "local now = tonumber(table.remove(ARGV))")

    def admit(self, now_us: int, *limits: tuple[str, int, int], client: int = 0) -> tuple[int, int]:
        """(µs to wait, number of the limit)"""
        flat = [part for one in limits for part in one]
        return tuple(self.clients[client].eval(self._source, 0, "ps", *flat, now_us))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def clocked(valkey: str) -> Iterator[Clocked]:
    clocked = Clocked(f"{valkey.rsplit('/', 1)[0]}/0")
    yield clocked
    for client in clocked.clients:
        client.close()


# Windows of a minute and more: keys expire by the real clock, which must not matter here.
WINDOWS = st.integers(60_000_000, 120_000_001)
arrivals = st.lists(st.tuples(st.integers(0, 40_000_000), st.integers(0, 1)), min_size=1, max_size=60)


@given(arrivals=arrivals, most=st.integers(1, 6), window_us=WINDOWS)
def test_no_window_ever_holds_more_than_the_limit(clocked: Clocked, arrivals: list, most: int, window_us: int):
    clocked.clients[0].flushdb()
    now, admitted = START_US, []
    slot = -(-window_us // SLOTS)
    for gap, client in arrivals:
        now += gap
        wait, which = clocked.admit(now, ("u", most, window_us), client=client)
        if not wait:
            admitted.append(now)
            assert which == 0
        else:
            assert which == 1
            # Nobody is refused who would fit into a window that is one slot longer, nor told to wait longer than that.
            assert sum(1 for t in admitted if t > now - window_us - slot) >= most
            assert 0 < wait <= window_us + slot
        assert sum(1 for t in admitted if now - window_us < t <= now) <= most
        assert clocked.clients[0].hlen("ps:rate:u") <= SLOTS + 2


@given(arrivals=arrivals, most=st.integers(1, 4), window_us=WINDOWS)
def test_whoever_comes_back_when_told_is_admitted(clocked: Clocked, arrivals: list, most: int, window_us: int):
    clocked.clients[0].flushdb()
    now, admitted = START_US, []
    for gap, client in arrivals:
        now += gap
        wait, _ = clocked.admit(now, ("u", most, window_us), client=client)
        if wait:
            assert clocked.admit(now + wait - 1, ("u", most, window_us))[0] > 0
            now += wait
            assert clocked.admit(now, ("u", most, window_us))[0] == 0
        admitted.append(now)
        # The moment that was told is the earliest at which a window could be full to the brim.
        assert sum(1 for t in admitted if t > now - window_us) <= most


@given(steps=st.lists(st.integers(-180_000_000, 60_000_000), min_size=1, max_size=60), most=st.integers(1, 6))
def test_a_clock_that_is_set_back_admits_no_more_and_locks_nobody_out(clocked: Clocked, steps: list, most: int):
    clocked.clients[0].flushdb()
    window_us, now, admitted = 60_000_000, START_US, 0
    for step in steps:
        before, now = now, now + step
        wait, _ = clocked.admit(now, ("u", most, window_us))
        if now < before:
            # No time has passed for whoever was counted: at most what was left is given out.
            assert wait <= window_us + 2 * (window_us // SLOTS + 1)
        admitted += not wait
        assert clocked.clients[0].hlen("ps:rate:u") <= SLOTS + 2
    forward = sum(step for step in steps if step > 0)
    assert admitted <= most * (forward // window_us + 1)


def test_a_call_is_counted_under_all_limits_or_under_none(clocked: Clocked):
    clocked.clients[0].flushdb()
    wide, narrow = ("wide", 3, 3_600_000_000), ("narrow", 1, 60_000_000)
    assert clocked.admit(START_US, wide, narrow)[0] == 0
    for _ in range(5):
        wait, which = clocked.admit(START_US, wide, narrow)
        assert which == 2
        assert 60_000_000 <= wait <= 61_000_000
    assert clocked.clients[0].hvals("ps:rate:wide") == [b"1"]


def test_a_counter_goes_when_its_window_is_over(clocked: Clocked):
    clocked.clients[0].flushdb()
    clocked.admit(START_US, ("u", 5, 60_000_000))
    assert 60_000 <= clocked.clients[0].pttl("ps:rate:u") <= 62_001


@pytest.fixture
async def stores(redis_url: str) -> AsyncIterator[list[PolicyStore]]:
    clients = [Redis.from_url(redis_url) for _ in range(2)]
    yield [PolicyStore(client, Keys("ps")) for client in clients]
    for client in clients:
        await client.aclose()


async def test_replicas_that_count_at_once_admit_exactly_the_limit(stores: list[PolicyStore]):
    policy = Policy(id="p", endpoint="", rule=limit(17, 3600))
    charges = PolicyBook([policy]).charges(Call(endpoint="/x", ip=None, user_id="usr-1"))
    outcomes = await asyncio.gather(*(stores[i % 2].admit(charges) for i in range(100)))
    assert outcomes.count(None) == 17
    refused = [outcome for outcome in outcomes if outcome]
    assert all(charge == charges[0] and 3500 < wait_s <= 3660 for charge, wait_s in refused)


async def test_who_is_counted_apart_from_whom(stores: list[PolicyStore]):
    def counters(policy: Policy, *calls: Call) -> int:
        return len({charge.counter for call in calls for charge in PolicyBook([policy]).charges(call)})

    alice = Call(endpoint="/a", ip="192.0.2.1", user_id="usr-1")
    bob = Call(endpoint="/a", ip="192.0.2.1", user_id="usr-2")
    elsewhere = Call(endpoint="/b", ip="192.0.2.2", user_id="usr-1")
    by = {"entity": Entity.IP}
    assert counters(Policy(id="p", endpoint="", rule=limit(1, 1)), alice, bob, elsewhere) == 2
    assert counters(Policy(id="p", endpoint="", rule=limit(1, 1, **by)), alice, bob, elsewhere) == 2
    each = {"scope": Scope.ENDPOINT}
    assert counters(Policy(id="p", endpoint="", rule=limit(1, 1, **each)), alice, bob, elsewhere) == 3
    assert counters(Policy(id="p", endpoint="/a", rule=limit(1, 1, **each)), alice, elsewhere) == 1
    nobody = Call(endpoint="/a", ip=None, user_id=None)
    assert counters(Policy(id="p", endpoint="", rule=limit(1, 1)), nobody) == 0
    assert counters(Policy(id="p", endpoint="", rule=limit(1, 1, **by)), nobody) == 0
