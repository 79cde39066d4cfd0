"""An answer cut anywhere and resumed is the undisturbed answer: the real vLLM, the embedded model in float32.

The cuts of one answer are resumed at the same time, while the undisturbed answer was generated alone: batching must not
matter either.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from deployments.engines.parsed import ParsedEngine
from deployments.engines.rendering import PromptRenderer
from deployments.local.embedded_model import ensure
from deployments.settings import InvalidSettings, ModelSpec
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.engine import Engine, Parsing, SamplingParameters, TextRequest
from pipeline.errors import EngineError, PermanentEngineError

if TYPE_CHECKING:
    from deployments.engines.vllm import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREEDY = SamplingParameters(temperature=0, max_tokens=40)
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["🎉🦜 fête", "日本語 👩‍👩‍👧"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["mood", "age"],
    "additionalProperties": False,
}
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a stream of deltas amounts to."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None

    @classmethod
    def of(cls, deltas: Sequence[Delta]) -> Answer:
        return cls(
            text="".join(delta.text for delta in deltas),
            token_ids=tuple(token_id for delta in deltas for token_id in delta.token_ids),
            finish_reason=deltas[-1].finish_reason,
        )


@pytest.fixture(scope="module")
def model(models_dir: Path) -> Path:
    return ensure(models_dir)


@pytest.fixture(scope="module")
def renderer(model: Path) -> PromptRenderer:
    return PromptRenderer(model)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model: Path) -> AsyncIterator[Engine]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "OMP_NUM_THREADS": "2",
            # Threads that spin for each other make the engine 10 times slower where others want the cores, too.
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
        }.items():
            environment.setenv(name, value)
        from deployments.engines.vllm import VllmEngine

        spec = ModelSpec(
            id="smollm2",
            source="embedded:smollm2",
            permits=64,
            context_tokens=1024,
            engine_args={"dtype": "float32", "enforce_eager": True},
        )
        started = await VllmEngine.start(spec, str(model))
        yield started
        await started.shutdown()


@pytest.fixture(scope="module")
def repeat(renderer: PromptRenderer) -> tuple[int, ...]:
    """Answered with emoji, a ZWJ sequence among them, and an end of its own."""
    return renderer.render_chat([{"role": "user", "content": "Repeat exactly: 🎉🦜🚀 日本語 café 👩‍👩‍👧"}])


@pytest.fixture(scope="module")
def poem(renderer: PromptRenderer) -> tuple[int, ...]:
    return renderer.render_chat([{"role": "user", "content": "Write a poem with emoji"}])


async def generate(
    engine: Engine,
    prompt: tuple[int, ...],
    sampling: SamplingParameters,
    logged: Sequence[Delta] = (),
) -> list[Delta]:
    log = Answer.of(logged) if logged else Answer(text="", token_ids=(), finish_reason=None)
    request = TextRequest(
        request_id=f"test-{next(_numbers)}",
        prompt_token_ids=prompt,
        sampling=sampling,
        logged_token_ids=log.token_ids,
        logged_text=log.text,
    )
    return [delta async for delta in engine.generate(request)]


async def undisturbed_and_resumed(
    engine: Engine, prompt: tuple[int, ...], sampling: SamplingParameters, every: int = 1
) -> list[Delta]:
    """Generate, resume at every (n-th) cut, compare; returns the undisturbed deltas."""
    whole = await generate(engine, prompt, sampling)
    cuts = range(1, len(whole), every)
    assert cuts
    rests = await asyncio.gather(*(generate(engine, prompt, sampling, whole[:cut]) for cut in cuts))
    for cut, rest in zip(cuts, rests, strict=True):
        assert Answer.of([*whole[:cut], *rest]) == Answer.of(whole), f"cut behind {cut} deltas"
        assert all(delta.kind is DeltaKind.CONTENT for delta in rest[:-1])
    return whole


async def test_answers_with_emoji_are_resumed_exactly_at_every_token(engine: Engine, repeat: tuple[int, ...]) -> None:
    whole = await undisturbed_and_resumed(engine, repeat, GREEDY)
    answer = Answer.of(whole)
    assert "🎉🦜🚀" in answer.text
    assert "👩‍👩‍👧" in answer.text
    assert answer.finish_reason is FinishReason.STOP
    assert [delta.text for delta in whole[:3]] == ["", "", "🎉"], "no cut is inside a character"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("日本語 中文 日本語 中文 日本語", "日本語 中文"),
        ("Emoji list: 😀 😃 😄 😁 😆 😅 😂 🤣 😊 😇", "💑"),
    ],
)
async def test_raw_multi_byte_texts_are_resumed_exactly_at_every_token(
    engine: Engine, renderer: PromptRenderer, text: str, expected: str
) -> None:
    answer = Answer.of(await undisturbed_and_resumed(engine, renderer.render_text(text), GREEDY))
    assert expected in answer.text
    assert answer.finish_reason is FinishReason.LENGTH
    assert answer.text == renderer.tokenizer.decode(answer.token_ids)


async def test_a_stop_string_across_the_cut_is_found(engine: Engine, repeat: tuple[int, ...]) -> None:
    plain = Answer.of(await generate(engine, repeat, GREEDY)).text
    sampling = SamplingParameters(temperature=0, max_tokens=40, stop=("unseen", "🚀👩"))
    whole = await undisturbed_and_resumed(engine, repeat, sampling)
    assert Answer.of(whole).text == plain[: plain.index("🚀👩")]
    assert Answer.of(whole).finish_reason is FinishReason.STOP
    assert any("🚀👩".startswith(held) for held in [whole[-1].text]), "nothing was held back at the end"


async def test_max_tokens_reached_at_the_cut_ends_the_answer_without_the_engine(
    engine: Engine, repeat: tuple[int, ...]
) -> None:
    whole = await generate(engine, repeat, GREEDY)
    for cut in (1, 2, 3, 10):
        sampling = SamplingParameters(temperature=0, max_tokens=cut)
        undisturbed = Answer.of(await generate(engine, repeat, sampling))
        assert undisturbed.finish_reason is FinishReason.LENGTH
        rest = await generate(engine, repeat, sampling, whole[:cut])
        assert len(rest) == 1
        assert Answer.of([*whole[:cut], *rest]) == undisturbed


async def test_an_end_that_is_logged_already_is_not_generated_again(engine: Engine, repeat: tuple[int, ...]) -> None:
    whole = await generate(engine, repeat, GREEDY)
    # The last delta without its kind: the attempt died before the end was recorded.
    lost_end = [*whole[:-1], Delta(text=whole[-1].text, token_ids=whole[-1].token_ids)]
    rest = await generate(engine, repeat, GREEDY, lost_end)
    assert rest == [Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)]


@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param(SamplingParameters(temperature=1, seed=7, max_tokens=24), id="seeded"),
        pytest.param(
            SamplingParameters(temperature=1, seed=7, top_p=0.9, top_k=50, max_tokens=24), id="seeded, cut off"
        ),
        pytest.param(
            SamplingParameters(temperature=0, presence_penalty=1, frequency_penalty=0.5, max_tokens=24), id="penalties"
        ),
    ],
)
async def test_sampler_state_is_rebuilt_by_replay(
    engine: Engine, poem: tuple[int, ...], sampling: SamplingParameters
) -> None:
    assert sampling.needs_replay
    await undisturbed_and_resumed(engine, poem, sampling, every=4)


@pytest.mark.parametrize("temperature", [0, 1])
async def test_json_schema_is_resumed_by_replay(engine: Engine, renderer: PromptRenderer, temperature: float) -> None:
    prompt = renderer.render_chat([{"role": "user", "content": "Describe a user."}])
    sampling = SamplingParameters(temperature=temperature, seed=3, max_tokens=60, json_schema=SCHEMA)
    answer = Answer.of(await undisturbed_and_resumed(engine, prompt, sampling, every=3))
    assert json.loads(answer.text)["mood"] in SCHEMA["properties"]["mood"]["enum"]
    assert answer.finish_reason is FinishReason.STOP


async def test_a_forced_call_of_a_tool_fits_its_schema_and_is_resumed_by_replay(
    engine: VllmEngine, renderer: PromptRenderer
) -> None:
    parsers = engine.parsers(ModelSpec(id="smollm2", source="embedded:smollm2", tool_parser="hermes"))
    parsed = ParsedEngine(engine, lambda: parsers)
    tool = {"type": "function", "function": {"name": "describe", "parameters": SCHEMA}}
    prompt = renderer.render_chat([{"role": "user", "content": "Describe a user."}], tools=(tool,))
    parsing = Parsing(tools=(tool,), tool_choice="required", parallel_tool_calls=False)
    sampling = SamplingParameters(temperature=0, max_tokens=90, parsing=parsing)

    async def call(logged: Sequence[Delta] = ()) -> list[Delta]:
        request = TextRequest(
            request_id=f"test-{next(_numbers)}",
            prompt_token_ids=prompt,
            sampling=sampling,
            logged_token_ids=Answer.of(logged).token_ids if logged else (),
            logged=tuple(logged),
        )
        return [delta async for delta in parsed.generate(request)]

    whole = await call()
    assert whole[-1].finish_reason is FinishReason.TOOL_CALLS
    tools = [delta for delta in whole if delta.kind is DeltaKind.TOOL]
    assert [delta.tool.name for delta in tools if delta.tool and delta.tool.id] == ["describe"]
    arguments = json.loads(Answer.of(tools).text)
    assert arguments["mood"] in SCHEMA["properties"]["mood"]["enum"]
    for cut in range(1, len(whole), 5):
        rest = await call(whole[:cut])
        assert Answer.of([*whole[:cut], *rest]) == Answer.of(whole), f"cut behind {cut} deltas"
        assert DeltaKind.RESTART not in {delta.kind for delta in rest}


async def test_log_probabilities_are_one_for_each_token_of_the_text(engine: Engine, repeat: tuple[int, ...]) -> None:
    sampling = SamplingParameters(temperature=0, max_tokens=12, logprobs=2)
    whole = await undisturbed_and_resumed(engine, repeat, sampling, every=4)
    found = [one for delta in whole for one in delta.logprobs]
    assert len(found) == len(Answer.of(whole).token_ids) == 12
    assert all(one.logprob <= 0 and len(one.top) == 2 for one in found)
    assert all(one.top[0] == (one.token, one.logprob) for one in found), "greedy: the likeliest"
    rest = await generate(engine, repeat, sampling, whole[:5])
    assert [one.token for delta in rest for one in delta.logprobs] == [one.token for one in found][5:]
    # The end of an answer is no part of its text.
    ended = await generate(engine, repeat, SamplingParameters(temperature=0, max_tokens=40, logprobs=0))
    assert ended[-1].finish_reason is FinishReason.STOP
    assert len([one for delta in ended for one in delta.logprobs]) == len(Answer.of(ended).token_ids) - 1


async def test_a_bias_makes_a_token_certain(engine: Engine, renderer: PromptRenderer, poem: tuple[int, ...]) -> None:
    token_id = renderer.tokenizer.encode(" parrot", add_special_tokens=False).ids[0]
    sampling = SamplingParameters(temperature=1, max_tokens=3, logit_bias=((token_id, 100.0),))
    assert Answer.of(await generate(engine, poem, sampling)).token_ids == (token_id,) * 3


async def test_a_log_that_does_not_belong_to_its_ids_is_started_again(engine: Engine, repeat: tuple[int, ...]) -> None:
    whole = await generate(engine, repeat, GREEDY)
    deltas = await generate(engine, repeat, GREEDY, [Delta(text="something else", token_ids=whole[0].token_ids)])
    assert deltas[0] == Delta(kind=DeltaKind.RESTART)
    assert Answer.of(deltas) == Answer.of(whole)


async def test_a_full_context_ends_the_answer_before_and_behind_a_cut(engine: Engine, renderer: PromptRenderer) -> None:
    prompt = (renderer.render_text("日本語 中文 ") * 400)[:1014]
    whole = await generate(engine, prompt, GREEDY)
    assert len(Answer.of(whole).token_ids) == 10
    assert Answer.of(whole).finish_reason is FinishReason.LENGTH
    for cut in (4, 9):
        rest = await generate(engine, prompt, GREEDY, whole[:cut])
        assert Answer.of([*whole[:cut], *rest]) == Answer.of(whole)


async def test_closing_the_iterator_frees_the_engine(engine: Engine, poem: tuple[int, ...]) -> None:
    request = TextRequest(request_id="closed", prompt_token_ids=poem, sampling=SamplingParameters(max_tokens=900))
    async with aclosing(engine.generate(request)) as deltas:
        await anext(deltas)
    # Its id may be used again at once, and nothing of it is left to abort.
    again = TextRequest(request_id="closed", prompt_token_ids=poem, sampling=GREEDY)
    assert [delta async for delta in engine.generate(again)][-1].finish_reason is FinishReason.LENGTH


async def test_abort_ends_a_running_request(engine: Engine, poem: tuple[int, ...]) -> None:
    request = TextRequest(request_id="aborted", prompt_token_ids=poem, sampling=SamplingParameters(max_tokens=900))
    async with aclosing(engine.generate(request)) as deltas:
        await anext(deltas)
        await engine.abort("unknown")
        await engine.abort("aborted")
        with pytest.raises(EngineError, match="abort"):
            await asyncio.wait_for(_drain(deltas), 10)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParameters(json_schema={"type": "string", "pattern": "secret("}),
        SamplingParameters(json_schema={"type": "secret"}),
        SamplingParameters(temperature=9),
    ],
)
async def test_what_the_engine_refuses_is_permanent_and_quotes_nothing(
    engine: Engine, poem: tuple[int, ...], sampling: SamplingParameters
) -> None:
    with pytest.raises(PermanentEngineError) as caught:
        await generate(engine, poem, sampling)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    await engine.check_health()


@pytest.mark.parametrize("prompt", [(), (5,) * 1024, (10**6,)])
async def test_a_prompt_the_model_cannot_take_is_permanent(engine: Engine, prompt: tuple[int, ...]) -> None:
    with pytest.raises(PermanentEngineError):
        await generate(engine, prompt, GREEDY)
    await engine.check_health()


@pytest.mark.parametrize("name", ["max_model_length", "logits_processors"])
async def test_an_engine_argument_that_is_unknown_or_not_the_operators_is_named(model: Path, name: str) -> None:
    from deployments.engines.vllm import VllmEngine

    spec = ModelSpec(id="smollm2", source="embedded:smollm2", engine_args={name: 1})
    with pytest.raises(InvalidSettings, match=f"got {name}, allowed"):
        await VllmEngine.start(spec, str(model))


async def _drain(deltas: AsyncIterator[Delta]) -> None:
    async for _ in deltas:
        pass
