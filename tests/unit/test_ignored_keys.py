"""Keys of a prompt's request that nobody reads, and what is said of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deployments.ingress.ignored_keys import MOST_WARNINGS, warnings_of
from deployments.ingress.prompt_request import PromptRequest


def warnings(**body: Any) -> list[str]:
    return warnings_of(PromptRequest, {"prompt": "canary text", **body})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"threadId": "t", "PRIORITY": 1, "sync": "true", "fileIds": []},
        {"parameters": {"textToText": {"maxTokens": 1, "TOPP": 1}}, "engineParameters": {"vllm": {"max_tokens": 3}}},
        # What a model does not look into, and what is there as if it were not.
        {"parameters": {"textToImage": {"seed": 1}, "textToText": {"jsonSchema": {"properties": {}}}}},
        {"variables": {"anything": "x"}, "unknown": None},
        # Wrong types are errors, elsewhere.
        {"parameters": 3},
    ],
)
def test_what_is_read_needs_no_warning(body: dict[str, Any]):
    assert warnings(**body) == []


@pytest.mark.parametrize(
    ("body", "key", "meant"),
    [
        ({"paramters": {"textToText": {"maxTokens": 5}}}, "paramters", "parameters"),
        ({"parameters": {"textToText": {"maxTokns": 5}}}, "parameters.textToText.maxTokns", "maxTokens"),
        ({"parameters": {"texttotext": {"maxTokns": 5}}}, "parameters.textToText.maxTokns", "maxTokens"),
        (
            {"parameters": json.dumps({"textToText": {"tmperature": 1}})},
            "parameters.textToText.tmperature",
            "temperature",
        ),
        ({"engineParameters": {"llamacpp": {"tmplate": "x"}}}, "engineParameters.llamaCpp.tmplate", "template"),
        ({"model": "m"}, "model", "modelId"),
        ({"thread-id": "t"}, "thread-id", "threadId"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(body: dict[str, Any], key: str, meant: str):
    place = key.rpartition(".")[0]
    full = f"{place}.{meant}" if place else meant
    assert warnings(**body) == [f"{key} is not a key of this request and is ignored; did you mean {full}?"]


def test_a_key_in_the_wrong_place_is_told_its_place():
    assert warnings(maxTokens=5) == [
        "maxTokens is not a key of this request and is ignored; did you mean parameters.textToText.maxTokens?"
    ]
    (line,) = warnings(parameters={"textToText": {"threadId": "t"}})
    assert line.endswith("did you mean threadId?")
    assert warnings(temperature=1)[0].endswith("did you mean parameters.textToText.temperature?")


def test_a_key_like_no_other_is_named_alone():
    assert warnings(xyzzy=1) == ["xyzzy is not a key of this request and is ignored"]


def test_the_second_spelling_of_a_key_is_ignored_and_said_to_be():
    (line,) = warnings(**{"Prompt": "other"})
    assert line.startswith("Prompt is not a key of this request and is ignored")


def test_values_are_not_shown_and_odd_keys_are_made_printable():
    (line,) = warnings(**{"a\nb" + "x" * 200: "secret"})
    assert "secret" not in line
    assert line.isprintable()
    assert len(line) < 200


def test_there_are_only_so_many():
    lines = warnings(**{f"unknown{number}": 1 for number in range(MOST_WARNINGS + 5)})
    assert len(lines) == MOST_WARNINGS + 1
    assert lines[-1] == "and 5 more keys that are ignored"
