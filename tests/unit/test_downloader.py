"""Downloads by URL: what is connected to, what is taken, and that no failure says why (SECURITY §2.5)."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest

from deployments.ingress import downloader as module
from deployments.ingress.downloader import MOST_AT_ONCE, Downloader, DownloadFailed, DownloadsOff
from deployments.ingress.public_url import UrlRefused
from pipeline.errors import PromptSvcError, TooManyRequests
from pipeline.files.record import FileRecord, FileTooLarge, QuotaExceeded

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 20
URL = "https://images.example/cats/cat.png?size=1"
Answer = Callable[[httpx.Request], Any]
PUBLIC = "93.184.216.34"
CANARY = "canary-41aa"


class Kept:
    """A file store that keeps what comes whole."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytes, str, str]] = []
        self.failing: PromptSvcError | None = None

    async def put(
        self, owner: str, stream: AsyncIterator[bytes], content_type: str, filename: str, *, url: str, most_bytes: int
    ) -> FileRecord:
        data = b""
        async for chunk in stream:
            data += chunk
            if len(data) > most_bytes:
                raise FileTooLarge
        if self.failing:
            raise self.failing
        self.files.append((owner, data, filename, url))
        return FileRecord(
            id="file-1", user_id=owner, name=filename, content_type="", size=len(data), created_us=1, url=url
        )


class Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def reply(body: bytes = PNG, status: int = 200, *, times: int = 1, **headers: str) -> Answer:
    """Sends the body in small chunks, as a network does."""

    def answer(request: httpx.Request) -> httpx.Response:
        pieces = [body[i : i + 5] for i in range(0, len(body), 5)] * times
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.Response(status, headers=named, stream=Chunks(pieces))

    return answer


class Internet:
    """Names, and a server behind every address."""

    def __init__(self, *addresses: str, answer: Any = None) -> None:
        self.addresses: list[Sequence[str] | Exception] = [addresses]
        self.answer = answer or reply()
        self.looked_up: list[str] = []
        self.requests: list[httpx.Request] = []

    async def resolve(self, host: str) -> Sequence[str]:
        self.looked_up.append(host)
        found = self.addresses[0] if len(self.addresses) == 1 else self.addresses.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def transport(self) -> httpx.AsyncBaseTransport:
        def handle(request: httpx.Request) -> Any:
            self.requests.append(request)
            return self.answer(request)

        return httpx.MockTransport(handle)


def downloader(internet: Internet, *, max_bytes: int = 1000, enabled: bool = True) -> Downloader:
    return Downloader(enabled=enabled, max_bytes=max_bytes, resolve=internet.resolve, transport=internet.transport)


@pytest.fixture
def kept() -> Kept:
    return Kept()


async def download(internet: Internet, kept: Any, url: str = URL, **options: Any) -> FileRecord:
    return await downloader(internet, **options).download(kept, "usr-1", url)


async def test_off_is_the_word_unless_the_operator_says_otherwise(kept: Kept) -> None:
    internet = Internet(PUBLIC)
    with pytest.raises(DownloadsOff):
        await download(internet, kept, enabled=False)
    assert (internet.looked_up, internet.requests) == ([], [])


async def test_the_socket_goes_to_the_address_and_tls_and_host_speak_of_the_name(kept: Kept) -> None:
    internet = Internet(PUBLIC)
    await download(internet, kept)
    assert kept.files == [("usr-1", PNG, "cat.png", URL)]
    (request,) = internet.requests
    assert (request.url.scheme, request.url.host, request.url.port) == ("https", PUBLIC, None)
    assert request.url.raw_path == b"/cats/cat.png?size=1"
    assert request.extensions["sni_hostname"] == "images.example"
    assert request.headers["host"] == "images.example"
    assert request.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & set(request.headers)


async def test_a_download_beside_others_is_kept_under_no_url(kept: Kept) -> None:
    await downloader(Internet(PUBLIC)).download(kept, "usr-1", URL, in_place=False)  # type: ignore[arg-type]
    assert kept.files == [("usr-1", PNG, "cat.png", "")]


async def test_a_name_that_points_elsewhere_the_second_time_is_looked_up_once(kept: Kept) -> None:
    """DNS rebinding."""
    internet = Internet()
    internet.addresses = [[PUBLIC], ["127.0.0.1"]]
    await download(internet, kept)
    assert internet.looked_up == ["images.example"]
    assert [request.url.host for request in internet.requests] == [PUBLIC]


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:10.0.0.1"], ["64:ff9b::a00:1"], ["fe80::1%1"],
     [PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC] * 9 + ["10.0.0.1"], []],
)  # fmt: skip
async def test_one_address_that_is_not_public_is_enough_to_refuse(kept: Kept, addresses: list[str]) -> None:
    internet = Internet(*addresses)
    with pytest.raises(DownloadFailed):
        await download(internet, kept)
    assert internet.requests == []


async def test_a_url_of_another_form_is_not_even_looked_up(kept: Kept) -> None:
    internet = Internet(PUBLIC)
    for url in ("http://images.example/", "https://127.0.0.1/", "https://good.example\\@bad.example/"):
        with pytest.raises(UrlRefused):
            await download(internet, kept, url)
    assert internet.looked_up == []


async def test_the_next_address_is_tried_when_one_does_not_answer(kept: Kept) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "2606:4700::1":
            raise httpx.ConnectError(CANARY)
        return reply()(request)

    internet = Internet("2606:4700::1", PUBLIC, answer=answer)
    await download(internet, kept)
    assert [request.url.host for request in internet.requests] == ["2606:4700::1", PUBLIC]


def raises(error: Exception) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


async def broken_body() -> AsyncIterator[bytes]:
    yield PNG
    raise httpx.ReadError(CANARY)


FAILURES = {
    "302 to the inside": reply(status=302, location="http://169.254.169.254/"),
    "301": reply(status=301, location=URL),
    "204": reply(b"", 204),
    "206": reply(status=206),
    "404": reply(status=404),
    "500": reply(CANARY.encode(), 500),
    "html": reply(b"<html>" + CANARY.encode() * 10, content_type="image/png"),
    "svg": reply(b"<svg xmlns='http://www.w3.org/2000/svg'/>" + b" " * 50),
    "empty": reply(b""),
    "short": reply(b"\x89PN"),
    "gzip bomb": reply(gzip.compress(PNG + b"\0" * 10_000_000)[:900], content_encoding="gzip"),
    "gzip in disguise": reply(gzip.compress(PNG)),
    "announced too large": reply(content_length="1001"),
    "too large": reply(times=100),
    "breaks off": lambda request: httpx.Response(200, content=broken_body()),
    "connect": raises(httpx.ConnectError(CANARY)),
    "certificate": raises(httpx.ConnectError("certificate verify failed: Hostname mismatch")),
    "timeout": raises(httpx.ReadTimeout(CANARY)),
    "protocol": raises(httpx.RemoteProtocolError(CANARY)),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_every_failure_reads_the_same_and_keeps_nothing(
    kept: Kept, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    internet = Internet(PUBLIC, answer=FAILURES[name])
    with caplog.at_level(logging.DEBUG), pytest.raises(DownloadFailed) as failed:
        await download(internet, kept)
    assert (failed.value.status, failed.value.message) == (400, "Failed to download file")
    assert kept.files == []
    assert len(internet.requests) == 1
    for secret in (CANARY, "cat.png", "images.example"):
        assert secret not in caplog.text


async def test_a_name_that_does_not_exist_reads_the_same(kept: Kept) -> None:
    internet = Internet()
    internet.addresses = [OSError(CANARY)]
    with pytest.raises(DownloadFailed, match=r"\AFailed to download file\Z"):
        await download(internet, kept)


@pytest.mark.parametrize("stage", ["look-up", "headers", "body"])
async def test_the_whole_of_it_has_one_deadline(kept: Kept, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that drips never lets a read time out."""
    monkeypatch.setattr(module, "MOST_SECONDS", 0.02)
    never = asyncio.Event()

    async def hang(host: str) -> Sequence[str]:
        await never.wait()
        return []

    async def drip() -> AsyncIterator[bytes]:
        yield PNG
        await never.wait()

    async def silent(request: httpx.Request) -> httpx.Response:
        await never.wait()
        return httpx.Response(200)

    internet = Internet(
        PUBLIC, answer=silent if stage == "headers" else lambda request: httpx.Response(200, content=drip())
    )
    if stage == "look-up":
        internet.resolve = hang  # type: ignore[method-assign]
    with pytest.raises(DownloadFailed):
        await download(internet, kept)
    assert kept.files == []


async def test_the_users_own_limits_are_told(kept: Kept) -> None:
    kept.failing = QuotaExceeded()
    with pytest.raises(QuotaExceeded):
        await download(Internet(PUBLIC), kept)


async def test_only_so_many_at_once(kept: Kept) -> None:
    started, go = asyncio.Event(), asyncio.Event()
    internet = Internet(PUBLIC)
    waiting = 0

    async def slow(host: str) -> Sequence[str]:
        nonlocal waiting
        waiting += 1
        if waiting == MOST_AT_ONCE:
            started.set()
        await go.wait()
        return [PUBLIC]

    internet.resolve = slow  # type: ignore[method-assign]
    one = downloader(internet)
    files: Any = kept
    tasks = [asyncio.create_task(one.download(files, "usr-1", URL)) for _ in range(MOST_AT_ONCE)]
    await started.wait()
    with pytest.raises(TooManyRequests):
        await one.download(files, "usr-1", URL)
    go.set()
    await asyncio.gather(*tasks)
    await one.download(files, "usr-1", URL)


async def test_nothing_comes_from_the_environment(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    original = httpx.AsyncClient

    def client(**options: Any) -> httpx.AsyncClient:
        seen.append(options)
        return original(**options)

    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setattr(module.httpx, "AsyncClient", client)
    await download(Internet(PUBLIC), kept)
    assert seen[0]["trust_env"] is False
    assert seen[0]["follow_redirects"] is False
    assert kept.files
