"""POST /v1/images/generations and /v1/images/edits: prompts that end with files, whose bytes are the reply (contract §4.7)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.datastructures import UploadFile
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
from pipeline.errors import InvalidField, PromptSvcError, Shown, TooLarge
from pipeline.files.file_store import FileStore

#: Images that one edit may begin with.
MOST_SOURCES = 4
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
        return await self._reply(request, body, image, "image_generation")

    async def edit(self, request: Request) -> Response:
        """Paint something else from images."""
        caller = principal(request)
        fields, sources = await self._form(request)
        try:
            # Before the images are kept: a request that is wrong leaves none behind.
            parse_image_request(fields, model_id=self._model_id(fields), file_ids=("file-0",) * len(sources))
            file_ids, digests = [], []
            for source in sources:
                content = _Content(source)
                record = await self._files.put(
                    caller.user_id, content.pieces(), source.content_type or "", source.filename or "image"
                )
                file_ids.append(record.id)
                digests.append(content.digest)
        finally:
            for source in sources:
                await source.close()
        image = parse_image_request(fields, model_id=self._model_id(fields), file_ids=tuple(file_ids))
        # The same images again are the same request, though each time they are files of their own.
        return await self._reply(request, {**fields, "image": digests}, image, "image_edit")

    async def _reply(self, request: Request, body: Mapping[str, Any], image: ImageCall, event: str) -> Response:
        begun = await self._calls.begin(request, principal(request).user_id, body, image.call)
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

    async def _form(self, request: Request) -> tuple[dict[str, Any], list[UploadFile]]:
        """Fields of a form, as JSON would have them, and its images.

        Raises:
            InvalidField: it is no form, or has no image.
            TooLarge: it is larger than one with so many images of the largest size.
        """
        refuse_compressed(request)
        kind = request.headers.get("content-type", "")
        if not kind.startswith("multipart/form-data"):
            raise InvalidField("Content-Type", Shown(kind[:80] or "nothing"), _FORM_RULE)
        most = MOST_SOURCES * self._files.limits.file_bytes + _MOST_FIELDS * _MOST_FIELD
        parser = MultiPartParser(
            request.headers,
            _within(request.stream(), most),
            max_files=MOST_SOURCES,
            max_fields=_MOST_FIELDS,
            max_part_size=_MOST_FIELD,
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise OpenAiError(error.message, param="Content-Type") from None
        except (KeyError, ValueError):
            raise InvalidField("Content-Type", Shown("a form that cannot be read"), _FORM_RULE) from None
        fields: dict[str, Any] = {}
        sources: list[UploadFile] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name not in ("image", "image[]"):
                    fields[name] = value.filename or "a file"
                    await value.close()
                    continue
                sources.append(value)
            else:
                fields[name] = _field(name, value)
        if not sources:
            raise InvalidField("image", Shown("nothing"), _FORM_RULE)
        return fields, sources


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
