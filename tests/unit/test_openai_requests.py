"""Requests of the OpenAI door as the prompts they become, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from deployments.ingress.doors.openai.chat_request import parse_chat_request
from deployments.ingress.doors.openai.completion_request import parse_completion_request
from deployments.ingress.doors.openai.errors import OpenAiError, error_object
from deployments.ingress.doors.openai.image_request import parse_image_request
from deployments.ingress.doors.openai.sampling import Call
from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from pipeline.engine import Parsing, SamplingParameters
from pipeline.errors import ClientError, InvalidField, PromptSvcError
from pipeline.prompt import sampling_from_record
from pipeline.prompt_type import PromptType

CANARY = "canary-in-the-request"
MODEL = ModelSpec(id="org/small", engine="scripted", source="none", tool_parser="hermes")
PLAIN = ModelSpec(id="org/plain", engine="scripted", source="none")
TEXT = ModelText.open(MODEL, Settings.parse({"redis_url": "redis://none.invalid", "models": [MODEL]}))
HI = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {"name": "paint", "description": "Paints", "parameters": {"type": "object", "properties": {}}},
}
LARGE_TOOL = {
    "type": "function",
    "function": {"name": "paint", "parameters": {"type": "object", "description": CANARY * 1500}},
}
PAINT = {"type": "function", "function": {"name": "paint"}}


def chat(found: ModelSpec = MODEL, /, **body: Any) -> Call:
    return parse_chat_request({"messages": HI, **body}, model=found, text=TEXT, highest_priority=2)


def text(**body: Any) -> Call:
    return parse_completion_request({"prompt": "hi", **body}, model=MODEL, text=TEXT, highest_priority=2)


def sampling(**body: Any) -> SamplingParameters:
    return chat(**body).submissions[0].sampling


def test_what_is_not_said_is_the_services_default():
    call = chat()
    (submission,) = call.submissions
    assert submission.sampling == SamplingParameters()
    assert (submission.messages, submission.prompt, submission.model_id) == (tuple(HI), "hi", None)
    # As it was named: an alias may mean more than a model.
    assert chat(model="small").submissions[0].model_id == text(model="small").submissions[0].model_id == "small"
    assert (call.stream, call.include_usage, call.store) == (False, False, False)
    assert text().submissions[0].sampling == SamplingParameters(max_tokens=16)


def test_sampling_is_taken_over():
    asked = {
        "temperature": 1, "top_p": 0.5, "top_k": -1, "seed": 7, "stop": "END", "presence_penalty": 1, "frequency_penalty": -1,
        "logit_bias": {"5": 10, "7": -100}, "logprobs": True, "top_logprobs": 3, "max_tokens": 9,
    }  # fmt: skip
    assert sampling(**asked) == SamplingParameters(
        temperature=1, top_p=0.5, top_k=0, seed=7, stop=("END",), presence_penalty=1, frequency_penalty=-1,
        logit_bias=((5, 10.0), (7, -100.0)), logprobs=3, max_tokens=9,
    )  # fmt: skip
    assert sampling(max_tokens=9, max_completion_tokens=5).max_tokens == 5
    assert sampling(logprobs=True).logprobs == 0
    assert sampling(temperature=None, stop=None, seed=None) == SamplingParameters()


def test_no_more_logprobs_than_the_models_engine_gives():
    few = ModelSpec(id="org/few", source="none", engine_args={"max_logprobs": 3})
    every = ModelSpec(id="org/every", source="none", engine_args={"max_logprobs": -1})
    wanted = {"logprobs": True, "top_logprobs": 4}
    for model, most in ((MODEL, 4), (few, 3), (every, 4)):
        assert chat(model, **{**wanted, "top_logprobs": most}).submissions[0].sampling.logprobs == most
    with pytest.raises(InvalidField, match="top_logprobs: got 4, allowed is at most 3 with the model org/few"):
        chat(few, **wanted)
    with pytest.raises(InvalidField, match="logprobs: got 4, allowed is at most 3"):
        parse_completion_request({"prompt": "hi", "logprobs": 4}, model=few, text=TEXT, highest_priority=2)


def test_it_is_the_same_once_it_was_stored():
    import orjson

    asked = sampling(
        logit_bias={"5": 10}, tools=[TOOL], tool_choice=PAINT, stop=["a"], reasoning_effort="low", logprobs=True
    )
    assert sampling_from_record(orjson.dumps(asked)) == asked


def test_choices_have_seeds_of_their_own():
    assert [one.sampling.seed for one in chat(n=3, seed=5).submissions] == [5, 6, 7]
    assert [one.sampling.seed for one in chat(n=2).submissions] == [None, None]


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}}, {"type": "array"}),
    ],
)
def test_formats_are_schemas(response_format: Any, schema: Any):
    assert sampling(response_format=response_format).json_schema == schema


def test_tools_are_for_the_parser():
    expected = Parsing(tools=(TOOL,), tool_choice="auto", parallel_tool_calls=False)
    assert sampling(tools=[TOOL], parallel_tool_calls=False).parsing == expected
    assert sampling(tools=[TOOL], tool_choice=PAINT).parsing == Parsing(tools=(TOOL,), tool_choice=PAINT)
    assert sampling(tools=[TOOL], tool_choice="none").parsing is None
    assert sampling(tools=[]).parsing is None
    bare = {"type": "function", "function": {"name": "paint", "strict": True}}
    (tool,) = sampling(tools=[bare]).parsing.tools  # type: ignore[union-attr]
    assert tool["function"] == {"name": "paint", "parameters": {"type": "object", "properties": {}}, "strict": True}


def test_a_model_without_a_parser_calls_tools_only_where_it_must():
    assert chat(PLAIN, tools=[TOOL], tool_choice="required").submissions[0].sampling.parsing is not None
    with pytest.raises(OpenAiError, match="no tool_parser") as caught:
        chat(PLAIN, tools=[TOOL])
    assert caught.value.code == "unsupported_parameter"


def test_the_wish_to_think_is_for_the_template():
    assert sampling(reasoning_effort="none").parsing == Parsing(
        template_variables={"reasoning_effort": "none", "enable_thinking": False}
    )
    asked = sampling(chat_template_kwargs={"enable_thinking": True, "chat_template": CANARY}).parsing
    assert asked == Parsing(template_variables={"enable_thinking": True})


def test_messages_are_as_templates_take_them():
    call = {"id": "c1", "type": "function", "function": {"name": "paint", "arguments": '{"a": [1]}'}}
    (submission,) = chat(
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
                "name": "Al",
            },
            {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ]
    ).submissions
    assert submission.messages == (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one\ntwo", "name": "Al"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "paint", "arguments": {"a": [1]}}}],
        },
        {"role": "tool", "content": "done", "tool_call_id": "c1"},
    )
    assert submission.prompt == "one\ntwo"


@pytest.mark.parametrize(
    ("tier", "priority"), [(None, 0), ("auto", 0), ("default", 0), ("flex", -5), ("priority", 2), ("scale", 0)]
)
def test_tiers_are_priorities(tier: str | None, priority: int):
    assert chat(service_tier=tier).submissions[0].priority == priority


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": CANARY}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [CANARY]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "tool", "content": CANARY}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages.0.tool_calls.0"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [
                {"id": "c", "function": {"name": "f", "arguments": f"{{{CANARY}"}}]}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": 7}, "stop"),
        ({"stream": "true"}, "stream"),
        ({"seed": 2**64}, "seed"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"five": 1}}, "logit_bias"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(2000)}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": CANARY}}}},
            "response_format.json_schema.schema"),
        ({"tools": [{"type": "function"}]}, "tools.0"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools.0"),
        ({"tools": [{"type": "function", "function": {"name": CANARY * 9}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": CANARY}}}]},
            "tools.0.function.parameters"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [{"type": "function"}] * 129}, "tools"),
        ({"tools": [LARGE_TOOL] * 9}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$schema": 1}}}]},
            "tools.0.function.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": CANARY}}]}, "tools.0.function.strict"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$schema": {}}}}},
            "response_format.json_schema.schema"),
        ({"tools": [TOOL], "tool_choice": "must"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 600}}, "metadata"),
        ({"reasoning_effort": "all"}, "reasoning_effort"),
        ({"modalities": ["audio"]}, "modalities"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_not_quoted(body: Mapping[str, Any], param: str):
    with pytest.raises(InvalidField) as caught:
        chat(**body)
    error = error_object(caught.value)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert CANARY not in json.dumps(error)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}]},
            "messages.0.content.0"),
        ({"functions": [{}]}, "functions"),
        ({"audio": {"voice": "x"}}, "audio"),
    ],
)  # fmt: skip
def test_what_is_not_served_says_so(body: Mapping[str, Any], param: str):
    with pytest.raises(OpenAiError) as caught:
        chat(**body)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert CANARY not in caught.value.message


def test_a_thousand_messages_are_the_most():
    assert len(chat(messages=HI * 1000).submissions[0].messages or ()) == 1000
    with pytest.raises(InvalidField):
        chat(messages=HI * 1001)


def test_texts_are_prompts_as_they_stand():
    call = text(prompt=["a{prompt}", "b"], n=2, seed=1, echo=True)
    assert [(one.text, one.sampling.seed) for one in call.submissions] == [
        ("a{prompt}", 1), ("a{prompt}", 2), ("b", 1), ("b", 2)
    ]  # fmt: skip
    assert (call.prompts, call.echo) == (2, True)
    (by_ids,) = text(prompt=list(b"hi")).submissions
    assert (by_ids.prompt_token_ids, by_ids.prompt) == (tuple(b"hi"), "hi")
    assert len(text(prompt=[[104], [105]]).submissions) == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt.0"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt.1"),
        ({"prompt": [True]}, "prompt.0"),
        ({"prompt": [[]]}, "prompt.0"),
        ({"prompt": [99999]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 33}, "prompt"),
        ({"prompt": ["a"] * 32, "n": 8}, "n"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
    ],
)
def test_wrong_texts_are_refused(body: Mapping[str, Any], param: str):
    with pytest.raises(ClientError) as caught:
        text(**body)
    assert error_object(caught.value)["param"] == param


def test_an_image_is_a_prompt_of_the_services_own():
    image = parse_image_request(
        {"prompt": "a fox", "n": 2, "size": "512x256", "seed": 3, "steps": 4, "guidance_scale": 7.5, "negative_prompt": "blur",
         "output_format": "webp"},
        model_id="org/painter",
    )  # fmt: skip
    first, second = image.call.submissions
    assert (first.prompt, first.type, first.model_id) == ("a fox", PromptType.TEXT_TO_IMAGE, "org/painter")
    assert first.parameters == {
        "textToImage": {
            "seed": 3, "steps": 4, "guidanceScale": 7.5, "negativePrompt": "blur", "format": "webp", "width": 512, "height": 256
        }
    }  # fmt: skip
    assert (second.parameters or {})["textToImage"]["seed"] == 4
    assert (image.size, image.output_format) == ("512x256", "webp")
    edited = parse_image_request({"prompt": "a fox"}, model_id=None, file_ids=("file-1",))
    (edit,) = edited.call.submissions
    assert (edit.type, edit.file_ids, edit.model_id) == (PromptType.IMAGE_TO_IMAGE, ("file-1",), None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"n": 5}, "n"),
        ({"size": "big"}, "size"),
        ({"size": "0x5"}, "size"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"background": "transparent"}, "background"),
        ({"mask": "file"}, "mask"),
        ({"seed": -1}, "seed"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_wrong_images_are_refused(body: Mapping[str, Any], param: str):
    with pytest.raises(PromptSvcError) as caught:
        parse_image_request({"prompt": "a fox", **body}, model_id=None)
    assert error_object(caught.value)["param"] == param
