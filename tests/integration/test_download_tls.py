"""Downloads over real TLS on loopback: the certificate must be the name's although the socket goes to the address."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deployments.ingress import downloader as module
from deployments.ingress.downloader import Downloader, DownloadFailed
from tests.unit.test_downloader import PNG, Kept

NAME = "images.example"


def self_signed(name: str, folder: Path) -> Path:
    """A key and its certificate in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    return path


class Server:
    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.heads: list[bytes] = []

    def saw_name(self, _socket: Any, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PNG) + PNG)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(pem: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = server.saw_name  # type: ignore[assignment]
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=context)
    monkeypatch.setattr(module, "PORT", listening.sockets[0].getsockname()[1])
    monkeypatch.setattr(module, "is_public", lambda address: address == "127.0.0.1")
    async with listening:
        yield server


async def download(pem: Path, kept: Any) -> None:
    async def resolve(host: str) -> Sequence[str]:
        return ["127.0.0.1"]

    trusted = ssl.create_default_context(cafile=str(pem))
    downloader = Downloader(
        enabled=True,
        max_bytes=1000,
        resolve=resolve,
        transport=lambda: httpx.AsyncHTTPTransport(verify=trusted, trust_env=False),
    )
    await downloader.download(kept, "usr-1", f"https://{NAME}/cat.png?x=%20")


async def test_the_names_certificate_is_asked_for_and_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem, kept = self_signed(NAME, tmp_path), Kept()
    async with serving(pem, monkeypatch) as server:
        await download(pem, kept)
    assert server.names == [NAME]
    assert server.heads[0].startswith(f"GET /cat.png?x=%20 HTTP/1.1\r\nHost: {NAME}\r\n".encode())
    assert [file[1] for file in kept.files] == [PNG]


@pytest.mark.parametrize("certificate", ["bad.example", "127.0.0.1"])
async def test_another_names_certificate_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: str
) -> None:
    pem, kept = self_signed(certificate, tmp_path), Kept()
    async with serving(pem, monkeypatch) as server:
        with pytest.raises(DownloadFailed):
            await download(pem, kept)
    assert server.heads == []
    assert kept.files == []
