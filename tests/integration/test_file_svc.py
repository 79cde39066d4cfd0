"""file-svc over HTTP, on a real Valkey and a directory."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from redis.asyncio import Redis

from deployments.ingress.auth import Gate, Permission
from deployments.ingress.bearers import Bearers
from deployments.ingress.downloader import Downloader
from deployments.ingress.file_svc import FileSvc
from deployments.ingress.tokens import Tokens
from deployments.ingress.web import web_app
from pipeline.accounts import Account, Role
from pipeline.files.blobs import DirectoryBlobs
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileLimits, new_file_id
from pipeline.store.connection import connect_impatient
from pipeline.store.files import FileIndex
from pipeline.store.keys import Keys
from tests.unit.test_downloader import PNG, URL, Internet

TOKENS = Tokens(generate_private_key(public_exponent=65537, key_size=2048), lifetime_s=3600)
LIMITS = FileLimits(file_bytes=300_000, user_bytes=500_000, user_files=5)
NOT_FOUND = {"error": "Not Found"}


def authorization(user_id: str, *roles: str, tokens: Tokens = TOKENS) -> dict[str, str]:
    account = Account(id=user_id, slug=user_id, password_hash="", roles=roles, created_at=1, updated_at=1)
    return {"Authorization": f"Bearer {tokens.issue(account, app_id='a', device='').encoded}"}


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_impatient(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def internet() -> Internet:
    return Internet("93.184.216.34")


@pytest.fixture
def files(client: Redis, tmp_path: Path) -> Iterator[FileStore]:
    files = FileStore(FileIndex(client, Keys("test")), DirectoryBlobs(tmp_path), LIMITS)
    yield files
    files.close()


def stored_in(folder: Path) -> list[tuple[str, ...]]:
    return [path.relative_to(folder).parts for path in folder.rglob("*") if path.is_file()]


Connect = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def connect(files: FileStore, internet: Internet) -> AsyncIterator[Connect]:
    """Clients of one app: ``connect("usr-1", Role.USER)``; without a user, anonymous."""
    clients: list[httpx.AsyncClient] = []

    def make(user_id: str = "", *roles: str, downloads: bool = True) -> httpx.AsyncClient:
        downloader = Downloader(
            enabled=downloads, max_bytes=1000, resolve=internet.resolve, transport=internet.transport
        )
        service = FileSvc(files, downloader, max_body_bytes=10_000)
        transport = httpx.ASGITransport(app=web_app(service.routes(Gate(Bearers(TOKENS)))))
        headers = authorization(user_id, *(roles or (Role.USER,))) if user_id else {}
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers))
        return clients[-1]

    yield make
    for one in clients:
        await one.aclose()


@pytest.fixture
def alice(connect: Connect) -> httpx.AsyncClient:
    return connect("usr-alice")


@pytest.fixture
def bob(connect: Connect) -> httpx.AsyncClient:
    return connect("usr-bob")


async def upload(
    user: httpx.AsyncClient, data: bytes = PNG, name: str = "cat.png", kind: str = "image/png"
) -> dict[str, Any]:
    response = await user.put("/file-svc/upload", files={"file": (name, data, kind)})
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["upload"]
    return dict(response.json()["upload"])


async def test_an_upload_is_described_with_the_keys_strict_clients_know(alice: httpx.AsyncClient) -> None:
    sent = await upload(alice, name="blob")
    assert set(sent) == {
        "id", "fileId", "fileName", "filePath", "fileSize", "nodeId", "userId", "createdAt", "updatedAt",
    }  # fmt: skip
    assert re.fullmatch(r"file-[0-9a-f-]{36}", sent["fileId"])
    assert re.fullmatch(r"upl-[0-9a-f-]{36}", sent["id"])
    assert (sent["fileName"], sent["fileSize"], sent["userId"]) == ("blob", len(PNG), "usr-alice")
    assert "/" not in sent["filePath"] + sent["nodeId"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", sent["createdAt"])


async def test_an_image_is_served_inline_and_sandboxed(alice: httpx.AsyncClient) -> None:
    file_id = (await upload(alice))["fileId"]
    response = await alice.get(f"/file-svc/serve/upload/{file_id}")
    assert (response.status_code, response.content) == (200, PNG)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-length"] == str(len(PNG))
    assert response.headers["content-disposition"] == 'inline; filename="cat.png"'
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "private, no-store"
    assert response.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "x.svg", "image/svg+xml"),
        (b"<script>1</script>", "x.html", "text/html"),
        (b"<script>1</script>", "x.png", "image/png"),
        (b"\x00\x01", "x", ""),
    ],
)
async def test_what_could_run_is_an_attachment_without_a_type(
    alice: httpx.AsyncClient, data: bytes, name: str, kind: str
) -> None:
    file_id = (await upload(alice, data, name, kind))["fileId"]
    response = await alice.get(f"/file-svc/serve/upload/{file_id}")
    assert response.content == data
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment; ")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a\\..\\b", "%2e%2e%2fx", "x\u202egnp.exe", "ü" * 300, "CON", ".."]
)
async def test_a_nasty_name_is_only_a_name(
    alice: httpx.AsyncClient, files: FileStore, tmp_path: Path, name: str
) -> None:
    sent = await upload(alice, b"x", name)
    assert not set(sent["fileName"]) & set("/\\\u202e")
    assert len(sent["fileName"].encode()) <= 255
    response = await alice.get(f"/file-svc/serve/upload/{sent['fileId']}")
    assert response.headers["content-disposition"].isascii()
    assert stored_in(tmp_path) == [(sent["fileId"][5:7], sent["fileId"])]


@pytest.mark.parametrize(
    ("header", "status", "span"),
    [
        ("bytes=2-5", 206, (2, 6)),
        ("bytes=-3", 206, (-3, None)),
        ("bytes=100000-99999999", 206, (100_000, None)),
        ("bytes=0-1,4-5", 200, (0, None)),
        ("nonsense", 200, (0, None)),
    ],
)
async def test_a_range(alice: httpx.AsyncClient, header: str, status: int, span: tuple[int, int | None]) -> None:
    data = os.urandom(290_000)
    file_id = (await upload(alice, data))["fileId"]
    response = await alice.get(f"/file-svc/serve/upload/{file_id}", headers={"Range": header})
    expected = data[slice(*span)]
    assert (response.status_code, response.content) == (status, expected)
    assert response.headers["content-length"] == str(len(expected))
    start = span[0] % len(data)
    shown = f"bytes {start}-{start + len(expected) - 1}/{len(data)}" if status == 206 else None
    assert response.headers.get("content-range") == shown


async def test_a_range_that_is_not_there(alice: httpx.AsyncClient) -> None:
    file_id = (await upload(alice, b"12345"))["fileId"]
    response = await alice.get(f"/file-svc/serve/upload/{file_id}", headers={"Range": "bytes=5-"})
    assert (response.status_code, response.json()) == (416, {"error": "Range: the file has 5 bytes"})
    assert response.headers["content-range"] == "bytes */5"


async def test_if_range_of_another_file_means_all_of_this_one(alice: httpx.AsyncClient) -> None:
    file_id = (await upload(alice, b"12345"))["fileId"]
    path = f"/file-svc/serve/upload/{file_id}"
    etag = (await alice.get(path)).headers["etag"]
    for value, status in ((etag, 206), ('"another"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)):
        response = await alice.get(path, headers={"Range": "bytes=0-1", "If-Range": value})
        assert response.status_code == status


async def test_head_says_the_same_without_the_bytes(alice: httpx.AsyncClient) -> None:
    path = f"/file-svc/serve/upload/{(await upload(alice, b'12345'))['fileId']}"
    head, get = await alice.head(path), await alice.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers


async def test_another_users_file_is_like_none(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, connect: Connect
) -> None:
    file_id = (await upload(alice))["fileId"]
    admin = connect("usr-admin", Role.ADMIN)
    for other in (bob, admin):
        for wrong in (file_id, new_file_id(), "file-x", "..%2f..%2fetc%2fpasswd", "%00", "x" * 5000):
            serve = await other.get(f"/file-svc/serve/upload/{wrong}")
            delete = await other.delete(f"/file-svc/upload/{wrong}")
            assert (serve.status_code, serve.json()) == (404, NOT_FOUND)
            assert (delete.status_code, delete.json()) == (404, NOT_FOUND)
    assert (await alice.get(f"/file-svc/serve/upload/{file_id}")).content == PNG


async def test_a_deleted_file_is_gone(alice: httpx.AsyncClient, tmp_path: Path) -> None:
    file_id = (await upload(alice))["fileId"]
    response = await alice.delete(f"/file-svc/upload/{file_id}")
    assert (response.status_code, response.json()) == (200, {})
    for again in (alice.delete(f"/file-svc/upload/{file_id}"), alice.get(f"/file-svc/serve/upload/{file_id}")):
        assert (await again).status_code == 404
    assert stored_in(tmp_path) == []


async def test_the_list_is_ones_own_newest_first_in_pages(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    sent = [await upload(alice, name=f"{i}.png") for i in range(3)]
    await upload(bob)
    everything = await alice.post("/file-svc/uploads")
    assert everything.json() == {"uploads": sent[::-1]}
    page = (await alice.post("/file-svc/uploads", json={"limit": "2"})).json()["uploads"]
    assert page == sent[:0:-1]
    rest = await alice.post("/file-svc/uploads", json={"limit": 2, "after": page[-1]["createdAt"]})
    assert rest.json() == {"uploads": [sent[0]]}


async def test_somebody_elses_list_is_empty_and_an_admin_sees_it_without_names(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, connect: Connect
) -> None:
    sent = await upload(alice)
    for user_id in ("usr-alice", "usr-nobody"):
        assert (await bob.post("/file-svc/uploads", json={"userId": user_id})).json() == {"uploads": []}
    admin = connect("usr-admin", Role.ADMIN)
    seen = (await admin.post("/file-svc/uploads", json={"userId": "usr-alice"})).json()["uploads"]
    assert seen == [{**sent, "fileName": ""}]
    assert (await admin.post("/file-svc/uploads", json={})).json() == {"uploads": []}


@pytest.mark.parametrize(
    ("body", "status", "mention"),
    [
        (b"[", 400, "Invalid JSON"),
        (b"[]", 400, "Invalid JSON"),
        (b'{"limit": -1}', 400, "limit"),
        (b'{"limit": 1001}', 400, "limit"),
        (b'{"limit": "many"}', 400, "limit"),
        (b'{"after": "yesterday"}', 400, "after"),
        (b'{"userId": "usr-bob", "after": "yesterday"}', 400, "after"),
        (b'{"after": "2026-01-01T00:00:00"}', 400, "after"),
        (b'{"after": "99999999999"}', 400, "after"),
        (b'{"after": {}}', 400, "after"),
        (b'{"userId": {}}', 400, "userId"),
        (b'{"x": "' + b"x" * 10_000 + b'"}', 413, "10000"),
    ],
)
async def test_a_bad_listing_is_named(alice: httpx.AsyncClient, body: bytes, status: int, mention: str) -> None:
    response = await alice.post("/file-svc/uploads", content=body)
    assert response.status_code == status, response.text
    assert mention in response.json()["error"]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "mention"),
    [
        ("application/json", b"{}", 400, "Content-Type"),
        ("multipart/form-data", b"", 400, "Content-Type"),
        ("multipart/form-data; boundary=b", b"", 400, "ends before"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 400, "file"),
        ("multipart/form-data; boundary=b", b"nonsense", 400, "well-formed"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhalf',
            400,
            "ends before",
        ),
    ],
)
async def test_a_bad_upload_is_named_and_leaves_nothing(
    alice: httpx.AsyncClient, client: Redis, content_type: str, body: bytes, status: int, mention: str
) -> None:
    response = await alice.put("/file-svc/upload", content=body, headers={"Content-Type": content_type})
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert mention in response.json()["error"]
    assert await client.keys("*") == []


async def test_too_large_a_file_is_a_413(alice: httpx.AsyncClient, client: Redis) -> None:
    await upload(alice, b"x" * LIMITS.file_bytes)
    for extra in (1, 100_000):
        response = await alice.put("/file-svc/upload", files={"file": ("x", b"x" * (LIMITS.file_bytes + extra))})
        assert (response.status_code, list(response.json())) == (413, ["error"])
    assert len(await client.keys("test:f:*")) == 1


async def test_more_than_a_user_may_keep_is_a_413(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    first = await upload(alice, b"x" * LIMITS.file_bytes)
    response = await alice.put("/file-svc/upload", files={"file": ("x", b"x" * LIMITS.file_bytes)})
    assert response.status_code == 413
    assert str(LIMITS.user_bytes) in response.json()["error"]
    await upload(bob, b"x" * LIMITS.file_bytes)
    await alice.delete(f"/file-svc/upload/{first['fileId']}")
    await upload(alice, b"x" * LIMITS.file_bytes)


async def test_two_uploads_at_once_are_two_files(alice: httpx.AsyncClient) -> None:
    contents = [os.urandom(100_000) for _ in range(4)]
    sent = await asyncio.gather(*(upload(alice, data) for data in contents))
    assert len({one["fileId"] for one in sent}) == 4
    served = await asyncio.gather(*(alice.get(f"/file-svc/serve/upload/{one['fileId']}") for one in sent))
    assert [one.content for one in served] == contents


async def test_a_client_that_hangs_up_leaves_nothing(
    connect: Connect, files: FileStore, client: Redis, tmp_path: Path
) -> None:
    alice = connect("usr-alice")
    app: Any = alice._transport
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + b"x" * 200_000
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": start, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        pytest.fail("nobody is there")

    headers = {**authorization("usr-alice", Role.USER), "content-type": "multipart/form-data; boundary=b"}
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/file-svc/upload",
        "raw_path": b"/file-svc/upload",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await app.app(scope, receive, send)
    assert await client.keys("*") == []
    assert stored_in(tmp_path) == []


async def test_an_image_is_downloaded_served_and_replaced(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, internet: Internet
) -> None:
    segment = URL.replace("/", "%2F").replace("?", "%3F").replace(":", "%3A")
    before = await alice.get(f"/file-svc/download/{segment}")
    assert before.json() == {"exists": False, "download": None}
    for _ in range(2):
        response = await alice.put("/file-svc/download", json={"url": URL, "folderPath": "/etc"})
        assert (response.status_code, response.json()) == (200, {})
    (download,) = (await alice.post("/file-svc/downloads")).json()["downloads"]
    assert (download["url"], download["status"], download["fileName"]) == (URL, "completed", "cat.png")
    assert (download["fileSize"], download["downloadedBytes"], download["progress"]) == (len(PNG), len(PNG), 100)
    assert "error" not in download
    after = await alice.get(f"/file-svc/download/{segment}")
    assert after.json() == {"exists": True, "download": download}
    served = await alice.get(f"/file-svc/serve/download/{segment}", headers={"Range": "bytes=0-3"})
    assert (served.status_code, served.content) == (206, PNG[:4])
    assert (await alice.get(f"/file-svc/serve/upload/{download['filePath']}")).content == PNG
    assert (await alice.post("/file-svc/uploads")).json() == {"uploads": []}
    # Somebody else has nothing from there.
    assert (await bob.get(f"/file-svc/download/{segment}")).json() == before.json()
    assert (await bob.get(f"/file-svc/serve/download/{segment}")).json() == NOT_FOUND
    assert (await bob.post("/file-svc/downloads", json={})).json() == {"downloads": []}
    await alice.delete(f"/file-svc/upload/{download['filePath']}")
    assert (await alice.get(f"/file-svc/download/{segment}")).json() == before.json()


@pytest.mark.parametrize(
    ("body", "status", "mention"),
    [
        ({}, 400, "url"),
        ({"url": None}, 400, "url"),
        ({"url": {}}, 400, "url"),
        ({"url": "http://images.example/"}, 400, "url"),
        ({"url": "https://169.254.169.254/"}, 400, "url"),
        ({"url": "https://images.example/" + "x" * 5000}, 400, "url"),
        ({"url": "https://images.example/" + "x" * 20_000}, 413, "10000"),
    ],
)
async def test_a_bad_download_is_named(
    alice: httpx.AsyncClient, internet: Internet, body: Any, status: int, mention: str
) -> None:
    response = await alice.put("/file-svc/download", json=body)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert mention in response.json()["error"]
    assert internet.looked_up == []


async def test_a_download_that_fails_does_not_say_why(alice: httpx.AsyncClient, internet: Internet) -> None:
    internet.addresses = [["10.0.0.1"]]
    response = await alice.put("/file-svc/download", json={"url": URL})
    assert (response.status_code, response.json()) == (400, {"error": "Failed to download file"})


async def test_downloads_are_off_unless_switched_on(connect: Connect, internet: Internet) -> None:
    response = await connect("usr-alice", downloads=False).put("/file-svc/download", json={"url": URL})
    assert response.status_code == 400
    assert "switched off" in response.json()["error"]
    assert internet.looked_up == []


ROUTES = [
    ("PUT", "/upload"),
    ("POST", "/uploads"),
    ("GET", "/serve/upload/x"),
    ("DELETE", "/upload/x"),
    ("PUT", "/download"),
    ("GET", "/download/x"),
    ("POST", "/downloads"),
    ("GET", "/serve/download/x"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_token_or_a_role_nothing_is_served(connect: Connect, method: str, path: str) -> None:
    for client in (connect(), connect("usr-1", "user-svc:guest")):
        response = await client.request(method, f"/file-svc{path}")
        assert (response.status_code, response.json()) == (401, {"error": "Unauthorized"})


def test_every_route_asks_for_a_permission_of_file_svc(files: FileStore, internet: Internet) -> None:
    service = FileSvc(files, Downloader(enabled=False, max_bytes=1), max_body_bytes=1)
    access = {(route.path, route.access) for route in service.routes(Gate(Bearers(TOKENS)))}
    assert all(str(permission).startswith("file-svc:") for _, permission in access)
    assert ("/file-svc/upload/{file_id}", Permission.FILE_UPLOAD_DELETE) in access
    assert len(access) == len(ROUTES)
