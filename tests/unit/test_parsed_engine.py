"""Answers that are taken apart: what is logged, and how an attempt goes on behind any part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from deployments.engines.parsed import ParsedEngine
from deployments.engines.scripted import ScriptedEngine, ScriptedRenderer
from deployments.settings import ModelSpec
from pipeline.answer import Said
from pipeline.delta import Delta, DeltaKind, FinishReason, TokenLogprob, ToolPart
from pipeline.engine import Parsing, SamplingParameters, TextRequest
from pipeline.errors import EngineError
from tests.unit.tag_parsers import FickleParser, HesitantParser, TagParser, TagParsers

PROMPT = ScriptedRenderer().render_text("a question")
ANSWER = "[weighs 🦜 it]Sure: <paint blue🚀><add 1+1>done é"
PARSED = SamplingParameters(max_tokens=200, temperature=0, parsing=Parsing())


def engine(kind: type[TagParser] = TagParser, **options: Any) -> ParsedEngine:
    spec = ModelSpec(id="m", source="none", engine="scripted", engine_args={"step_s": 0, "answer": ANSWER, **options})
    return ParsedEngine(ScriptedEngine(spec), lambda: TagParsers(kind))


async def generate(
    of: ParsedEngine, logged: Sequence[Delta] = (), sampling: SamplingParameters = PARSED
) -> list[Delta]:
    request = TextRequest(
        request_id="r",
        prompt_token_ids=PROMPT,
        sampling=sampling,
        logged_token_ids=tuple(i for delta in logged for i in delta.token_ids),
        logged_text="".join(delta.text for delta in logged if delta.kind is DeltaKind.CONTENT),
        logged=tuple(logged),
    )
    return [delta async for delta in of.generate(request)]


def said(deltas: Sequence[Delta]) -> tuple[Any, ...]:
    """What a reader ends up with, and the ids that the log has."""
    seen = list(deltas)
    kinds = [delta.kind for delta in seen]
    if DeltaKind.RESTART in kinds:
        seen = seen[len(kinds) - kinds[::-1].index(DeltaKind.RESTART) :]
    whole = Said()
    whole.add(seen)
    calls = [(call.name, call.arguments) for call in whole.calls]
    return whole.thinking, whole.content, calls, [i for delta in seen for i in delta.token_ids]


WHOLE = ("weighs 🦜 it", "Sure: done é", [("paint", "blue🚀"), ("add", "1+1")], [*ANSWER.encode(), 256])


async def test_an_answer_is_taken_apart_and_ends_with_its_calls():
    deltas = await generate(engine())
    assert said(deltas) == WHOLE
    assert [delta.kind for delta in deltas].count(DeltaKind.END) == 1
    assert deltas[-1].finish_reason is FinishReason.TOOL_CALLS
    assert deltas[-1].text == ""


async def test_without_parsing_it_is_one_text():
    deltas = await generate(engine(), sampling=replace(PARSED, parsing=None))
    assert "".join(delta.text for delta in deltas) == ANSWER
    assert {delta.kind for delta in deltas} == {DeltaKind.CONTENT, DeltaKind.END}


async def test_an_answer_that_was_cut_off_calls_nothing_for_good():
    deltas = await generate(engine(), sampling=replace(PARSED, max_tokens=len("[weighs 🦜 it]Sure: <paint b".encode())))
    assert deltas[-1].finish_reason is FinishReason.LENGTH
    assert said(deltas)[2] == [("paint", "b")]


@pytest.mark.parametrize("kind", [TagParser, HesitantParser])
@pytest.mark.parametrize("per_delta", [1, 5])
async def test_it_goes_on_behind_every_cut(kind: type[TagParser], per_delta: int):
    whole = await generate(engine(kind, tokens_per_delta=per_delta))
    assert said(whole) == WHOLE
    ids = [delta.tool.id for delta in whole if delta.tool and delta.tool.id]
    for cut in range(1, len(whole)):
        rest = await generate(engine(kind, tokens_per_delta=3), whole[:cut])
        assert said([*whole[:cut], *rest]) == WHOLE, f"cut behind {cut} deltas"
        assert DeltaKind.RESTART not in {delta.kind for delta in rest}
        assert rest[-1].finish_reason is FinishReason.TOOL_CALLS
        # A call that readers know keeps its id.
        again = [delta.tool.id for delta in [*whole[:cut], *rest] if delta.tool and delta.tool.id]
        assert len(again) == len(ids)
        assert again[: sum(bool(delta.tool and delta.tool.id) for delta in whole[:cut])] == [
            name for name in ids if name in again
        ]


async def test_what_cannot_be_gone_on_from_is_said_anew_from_the_ids_that_are_there():
    whole = await generate(engine(FickleParser))
    for cut in (20, len(whole) - 1):
        rest = await generate(engine(FickleParser), whole[:cut])
        assert rest[0].kind is DeltaKind.RESTART
        # Nothing is generated twice: the ids of the log come again with the first piece.
        assert said([*whole[:cut], *rest])[3] == WHOLE[3]
        again = await generate(engine(), [delta for delta in rest[1:] if delta.kind is not DeltaKind.END])
        assert again[-1].kind is DeltaKind.END


async def test_the_first_piece_of_a_portion_has_the_ids():
    deltas = await generate(engine(tokens_per_delta=1000))
    first, *others, end = deltas
    assert first.kind is DeltaKind.THINKING
    assert list(first.token_ids) == WHOLE[3]
    assert not any(delta.token_ids for delta in [*others, end])


async def test_an_end_that_only_its_record_lacks_is_recorded():
    whole = await generate(engine())
    logged = [*whole[:-1], Delta(token_ids=whole[-1].token_ids)]
    rest = await generate(engine(), logged)
    assert rest == [Delta(kind=DeltaKind.END, finish_reason=FinishReason.TOOL_CALLS)]


async def test_parsers_that_cannot_be_made_fail_the_attempt():
    def fail() -> TagParsers:
        raise EngineError("no such parser")

    of = ParsedEngine(ScriptedEngine(ModelSpec(id="m", source="none", engine="scripted")), fail)
    with pytest.raises(EngineError, match="no such parser"):
        await generate(of)


def test_deltas_of_one_kind_are_merged_and_no_others():
    logprob = TokenLogprob(token="a", logprob=-1.0, top=(("a", -1.0), ("b", -2.0)))
    thought = Delta(kind=DeltaKind.THINKING, text="a", token_ids=(1,), logprobs=(logprob,))
    assert thought.can_take(thought)
    assert thought.merged_with(thought) == Delta(
        kind=DeltaKind.THINKING, text="aa", token_ids=(1, 1), logprobs=(logprob, logprob)
    )
    begun = Delta(kind=DeltaKind.TOOL, tool=ToolPart(index=0, id="c", name="f"))
    more = Delta(kind=DeltaKind.TOOL, text="{", tool=ToolPart(index=0))
    other = Delta(kind=DeltaKind.TOOL, tool=ToolPart(index=1, id="d", name="f"))
    assert begun.can_take(more)
    assert begun.merged_with(more) == replace(begun, text="{")
    assert not more.can_take(begun)
    assert not begun.can_take(other)
    assert not thought.can_take(Delta(text="a"))
    assert not Delta(text="a").can_take(Delta(text="b", choice=1))
    assert not Delta(kind=DeltaKind.RESTART).can_take(Delta(kind=DeltaKind.RESTART))
