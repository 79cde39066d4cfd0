"""One file out of a multipart body, however it is cut into chunks."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from deployments.ingress.multipart import OVERHEAD_BYTES, InvalidForm, UploadedFile, uploaded_file
from pipeline.errors import InvalidField, TooLarge, UnsupportedMediaType

TYPE = 'multipart/form-data; boundary="--x y"'
MOST = 100_000
CANARY = b"canary-9d2f"


def part(data: bytes, disposition: str = 'form-data; name="file"; filename="a.txt"', extra: str = "") -> bytes:
    return f"----x y\r\nContent-Disposition: {disposition}\r\n{extra}\r\n".encode() + data + b"\r\n"


END = b"----x y--\r\n"


def request(*chunks: bytes, headers: dict[str, str] | None = None) -> Request:
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        body = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    raw = {"content-type": TYPE, **(headers or {})}
    return Request(
        {"type": "http", "method": "PUT", "headers": [(k.encode(), v.encode()) for k, v in raw.items()]}, receive
    )


async def read(*chunks: bytes, headers: dict[str, str] | None = None) -> tuple[UploadedFile, bytes]:
    file = await uploaded_file(request(*chunks, headers=headers), max_file_bytes=MOST)
    return file, b"".join([chunk async for chunk in file.chunks])


async def test_a_file_with_its_name_and_type():
    file, data = await read(part(b"hello", extra="Content-Type: text/plain\r\n") + END)
    assert (file.name, file.content_type, data) == ("a.txt", "text/plain", b"hello")


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 700), max_size=12))
async def test_wherever_the_body_is_cut_the_file_is_the_same(data: bytes, cuts: list[int]):
    tricky = data.replace(b"\r\n----x y", b"") + b"\r\n----x\r\n--\r"
    body = part(b"note", 'form-data; name="before"') + part(tricky) + part(b"1", 'form-data; name="after"') + END
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    file, read_back = await read(*(body[a:b] for a, b in itertools.pairwise(edges)))
    assert (file.name, read_back) == ("a.txt", tricky)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ('filename="blob"', "blob"),
        ("filename=plain.txt", "plain.txt"),
        ('filename="ü 🙂.png"', "ü 🙂.png"),
        ('filename="a\\"b.png"', 'a"b.png'),
        ('filename="../../etc/passwd"', "../../etc/passwd"),
        ('filename="C:\\x\\y.png"', "y.png"),
        ('filename="a;b=c.png"', "a;b=c.png"),
        ("filename=\"a.png\"; filename*=UTF-8''evil.svg", "a.png"),
    ],
)
async def test_names_as_clients_write_them(sent: str, name: str):
    file, _ = await read(part(b"x", f'form-data; name="file"; {sent}') + END)
    assert file.name == name


async def test_the_field_may_have_any_name():
    file, data = await read(part(b"x", 'form-data; name="whatever"; filename="f"') + END)
    assert (file.name, data) == ("f", b"x")


@pytest.mark.parametrize(
    "body", [END, part(b"x", 'form-data; name="file"') + END, part(b"", 'form-data; name="file"; filename=""') + END]
)
async def test_a_form_without_a_file_is_refused(body: bytes):
    with pytest.raises(InvalidField, match="file: got nothing, allowed is a file"):
        await read(body)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "text/plain; boundary=x", "multipart/form-data", "multipart/form-data; boundary=",
     "multipart/form-data; boundary=" + "x" * 71, "multipart/mixed; boundary=x"],
)  # fmt: skip
async def test_another_content_type_is_refused(content_type: str):
    with pytest.raises(InvalidField, match=r"Content-Type: got .*, allowed is multipart/form-data with a boundary"):
        await read(b"{}", headers={"content-type": content_type})


async def test_a_compressed_body_is_refused():
    with pytest.raises(UnsupportedMediaType):
        await read(part(b"x") + END, headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        part(CANARY),
        part(CANARY)[:-10],
        part(CANARY) + b"----x y",
        CANARY,
        b"----x y\r\n" + CANARY + b"\0: y\r\n\r\n",
        part(CANARY) + part(b"y"),
        part(CANARY) + part(b"y" * (OVERHEAD_BYTES + 1), 'form-data; name="note"') + END,
        part(b"x", extra="X: " + "y" * 20_000 + "\r\n") + END,
        part(b"x", extra="".join(f"X{i}: y\r\n" for i in range(1000))) + END,
    ],
    ids=range(10),
)
async def test_a_broken_or_cut_off_form_never_gives_a_whole_file(body: bytes, caplog: pytest.LogCaptureFixture):
    """Who reads the chunks to their end would keep half a file, so the error comes instead of the end."""
    with pytest.raises(InvalidForm) as refused:
        await read(body)
    assert CANARY.decode() not in refused.value.message + caplog.text


async def test_an_announced_size_is_refused_before_anything_is_read():
    with pytest.raises(TooLarge, match=f"allowed are {MOST} bytes"):
        await read(b"", headers={"content-length": str(MOST + OVERHEAD_BYTES + 1)})


@pytest.mark.parametrize(("length", "most"), [("500", 500), (str(MOST + 9), MOST), (None, MOST), ("x", MOST), ("0", 1)])
async def test_how_large_the_file_can_be_is_known_beforehand(length: str | None, most: int):
    file, _ = await read(part(b"x") + END, headers={"content-length": length} if length else {})
    assert file.most_bytes == most


@pytest.mark.parametrize("length", [None, "5", "-1", "x"])
async def test_more_than_was_announced_is_cut_off(length: str | None):
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield part(b"")[:-2]
        while True:
            taken += 1000
            yield b"x" * 1000

    chunks = endless()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(chunks), "more_body": True}

    headers = [(b"content-type", TYPE.encode())] + ([(b"content-length", length.encode())] if length else [])
    sent = Request({"type": "http", "method": "PUT", "headers": headers}, receive)
    file = await uploaded_file(sent, max_file_bytes=MOST)
    with pytest.raises(TooLarge):
        async for _ in file.chunks:
            pass
    assert taken <= MOST + OVERHEAD_BYTES + 1000
