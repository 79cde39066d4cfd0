import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.ranges import NotSatisfiable, Span, requested_span


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=9-9", (9, 10)),
        ("bytes=5-999999999999999999", (5, 10)),
        ("bytes=-1", (9, 10)),
        ("bytes=-99", (0, 10)),
        (" bytes=1-2 ", (1, 3)),
    ],
)
def test_one_range_is_served_cut_to_the_file(header: str, span: tuple[int, int]):
    assert requested_span(header, 10) == Span(start=span[0], stop=span[1])


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=999999999999999999-", "bytes=-0"])
def test_what_is_not_there_is_not_satisfiable(header: str):
    with pytest.raises(NotSatisfiable):
        requested_span(header, 10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_of_an_empty_file_nothing_is_satisfiable(header: str):
    with pytest.raises(NotSatisfiable):
        requested_span(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-3",
        "bytes=a-b",
        "bytes=1.5-2",
        "bytes=--1",
        "bytes=٣-",
        "items=0-1",
        "bytes=0-1,3-4",
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=" + "9" * 10_000 + "-",
        "bytes=0-1\r\nx: y",
    ],
)
def test_several_ranges_or_none_are_the_whole_file(header: str):
    assert requested_span(header, 10) is None


@given(st.text(max_size=60) | st.from_regex(r"bytes=\d{0,3}-\d{0,3}"), st.integers(0, 1000))
def test_a_span_lies_within_the_file(header: str, size: int):
    try:
        span = requested_span(header, size)
    except NotSatisfiable:
        return
    assert span is None or 0 <= span.start < span.stop <= size
