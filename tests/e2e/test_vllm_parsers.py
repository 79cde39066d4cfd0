"""vLLM's own parsers behind the seam: calls and thoughts in the words of models, cut anywhere and gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import xgrammar

from deployments.engines.parsed import ParsedEngine
from deployments.engines.scripted import ScriptedEngine, ScriptedRenderer, scripted_parsers
from deployments.settings import InvalidSettings, ModelSpec
from pipeline.answer import Said
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.engine import Parsing, SamplingParameters, TextRequest
from pipeline.errors import PermanentEngineError

PROMPT = ScriptedRenderer().render_text("a question")
TOOLS: tuple[Any, ...] = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("weather", "time")
)
CALLS = (
    'Let me see. <tool_call>\n{"name": "weather", "arguments": {"city": "Zürich 🦜"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "time", "arguments": {"city": "Paris"}}\n</tool_call>'
)
EXPECTED = [("weather", {"city": "Zürich 🦜"}), ("time", {"city": "Paris"})]


def spec(answer: str, **parsers: Any) -> ModelSpec:
    options = {"step_s": 0, "answer": answer, "tokens_per_delta": 3}
    return ModelSpec(id="m", source="none", engine="scripted", engine_args=options, **parsers)


def parsed(model: ModelSpec) -> ParsedEngine:
    parsers = scripted_parsers(model)
    return ParsedEngine(ScriptedEngine(model), lambda: parsers)


async def generate(engine: ParsedEngine, parsing: Parsing, logged: Sequence[Delta] = ()) -> list[Delta]:
    request = TextRequest(
        request_id="r",
        prompt_token_ids=PROMPT,
        sampling=SamplingParameters(max_tokens=500, parsing=parsing),
        logged_token_ids=tuple(i for delta in logged for i in delta.token_ids),
        logged=tuple(logged),
    )
    return [delta async for delta in engine.generate(request)]


def said(deltas: Sequence[Delta]) -> tuple[str, str, list[tuple[str, Any]]]:
    whole = Said()
    whole.add(deltas)
    return whole.thinking, whole.content, [(call.name, json.loads(call.arguments)) for call in whole.calls]


async def test_calls_in_the_form_of_hermes_are_read_and_resumed_at_every_delta():
    engine = parsed(spec(CALLS, tool_parser="hermes"))
    parsing = Parsing(tools=TOOLS)
    whole = await generate(engine, parsing)
    thinking, content, calls = said(whole)
    assert (thinking, content.strip(), calls) == ("", "Let me see.", EXPECTED)
    assert whole[-1].finish_reason is FinishReason.TOOL_CALLS
    assert len({delta.tool.id for delta in whole if delta.tool and delta.tool.id}) == 2
    for cut in range(1, len(whole)):
        rest = await generate(engine, parsing, whole[:cut])
        assert DeltaKind.RESTART not in {delta.kind for delta in rest}, f"cut behind {cut}"
        assert said([*whole[:cut], *rest]) == said(whole)


@pytest.mark.parametrize("parallel", [True, False])
async def test_one_call_is_all_there_is_where_several_are_not_wanted(parallel: bool):
    # No grammar holds this parser's model to one call.
    engine = parsed(spec('[weather(city="Zürich 🦜"), time(city="Paris")]', tool_parser="pythonic"))
    parsing = Parsing(tools=TOOLS, parallel_tool_calls=parallel)
    whole = await generate(engine, parsing)
    expected = EXPECTED if parallel else EXPECTED[:1]
    assert (said(whole), whole[-1].finish_reason) == (("", "", expected), FinishReason.TOOL_CALLS)
    for cut in range(1, len(whole)):
        rest = await generate(engine, parsing, whole[:cut])
        assert said([*whole[:cut], *rest]) == said(whole), f"cut behind {cut}"


async def test_an_answer_without_calls_is_text():
    engine = parsed(spec("Just < words", tool_parser="hermes"))
    whole = await generate(engine, Parsing(tools=TOOLS))
    assert (said(whole), whole[-1].finish_reason) == (("", "Just < words", []), FinishReason.STOP)


@pytest.mark.parametrize(("parser", "form"), [("hermes", "structural_tag"), (None, "json_schema")])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "time"}}])
def test_forced_calls_have_a_form_that_the_engine_is_told(parser: str | None, form: str, choice: Any):
    parsers = scripted_parsers(spec("", tool_parser=parser))
    sampling = SamplingParameters(parsing=Parsing(tools=TOOLS, tool_choice=choice))
    asked = parsers.parser(TextRequest(request_id="r", prompt_token_ids=PROMPT, sampling=sampling)).sampling
    assert getattr(asked, form) is not None
    assert asked.needs_replay
    assert asked.parsing is None


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "time"}}])
def test_forced_calls_fit_the_tools_schema(choice: Any):
    parsers = scripted_parsers(spec("", tool_parser="hermes"))
    sampling = SamplingParameters(parsing=Parsing(tools=TOOLS, tool_choice=choice))
    asked = parsers.parser(TextRequest(request_id="r", prompt_token_ids=PROMPT, sampling=sampling)).sampling
    assert asked.structural_tag is not None
    letters = xgrammar.TokenizerInfo([chr(code) for code in range(256)])
    grammar = xgrammar.GrammarCompiler(letters).compile_structural_tag(asked.structural_tag)

    def accepts(name: str, arguments: str) -> bool:
        text = f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
        return bool(xgrammar.GrammarMatcher(grammar).accept_string(text))

    assert accepts("time", '{"city": "Paris"}')
    assert not accepts("time", '{"city": 7}')
    assert not accepts("time", "{}")
    assert not accepts("nonsense", '{"city": "Paris"}')
    assert accepts("weather", '{"city": "Paris"}') == (choice == "required")


async def test_forced_calls_of_a_model_without_a_parser_are_read_from_json():
    parsers = scripted_parsers(spec(""))
    forced = json.dumps([{"name": name, "parameters": arguments} for name, arguments in EXPECTED])
    for choice, answer, calls in (
        ("required", forced, EXPECTED),
        ({"type": "function", "function": {"name": "time"}}, '{"city": "Paris"}', EXPECTED[1:]),
    ):
        sampling = SamplingParameters(parsing=Parsing(tools=TOOLS, tool_choice=choice))
        parser = parsers.parser(TextRequest(request_id="r", prompt_token_ids=PROMPT, sampling=sampling))
        pieces = [
            piece
            for index in range(len(answer))
            for piece in parser.feed(answer[index], [7], finished=index == len(answer) - 1)
        ]
        assert said(pieces) == ("", "", calls)


async def test_thoughts_are_told_from_the_answer_and_resumed_at_every_delta():
    engine = parsed(spec("<think>He asks — hm 🦜.</think>Forty-two.", reasoning_parser="qwen3"))
    whole = await generate(engine, Parsing())
    thinking, content, calls = said(whole)
    assert (thinking.strip(), content.strip(), calls) == ("He asks — hm 🦜.", "Forty-two.", [])
    for cut in range(1, len(whole)):
        rest = await generate(engine, Parsing(), whole[:cut])
        assert said([*whole[:cut], *rest]) == said(whole), f"cut behind {cut}"


@pytest.mark.parametrize("name", ["tool_parser", "reasoning_parser"])
def test_a_parser_that_does_not_exist_is_named(name: str):
    with pytest.raises(InvalidSettings, match=f"{name}='nonsense'"):
        scripted_parsers(spec("", **{name: "nonsense"}))


async def test_tools_that_nobody_can_read_the_calls_of_fail_for_good():
    with pytest.raises(PermanentEngineError, match="the model m has no tool_parser"):
        await generate(parsed(spec("text")), Parsing(tools=TOOLS))


async def test_a_form_that_the_engine_cannot_follow_fails_for_good_and_quotes_nothing():
    engine = parsed(spec("", tool_parser="hermes"))
    with pytest.raises(PermanentEngineError) as caught:
        await generate(engine, Parsing(tools=TOOLS, tool_choice="required"))
    assert "Zürich" not in str(caught.value)
