"""``oo post``: words into a path and a JSON object. Most examples are the document's."""

from __future__ import annotations

from typing import Any

import pytest

from clients.oo.errors import OoError
from clients.oo.flags import split, to_object, value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("0", 0),
        ("7.5", 7.5),
        ("8.0", 8.0),
        ("true", True),
        ("false", False),
        ('["file-1"]', ["file-1"]),
        (
            '[{"field": "runCount", "operator": "gt", "value": 3}]',
            [{"field": "runCount", "operator": "gt", "value": 3}],
        ),
        (' {"a": null} ', {"a": None}),
        # Not the words of a JSON value, or not to be had back as they were written:
        ("007", "007"),
        ("+5", "+5"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ("-0", "-0"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("9" * 400 + ".5", "9" * 400 + ".5"),
        ("True", "True"),
        ("null", "null"),
        ("NaN", "NaN"),
        ("[INST] {prompt} [/INST]", "[INST] {prompt} [/INST]"),
        ("{prompt}", "{prompt}"),
        ("[" * 100_000, "[" * 100_000),
        ('"quoted"', '"quoted"'),
        ("", ""),
        ("٣", "٣"),
        ("thread_12345", "thread_12345"),
        ("### HUMAN:\\n{prompt}", "### HUMAN:\\n{prompt}"),
    ],
)
def test_a_value_is_what_it_looks_like_in_json_and_text_otherwise(text: str, value: Any):
    got = value_of(text)
    assert got == value
    assert type(got) is type(value)


def test_an_example_of_the_document():
    path, body = split(
        [
            "/prompt-svc/prompt",
            "--prompt=A spaceship",
            "--engineParameters.stableDiffusion.txt2Img.width=768",
            "--engineParameters.stableDiffusion.txt2Img.guidance_scale=8.0",
            "--engineParameters.stableDiffusion.txt2Img.negative_prompt=blurry, low quality",
            "--parameters.textToImage.guidanceScale=7.5",
            "--sync=true",
        ]
    )
    assert path == "/prompt-svc/prompt"
    assert body == {
        "prompt": "A spaceship",
        "engineParameters": {
            "stableDiffusion": {
                "txt2Img": {"width": 768, "guidance_scale": 8.0, "negative_prompt": "blurry, low quality"}
            }
        },
        "parameters": {"textToImage": {"guidanceScale": 7.5}},
        "sync": True,
    }


@pytest.mark.parametrize("text", ["42", "true", "[1, 2]", '{"a": 1}', "1.5", ""])
@pytest.mark.parametrize("key", ["prompt", "id", "threadId", "parameters.textToText.template", "variables.question"])
def test_fields_that_hold_text_keep_it(key: str, text: str):
    value: Any = to_object([f"--{key}={text}"])
    for part in key.split("."):
        value = value[part]
    assert value == text


def test_only_the_first_equals_sign_separates_and_only_dots_split():
    assert to_object(["--prompt=a=b --c=d", "--thread-id=x", "--snake_case.camelCase=1"]) == {
        "prompt": "a=b --c=d",
        "thread-id": "x",
        "snake_case": {"camelCase": 1},
    }


@pytest.mark.parametrize(
    ("flags", "body"),
    [
        (["--a=1", "--a=2", "--a=x"], {"a": [1, 2, "x"]}),
        (["--a.b=1", "--a.c=2", "--a.b=3"], {"a": {"b": [1, 3], "c": 2}}),
        (["--a=[1]", "--a=2"], {"a": [[1], 2]}),
        (['--a={"x": 1}', '--a={"y": 2}'], {"a": [{"x": 1}, {"y": 2}]}),
        ([], {}),
    ],
)
def test_a_key_given_again_makes_an_array_in_order(flags: list[str], body: dict[str, Any]):
    assert to_object(flags) == body


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["/prompt-svc/prompts"], "/prompt-svc/prompts"),
        (["prompt-svc/prompts"], "/prompt-svc/prompts"),
        (["prompt-svc", "prompts"], "/prompt-svc/prompts"),
        (["/model-svc/model/", "a%2Fb", "status"], "/model-svc/model/a%2Fb/status"),
    ],
)
def test_words_before_the_flags_make_the_path(words: list[str], path: str):
    assert split([*words, "--a=1"]) == (path, {"a": 1})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the path is missing, for example: oo post /prompt-svc/prompts"),
        (["--a=1"], "the path is missing, for example: oo post /prompt-svc/prompts"),
        (["/p", "--sync"], "--sync: got no value, write --sync=VALUE"),
        (["/p", "--prompt", "secret"], "--prompt: got no value, write --prompt=VALUE"),
        (["/p", "--a=1", "b=2"], "b: got no value, write --b=VALUE"),
        (["/p", "--a..b=secret"], "--a..b: a part of the key is empty"),
        (["/p", "--=secret"], "--: a part of the key is empty"),
        (["/p", "--a=1", "--a.b=secret"], "--a.b: a has a value of its own already"),
        (["/p", "--a.b=1", "--a=secret"], "--a: a is an object already"),
    ],
)
def test_a_wrong_flag_is_named_without_its_value(words: list[str], message: str):
    with pytest.raises(OoError) as raised:
        split(words)
    assert str(raised.value) == message
