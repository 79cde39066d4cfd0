"""What users call their files: shown, and sent back in a header, but never a path (SECURITY §2.5)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

#: Bytes of UTF-8 that common file systems allow in a name.
MOST_BYTES = 255
#: For a file whose name holds nothing that could stay.
NAMELESS = "file"

_SEPARATORS = re.compile(r"[/\\]")
#: Names that open a device on Windows, with any extension.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(?:\.|\Z)", re.IGNORECASE)
_PLAIN = re.compile(r"[^A-Za-z0-9 ._-]")


def clean_name(name: str) -> str:
    """The last part of a path, without what could hurt whoever saves or shows it.

    Control and format characters (line ends, NUL, overrides of the writing direction), lone surrogates and the dots and
    spaces at the ends go; device names get an underscore; what is over ``MOST_BYTES`` is cut, its extension kept.
    """
    last = _SEPARATORS.split(name)[-1]
    kept = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    # Leading dots go too: what is saved should not be hidden.
    stripped = kept.strip(" .")
    if not stripped:
        return NAMELESS
    return _shortened(f"_{stripped}" if _DEVICES.match(stripped) else stripped)


def content_disposition(kind: str, name: str) -> str:
    """The header for a cleaned name: an ASCII fallback for old readers, and the whole of it percent-encoded (RFC 6266).

    Args:
        kind: ``inline`` or ``attachment``.
    """
    # No percent signs in the fallback: some browsers decode them.
    fallback = _PLAIN.sub("_", name)
    if fallback == name:
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"


def _shortened(name: str) -> str:
    raw = name.encode()
    if len(raw) <= MOST_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = f"{dot}{extension}".encode() if stem and len(extension) <= 16 else b""
    return raw[: MOST_BYTES - len(ending)].decode(errors="ignore").rstrip(" .") + ending.decode()
