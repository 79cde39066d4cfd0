"""POST /v1/images/generations and /v1/images/edits: prompts that end with files, whose bytes are the reply (contract §4.7)."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import principal
from deployments.ingress.body import read_json, refuse_compressed
from deployments.ingress.doors.openai.calls import Begun, Calls
from deployments.ingress.doors.openai.errors import OpenAiError
from deployments.ingress.doors.openai.image_request import ImageCall, parse_image_request
from deployments.ingress.doors.openai.models import FindModel, named_model
from deployments.ingress.doors.openai.stream import EventStream, check_answered, error_frame, frame
from deployments.settings import Settings
from pipeline.errors import InvalidField, PromptSvcError, Shown, StoreUnavailable, TooLarge
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileRecord
from pipeline.json_text import is_storable, printable
from pipeline.prompt import Prompt

logger = logging.getLogger("ray.serve")

#: Files of a form: more than an edit takes, so that those it does not take are refused by name.
MOST_FILES = 4
_MOST_FIELDS = 32
#: Bytes of a form's field that is no file.
_MOST_FIELD = 64 * 1024
#: Fields of a form that are no text.
_INTEGERS = ("n", "seed", "steps")
_FORM_RULE = "multipart/form-data with the image as a file"


class Images:
    """The endpoints of images."""

    def __init__(self, settings: Settings, calls: Calls, files: FileStore, find_model: FindModel) -> None:
        self._settings = settings
        self._calls = calls
        self._files = files
        self._find_model = find_model

    async def generate(self, request: Request) -> Response:
        """Paint."""
        body = await read_json(request, max_bytes=self._settings.max_body_bytes)
        image = parse_image_request(body, model_id=self._model_id(body))
        begun = await self._calls.begin(request, principal(request).user_id, body, image.call)
        return await self._reply(request, begun, image, "image_generation")

    async def edit(self, request: Request) -> Response:
        """Paint something else from images."""
        caller = principal(request)
        fields, source = await self._form(request)
        try:
            # Before the image is kept: a request that is wrong leaves none behind.
            parse_image_request(fields, model_id=self._model_id(fields), file_ids=("file-0",))
            content = _Content(source)
            kept = await self._files.put(
                caller.user_id, content.pieces(), source.content_type or "", source.filename or "image"
            )
        finally:
            await source.close()
        image = parse_image_request(fields, model_id=self._model_id(fields), file_ids=(kept.id,))
        accepted: list[Prompt] = []
        try:
            # The same image again is the same request, though each time it is a file of its own.
            body = {**fields, "image": [content.digest]}
            begun = await self._calls.begin(request, caller.user_id, body, image.call, accepted)
        except StoreUnavailable:
            # A prompt may have been accepted with it.
            raise
        except Exception:
            await self._delete_unused(kept, accepted)
            raise
        await self._delete_unused(kept, accepted)
        return await self._reply(request, begun, image, "image_edit")

    async def _delete_unused(self, file: FileRecord, prompts: Sequence[Prompt]) -> None:
        """Delete an image that no prompt starts from: the request was refused, or is one that was sent before."""
        if any(file.id in prompt.file_ids for prompt in prompts):
            return
        try:
            await self._files.delete(file.user_id, file.id)
        except PromptSvcError as error:
            logger.warning("file %s: not deleted, though nothing uses it: %s", file.id, error.message)

    async def _reply(self, request: Request, begun: Begun, image: ImageCall, event: str) -> Response:
        if image.call.stream:
            stream = _ImageStream(self, begun, image, event)
            return EventStream(
                stream.frames(),
                heartbeat_s=self._settings.sse_heartbeat_s,
                headers=begun.headers,
                on_end=stream.close,
            )
        await self._calls.ended(request, begun)
        data = [{"b64_json": painted, "revised_prompt": None} for painted in await self.painted(begun)]
        reply = {
            "created": begun.head.created,
            "data": data,
            "output_format": image.output_format,
            **({} if image.size is None else {"size": image.size}),
        }
        return Response(orjson.dumps(reply), headers=begun.headers, media_type="application/json")

    async def ended(self, begun: Begun) -> None:
        await self._calls.all_ended(begun)

    def give_up(self, begun: Begun) -> None:
        self._calls.give_up(begun)

    async def painted(self, begun: Begun) -> list[str]:
        """The images of a call that has ended, in base64."""
        found: list[str] = []
        for answer in await self._calls.answers(begun.prompts):
            check_answered(answer.finish_reason, answer.error)
            for file_id in await self._calls.files(begun.user_id, answer.message_id):
                record = await self._files.get(begun.user_id, file_id)
                content = b"".join([piece async for piece in self._files.read(record)])
                found.append(base64.b64encode(content).decode())
        if not found:
            raise OpenAiError("The model made no image", code="no_image", status=500, retry=False)
        return found

    def _model_id(self, body: Mapping[str, Any]) -> str | None:
        """As the body has it. Raises OpenAiError if there is none of that name."""
        return None if named_model(self._find_model, body) is None else str(body["model"])

    async def _form(self, request: Request) -> tuple[dict[str, Any], UploadFile]:
        """Fields of a form, as JSON would have them, and its image.

        Raises:
            InvalidField: it is no form, has no image or several, or a field has characters that no field may hold.
            TooLarge: it is larger than one with so many files of the largest size.
        """
        refuse_compressed(request)
        _check_content_type(request.headers.get("content-type", ""))
        most = MOST_FILES * self._files.limits.file_bytes + _MOST_FIELDS * _MOST_FIELD
        parser = MultiPartParser(
            request.headers,
            _within(request.stream(), most),
            max_files=MOST_FILES,
            max_fields=_MOST_FIELDS,
            max_part_size=_MOST_FIELD,
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise OpenAiError(error.message, param="Content-Type") from None
        except (KeyError, ValueError):
            raise InvalidField("Content-Type", Shown("a form that cannot be read"), _FORM_RULE) from None
        try:
            fields, sources = _parts(form)
            if len(sources) != 1:
                got = f"{len(sources)} images" if sources else "nothing"
                raise InvalidField("image", Shown(got), "one image to start from, as a file")
        except BaseException:
            await form.close()
            raise
        for _, part in form.multi_items():
            if isinstance(part, UploadFile) and part is not sources[0]:
                await part.close()
        return fields, sources[0]


class _ImageStream:
    """The frames of images: one event for each, when all are there."""

    def __init__(self, images: Images, begun: Begun, image: ImageCall, event: str) -> None:
        self._images = images
        self._begun = begun
        self._image = image
        self._event = f"{event}.completed"
        self._is_whole = False

    def close(self) -> None:
        if not self._is_whole:
            self._images.give_up(self._begun)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            await self._images.ended(self._begun)
            for painted in await self._images.painted(self._begun):
                event = completed_event(
                    self._event,
                    painted,
                    created=self._begun.head.created,
                    size=self._image.size or "auto",
                    output_format=self._image.output_format,
                )
                yield frame(event, self._event)
            self._is_whole = True
        except PromptSvcError as error:
            yield error_frame(error)


def completed_event(name: str, painted: str, *, created: int, size: str, output_format: str) -> dict[str, Any]:
    """The event of a finished image."""
    return {
        "type": name,
        "b64_json": painted,
        "created_at": created,
        "size": size,
        "quality": "auto",
        "background": "opaque",
        "output_format": output_format,
        "usage": _NO_TOKENS,
    }


#: Images are not counted in tokens here; the SDK's type wants the numbers.
_NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


def _check_content_type(header: str) -> None:
    """Raises InvalidField unless it is a form in UTF-8. The parser would decode it with any codec of Python's."""
    if not header.startswith("multipart/form-data"):
        raise InvalidField("Content-Type", Shown(header[:80] or "nothing"), _FORM_RULE)
    _, options = parse_options_header(header)
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in ("utf-8", "utf8"):
        raise InvalidField("Content-Type", Shown(f"the charset {printable(charset)}"), "utf-8")


def _parts(form: FormData) -> tuple[dict[str, Any], list[UploadFile]]:
    """Fields, and files that are images to start from. Raises InvalidField."""
    fields: dict[str, Any] = {}
    sources: list[UploadFile] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name in ("image", "image[]"):
            sources.append(value)
            continue
        text = value.filename or "a file" if isinstance(value, UploadFile) else value
        if not (is_storable(name) and is_storable(text)):
            raise InvalidField(printable(name), Shown("NUL or half a surrogate pair"), "text without them")
        fields[name] = text if isinstance(value, UploadFile) else _field(name, text)
    return fields, sources


def _field(name: str, value: str) -> Any:
    """A form knows text only."""
    if name in _INTEGERS and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20:
        return int(value)
    if name == "guidance_scale":
        try:
            return float(value)
        except ValueError:
            return value
    if name == "stream":
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


class _Content:
    """The bytes of an image, and what they are known by once they were read."""

    def __init__(self, source: UploadFile) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        while piece := await self._source.read(256 * 1024):
            self._digest.update(piece)
            yield piece


async def _within(stream: AsyncIterator[bytes], most: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in stream:
        size += len(piece)
        if size > most:
            raise TooLarge(f"the request body is too large, allowed are {most} bytes")
        yield piece
