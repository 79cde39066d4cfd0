"""The autoscaling policy alone, against fixed fleets and Serve's own policy, on a day of 10,000 users and up to 1,000 replicas.

    python -m benchmarks.autoscaling_simulation          writes benchmarks/results/autoscaling.{md,json} and two plots

Every policy is called through Serve's own code (its wrappers with their delays, bounds and factors), on Serve's own contexts;
only the clock is ours. See ``benchmarks.scaling_world`` for what is assumed of users and replicas.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.serve import autoscaling_policy
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from benchmarks.scaling_world import Assumptions, Outcome, Policy, Prompt, Seen, World, prompts_of
from benchmarks.svg import Line, Point, chart, scatter
from deployments.autoscaling import ROUTER, FollowTheQueue, demand_metric

RESULTS = Path(__file__).resolve().parent / "results"
MODEL, ROUTERS = DeploymentID("LLM-model", "app"), DeploymentID(ROUTER, "app")
_REPORTER = ReplicaID("router", ROUTERS)
#: Seconds over which Serve averages what its handles hold, and its delays: the defaults of 2.60.
LOOK_BACK_S = 30
FIXED = (50, 75, 100, 150, 200, 300, 500, 1000)


def _context(seen: Seen, config: AutoscalingConfig, deployment: DeploymentID, **changes: Any) -> AutoscalingContext:
    fields: dict[str, Any] = {
        "deployment_id": deployment,
        "deployment_name": deployment.name,
        "app_name": deployment.app_name,
        "current_num_replicas": seen.replicas,
        "target_num_replicas": seen.target,
        "running_replicas": [],
        "total_num_requests": 0.0,
        "total_queued_requests": 0.0,
        "aggregated_metrics": {},
        "raw_metrics": {},
        "capacity_adjusted_min_replicas": config.min_replicas,
        "capacity_adjusted_max_replicas": config.max_replicas,
        "policy_state": {},
        "last_scale_up_time": None,
        "last_scale_down_time": None,
        "current_time": float(seen.now),
        "config": config,
    }
    return AutoscalingContext(**{**fields, **changes})


def _config(assumptions: Assumptions, **changes: Any) -> AutoscalingConfig:
    return AutoscalingConfig(
        **{
            "min_replicas": 0,
            "initial_replicas": 0,
            "max_replicas": assumptions.most_replicas,
            "target_ongoing_requests": assumptions.permits,
            **changes,
        }
    )


def ours(assumptions: Assumptions, **changes: Any) -> Policy:
    """``FollowTheQueue`` as serve_config.yaml names it."""
    delays = {"upscale_delay_s": 0, "downscale_delay_s": 300, "downscale_to_zero_delay_s": 900}
    config = _config(assumptions, **{**delays, **changes})
    policy: Any = autoscaling_policy._apply_app_level_autoscaling_config(FollowTheQueue())
    state: dict[str, Any] = {}
    # Serve keeps what was reported in the last look_back_period_s of the router.
    reports: deque[TimeStampedValue] = deque(maxlen=5)

    def decide(seen: Seen) -> int:
        nonlocal state
        reports.append(TimeStampedValue(seen.now - assumptions.report_age, float(seen.demand)))
        points = list(reports)
        reported = {demand_metric(MODEL.name): {_REPORTER: points}}
        contexts = {
            ROUTERS: _context(seen, config, ROUTERS, raw_metrics=reported),
            MODEL: _context(seen, config, MODEL, policy_state=state),
        }
        decisions, states = policy(contexts)
        state = states.get(MODEL, {})
        return int(decisions.get(MODEL, seen.target))

    return decide


def serves_own(assumptions: Assumptions, counted: Callable[[Seen], int], **changes: Any) -> Policy:
    """Serve's default policy with its default delays, on the requests that ``counted`` says its handles hold."""
    config = _config(assumptions, **changes)
    policy: Any = autoscaling_policy._apply_autoscaling_config(
        autoscaling_policy.replica_queue_length_autoscaling_policy
    )
    state: dict[str, Any] = {}
    window: deque[int] = deque(maxlen=LOOK_BACK_S)

    def decide(seen: Seen) -> int:
        nonlocal state
        window.append(counted(seen))
        requests = sum(window) / len(window)
        target, state = policy(_context(seen, config, MODEL, policy_state=state, total_num_requests=requests))
        return int(target)

    return decide


def fixed(size: int) -> Policy:
    """Always so many."""
    return lambda _seen: size


@dataclass(frozen=True, kw_only=True)
class Row:
    policy: str
    replica_hours: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    wait_mean: float
    most_replicas: int
    starts: int
    turns: int
    handed_back: int
    unfinished: int


def row(name: str, outcome: Outcome) -> Row:
    return Row(
        policy=name,
        replica_hours=round(outcome.replica_seconds / 3600, 1),
        wait_p50=round(outcome.wait(0.5), 1),
        wait_p95=round(outcome.wait(0.95), 1),
        wait_p99=round(outcome.wait(0.99), 1),
        wait_mean=round(outcome.mean_wait, 1),
        most_replicas=max(outcome.targets),
        starts=outcome.starts,
        turns=outcome.turns,
        handed_back=outcome.handed_back,
        unfinished=outcome.unfinished,
    )


def policies_of(a: Assumptions) -> dict[str, tuple[Policy, int]]:
    """The policies that are compared, each with the replicas it begins with."""
    return {
        "follows the queue": (ours(a), 0),
        "follows the queue, down after 60 s": (ours(a, downscale_delay_s=60), 0),
        "follows the queue, a quarter spare": (ours(a, target_ongoing_requests=0.8 * a.permits), 0),
        "Serve's own, all waiting in its handles": (serves_own(a, lambda seen: seen.demand), 0),
        "Serve's own, waiting in the store": (
            serves_own(a, lambda seen: seen.running_prompts, min_replicas=1, initial_replicas=1),
            1,
        ),
        **{f"{size} replicas, always": (fixed(size), size) for size in FIXED},
    }


def simulate(
    assumptions: Assumptions, prompts: list[Prompt], policies: Mapping[str, tuple[Policy, int]]
) -> dict[str, Outcome]:
    """Every policy on the same prompts."""
    outcomes = {}
    for name, (policy, first) in policies.items():
        clock = SimpleNamespace(time=lambda: 0.0)
        # Serve measures delays by the wall clock; it is given the world's.
        autoscaling_policy.time = clock

        def decide(seen: Seen, policy: Policy = policy, clock: SimpleNamespace = clock) -> int:
            clock.time = lambda: float(seen.now)
            return policy(seen)

        try:
            outcomes[name] = World(assumptions, prompts, first=first).run(decide)
        finally:
            autoscaling_policy.time = time
    return outcomes


def markdown(assumptions: Assumptions, prompts: int, rows: list[Row]) -> str:
    a = assumptions
    lines = [
        "# Autoscaling, simulated",
        "",
        f"Written by `python -m benchmarks.autoscaling_simulation`. {a.users:,} users and {prompts:,} prompts in "
        f"{a.duration // 3600} hours, {len(a.bursts)} bursts of up to {max(count for _, count in a.bursts):,} prompts within "
        f"{a.burst_length} s and a night of {(a.pause[1] - a.pause[0]) / 3600:g} hours; a prompt runs for {a.run_mean:g} s on "
        f"average, a replica holds {a.permits}, starts in {a.cold_start[0]:g} to {a.cold_start[1]:g} s, "
        f"{a.failing_starts:.0%}"
        f" of the starts fail, and it dies after {a.life / 3600:g} hours on average. At most "
        f"{a.most_replicas:,} replicas. Seed {a.seed}.",
        "",
        "| policy | replica-hours | wait p50, s | p95, s | p99, s | mean, s | most replicas | starts | turns | handed back | "
        "left over |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.policy} | {r.replica_hours:,.0f} | {r.wait_p50:.1f} | {r.wait_p95:.1f} | {r.wait_p99:.1f} | {r.wait_mean:.1f} | "
        f"{r.most_replicas} | {r.starts} | {r.turns} | {r.handed_back} | {r.unfinished} |"
        for r in rows
    ]
    lines += [
        "",
        "A turn is a change of the target's direction. Handed back: prompts that were still running when their replica's "
        f"{a.drain:g} s to leave were over; they go on elsewhere. Left over: not finished at the end of the day.",
        "",
        "![Wait against replica-hours](autoscaling-tradeoff.svg)",
        "",
        "![Demand and replicas over time](autoscaling-day.svg)",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    assumptions = Assumptions()
    prompts = prompts_of(assumptions)
    began = time.monotonic()
    outcomes = simulate(assumptions, prompts, policies_of(assumptions))
    rows = [row(name, outcome) for name, outcome in outcomes.items()]
    RESULTS.mkdir(exist_ok=True)
    text = markdown(assumptions, len(prompts), rows)
    (RESULTS / "autoscaling.md").write_text(text, encoding="utf-8")
    document = {"assumptions": asdict(assumptions), "prompts": len(prompts), "rows": [asdict(r) for r in rows]}
    (RESULTS / "autoscaling.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    points = [Point(r.policy, r.replica_hours, max(r.wait_p95, 0.1), r.policy.endswith("always")) for r in rows]
    plot = scatter(points, x="replica-hours", y="wait for the first token's turn, 95 % of the prompts, s")
    (RESULTS / "autoscaling-tradeoff.svg").write_text(plot, encoding="utf-8")
    shown = ("follows the queue", "Serve's own, all waiting in its handles")
    lines = [
        Line("needed: demand / what a replica holds", [d / assumptions.permits for d in outcomes[shown[0]].demands]),
        *(Line(f"running: {name}", [float(n) for n in outcomes[name].running]) for name in shown),
    ]
    (RESULTS / "autoscaling-day.svg").write_text(chart(lines, x="hours", x_scale=3600, y="replicas"), encoding="utf-8")
    print(text)
    print(f"simulated in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
