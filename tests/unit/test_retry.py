import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.retry import Abandon, RetryAfter, RetryPolicy


def decisions(policy: RetryPolicy, most: int = 20) -> list[float | None]:
    """Delays after the first, second, ... failure; None where the prompt is given up."""
    made = [policy.decide(failures=n) for n in range(1, most + 1)]
    return [decision.delay_s if isinstance(decision, RetryAfter) else None for decision in made]


def test_by_default_five_attempts_2_4_8_and_16_seconds_apart():
    assert decisions(RetryPolicy(), 5) == [2, 4, 8, 16, None]


def test_beyond_that_the_delay_doubles_to_512_seconds():
    assert decisions(RetryPolicy(max_retries=11), 12) == [2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512, None]


def test_zero_retries_mean_one_attempt():
    assert decisions(RetryPolicy(max_retries=0), 1) == [None]


def test_a_permanent_fault_is_not_tried_again():
    assert RetryPolicy(max_retries=100).decide(failures=1, permanent=True) == Abandon()


@given(st.integers(0, 100))
def test_max_retries_counts_the_retries(max_retries: int):
    made = decisions(RetryPolicy(max_retries=max_retries), 102)
    assert made[max_retries] is None
    assert all(delay is not None for delay in made[:max_retries])


@pytest.mark.parametrize("decision", [RetryAfter(delay_s=2), Abandon()])
def test_a_decision_is_a_value(decision: RetryAfter | Abandon):
    assert hash(decision) == hash(type(decision)(**({"delay_s": 2} if isinstance(decision, RetryAfter) else {})))
