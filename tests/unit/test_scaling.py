"""How many replicas a demand is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cost import HIGHEST, LOWEST, TEXT, image_cost, to_thousandths
from pipeline.scaling import HOLD_S, STALE_S, Reading, replicas_for, wish


@pytest.mark.parametrize(
    ("demand", "replicas"), [(0, 0), (0.001, 1), (1, 1), (48, 1), (48.001, 2), (49, 2), (96, 2), (96.5, 3), (4800, 100)]
)
def test_replicas_hold_the_whole_demand(demand: float, replicas: int):
    assert replicas_for(demand, per_replica=48) == replicas


@given(demand=st.floats(0.001, 1e6), per_replica=st.floats(0.5, 1000))
def test_no_replica_more_than_needed_and_none_less(demand: float, per_replica: float):
    replicas = replicas_for(demand, per_replica=per_replica)
    assert replicas * per_replica >= demand * (1 - 1e-5)
    assert replicas == 1 or (replicas - 1) * per_replica < demand


def test_thousandths_that_add_up_with_an_error_are_no_replica_more():
    assert replicas_for(sum([0.1] * 30), per_replica=3) == 1


def test_the_highest_reading_of_late_counts_whoever_made_it():
    readings = [Reading(at=100, demand=500), Reading(at=101, demand=10), Reading(at=101 - HOLD_S - 0.1, demand=900)]
    assert wish(readings, now=102, per_replica=10) == 50
    assert wish([*readings, Reading(at=100.1 + HOLD_S, demand=20)], now=106, per_replica=10) == 2


def test_without_fresh_news_nothing_is_wished():
    assert wish([], now=100, per_replica=10) is None
    old = Reading(at=100, demand=500)
    assert wish([old], now=100 + STALE_S, per_replica=10) == 50
    assert wish([old], now=100.1 + STALE_S, per_replica=10) is None


def test_an_image_costs_its_pixels_times_its_steps():
    assert image_cost(width=512, height=512, steps=20) == TEXT
    assert image_cost(width=1024, height=1024, steps=40) == 8 * TEXT
    assert image_cost(width=512, height=512, steps=20, images=4) == 4 * TEXT
    assert image_cost(width=8, height=8, steps=1) == LOWEST
    assert image_cost(width=10**6, height=10**6, steps=1000) == HIGHEST


def test_the_store_keeps_thousandths():
    assert to_thousandths(TEXT) == 1000
    assert to_thousandths(0.0625) == 62
    assert to_thousandths(0) == 1
