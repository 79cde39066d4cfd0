"""Bad input: always ``{"error": …}`` with the right 4xx, within a second, and nothing queued."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Connect

GOOD = {"prompt": "hello"}
BODIES: dict[str, tuple[bytes | dict[str, Any], int, str]] = {
    "not json": (b"{", 400, "Invalid JSON"),
    "array": (b"[]", 400, "object"),
    "no prompt": ({}, 400, "prompt"),
    "empty prompt": ({"prompt": ""}, 400, "prompt"),
    "blank prompt": ({"prompt": " \n\t"}, 400, "prompt"),
    "prompt of the wrong type": ({"prompt": {"a": 1}}, 400, "prompt"),
    "unknown model": ({**GOOD, "modelId": "gpt-9"}, 400, "modelId"),
    "too many retries": ({**GOOD, "maxRetries": 101}, 400, "maxRetries"),
    "negative retries": ({**GOOD, "maxRetries": -1}, 400, "maxRetries"),
    "retries of the wrong type": ({**GOOD, "maxRetries": "many"}, 400, "maxRetries"),
    "hot": ({**GOOD, "parameters": {"textToText": {"temperature": 9}}}, 400, "parameters.textToText.temperature"),
    "top_p 0": ({**GOOD, "engineParameters": {"vllm": {"top_p": 0}}}, 400, "engineParameters.vllm.top_p"),
    "no tokens": ({**GOOD, "engineParameters": {"vllm": {"max_tokens": 0}}}, 400, "engineParameters.vllm.max_tokens"),
    "unknown engine key": ({**GOOD, "engineParameters": {"vllm": {"prompt_embeds": "x"}}}, 400, "prompt_embeds"),
    "template without prompt": ({**GOOD, "parameters": {"textToText": {"template": "hi"}}}, 400, "template"),
    "image parameters": ({**GOOD, "parameters": {"textToImage": {"width": 0}}}, 400, "textToImage.width"),
    "a type nobody knows": ({**GOOD, "type": "Poetry"}, 400, "type"),
    "a type nobody can": ({**GOOD, "type": "Text-to-Speech"}, 400, "text-to-speech"),
    "a type the model cannot": (
        {**GOOD, "type": "Visual Question Answering", "modelId": "HuggingFaceTB/SmolLM2-135M-Instruct"},
        400,
        "the model HuggingFaceTB/SmolLM2-135M-Instruct lacks the capability image-text-to-text",
    ),
    "priority of an admin": ({**GOOD, "priority": 1}, 400, "priority: got 1, allowed is an integer from -10 to 0"),
    "a template nobody has saved": ({**GOOD, "templateName": "none"}, 400, "templateName: got 'none'"),
    "variables without a template": ({**GOOD, "variables": {"a": "b"}}, 400, "variables"),
    "a variable without a value": (
        {**GOOD, "parameters": {"textToText": {"template": "{prompt} {context}"}}, "variables": {"a": "b"}},
        400,
        "variables.context",
    ),
    "a template that grows without bound": (
        {"prompt": "x" * 100_000, "parameters": {"textToText": {"template": "{prompt}" * 100}}},
        400,
        "template: got 10000000 characters",
    ),
    "longer than the context": ({"prompt": "word " * 9000}, 400, "8191"),
    "body over 1 MiB": ({"prompt": "x" * (1024 * 1024)}, 413, ""),
    "deep": (b'{"prompt":"x","parameters":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", 400, ""),
    "NUL": ({"prompt": "a\x00b"}, 400, "prompt"),
    "lone surrogate": (b'{"prompt": "\\ud800"}', 400, "prompt"),
    "control characters in an id": ({**GOOD, "id": "a\nb"}, 400, "id"),
    "a schema that is none": (
        {**GOOD, "parameters": {"textToText": {"jsonSchema": {"type": "no such"}}}},
        400,
        "jsonSchema",
    ),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_prompt_is_refused_and_not_queued(user: httpx.AsyncClient, name: str) -> None:
    body, status, mention = BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    began = time.monotonic()
    response = await user.post("/prompt-svc/prompt", content=content)
    assert time.monotonic() - began < 1
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert mention in response.json()["error"]
    assert "word word" not in response.text
    everything = {"query": {"orderBy": [{"field": "createdAt"}], "count": True}}
    assert (await user.post("/prompt-svc/prompts", json=everything)).json()["count"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/", 405),
        ("GET", "/prompt-svc", 404),
        ("GET", "/prompt-svc/prompt", 405),
        ("POST", "/prompt-svc/prompt/", 404),
        ("PATCH", "/prompt-svc/prompts", 405),
        ("POST", "/prompt-svc/prompts/t/responses/subscribe", 405),
        ("POST", "/collective_rpc", 404),
        ("GET", "/v1/load_lora_adapter", 404),
        ("GET", "/..%2f..%2fetc/passwd", 404),
    ],
)
async def test_unknown_paths_and_methods(user: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await user.request(method, path)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


ROUTES = [
    ("POST", "/prompt-svc/prompt", GOOD),
    ("POST", "/prompt-svc/prompts", {}),
    ("DELETE", "/prompt-svc/prompt/p", None),
    ("POST", "/prompt-svc/remove", {"promptId": "p"}),
    ("GET", "/prompt-svc/prompts/t/responses/subscribe", None),
    ("GET", "/prompt-svc/prompt/p", None),
    ("POST", "/prompt-svc/template", {"name": "n", "template": "{prompt}"}),
    ("POST", "/prompt-svc/templates", {}),
    ("DELETE", "/prompt-svc/template/n", None),
    ("GET", "/model-svc/default-model/status", None),
    ("POST", "/model-svc/models", None),
    ("PUT", "/model-svc/default-model/start", None),
    ("POST", "/user-svc/self", None),
    ("POST", "/user-svc/refresh-token", None),
]


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer nonsense", "Bearer a.b.c", "Basic eDp5"])
@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_without_a_good_token_nothing_is_served(
    anonymous: httpx.AsyncClient, method: str, path: str, body: Any, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": token}
    response = await anonymous.request(method, path, json=body, headers=headers)
    assert response.status_code == 401
    assert response.json() == {"error": "Unauthorized"}


async def test_a_bare_token_is_accepted_as_the_published_client_sends_it(user: httpx.AsyncClient) -> None:
    bare = user.headers["Authorization"].removeprefix("Bearer ")
    response = await user.post("/user-svc/self", headers={"Authorization": bare})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("query", "mention"),
    [
        ({"filters": [{"field": "mood", "operator": "equals", "value": "good"}]}, "mood"),
        ({"filters": [{"field": "status", "operator": "like", "value": "run"}]}, "like"),
        ({"filters": [{"field": "status", "operator": "equals", "value": "walking"}]}, "walking"),
        ({"filters": "[{"}, "query.filters"),
        ({"limit": 100000}, "query.limit"),
        ({"orderBy": [{"field": "mood"}]}, "query.orderBy"),
        ({"orderBys": [{"field": "id", "sortingType": "natural"}]}, "natural"),
        ({"filters": [{"field": "runCount", "operator": "gt", "value": "three"}]}, "query.filters.0.value"),
        ({"filters": [{"op": "or", "subFilters": "x"}]}, "query.filters.0.subFilters"),
        ({"after": "yesterday"}, "query.after"),
    ],
)
async def test_a_bad_query_is_named(user: httpx.AsyncClient, query: dict[str, Any], mention: str) -> None:
    response = await user.post("/prompt-svc/prompts", json={"query": query})
    assert response.status_code == 400
    assert mention in response.json()["error"]


async def test_the_command_lines_coercions_are_accepted(new_user: Connect) -> None:
    user = await new_user()
    body = {
        "prompt": 42,
        "sync": "false",
        "maxRetries": "2",
        "threadId": 7,
        "parameters": '{"textToText": {"maxTokens": "1"}}',
    }
    response = await user.post("/prompt-svc/prompt", json=body)
    assert response.status_code == 200, response.text
    prompt = response.json()["prompt"]
    assert (prompt["prompt"], prompt["threadId"], prompt["maxRetries"], prompt["sync"]) == ("42", "7", 2, False)
