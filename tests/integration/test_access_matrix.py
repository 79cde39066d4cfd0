"""Objects of one user's against everybody else: every route that takes an id, by the table in ``tests/access_rows.py``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pipeline.accounts import Account
from tests.access_rows import ROWS, Owned
from tests.integration.ingress_app import EXPIRED, IngressApp, ingress_app, token

UNKNOWN = "prom-0000000000000000000000"
WITH_IDS = [name for name, row in ROWS.items() if row.owned is not None]


@pytest.fixture
async def replica(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url) as replica:
        yield replica


async def make_prompt(replica: IngressApp, owner: Account) -> str:
    """A prompt of the owner's, whose thread has the same id."""
    answer = await replica.send("POST", "/prompt-svc/prompt", {"prompt": "hi", "id": "mine"}, as_=owner)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prompt"]["id"])


async def make_template(replica: IngressApp, owner: Account) -> str:
    answer = await replica.send("POST", "/prompt-svc/template", {"name": "mine", "template": "{prompt}"}, as_=owner)
    return str(answer.json()["template"]["name"])


async def make_thread(replica: IngressApp, owner: Account) -> str:
    answer = await replica.send("POST", "/chat-svc/thread", {"title": "mine"}, as_=owner)
    return str(answer.json()["thread"]["id"])


async def make_file(replica: IngressApp, owner: Account) -> str:
    answer = await replica.upload(b"mine", as_=owner)
    return str(answer.json()["upload"]["fileId"])


async def make_api_key(replica: IngressApp, owner: Account) -> str:
    answer = await replica.send("POST", "/user-svc/api-key", {"name": "mine"}, as_=owner)
    return str(answer.json()["apiKey"]["id"])


async def make_chat_completion(replica: IngressApp, owner: Account) -> str:
    """One that nobody waits for, and that is kept all the same."""
    body = {"model": "org/small", "messages": [{"role": "user", "content": "hi"}], "store": True, "stream": True}
    await replica.begins("/v1/chat/completions", body, as_=owner)
    listed = await replica.send("POST", "/prompt-svc/prompts", {}, as_=owner)
    return str(listed.json()["prompts"][0]["id"])


#: What makes an object of the owner's through the front door, and gives its id.
MAKERS: dict[str, Callable[[IngressApp, Account], Awaitable[str]]] = {
    "prompt": make_prompt,
    "template": make_template,
    "thread": make_thread,
    "file": make_file,
    "api-key": make_api_key,
    "chat completion": make_chat_completion,
}


async def call(
    replica: IngressApp, name: str, owned: Owned, object_id: str, caller: Account | str | None
) -> tuple[int, Any]:
    method = name.split(" ")[0]
    path = owned.path.replace("ID", object_id)
    if owned.is_stream:
        return await replica.opens(path, as_=caller), None
    body = json.loads(json.dumps(owned.body).replace("ID", object_id)) if owned.body else None
    answer = await replica.send(method, path, body, as_=caller)
    return answer.status_code, answer.content if owned.is_bytes and answer.is_success else answer.json()


@pytest.mark.parametrize("name", WITH_IDS)
async def test_an_object_is_its_owners_alone(replica: IngressApp, name: str):
    owned = ROWS[name].owned
    assert owned is not None
    owner, other, admin = await replica.user("owner"), await replica.user("other"), await replica.admin()
    object_id = await MAKERS[owned.kind](replica, owner)
    for nobody in (None, "Bearer a.b.c", token(owner, EXPIRED)):
        status, said = await call(replica, name, owned, object_id, nobody)
        assert status == 401
        # Other doors have shapes of their own, which their tests look at.
        assert owned.is_stream or "/v1/" in name or said == {"error": "Unauthorized"}
    for caller, status in ((other, owned.other), (admin, owned.admin)):
        got = await call(replica, name, owned, object_id, caller)
        assert got[0] == status
        # Somebody else's and nobody's look the same.
        assert got == await call(replica, name, owned, UNKNOWN, caller)
    # Last: some calls are the end of the object, which shows that nobody else's was.
    assert (await call(replica, name, owned, object_id, owner))[0] == owned.owner
