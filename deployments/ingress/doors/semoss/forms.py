"""Request bodies of the door: forms, or JSON objects with the same keys (contract B)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from deployments.ingress.body import parse_object, read_body
from deployments.ingress.doors.semoss.errors import check_characters
from pipeline.errors import ClientError
from pipeline.json_text import InvalidJson

MOST_FIELDS = 32


class InvalidBody(ClientError):
    """Invalid JSON request body"""


class InvalidForm(ClientError):
    """Invalid form: allowed are up to 32 fields in UTF-8"""


async def read_fields(request: Request, *, max_bytes: int) -> Mapping[str, str]:
    """The texts in a body; anything else in JSON is left out.

    Raises:
        InvalidBody, InvalidForm: it cannot be read.
        TooLarge, UnsupportedMediaType: as ``read_body``.
    """
    body = await read_body(request, max_bytes=max_bytes)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        try:
            return {name: value for name, value in parse_object(body).items() if isinstance(value, str)}
        except InvalidJson:
            raise InvalidBody from None
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise InvalidForm from None
    return {name: check_characters(value, "form") for name, value in pairs}
