"""Images of the OpenAI door: forms in, bytes out."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from starlette.requests import Request

from deployments.ingress.doors.openai.answer import Answer
from deployments.ingress.doors.openai.calls import Begun
from deployments.ingress.doors.openai.errors import OpenAiError
from deployments.ingress.doors.openai.images import MOST_SOURCES, Images
from deployments.ingress.doors.openai.sampling import Call
from deployments.ingress.principal import Principal
from deployments.settings import Settings
from pipeline.delta import FinishReason
from pipeline.errors import ClientError, InvalidField, TooLarge
from tests.unit.test_wire import WAITING

SETTINGS = Settings.parse(
    {"redis_url": "redis://none.invalid", "models": [{"id": "org/small", "engine": "scripted", "source": "none"}]}
)
LIMIT = 1000


class Calls:
    """Two answers; what they consist of a test says."""

    def __init__(self, *reasons: FinishReason) -> None:
        self._reasons = reasons

    async def answers(self, prompts: Any) -> list[Answer]:
        return [Answer(finish_reason=reason, message_id=f"msg-{n}") for n, reason in enumerate(self._reasons)]

    async def files(self, user_id: str, message_id: str) -> tuple[str, ...]:
        return {"msg-0": ("file-a", "file-b"), "msg-1": ("file-c",)}.get(message_id, ())


class Files:
    limits = SimpleNamespace(file_bytes=LIMIT)

    async def get(self, owner: str, file_id: str) -> str:
        return f"{owner}/{file_id}"

    async def read(self, record: str) -> AsyncIterator[bytes]:
        for piece in (record.encode(), b"!"):
            yield piece


def images(*reasons: FinishReason) -> Images:
    calls: Any = Calls(*reasons)
    files: Any = Files()
    return Images(SETTINGS, calls, files, SETTINGS.resolve_model)


BEGUN = Begun(
    id="img-1", user_id="usr-1", call=Call(object="image", submissions=()), prompts=(replace(WAITING),), keeps=False
)


async def test_every_file_of_every_answer_is_an_image():
    painted = await images(FinishReason.STOP, FinishReason.STOP).painted(BEGUN)
    assert [base64.b64decode(one) for one in painted] == [b"usr-1/file-a!", b"usr-1/file-b!", b"usr-1/file-c!"]


async def test_the_same_images_sent_again_are_the_same_request():
    class Begins(Calls):
        bodies: ClassVar[list[Any]] = []

        async def begin(self, request: Request, user_id: str, body: Any, call: Call) -> Begun:
            self.bodies.append(body)
            return replace(BEGUN, call=call)

        async def ended(self, request: Request, begun: Begun) -> None: ...

    class Keeps(Files):
        kept: ClassVar[list[bytes]] = []

        async def put(self, owner: str, stream: Any, content_type: str, filename: str) -> Any:
            self.kept.append(b"".join([piece async for piece in stream]))
            return SimpleNamespace(id=f"file-{len(self.kept)}")

    calls: Any = Begins(FinishReason.STOP)
    files: Any = Keeps()
    for content in (b"one", b"one", b"two"):
        asked = request(form(("prompt", "", b"a fox"), ("image", "a.png", content)))
        asked.state.principal = Principal(
            user_id="usr-1", slug="a", roles=(), app_id="", device="", token_id="tok-1", expires_at=0
        )
        reply = await Images(SETTINGS, calls, files, SETTINGS.resolve_model).edit(asked)
        assert len(json.loads(bytes(reply.body))["data"]) == 2
    first, again, other = Begins.bodies
    assert first == again != other
    assert Keeps.kept == [b"one", b"one", b"two"]


async def test_an_answer_without_files_is_no_image():
    with pytest.raises(OpenAiError, match="made no image") as caught:
        await images().painted(BEGUN)
    assert (caught.value.status, caught.value.retry) == (500, False)
    with pytest.raises(OpenAiError, match="cancelled"):
        await images(FinishReason.CANCELED).painted(BEGUN)


def form(*parts: tuple[str, str, bytes], end: str = "--") -> bytes:
    lines = []
    for name, filename, content in parts:
        file = f'; filename="{filename}"' if filename else ""
        lines += [b"--b\r\n", f'Content-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode(), content, b"\r\n"]
    return b"".join([*lines, f"--b{end}\r\n".encode()])


def request(body: bytes, content_type: str = "multipart/form-data; boundary=b", **headers: str) -> Request:
    sent = {"content-type": content_type, **headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"",
             "headers": [(name.encode(), value.encode()) for name, value in sent.items()]}  # fmt: skip
    return Request(scope, receive)


async def test_a_form_is_read_as_json_would_be():
    body = form(
        ("prompt", "", "a fox 🦊".encode()),
        ("n", "", b"2"),
        ("guidance_scale", "", b"7.5"),
        ("stream", "", b"true"),
        ("image[]", "a.png", b"one"),
        ("image[]", "b.png", b"two"),
        ("mask", "m.png", b"three"),
    )
    fields, sources = await images()._form(request(body))
    assert fields == {"prompt": "a fox 🦊", "n": 2, "guidance_scale": 7.5, "stream": True, "mask": "m.png"}
    assert [(source.filename, await source.read()) for source in sources] == [("a.png", b"one"), ("b.png", b"two")]


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"{}", "application/json", InvalidField),
        (b"{}", "multipart/form-data", ClientError),
        (form(("prompt", "", b"a fox")), "multipart/form-data; boundary=b", InvalidField),
        (form(*[("image", "a.png", b"x")] * (MOST_SOURCES + 1)), "multipart/form-data; boundary=b", OpenAiError),
        (form(("prompt", "", b"x" * 70_000), ("image", "a.png", b"x")), "multipart/form-data; boundary=b", OpenAiError),
        (form(("image", "a.png", b"x" * 3_000_000)), "multipart/form-data; boundary=b", TooLarge),
    ],
)
async def test_wrong_forms_are_refused(body: bytes, content_type: str, error: type[Exception]):
    with pytest.raises(error):
        await images()._form(request(body, content_type))
