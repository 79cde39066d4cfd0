"""The RSA key that signs access tokens: from the settings, or a file that is made on the first start."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pipeline.errors import ServerError

FILE_NAME = "jwt-private.pem"
#: Smallest modulus accepted (SECURITY §2.4; PyJWT does not check by default).
MIN_BITS = 2048


class SigningKeyRefused(ServerError):
    """The key that signs access tokens cannot be used; the service does not start with it."""


def signing_key(configured_pem: str, data_dir: str | Path) -> RSAPrivateKey:
    """The configured key, else the one in ``data_dir``, made when missing.

    Every ingress replica needs the same key: on several machines configure it, or share the directory.

    Raises:
        SigningKeyRefused: not an RSA private key in PEM, too short, or a file that others can read.
    """
    if configured_pem.strip():
        # Environment files often carry the line ends as backslash-n.
        return parse_key(configured_pem.replace("\\n", "\n").encode(), "the setting jwt_private_key")
    path = Path(data_dir) / FILE_NAME
    try:
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise SigningKeyRefused(f"{path}: {error.strerror}") from None


def parse_key(pem: bytes, origin: str) -> RSAPrivateKey:
    """The key in ``pem``. Raises SigningKeyRefused, naming ``origin`` and never the key."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningKeyRefused(f"{origin} is not an unencrypted private key in PEM") from None
    if not isinstance(key, RSAPrivateKey):
        raise SigningKeyRefused(f"{origin} is not an RSA key")
    if key.key_size < MIN_BITS:
        raise SigningKeyRefused(f"{origin} has {key.key_size} bits, at least {MIN_BITS} are needed")
    return key


def _read(path: Path) -> RSAPrivateKey:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SigningKeyRefused(f"{path} is not a regular file")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise SigningKeyRefused(f"{path} has mode {mode:04o}, others can read it: chmod 600 {path}")
        return parse_key(file.read(), str(path))


def _create(path: Path) -> None:
    """Write a new key where none is. A whole file appears at once, and the first of several processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = generate_private_key(public_exponent=65537, key_size=MIN_BITS).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process made one meanwhile; that one counts
    finally:
        draft.unlink()
