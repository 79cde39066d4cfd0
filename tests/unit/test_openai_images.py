"""Images of the OpenAI door: forms in, bytes out."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.doors.openai.answer import Answer
from deployments.ingress.doors.openai.calls import Begun
from deployments.ingress.doors.openai.errors import OpenAiError
from deployments.ingress.doors.openai.images import MOST_FILES, Images
from deployments.ingress.doors.openai.sampling import Call
from deployments.ingress.model_choice import NotCapable
from deployments.ingress.principal import Principal
from deployments.settings import Settings
from pipeline.delta import FinishReason
from pipeline.errors import ClientError, InvalidField, StoreUnavailable, TooLarge
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


class Begins(Calls):
    """Calls whose one prompt starts from the file that a test says, or that come no further."""

    def __init__(self, file_id: str = "", error: Exception | None = None) -> None:
        super().__init__(FinishReason.STOP)
        self.bodies: list[Any] = []
        self._file_id = file_id
        self._error = error

    async def begin(self, request: Request, user_id: str, body: Any, call: Call, accepted: list[Any]) -> Begun:
        self.bodies.append(body)
        if self._file_id:
            accepted.append(replace(WAITING, file_ids=(self._file_id,)))
        if self._error is not None:
            raise self._error
        return replace(BEGUN, call=call)

    async def ended(self, request: Request, begun: Begun) -> None: ...


class Keeps(Files):
    def __init__(self, delete_error: Exception | None = None) -> None:
        self.kept: dict[str, bytes] = {}
        self._count = 0
        self._delete_error = delete_error

    async def put(self, owner: str, stream: Any, content_type: str, filename: str) -> Any:
        self._count += 1
        self.kept[f"file-{self._count}"] = b"".join([piece async for piece in stream])
        return SimpleNamespace(id=f"file-{self._count}", user_id=owner)

    async def delete(self, owner: str, file_id: str) -> None:
        assert owner == "usr-1"
        if self._delete_error is not None:
            raise self._delete_error
        del self.kept[file_id]


async def edit(calls: Any, files: Any, content: bytes) -> Response:
    asked = request(form(("prompt", "", b"a fox"), ("image", "a.png", content)))
    asked.state.principal = Principal(
        user_id="usr-1", slug="a", roles=(), app_id="", device="", token_id="tok-1", expires_at=0
    )
    return await Images(SETTINGS, calls, files, SETTINGS.resolve_model).edit(asked)


async def test_the_same_image_sent_again_is_the_same_request_and_kept_once():
    calls, files = Begins("file-1"), Keeps()
    for content in (b"one", b"one", b"two"):
        reply = await edit(calls, files, content)
        assert len(json.loads(bytes(reply.body))["data"]) == 2
    first, again, other = calls.bodies
    assert first == again != other
    assert files.kept == {"file-1": b"one"}


@pytest.mark.parametrize(
    ("calls", "kept"),
    [
        (Begins(error=NotCapable("no")), []),
        (Begins(error=TypeError("unforeseen")), []),
        # Of an Idempotency-Key that stands for another request.
        (Begins("file-9", OpenAiError("reused")), []),
        (Begins("file-1", NotCapable("the second answer")), ["file-1"]),
        (Begins(error=StoreUnavailable()), ["file-1"]),
    ],
    ids=["refused", "unforeseen", "another's", "half", "unknown"],
)
async def test_an_image_is_kept_where_a_prompt_may_start_from_it(calls: Begins, kept: list[str]):
    files = Keeps()
    with pytest.raises((ClientError, TypeError, StoreUnavailable)):
        await edit(calls, files, b"one")
    assert list(files.kept) == kept


async def test_what_was_wrong_is_told_though_the_image_cannot_be_deleted():
    with pytest.raises(NotCapable):
        await edit(Begins(error=NotCapable("no")), Keeps(StoreUnavailable()), b"one")


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
        ("mask", "m.png", b"three"),
    )
    fields, source = await images()._form(request(body))
    assert fields == {"prompt": "a fox 🦊", "n": 2, "guidance_scale": 7.5, "stream": True, "mask": "m.png"}
    assert (source.filename, await source.read()) == ("a.png", b"one")


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"{}", "application/json", InvalidField),
        (b"{}", "multipart/form-data", ClientError),
        (form(("prompt", "", b"a fox")), "multipart/form-data; boundary=b", InvalidField),
        (form(*[("image", "a.png", b"x")] * (MOST_FILES + 1)), "multipart/form-data; boundary=b", OpenAiError),
        (form(*[("image", "a.png", b"x")] * 2), "multipart/form-data; boundary=b", InvalidField),
        (form(("image", "a.png", b"x"), ("x\0", "", b"x")), "multipart/form-data; boundary=b", InvalidField),
        (form(("image", "a.png", b"x"), ("mask", "m\0.png", b"x")), "multipart/form-data; boundary=b", InvalidField),
        (form(("image", "a.png", b"x")), "multipart/form-data; boundary=b; charset=unicode_escape", InvalidField),
        (form(("prompt", "", b"x" * 70_000), ("image", "a.png", b"x")), "multipart/form-data; boundary=b", OpenAiError),
        (form(("image", "a.png", b"x" * 3_000_000)), "multipart/form-data; boundary=b", TooLarge),
    ],
)
async def test_wrong_forms_are_refused(body: bytes, content_type: str, error: type[Exception]):
    with pytest.raises(error):
        await images()._form(request(body, content_type))
