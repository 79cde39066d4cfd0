import pytest

from pipeline.files.content import OCTETS, RASTER_TYPES, content_type_of, sniff_raster

HEADS = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "image/gif": b"GIF89a\1\0\1\0",
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 ",
}


@pytest.mark.parametrize("kind", HEADS)
def test_an_image_is_known_by_its_bytes_whatever_its_sender_says(kind: str):
    assert content_type_of(HEADS[kind], "text/html", "x.svg") == kind
    assert kind in RASTER_TYPES


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><script>",
        b"<?xml version='1.0'?>",
        b"%PDF-1.7",
        b"RIFF\x24\0\0\0WAVE",
        b"\x89PN",
        b" \x89PNG\r\n\x1a\n",
        b"BM\0\0",
    ],
)
def test_nothing_else_is_an_image(head: bytes):
    assert sniff_raster(head) is None
    assert content_type_of(head, "image/png", "x.png") == OCTETS


@pytest.mark.parametrize(
    ("claimed", "name", "kind"),
    [
        ("text/plain; charset=utf-8", "x", "text/plain"),
        ("TEXT/PLAIN", "x", "text/plain"),
        ("application/octet-stream", "notes.txt", "text/plain"),
        ("", "a.csv", "text/csv"),
        ("", "a.PDF", "application/pdf"),
        ("audio/ogg", "x", "audio/ogg"),
        ("", "film.mp4", "video/mp4"),
        ("", "blob", OCTETS),
        ("text/html", "x.html", OCTETS),
        ("image/svg+xml", "x.svg", OCTETS),
        ("application/xhtml+xml", "x.xhtml", OCTETS),
        ("text/xml", "x.xml", OCTETS),
        ("text/javascript", "x.js", OCTETS),
        ("image/png", "x.png", OCTETS),
        ("audio/x\r\nSet-Cookie: a=b", "x", OCTETS),
        ("audio/" + "x" * 300, "x", OCTETS),
        ("audio/", "x", OCTETS),
        ("audio/ü", "x", OCTETS),
        ("\0", "\0", OCTETS),
    ],
)
def test_a_claim_counts_only_where_it_cannot_harm(claimed: str, name: str, kind: str):
    assert content_type_of(b"abc", claimed, name) == kind
