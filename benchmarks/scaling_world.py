"""A world for autoscaling policies: users, a queue, and replicas that start slowly, fail and drain. Nothing of Ray, one step a
second.

What is assumed are the fields of ``Assumptions``; everything random comes from its seed, and the prompts are the same for every
policy.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions:
    """Times in seconds."""

    seed: int = 1
    duration: int = 8 * 3600
    users: int = 10_000
    #: Mean time between two prompts of a user, outside of bursts.
    think: float = 600.0
    #: (when, prompts that arrive within ``burst_length``)
    bursts: tuple[tuple[int, int], ...] = ((3600, 4000), (2 * 3600, 10_000), (2 * 3600 + 900, 3000), (7 * 3600, 6000))
    burst_length: int = 20
    #: When nobody is there: the night.
    pause: tuple[int, int] = (4 * 3600, 6 * 3600 + 1800)
    #: How long a prompt runs: lognormal.
    run_mean: float = 25.0
    run_sigma: float = 0.8
    #: Prompts one replica runs at a time.
    permits: int = 8
    most_replicas: int = 1000
    cold_start: tuple[float, float] = (60.0, 300.0)
    #: Share of starts that fail at their end and are begun again.
    failing_starts: float = 0.02
    #: Mean time until a running replica dies.
    life: float = 4 * 3600.0
    #: How long a replica that is taken away goes on with what it runs; the rest is resumed elsewhere.
    drain: float = 60.0
    #: What resuming costs: reading the prompt and what is written of the answer again.
    resume: float = 1.0
    #: Age of the demand a policy decides by: read, reported, decided.
    report_age: int = 2


@dataclass(frozen=True, slots=True)
class Prompt:
    arrival: float
    run: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a policy is told."""

    now: int
    #: Waiting and running prompts, as they were ``report_age`` ago.
    demand: int
    #: Running prompts alone, of the same moment.
    running_prompts: int
    replicas: int
    target: int


Policy = Callable[[Seen], int]


@dataclass(slots=True, eq=False)
class Replica:
    ready_at: float
    dies_at: float
    #: prompt -> when it ends
    runs: dict[int, float] = field(default_factory=dict)
    leaves_at: float = math.inf

    @property
    def is_leaving(self) -> bool:
        return self.leaves_at < math.inf


@dataclass(slots=True)
class Outcome:
    #: Seconds from arrival to the first run, of every prompt that arrived.
    waits: list[float]
    replica_seconds: float = 0.0
    #: Targets, one each second.
    targets: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    demands: list[int] = field(default_factory=list)
    handed_back: int = 0
    #: Prompts whose replica died under them.
    died_under: int = 0
    #: Replicas that were started.
    starts: int = 0
    unfinished: int = 0

    @property
    def turns(self) -> int:
        """How many times the target changed its direction: up after down or down after up."""
        turns, last = 0, 0
        for before, after in zip(self.targets, self.targets[1:], strict=False):
            direction = (after > before) - (after < before)
            if direction and direction != last:
                turns += last != 0
                last = direction
        return turns

    def wait(self, share: float) -> float:
        """The wait that this share of all prompts did not exceed, seconds."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def mean_wait(self) -> float:
        return sum(self.waits) / len(self.waits)


def prompts_of(assumptions: Assumptions) -> list[Prompt]:
    """The prompts of all users, in order of arrival."""
    rng = random.Random(assumptions.seed)
    a = assumptions
    arrivals: list[float] = []
    rate = a.users / a.think
    now = 0.0
    while now < a.duration:
        now += rng.expovariate(rate)
        # Twice as much in the middle of the morning as at its ends.
        share = 0.5 + 0.5 * abs(math.sin(2 * math.pi * now / a.duration))
        asleep = a.pause[0] <= now < a.pause[1]
        if rng.random() < (0.0 if asleep else share):
            arrivals.append(now)
    for when, count in a.bursts:
        arrivals += [when + rng.random() * a.burst_length for _ in range(count)]
    mu = math.log(a.run_mean) - a.run_sigma**2 / 2
    return [
        Prompt(arrival, rng.lognormvariate(mu, a.run_sigma)) for arrival in sorted(arrivals) if arrival < a.duration
    ]


class World:
    """One run of one policy."""

    def __init__(self, assumptions: Assumptions, prompts: list[Prompt], *, first: int = 0) -> None:
        """
        Args:
            first: replicas that run already at the beginning.
        """
        self._a = assumptions
        self._prompts = prompts
        self._rng = random.Random(assumptions.seed + 1)
        self._replicas: list[Replica] = []
        self._queue: deque[int] = deque()
        self._left = [prompt.run for prompt in prompts]
        self._ends: list[tuple[float, int, int, Replica]] = []
        self._pushed = 0
        self._next = 0
        self.target = first
        for _ in range(first):
            self._replicas.append(Replica(0.0, self._death(0.0)))
        self.outcome = Outcome(waits=[-1.0] * len(prompts))
        self._reports: deque[tuple[int, int]] = deque(maxlen=assumptions.report_age + 1)

    def run(self, policy: Policy) -> Outcome:
        out = self.outcome
        for now in range(self._a.duration):
            self._finish(now)
            self._fail_and_leave(now)
            self._arrive(now)
            self._assign(now)
            running = sum(len(replica.runs) for replica in self._replicas)
            demand = running + len(self._queue)
            self._reports.append((demand, running))
            seen_demand, seen_running = self._reports[0]
            up = sum(r.ready_at <= now and not r.is_leaving for r in self._replicas)
            target = policy(
                Seen(now=now, demand=seen_demand, running_prompts=seen_running, replicas=up, target=self.target)
            )
            self._scale(now, max(0, min(target, self._a.most_replicas)))
            out.replica_seconds += len(self._replicas)
            out.targets.append(self.target)
            out.running.append(up)
            out.demands.append(demand)
        for number, wait in enumerate(out.waits):
            if wait < 0:
                out.waits[number] = self._a.duration - self._prompts[number].arrival
        out.unfinished = len(self._queue) + sum(len(replica.runs) for replica in self._replicas)
        return out

    def _arrive(self, now: int) -> None:
        while self._next < len(self._prompts) and self._prompts[self._next].arrival <= now:
            self._queue.append(self._next)
            self._next += 1

    def _finish(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            end, _, number, replica = heapq.heappop(self._ends)
            if replica.runs.get(number) == end:
                del replica.runs[number]
                self._left[number] = 0.0

    def _fail_and_leave(self, now: int) -> None:
        for replica in list(self._replicas):
            if replica.ready_at <= now and replica.dies_at <= now:
                self.outcome.died_under += len(replica.runs)
                self._take_from(replica, now)
                self._replicas.remove(replica)
            elif replica.is_leaving and (not replica.runs or replica.leaves_at <= now):
                self.outcome.handed_back += len(replica.runs)
                self._take_from(replica, now)
                self._replicas.remove(replica)

    def _take_from(self, replica: Replica, now: int) -> None:
        """What it runs goes on elsewhere from where it is, before all that have not begun."""
        for number, end in sorted(replica.runs.items(), reverse=True):
            self._left[number] = end - now + self._a.resume
            self._queue.appendleft(number)
        replica.runs.clear()

    def _assign(self, now: int) -> None:
        for replica in self._replicas:
            if not self._queue:
                return
            if replica.ready_at > now or replica.is_leaving:
                continue
            while self._queue and len(replica.runs) < self._a.permits:
                number = self._queue.popleft()
                end = now + self._left[number]
                replica.runs[number] = end
                self._pushed += 1
                heapq.heappush(self._ends, (end, self._pushed, number, replica))
                if self.outcome.waits[number] < 0:
                    self.outcome.waits[number] = max(0.0, now - self._prompts[number].arrival)

    def _scale(self, now: int, target: int) -> None:
        self.target = target
        staying = [replica for replica in self._replicas if not replica.is_leaving]
        for _ in range(target - len(staying)):
            self._replicas.append(self._new(now))
        # As Serve does: those that are still starting go first, then the youngest.
        surplus = sorted(staying, key=lambda r: (r.ready_at <= now, -r.ready_at))[: max(0, len(staying) - target)]
        for replica in surplus:
            if replica.ready_at > now:
                self._replicas.remove(replica)
            else:
                replica.leaves_at = now + self._a.drain

    def _new(self, now: float) -> Replica:
        self.outcome.starts += 1
        ready = now + self._rng.uniform(*self._a.cold_start)
        while self._rng.random() < self._a.failing_starts:
            ready += self._rng.uniform(*self._a.cold_start)
        return Replica(ready, self._death(ready))

    def _death(self, ready: float) -> float:
        return ready + self._rng.expovariate(1 / self._a.life)
