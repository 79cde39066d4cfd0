"""Image bombs (SECURITY §2.6), made here: small files that would be large, many, slow, or something else."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import struct
import threading
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pipeline.files import images
from pipeline.files.images import (
    MOST_PIXELS,
    THREADS,
    ImageLimits,
    ImageReader,
    ImageRefused,
    ImageTooSlow,
    decode,
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)  # type: ignore[arg-type]
    return target.getvalue()


NOISE = Image.frombytes("RGB", (16, 16), random.Random(1).randbytes(16 * 16 * 3))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, data: bytes = b"") -> bytes:
    """A PNG of one bit per pixel that announces any size; its pixels need not be there."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(data, 9)),
            chunk(b"IEND", b""),
        ]
    )


@pytest.fixture
def reader() -> Iterator[ImageReader]:
    reader = ImageReader()
    yield reader
    reader.close()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
async def test_a_picture_comes_out_as_rgb(reader: ImageReader, kind: str, mode: str):
    image = await reader.read(encoded(Image.new(mode, (40, 30), 255), kind))
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert image.getpixel((5, 5)) == pytest.approx((255, 255, 255) if mode == "L" else (255, 0, 0), abs=2)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "I;16", "RGBA"])
def test_other_png_modes_are_understood(mode: str):
    assert decode(encoded(Image.new(mode, (4, 4)), "PNG")).mode == "RGB"


def test_transparent_parts_are_white():
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((1, 0), (255, 0, 0, 255))
    image = decode(encoded(clear, "PNG"))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 0, 0)]


def test_it_is_turned_upright_and_carries_nothing_but_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010E] = "canary"
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", "canary")
    for data in (
        encoded(Image.new("RGB", (40, 30)), "JPEG", exif=exif, icc_profile=b"canary", comment="canary"),
        encoded(Image.new("RGB", (40, 30)), "PNG", exif=exif, icc_profile=b"canary", pnginfo=comment),
        encoded(Image.new("RGB", (40, 30)), "WEBP", exif=exif, icc_profile=b"canary"),
    ):
        image = decode(data)
        assert image.size == (30, 40)
        assert image.info == {}
        assert len(image.getexif()) == 0
        assert b"canary" not in encoded(image, "PNG")


@pytest.mark.parametrize("side", [4001, 12_000, 20_000, 2**31 - 1])
async def test_a_bomb_is_refused_before_it_is_decoded(reader: ImageReader, side: int):
    """144 megapixels make Pillow warn, 400 raise; both announce themselves in 200 bytes."""
    bomb = png(side, side)
    assert len(bomb) < 300
    with pytest.raises(ImageRefused, match="pixels"):
        await reader.read(bomb)


def test_the_limit_itself_is_allowed():
    row = b"\0" * (1 + 4000 // 8)
    assert decode(png(4000, 4000, data=row * 4000)).size == (4000, 4000)
    assert MOST_PIXELS == 4000 * 4000
    with pytest.raises(ImageRefused, match=r"4000 x 4001 pixels, allowed are 16000000 in all"):
        decode(png(4000, 4001, data=row * 4001))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_several_frames_are_refused(kind: str):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(ImageRefused, match="3 frames"):
        decode(data)


def test_a_picture_that_only_announces_frames_is_refused():
    with pytest.raises(ImageRefused):
        decode(png(8, 8, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), data=b"\0\0" * 8))


def test_text_that_unpacks_to_gigabytes_is_refused():
    bomb = zlib.compress(b"\0" * 70_000_000, 9)
    for kind in (b"zTXt", b"iTXt"):
        body = b"k\0\0" + bomb if kind == b"zTXt" else b"k\0\1\0\0\0" + bomb
        with pytest.raises(ImageRefused):
            decode(png(8, 8, *[chunk(kind, body)] * 3, data=b"\0\0" * 8))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        b"II*\0\x08\0\0\0",
        encoded(Image.new("RGB", (8, 8)), "GIF"),
        encoded(Image.new("RGB", (8, 8)), "BMP"),
        encoded(Image.new("RGB", (8, 8)), "TIFF"),
        encoded(Image.new("RGB", (8, 8)), "ICO"),
    ],
    ids=range(11),
)
def test_other_formats_are_refused(data: bytes):
    with pytest.raises(ImageRefused, match=r"allowed are PNG, JPEG, WEBP"):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_refused(kind: str):
    data = encoded(NOISE, kind)
    with pytest.raises(ImageRefused):
        decode(data[: len(data) // 2])


@given(st.data())
def test_a_damaged_file_is_a_picture_or_refused_and_nothing_else(data: st.DataObject):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    raw = bytearray(encoded(NOISE, kind))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageRefused):
        assert decode(bytes(raw)).mode == "RGB"


async def test_too_many_bytes_are_refused_unread():
    reader = ImageReader(ImageLimits(bytes=10))
    with pytest.raises(ImageRefused, match="11 bytes, allowed are 10"):
        await reader.read(b"x" * 11)
    reader.close()


async def test_a_slow_one_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch):
    go = threading.Event()

    def slow(data: bytes, most_pixels: int) -> Image.Image:
        assert go.wait(30)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(images, "decode", slow)
    reader = ImageReader(ImageLimits(deadline_s=0.05))
    # More than there are threads: those that wait for one are given up too.
    outcomes = await asyncio.gather(*(reader.read(b"") for _ in range(THREADS + 2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ImageTooSlow] * (THREADS + 2)
    go.set()
    patient = ImageReader()
    assert (await patient.read(b"")).size == (1, 1)
    for one in (reader, patient):
        one.close()
