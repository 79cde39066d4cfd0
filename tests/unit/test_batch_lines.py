"""The input of a batch: read as a stream, wrong lines named without their text."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest

from clients.batch import lines as module
from clients.batch.lines import KEYS, BadLine, Extent, Line, extent, parse, read_lines
from deployments.ingress.fields import by_alias
from deployments.ingress.prompt_request import PromptRequest
from pipeline import json_text

BOM = b"\xef\xbb\xbf"


def lines(raw: bytes, **options: Any) -> list[tuple[int, bytes | None]]:
    return [(line.number, line.raw) for line in read_lines(io.BytesIO(raw), **options)]


def parsed(raw: bytes) -> Any:
    return parse(Line(number=1, raw=raw))


def test_lines_have_the_numbers_an_editor_shows():
    assert lines(b'{"a":1}\n\n  \r\n{"b":2}\r\nlast') == [
        (1, b'{"a":1}'),
        (2, b""),
        (3, b"  "),
        (4, b'{"b":2}'),
        (5, b"last"),
    ]
    assert [line.is_blank for line in read_lines(io.BytesIO(b"x\n\n \t\r\n"))] == [False, True, True]


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    assert lines(b"\xef\xbb\xbf{}\n\xef\xbb\xbf{}\n") == [(1, b"{}"), (2, b"\xef\xbb\xbf{}")]


class Counting(io.BytesIO):
    """Knows how much was asked for at once."""

    most = 0

    def readline(self, size: int | None = -1) -> bytes:
        self.most = max(self.most, size or 0)
        return super().readline(size)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_a_line_that_is_too_long_is_neither_kept_nor_in_the_way(ending: bytes):
    file = Counting(b"a" * 10 + b"\n" + b"b" * 1000 + b"\n" + b"c" * 11 + ending)
    found = [(line.number, line.raw) for line in read_lines(file, max_bytes=10)]
    assert found == [(1, b"a" * 10), (2, None), (3, None)]
    assert file.most == 12
    with pytest.raises(BadLine, match="too long, allowed are 10 bytes") as refused:
        parse(Line(number=2, raw=None), max_bytes=10)
    assert refused.value.status == 413


def test_a_line_of_the_longest_length_is_whole_whatever_ends_it():
    assert lines(b"a" * 10 + b"\r\n" + b"b" * 10, max_bytes=10) == [(1, b"a" * 10), (2, b"b" * 10)]


def test_a_byte_order_mark_does_not_count_for_the_length():
    assert lines(BOM + b"a" * 10 + b"\r\n" + b"b", max_bytes=10) == [(1, b"a" * 10), (2, b"b")]
    assert lines(BOM + b"a" * 11 + b"\n" + b"b", max_bytes=10) == [(1, None), (2, b"b")]
    assert lines(BOM) == lines(b"") == []


@pytest.mark.parametrize("length", range(8, 14))
@pytest.mark.parametrize("before", [b"", b"\r", b"\r\r", b"\r\r\r\r\r"])
def test_a_line_ends_at_a_line_feed_alone(length: int, before: bytes):
    assert [n for n, _ in lines(b"a" * length + before + b"\n" + b"b", max_bytes=10)] == [1, 2]


@pytest.mark.parametrize(
    ("content", "bytes_", "has_rest"),
    [
        (b"", 0, False),
        (b'{"a": 1}', 8, False),
        (b'{"a": 1}\n', 9, False),
        (b'{"a": 1}\n{"b": 2}', 17, False),
        (b'{"a": 1}\n{"b": 2', 9, True),
        (b'{"a": 1}\n12', 9, True),
        (b'{"a": 1}\n  ', 9, False),
        (b'{"a": 1', 0, True),
        (BOM + b"{}", 5, False),
        (BOM, 0, False),
        (b'{"a": 1}\n{"b": "' + b"x" * 20 + b'"}', 9, True),
        (b"bad\n", 4, False),
        (b"\n\n", 2, False),
    ],
)
def test_an_input_counts_up_to_half_a_line(
    content: bytes, bytes_: int, has_rest: bool, monkeypatch: pytest.MonkeyPatch
):
    for piece in (1, 3, 1000):
        monkeypatch.setattr(module, "_PIECE", piece)
        assert extent(io.BytesIO(content), max_bytes=20) == Extent(bytes=bytes_, has_rest=has_rest)


def test_what_can_be_read_but_not_written_is_refused():
    def nested(levels: int) -> bytes:
        return b'{"id": "q-1", "parameters": ' + b"[" * levels + b"1" + b"]" * levels + b"}"

    with pytest.raises(
        BadLine, match="the line: got arrays and objects in too many others, allowed is 64 levels"
    ) as bad:
        parsed(nested(300))
    assert (bad.value.own_id, bad.value.status) == ("q-1", 400)
    orjson.dumps({**parsed(nested(253)).body, "id": "job:1", "sync": True})
    assert module.MAX_DEPTH == json_text.MAX_DEPTH


def test_a_line_is_the_body_and_an_id_of_its_own():
    request = parsed(b'{"id": "q-17", "prompt": "hi", "parameters": {"textToText": {"maxTokens": 5}}}')
    assert (request.id, request.body) == (
        "q-17",
        {"prompt": "hi", "parameters": {"textToText": {"maxTokens": 5}}},
    )
    assert parsed(b'{"id": 17, "prompt": "hi"}').id == 17
    assert parsed(b'{"id": null, "prompt": "hi"}').id is None


@pytest.mark.parametrize(
    ("raw", "field", "message"),
    [
        (b'{"prompt": "top secret', None, "invalid JSON: unexpected end of data (column"),
        (b"top secret", None, "invalid JSON: invalid literal, expected 'true' (column 1)"),
        (b'["top secret"]', "the line", "the line: got an array, allowed is a JSON object"),
        (b'"top secret"', "the line", "the line: got a string, allowed is a JSON object"),
        (b"null", "the line", "the line: got null, allowed is a JSON object"),
        (b'{"Prompt": "top secret"}', "Prompt", "Prompt: got an unknown key, allowed is one of id, engineParameters"),
        (b'{"prompt": "top secret", "sync": true}', "sync", "sync: got an unknown key"),
        (b'{"id": true}', "id", "id: got a boolean, allowed is a string of 1 to 256 characters, or an integer"),
        (b'{"id": 1.5}', "id", "id: got a number"),
        (b'{"id": {}}', "id", "id: got an object"),
        (b'{"id": ""}', "id", "id: got a string of 0 characters"),
        (b'{"a\\nb%s": 1}' % (b"c" * 100), "a\ufffdb" + "c" * 61 + "…", "unknown key"),
    ],
)
def test_a_wrong_line_is_refused_without_its_text(raw: bytes, field: str | None, message: str):
    with pytest.raises(BadLine) as refused:
        parsed(raw)
    assert message in str(refused.value)
    assert (refused.value.field, refused.value.status) == (field, 400)
    assert "secret" not in str(refused.value)
    # An error of the parser holds the line.
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_line_may_hold_what_the_service_takes():
    """A key that the service learns is one that lines may have, unless it makes no sense there."""
    assert set(by_alias(PromptRequest)) - {"sync", "id"} == KEYS
