"""The checker fails on builds that break a promise, run as the real service under the fault that shows it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import broken, report
from tests.chaos.checker import Expectations, Rule
from tests.chaos.config import SCRIPTED_MODEL, scripted_config
from tests.chaos.faults import FaultKind
from tests.chaos.run import EXPECTED, Chaos, Load
from tests.service import running_service

FULL = os.environ.get("CHAOS") == "full"
SEED = int(os.environ.get("CHAOS_SEED", "0")) or 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    patches: tuple[broken.Patch, ...]
    fault: FaultKind
    load: Load
    #: One of these must be found.
    rules: frozenset[str]
    expected: Expectations
    step_s: float = 0.03
    answer_tokens: int | None = None


CASES = {
    "acknowledge before write": Case(
        patches=broken.ACKNOWLEDGE_BEFORE_WRITE,
        fault=FaultKind.INGRESS,
        # Nobody waits for or cancels what may not be there yet: that would fail for another reason.
        load=Load(threads=12, prompts=10, sync_share=0, cancel_share=0, drain_s=20),
        rules=frozenset({Rule.LOST}),
        expected=EXPECTED[FaultKind.INGRESS],
    ),
    "fence off": Case(
        patches=broken.FENCE_OFF,
        fault=FaultKind.FREEZE,
        load=Load(cancel_share=0, drain_s=30, answer_tokens=600),
        # Not D3: without a fence nothing is refused, and that alone would prove little.
        rules=frozenset({Rule.TEXT, Rule.STREAM, Rule.TERMINAL, Rule.DONE_ONCE}),
        expected=EXPECTED[FaultKind.FREEZE],
        # Several tokens in an entry: how many is chance, so two attempts that write at once cut the text differently.
        step_s=0.008,
        answer_tokens=600,
    ),
    "lease never expires": Case(
        patches=broken.LEASE_NEVER_EXPIRES,
        fault=FaultKind.LLM_AND_ROUTERS,
        # A cancel would end what hangs.
        load=Load(threads=12, cancel_share=0, drain_s=5),
        rules=frozenset({Rule.TERMINAL}),
        expected=Expectations(recovery_s=16),
    ),
}
#: The one that shows soonest is part of every test run.
SHORT = "acknowledge before write"


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.skipif(not FULL and n != SHORT, reason="CHAOS=full runs it")) for n in CASES],
)
def test_the_checker_fails_on(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    root = broken.build(tmp_path / "source", case.patches)
    config = scripted_config(tmp_path, step_s=case.step_s, answer_tokens=case.answer_tokens, root=root)
    with running_service(tmp_path / "data", config=config, root=root) as service:
        chaos = Chaos(service, SCRIPTED_MODEL)
        try:
            result = chaos.run(case.fault, SEED, case.load, case.expected)
        finally:
            chaos.close()
    found = {violation.rule for violation in result.violations}
    hit = sum(len(fault.hit) for fault in result.history.faults)
    times = [recovery.seconds for recovery in result.history.recoveries]
    print(f"\n{name}: {hit} hit, recovered after {times}, {len(result.violations)} violations, {sorted(found)}")
    report.keep_evidence(result)
    for violation in result.violations[:20]:
        print(f"  {violation}")
    assert found & case.rules, f"seed {SEED}: nothing found, only {result.violations}"
