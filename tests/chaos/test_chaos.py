"""kill -9 and SIGSTOP under load: every invariant holds, whatever dies.

One seeded run per fault; with ``CHAOS=full`` ``CHAOS_RUNS`` (10) of each, on the real model too, and the table is published.
``CHAOS_SEED`` sets the first seed, ``CHAOS_FAULTS`` (names of ``FaultKind``, by comma) chooses.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.config import VLLM_MODEL, vllm_config
from tests.chaos.faults import FaultKind
from tests.chaos.run import EXPECTED, Chaos, Load, Result
from tests.service import running_service

FULL = os.environ.get("CHAOS") == "full"
RUNS = int(os.environ.get("CHAOS_RUNS", "10")) if FULL else 1
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
ON_SCRIPTED = (
    FaultKind.LLM_REPLICA,
    FaultKind.ROUTER,
    FaultKind.LEDGER,
    FaultKind.INGRESS,
    FaultKind.PROXY,
    FaultKind.STORE,
    FaultKind.FREEZE,
    *((FaultKind.LLM_AND_ROUTERS,) if FULL else ()),
)
ON_VLLM = (FaultKind.LLM_REPLICA, FaultKind.ENGINE_CORE)
#: Longest time until a new replica has the real model loaded, seconds.
RELOAD_S = 120.0
_CHOSEN = [name for name in os.environ.get("CHAOS_FAULTS", "").split(",") if name]


def _chosen(kinds: tuple[FaultKind, ...]) -> list[FaultKind]:
    return [kind for kind in kinds if not _CHOSEN or kind.name in _CHOSEN]


@pytest.mark.timeout(120 * RUNS + 120)
@pytest.mark.parametrize("kind", _chosen(ON_SCRIPTED), ids=lambda kind: kind.name)
def test_invariants_hold_under(kind: FaultKind, scripted: Chaos) -> None:
    _verify([scripted.run(kind, SEED + number) for number in range(RUNS)], "scripted")


@pytest.fixture(scope="module", params=_chosen(ON_VLLM), ids=lambda kind: kind.name)
def on_vllm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Chaos, FaultKind]]:
    """The real model as in production; for EngineCore with its engine in a process of its own."""
    folder: Path = tmp_path_factory.mktemp("vllm")
    config = vllm_config(folder, engine_core=request.param is FaultKind.ENGINE_CORE)
    with running_service(folder / "data", config=config) as service:
        chaos = Chaos(service, VLLM_MODEL)
        try:
            yield chaos, request.param
        finally:
            chaos.close()


@pytest.mark.skipif(not FULL, reason="CHAOS=full runs it")
@pytest.mark.timeout(180 * RUNS + 180)
def test_invariants_hold_on_the_real_model(on_vllm: tuple[Chaos, FaultKind]) -> None:
    chaos, kind = on_vllm
    load = Load(threads=3, prompts=2, scripted=False, cancel_share=0.1, drain_s=RELOAD_S)
    # The only replica dies: what it held moves on when another one has loaded the model.
    expected = replace(EXPECTED[kind], recovery_s=RELOAD_S)
    _verify([chaos.run(kind, SEED + number, load, expected) for number in range(RUNS)], "vLLM SmolLM2")


def _verify(results: list[Result], engine: str) -> None:
    row = report.row(results, engine)
    print(report.markdown({"cores": os.cpu_count(), "cpu": "", "rows": [row]}))
    if FULL:
        report.publish([row])
    kept = [str(report.keep_evidence(result)) for result in results if result.violations]
    found = [f"seed {result.seed}: {violation}" for result in results for violation in result.violations]
    assert not found, f"{len(found)} violations, see {kept}:\n" + "\n".join(found[:40])
    if results[0].kind is FaultKind.FREEZE:
        assert row["stale_rejected"] > 0, f"seeds {row['seeds']}: no stale write was provoked"
    assert row["hit"] > 0, f"seeds {row['seeds']}: the fault never struck anything that ran"
