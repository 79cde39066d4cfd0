"""What a file is, by its first bytes: a client's word counts only where a wrong one does no harm."""

from __future__ import annotations

import mimetypes

#: Bytes of a file that ``content_type_of`` wants to see.
HEAD_BYTES = 32

OCTETS = "application/octet-stream"
#: Raster images: no browser finds script in them. Only these are shown inside a page.
RASTER_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
#: Types a browser never runs in our origin; served as attachments all the same.
_HARMLESS = frozenset(
    {"text/plain", "text/csv", "text/markdown", "application/json", "application/pdf", "application/zip"}
)
_HARMLESS_FAMILIES = ("audio/", "video/")

#: Python's own table: the machine's would make types depend on where the service runs.
_BY_SUFFIX = mimetypes.MimeTypes(filenames=())


def sniff_raster(head: bytes) -> str | None:
    """The raster image type that the first bytes show; None for everything else, SVG and HTML included."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def content_type_of(head: bytes, claimed: str, name: str) -> str:
    """The type to serve a file as: what its bytes show, else a harmless type that its sender or its name claims, else octets.

    Args:
        claimed: the sender's media type, parameters and all; may be empty or nonsense.
    """
    shown = sniff_raster(head)
    if shown is not None:
        return shown
    said = claimed.partition(";")[0].strip().lower()
    for candidate in (said, _BY_SUFFIX.guess_type(name)[0] or ""):
        if _is_harmless(candidate):
            return candidate
    return OCTETS


def _is_harmless(media_type: str) -> bool:
    if media_type in _HARMLESS:
        return True
    family = next((family for family in _HARMLESS_FAMILIES if media_type.startswith(family)), None)
    subtype = media_type[len(family) :] if family else ""
    return len(subtype) <= 64 and subtype.replace("-", "").replace(".", "").isalnum() and subtype.isascii()
