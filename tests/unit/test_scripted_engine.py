"""The scripted engine keeps the promises of the seam, so that chaos tests may rely on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.engines.scripted import DIED, ScriptedEngine, ScriptedRenderer, expected_answer
from deployments.settings import InvalidSettings, ModelSpec
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.engine import Engine, SamplingParameters, TextRequest
from pipeline.errors import EngineDead, EngineError, PermanentEngineError

PROMPT = ScriptedRenderer().render_chat([{"role": "user", "content": "Tell me about a parrot"}])


def engine(**options: Any) -> ScriptedEngine:
    spec = ModelSpec(id="scripted", engine="scripted", source="none", engine_args={"step_s": 0, **options})
    return ScriptedEngine(spec)


def request(
    sampling: SamplingParameters | None = None, logged: tuple[int, ...] = (), text: str = "", name: str = "r"
) -> TextRequest:
    return TextRequest(
        request_id=name,
        prompt_token_ids=PROMPT,
        sampling=sampling or SamplingParameters(),
        logged_token_ids=logged,
        logged_text=text,
    )


async def answer(of: Engine, asked: TextRequest) -> list[Delta]:
    return [delta async for delta in of.generate(asked)]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def ids_of(deltas: list[Delta]) -> tuple[int, ...]:
    return tuple(token_id for delta in deltas for token_id in delta.token_ids)


async def test_the_answer_is_the_expected_one_and_ends_with_its_reason() -> None:
    deltas = await answer(engine(), request())
    assert (text_of(deltas), deltas[-1].finish_reason) == expected_answer(PROMPT, SamplingParameters())
    assert [delta.kind for delta in deltas[:-1]] == [DeltaKind.CONTENT] * (len(deltas) - 1)


async def test_max_tokens_ends_the_answer() -> None:
    deltas = await answer(engine(), request(SamplingParameters(max_tokens=7)))
    assert (len(ids_of(deltas)), deltas[-1].finish_reason) == (7, FinishReason.LENGTH)


@given(
    data=st.data(),
    max_tokens=st.integers(1, 90),
    per_delta=st.integers(1, 5),
    stop=st.sampled_from(["", " ", "🦜 n", "語"]),
)
@settings(deadline=None)
async def test_a_resumed_answer_is_the_undisturbed_one(
    data: st.DataObject, max_tokens: int, per_delta: int, stop: str
) -> None:
    sampling = SamplingParameters(max_tokens=max_tokens, stop=(stop,) if stop else ())
    whole = await answer(engine(tokens_per_delta=per_delta), request(sampling))
    logged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    rest = await answer(engine(), request(sampling, ids_of(logged), text_of(logged)))
    assert (text_of(logged) + text_of(rest), rest[-1].finish_reason) == expected_answer(PROMPT, sampling)
    assert ids_of(logged) + ids_of(rest) == ids_of(whole)


async def test_closing_the_iterator_ends_the_request() -> None:
    scripted = engine()
    async with aclosing(scripted.generate(request())) as deltas:
        await anext(deltas)
        assert scripted.running == {"r"}
    assert scripted.running == frozenset()


async def test_abort_ends_a_hanging_request() -> None:
    scripted = engine(hang_after_tokens=1)
    deltas = scripted.generate(request())
    await anext(deltas)
    waiting = asyncio.ensure_future(anext(deltas))
    await asyncio.sleep(0)
    await scripted.abort("unknown")
    await scripted.abort("r")
    with pytest.raises(EngineError, match="aborted"):
        await asyncio.wait_for(waiting, 5)


async def test_the_first_attempts_fail_and_a_later_one_goes_on() -> None:
    scripted = engine(fail_first=2, fail_after_tokens=3)
    for _ in range(2):
        with pytest.raises(EngineError, match="scripted failure"):
            await answer(scripted, request())
    assert text_of(await answer(scripted, request())) == expected_answer(PROMPT, SamplingParameters())[0]


async def test_a_permanent_failure_says_so() -> None:
    with pytest.raises(PermanentEngineError):
        await answer(engine(fail_permanently=True), request())


async def test_faults_concern_only_the_prompts_that_contain_the_mark() -> None:
    await answer(engine(fail_permanently=True, faulty_prompts="elephant"), request())
    with pytest.raises(PermanentEngineError):
        await answer(engine(fail_permanently=True, faulty_prompts="parrot"), request())


async def test_a_lost_engine_is_dead_for_everyone(tmp_path: Path) -> None:
    scripted = engine(lose_engine_after_tokens=2, once_file=str(tmp_path / "lost"))
    with pytest.raises(EngineDead):
        await answer(scripted, request())
    with pytest.raises(EngineDead):
        await scripted.check_health()
    # Once in all processes.
    await answer(engine(lose_engine_after_tokens=2, once_file=str(tmp_path / "lost")), request())


def test_a_process_that_dies_leaves_its_status() -> None:
    program = (
        "import asyncio; from tests.unit.test_scripted_engine import answer, engine, request;"
        "asyncio.run(answer(engine(die_after_tokens=2), request()))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == DIED


async def test_a_stopped_engine_is_dead() -> None:
    scripted = engine()
    await scripted.check_health()
    await scripted.shutdown()
    with pytest.raises(EngineDead):
        await answer(scripted, request())


async def test_a_log_that_does_not_fit_is_started_again() -> None:
    deltas = await answer(engine(), request(logged=(1, 2), text="other"))
    assert deltas[0].kind is DeltaKind.RESTART
    assert text_of(deltas) == expected_answer(PROMPT, SamplingParameters())[0]


@pytest.mark.parametrize("options", [{"step": 1}, {"step_s": -1}, {"tokens_per_delta": "many"}])
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match=next(iter(options))):
        engine(**options)
