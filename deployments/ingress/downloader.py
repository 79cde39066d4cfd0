"""Downloads of images by URL for a user, from the public internet only (SECURITY §2.5). Off unless the operator wants it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import certifi
import httpx

from deployments.ingress.public_url import PublicUrl, is_public
from pipeline.errors import ClientError, TooManyRequests
from pipeline.files.content import HEAD_BYTES, sniff_raster
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileRecord, FileTooLarge

logger = logging.getLogger("ray.serve")
# It logs whole URLs.
logging.getLogger("httpx").setLevel(logging.WARNING)

PORT = 443
#: From the look-up of the name to the last byte, seconds.
MOST_SECONDS = 10.0
#: Downloads of one ingress replica at the same time.
MOST_AT_ONCE = 8
#: Addresses of a name that are tried.
MOST_ADDRESSES = 3

#: Addresses of a host name, as text.
Resolve = Callable[[str], Awaitable[Sequence[str]]]


class DownloadsOff(ClientError):
    """Downloads by URL are switched off here; upload the file (operators: the setting file_downloads)"""


class DownloadFailed(ClientError):
    """Failed to download file"""


async def resolve(host: str) -> Sequence[str]:
    """Every address of a name, the ones the system prefers first. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def tls_transport() -> httpx.AsyncBaseTransport:
    """Plain HTTP/1.1 over TLS: nothing from the environment, neither proxies nor certificates."""
    return httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=certifi.where()), trust_env=False)


class Downloader:
    """Fetches what is allowed. The reason of a failure is logged and never told: it would make us a probe of networks."""

    def __init__(
        self,
        *,
        enabled: bool,
        max_bytes: int,
        resolve: Resolve = resolve,
        transport: Callable[[], httpx.AsyncBaseTransport] = tls_transport,
    ) -> None:
        self._enabled = enabled
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._transport = transport
        self._running = 0

    def check_enabled(self) -> None:
        """Raises DownloadsOff."""
        if not self._enabled:
            raise DownloadsOff

    async def download(self, files: FileStore, owner: str, url: str, *, in_place: bool = True) -> FileRecord:
        """Keep what is at ``url`` as a file of ``owner``: as the download from there, in place of an earlier one, or like an
        upload.

        Raises:
            DownloadsOff: always, unless switched on.
            UrlRefused: not of the form that is fetched.
            TooManyRequests: enough of them are under way.
            DownloadFailed: everything else that has to do with the other side.
            QuotaExceeded, TooManyUploads, StoreUnavailable, FilesUnavailable: as ``FileStore.put``.
        """
        self.check_enabled()
        target = PublicUrl.parse(url)
        if self._running >= MOST_AT_ONCE:
            raise TooManyRequests("too many downloads are under way")
        self._running += 1
        try:
            async with asyncio.timeout(MOST_SECONDS):
                addresses = await self._public_addresses(target)
                async with httpx.AsyncClient(
                    transport=self._transport(), trust_env=False, follow_redirects=False, timeout=MOST_SECONDS
                ) as client:
                    response = await _get(client, target, addresses)
                    try:
                        body = self._checked(response)
                        kept_as = url if in_place else ""
                        return await files.put(
                            owner, body, "", target.file_name, url=kept_as, most_bytes=self._max_bytes
                        )
                    finally:
                        await response.aclose()
        except (OSError, TimeoutError, httpx.HTTPError, httpx.InvalidURL, FileTooLarge, _Unwanted) as error:
            logger.warning("download: %s", str(error) if isinstance(error, _Unwanted) else type(error).__name__)
            raise DownloadFailed from None
        finally:
            self._running -= 1

    async def _public_addresses(self, target: PublicUrl) -> Sequence[str]:
        """The addresses to connect to. They are looked up once: a second look-up could give others (DNS rebinding)."""
        addresses = await self._resolve(target.host)
        if not addresses or not all(is_public(address) for address in addresses):
            raise _Unwanted("an address that is not public")
        return addresses[:MOST_ADDRESSES]

    async def _checked(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The body, if it is a raster image as it was asked for: no redirect, no error, not compressed, not too large."""
        if response.status_code != 200:
            raise _Unwanted(f"status {response.status_code}")
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _Unwanted("a compressed body")
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._max_bytes:
            raise _Unwanted("too large")
        head, is_image = b"", False
        async for chunk in response.aiter_raw():
            if is_image:
                yield chunk
                continue
            head += chunk
            if len(head) >= HEAD_BYTES:
                is_image = True
                yield _image_start(head)
        if not is_image:
            yield _image_start(head)


class _Unwanted(Exception):
    """What came back is not what is downloaded; says what, without anything of it."""


def _image_start(head: bytes) -> bytes:
    """The first bytes of a body, if they are those of a raster image. Raises _Unwanted."""
    if sniff_raster(head) is None:
        raise _Unwanted("not a raster image")
    return head


async def _get(client: httpx.AsyncClient, target: PublicUrl, addresses: Sequence[str]) -> httpx.Response:
    """The response of the first address that can be connected to. TLS and Host speak of the name, the socket of the address."""
    for address in addresses:
        request = httpx.Request(
            "GET",
            httpx.URL(scheme="https", host=address, port=PORT, raw_path=target.target.encode()),
            headers={
                "Host": target.host,
                "Accept": "image/*",
                "Accept-Encoding": "identity",
                "User-Agent": "prompt-svc",
            },
            extensions={"sni_hostname": target.host},
        )
        try:
            return await client.send(request, stream=True)
        except httpx.ConnectError as error:
            logger.info("download: %s", type(error).__name__)
    raise _Unwanted("no address that can be connected to")
