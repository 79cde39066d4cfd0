"""The Open-Assistant door on a real store, its users, and a replica that the test plays."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.store.attempts import AttemptStore, Claimed
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.queue import ModelQueue
from tests.integration.ingress_app import IngressApp, ingress_app

MODEL = "org/small"
KEY = "trusted-key"
LONG_S = 1000.0
SAMPLING = {"top_p": 0.95, "top_k": 50, "repetition_penalty": 1.2, "temperature": 1.0}


class Replica:
    """The replica of the one model; nothing is answered but by it."""

    def __init__(self, client: Redis) -> None:
        keys = Keys("ps")
        self._queue = ModelQueue(client, keys, MODEL)
        self._attempts = AttemptStore(client, keys)
        self._written: dict[str, int] = {}

    async def register(self) -> None:
        await self._attempts.register(MODEL, "r", permits=64, node="n", lease_s=LONG_S)

    async def take(self) -> Claimed:
        """Begin with the next prompt."""
        (grant,) = await self._queue.grant(1, LONG_S)
        return await self._attempts.claim(grant.ref, grant.fence, replica="r", lease_s=LONG_S, fingerprint="f")

    async def write(self, attempt: Claimed, *texts: str) -> None:
        await self.log(attempt, *(Delta(text=text) for text in texts))

    async def log(self, attempt: Claimed, *deltas: Delta) -> None:
        for delta in deltas:
            number = self._written[attempt.ref] = self._written.get(attempt.ref, 0) + 1
            assert await self._attempts.append([(attempt.ref, attempt.fence, number, delta)]) == [True]

    async def finish(
        self, attempt: Claimed, text: str, *, last: str = "", reason: FinishReason = FinishReason.STOP
    ) -> None:
        """Complete it; ``last`` is the part of the text that has not been written yet."""
        end = Delta(kind=DeltaKind.END, text=last, finish_reason=reason)
        assert await self._attempts.finish(
            attempt.ref, attempt.fence, message_id=f"msg-{attempt.ref}", text=text, meta_json="{}", end=end
        )

    async def fail(self, attempt: Claimed) -> None:
        assert await self._attempts.abandon(attempt.ref, attempt.fence, error="the engine failed")

    async def answer(self, text: str) -> Claimed:
        """Take the next prompt and complete it."""
        attempt = await self.take()
        await self.finish(attempt, text, last=text)
        return attempt


class User:
    """Somebody with a token or with a program that acts for them."""

    def __init__(self, app: IngressApp, headers: dict[str, str]) -> None:
        self._app = app
        self.headers = headers

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self._app.send(method, path, body, **self.headers)

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a 200."""
        answer = await self.send(method, path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def chat(self) -> str:
        return str((await self.json("POST", "/chats", {}))["id"])

    async def say(self, chat: str, content: str, parent: str | None = None) -> str:
        body = {"parent_id": parent, "content": content}
        return str((await self.json("POST", f"/chats/{chat}/prompter_message", body))["id"])

    async def ask(self, chat: str, parent: str, **more: Any) -> str:
        return str((await self.json("POST", f"/chats/{chat}/assistant_message", asking(parent, **more)))["id"])

    async def message(self, chat: str, message: str) -> Any:
        return await self.json("GET", f"/chats/{chat}/messages/{message}")

    async def state(self, chat: str, message: str) -> str:
        return str((await self.message(chat, message))["state"])

    async def events(self, chat: str, message: str) -> list[dict[str, Any]]:
        """The whole stream of an answer; ends when it does."""
        answer = await self.send("GET", f"/chats/{chat}/messages/{message}/events")
        assert answer.status_code == 200, answer.text
        return events_in(answer.text)


def events_in(stream: str) -> list[dict[str, Any]]:
    """The events of a stream, each of them on one line by itself."""
    frames = [frame for frame in stream.split("\r\n\r\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames), frames
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def asking(parent: str, **more: Any) -> dict[str, Any]:
    return {"parent_id": parent, "model_config_name": MODEL, "sampling_parameters": SAMPLING, **more}


def trusted(user_id: str = "42", *, client: str = "website", key: str = KEY) -> dict[str, str]:
    """The header of a program that acts for a user."""
    user = {
        "api_key": key,
        "client": client,
        "user_id": user_id,
        "provider_account_id": f"{user_id}@discord",
        "username": "Ada",
    }
    return {"trustedclient": base64.b64encode(json.dumps(user).encode()).decode()}


class Door:
    def __init__(self, app: IngressApp, replica: Replica) -> None:
        self.app = app
        self.replica = replica

    async def tokens(self, name: str) -> dict[str, Any]:
        answer = await self.app.send("GET", f"/auth/callback/debug?code={name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def user(self, name: str = "alice") -> User:
        token = (await self.tokens(name))["access_token"]["access_token"]
        return User(self.app, {"authorization": f"Bearer {token}"})

    def bearer(self, token: str) -> User:
        return User(self.app, {"authorization": f"Bearer {token}"})

    def with_headers(self, headers: dict[str, str]) -> User:
        return User(self.app, headers)

    async def answered(self, user: User, question: str = "Hi", answer: str = "Hello") -> tuple[str, str, str]:
        """A chat with a message and its answer: their ids."""
        chat = await user.chat()
        said = await user.say(chat, question)
        asked = await user.ask(chat, said)
        await self.replica.answer(answer)
        return chat, said, asked


@asynccontextmanager
async def open_door(redis_url: str, **settings: Any) -> AsyncIterator[Door]:
    limits = {"trusted_client_keys": [KEY], **settings.pop("open_assistant", {})}
    client = connect_patient(redis_url)
    replica = Replica(client)
    await replica.register()
    try:
        async with ingress_app(redis_url, open_assistant=limits, **{"debug_login": True, **settings}) as app:
            yield Door(app, replica)
    finally:
        await client.aclose()


async def settled(task: asyncio.Task[Any]) -> Any:
    """What a task returns, soon."""
    async with asyncio.timeout(10):
        return await task
