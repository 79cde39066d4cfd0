import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from deployments.ingress.signing_key import FILE_NAME, SigningKeyRefused, signing_key


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def test_a_missing_file_is_made_for_the_owner_alone_and_kept(tmp_path: Path):
    previous = os.umask(0)
    try:
        made = signing_key("", tmp_path / "data")
    finally:
        os.umask(previous)
    file = tmp_path / "data" / FILE_NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.key_size == 2048
    assert pem_of(signing_key("", tmp_path / "data")) == pem_of(made)
    assert [path.name for path in file.parent.iterdir()] == [FILE_NAME]


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: pem_of(signing_key("", tmp_path)), range(8)))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int):
    signing_key("", tmp_path)
    (tmp_path / FILE_NAME).chmod(mode)
    with pytest.raises(SigningKeyRefused, match="chmod 600"):
        signing_key("", tmp_path)


def test_the_configured_key_goes_before_the_file(tmp_path: Path):
    pem = pem_of(rsa.generate_private_key(65537, 2048))
    assert pem_of(signing_key(pem, tmp_path)) == pem
    assert pem_of(signing_key(pem.replace("\n", "\\n"), tmp_path)) == pem
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        ("secret-canary", "not an unencrypted private key"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "not an RSA key"),
        (pem_of(rsa.generate_private_key(65537, 2048), b"password"), "not an unencrypted private key"),
    ],
    ids=["garbage", "short", "elliptic", "encrypted"],
)
def test_other_keys_are_refused_without_showing_them(tmp_path: Path, pem: str, reason: str):
    with pytest.raises(SigningKeyRefused, match=reason) as refused:
        signing_key(pem, tmp_path)
    assert "canary" not in refused.value.message
    assert refused.value.status == 500


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SigningKeyRefused, match=FILE_NAME):
        signing_key("", tmp_path / "file")
