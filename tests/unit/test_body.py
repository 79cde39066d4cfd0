import contextlib
import gc
import json
import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse

from deployments.ingress.auth import Access, Gate, GuardedRoute
from deployments.ingress.bearers import Bearers
from deployments.ingress.body import parse_object, read_json
from deployments.ingress.web import web_app
from pipeline.json_text import MAX_DEPTH, InvalidJson, depth_exceeds, is_storable

LIMIT = 1024 * 1024


@pytest.fixture
async def client():
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse(await read_json(request, max_bytes=LIMIT))

    route = GuardedRoute("POST", "/echo", echo, access=Access.PUBLIC, gate=Gate(Bearers(None)))  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=web_app([route]))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def nested(depth: int, inside: str = "1") -> bytes:
    return ('{"a":' * (depth - 1) + "{" + f'"a":{inside}' + "}" * depth).encode()


@pytest.mark.parametrize("body", [b"", b"{}", b" {}\n", b"null"])
def test_an_empty_body_is_an_empty_object(body: bytes):
    assert parse_object(body) == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON: "),
        (b"  \n", "Invalid JSON: "),
        (b"hello", "Invalid JSON: unexpected character"),
        (b'{"a":1} x', "Invalid JSON: unexpected content after document"),
        (b'{"a":NaN}', "Invalid JSON: "),
        (b'{"a":1e999}', "Invalid JSON: number is infinity"),
        (b'{"a":"\xff"}', "Invalid JSON: str is not valid UTF-8"),
        (b'{"a":"\x00"}', "Invalid JSON: unexpected control character"),
        (b"[1]", "Invalid JSON: the body must be an object, got an array"),
        (b'"x"', "Invalid JSON: the body must be an object, got a string of 1 characters"),
        (b"true", "Invalid JSON: the body must be an object, got a boolean"),
        (b'{"prompt":"a\\u0000b"}', "Invalid JSON: prompt: NUL characters are not allowed"),
        (b'{"a":{"b":[1,"\\u0000"]}}', "Invalid JSON: a.b.1: NUL characters are not allowed"),
        (b'{"\\u0000":1}', "Invalid JSON: \ufffd: NUL characters are not allowed"),
        (b'{"a":["x\\ud83d"]}', "Invalid JSON: a.0: lone surrogates are not allowed"),
        (b'{"prompt":"\\uDE00"}', "Invalid JSON: prompt: lone surrogates are not allowed"),
        (b'{"\\uD800":"x"}', "Invalid JSON: \ufffd: lone surrogates are not allowed"),
        (nested(MAX_DEPTH + 1), "Invalid JSON: nested deeper than 64 levels"),
        (nested(10_000), "Invalid JSON: depth limit exceeded"),
        (b"[" * 10_000, "Invalid JSON: "),
        (nested(900, '"\\ud800"'), "Invalid JSON: "),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_a_bad_body_is_refused_with_the_reason(body: bytes, message: str):
    with pytest.raises(InvalidJson) as refused:
        parse_object(body)
    assert refused.value.status == 400
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize(
    "body",
    [nested(MAX_DEPTH), b'{"a":"\\\\u0000"}', '{"a":"😀"}'.encode(), b'{"a":"\\ud83d\\ude00"}', b'{"a":"[[[["}'],
)
def test_a_good_body_is_read(body: bytes):
    assert parse_object(body) == json.loads(body)


def test_a_refused_body_is_not_kept_in_the_error():
    with pytest.raises(InvalidJson) as refused:
        parse_object(b'{"prompt":"canary", bad}')
    assert "canary" not in refused.value.message
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"\\u0000","b":[' + b"[]," * 340_000 + b"1]}",
        nested(60, "[" + "1," * 500_000 + '"\\u0000"]'),
        b'{"a":"' + b"\\ud800" * 170_000 + b'"}',
        nested(900, '"' + "\\ud800" * 170_000 + '"'),
        b'{"a":"' + b"\\" * 1_000_000 + b'u0000"',
    ],
    ids=["many containers", "long paths", "many surrogates", "deep surrogates", "backslashes"],
)
def test_hostile_bodies_are_refused_quickly(body: bytes):
    gc.freeze()  # what other tests left behind is not searched meanwhile
    try:
        started = time.process_time()
        with pytest.raises(InvalidJson):
            parse_object(body)
        took_s = time.process_time() - started
    finally:
        gc.unfreeze()
    assert took_s < 0.7


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_whatever_json_says_is_read_or_refused_for_its_characters(value: dict):
    body = json.dumps(value).encode()
    try:
        assert parse_object(body) == value
    except InvalidJson as error:
        refused = error.message
    else:
        return
    assert "NUL" in refused
    assert b"\\u0000" in body


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_invalid_json(body: bytes):
    with contextlib.suppress(InvalidJson):
        parse_object(body)


@pytest.mark.parametrize(("value", "depth"), [(1, 0), ([], 1), ({}, 1), ([[1], {"a": []}], 3)])
def test_depth(value: object, depth: int):
    assert not depth_exceeds(value, depth)  # type: ignore[arg-type]
    assert depth == 0 or depth_exceeds(value, depth - 1)  # type: ignore[arg-type]


async def test_a_body_at_the_limit_is_read_and_one_byte_more_is_413(client: httpx.AsyncClient):
    body = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert (await client.post("/echo", content=body)).status_code == 200
    answer = await client.post("/echo", content=body + b" ")
    assert answer.status_code == 413
    assert answer.text == '{"error": "The request body is too large, allowed are 1048576 bytes"}'


async def test_a_body_without_a_length_is_counted(client: httpx.AsyncClient):
    async def chunks():
        for _ in range(20):
            yield b" " * 100_000

    answer = await client.post("/echo", content=chunks())
    assert answer.status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "gzip, identity", "deflate"])
async def test_a_compressed_body_is_415(client: httpx.AsyncClient, encoding: str):
    answer = await client.post("/echo", content=b"{}", headers={"content-encoding": encoding})
    assert answer.status_code == 415
    assert answer.json() == {"error": f"Content-Encoding: got {encoding.lower()!r}, allowed is identity"}


@pytest.mark.parametrize("text", ["", "a\x01\n\x7f", "\ud7ff\ue000", "\U0001f600"])
def test_what_can_be_stored(text: str):
    assert is_storable(text)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfff", "\ud83d\ude00"])
def test_what_no_store_can_hold(text: str):
    assert not is_storable(text)


async def test_content_type_and_query_are_not_looked_at(client: httpx.AsyncClient):
    headers = {"content-type": "text/csv"}
    answer = await client.post("/echo?env=&help=false", content=b'{"a":1}', headers=headers)
    assert answer.json() == {"a": 1}
