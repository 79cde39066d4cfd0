"""The world that policies are simulated in, and the policies under Serve's own code."""

from __future__ import annotations

from itertools import pairwise

from benchmarks.autoscaling_simulation import ours, serves_own, simulate
from benchmarks.scaling_world import Assumptions, Outcome, World, prompts_of

SMALL = Assumptions(
    duration=1800,
    users=200,
    bursts=((300, 100),),
    pause=(700, 1800),
    most_replicas=40,
    cold_start=(60, 120),
    drain=20,
    life=1e9,
    failing_starts=0,
)
PROMPTS = prompts_of(SMALL)


def test_the_prompts_are_the_same_every_time_and_in_order():
    assert prompts_of(SMALL) == PROMPTS
    assert all(a.arrival <= b.arrival for a, b in pairwise(PROMPTS))
    assert not any(prompt.arrival >= 700 for prompt in PROMPTS)


def test_enough_replicas_leave_nobody_waiting():
    outcome = World(SMALL, PROMPTS, first=40).run(lambda seen: 40)
    assert outcome.wait(1.0) <= 1.0
    assert outcome.unfinished == 0
    assert outcome.replica_seconds == 40 * SMALL.duration
    assert (outcome.turns, outcome.handed_back, outcome.starts) == (0, 0, 0)


def test_nobody_is_lost_when_replicas_die_and_starts_fail():
    frail = Assumptions(**{**_fields(SMALL), "life": 120.0, "failing_starts": 0.3})
    outcome = World(frail, PROMPTS, first=20).run(lambda seen: 20)
    assert outcome.died_under > 0
    assert outcome.unfinished == 0


def test_without_replicas_all_wait_to_the_end():
    outcome = World(SMALL, PROMPTS).run(lambda seen: 0)
    assert outcome.unfinished == len(PROMPTS)
    assert outcome.wait(0.0) > 1000


def _run(policy: object) -> Outcome:
    return simulate(SMALL, PROMPTS, {"it": (policy, 0)})["it"]  # type: ignore[dict-item]


def test_our_policy_answers_a_burst_at_once_and_ends_at_none():
    outcome = _run(ours(SMALL, downscale_delay_s=60, downscale_to_zero_delay_s=120))
    needed = max(outcome.demands[290:320]) / SMALL.permits
    assert max(outcome.targets[300:323]) >= needed
    assert outcome.targets[-1] == 0
    assert outcome.running[-1] == 0
    assert outcome.unfinished == 0


def test_serves_own_policy_is_later_and_blind_to_what_waits_in_the_store():
    late = _run(serves_own(SMALL, lambda seen: seen.demand))
    assert max(late.targets[300:330]) < max(_run(ours(SMALL)).targets[300:330])
    own = serves_own(SMALL, lambda seen: seen.running_prompts, min_replicas=1, initial_replicas=1)
    blind = simulate(SMALL, PROMPTS, {"it": (own, 1)})["it"]
    assert max(blind.targets) == 1


def _fields(assumptions: Assumptions) -> dict[str, object]:
    return {name: getattr(assumptions, name) for name in Assumptions.__slots__}
