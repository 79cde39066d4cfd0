"""Files through the real proxy and replicas: upload, range, serve, delete, quota, and prompts that name them."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import MAX_FILE_BYTES, USER_FILES_BYTES, Connect
from tests.service import Service
from tests.waiting import until_true

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 100


async def upload(user: httpx.AsyncClient, data: bytes = PNG, name: str = "cat.png") -> str:
    response = await user.put("/file-svc/upload", files={"file": (name, data)})
    assert response.status_code == 200, response.text
    return str(response.json()["upload"]["fileId"])


def blobs(service: Service) -> set[str]:
    return {path.name for path in (service.data_dir / "files").rglob("*") if path.is_file()}


async def test_the_documents_upload_with_curl(user: httpx.AsyncClient, service: Service, tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(b"\xff\xd8\xff\xe0" + b"x" * 1000)
    token = user.headers["Authorization"]
    command = ["curl", "-sS", "-X", "PUT", f"{service.url}/file-svc/upload", "-H", f"Authorization: {token}"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "-F", f"file=@{image}"], capture_output=True, check=True, timeout=30
    )
    sent = httpx.Response(200, content=done.stdout).json()["upload"]
    served = await user.get(f"/file-svc/serve/upload/{sent['fileId']}")
    assert (served.content, served.headers["content-type"]) == (image.read_bytes(), "image/jpeg")
    assert sent["fileName"] == "image.jpg"


async def test_a_file_is_served_whole_in_ranges_and_to_nobody_else(
    user: httpx.AsyncClient, new_user: Connect, admin: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    data = os.urandom(MAX_FILE_BYTES)
    path = f"/file-svc/serve/upload/{await upload(user, data, 'data.bin')}"
    whole = await user.get(path)
    assert whole.content == data
    assert whole.headers["content-disposition"] == 'attachment; filename="data.bin"'
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = await user.get(path, headers={"Range": "bytes=1000000-2000000"})
    assert (part.status_code, part.content) == (206, data[1_000_000:2_000_001])
    assert (await user.get(path, headers={"Range": f"bytes={MAX_FILE_BYTES}-"})).status_code == 416
    assert (await user.head(path)).headers["content-length"] == str(MAX_FILE_BYTES)
    for stranger, status in ((await new_user(), 404), (admin, 404), (anonymous, 401)):
        response = await stranger.get(path)
        assert (response.status_code, list(response.json())) == (status, ["error"])


async def test_a_deleted_file_and_its_bytes_are_gone(user: httpx.AsyncClient, service: Service) -> None:
    file_id = await upload(user)
    assert file_id in blobs(service)
    assert (await user.delete(f"/file-svc/upload/{file_id}")).json() == {}
    assert file_id not in blobs(service)
    assert (await user.get(f"/file-svc/serve/upload/{file_id}")).status_code == 404
    assert (await user.post("/file-svc/uploads", json={})).json() == {"uploads": []}


async def test_a_users_space_is_bounded_on_every_replica(user: httpx.AsyncClient) -> None:
    response = await user.put("/file-svc/upload", files={"file": ("x", b"x" * (MAX_FILE_BYTES + 1))})
    assert (response.status_code, list(response.json())) == (413, ["error"])
    size = USER_FILES_BYTES // 4
    outcomes = await asyncio.gather(
        *(user.put("/file-svc/upload", files={"file": ("x", b"x" * size)}) for _ in range(8))
    )
    kept = [one for one in outcomes if one.status_code == 200]
    assert 1 <= len(kept) <= 4
    assert {one.status_code for one in outcomes} <= {200, 413}
    listed = (await user.post("/file-svc/uploads", json={})).json()["uploads"]
    assert len(listed) == len(kept)


async def test_an_upload_that_breaks_off_leaves_nothing(user: httpx.AsyncClient, service: Service, store: Any) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + b"x" * 600_000
        raise ConnectionResetError

    before = blobs(service)
    with pytest.raises(ConnectionResetError):
        await user.put("/file-svc/upload", content=half(), headers={"Content-Type": "multipart/form-data; boundary=b"})

    async def is_cleared_up() -> bool:
        return blobs(service) == before and store.zcard("ps:f-unsettled") == 0

    await until_true(is_cleared_up, timeout_s=20, what="the end of the upload")
    assert (await user.post("/file-svc/uploads", json={})).json() == {"uploads": []}


async def test_a_prompt_names_files_of_its_users_own(user: httpx.AsyncClient, new_user: Connect) -> None:
    file_id = await upload(user, b"some notes", "notes.txt")
    body = {
        "prompt": "Say hi",
        "sync": True,
        # What is not said is inferred: a question about images, which needs a model that sees.
        "type": "Text-to-Text",
        "fileIds": f'["{file_id}"]',
        "parameters": {"textToText": {"maxTokens": 4}},
    }
    answer = (await user.post("/prompt-svc/prompt", json=body)).json()
    assert answer["prompt"]["status"] == "completed"
    assert answer["fileIds"] == [file_id]
    assert "fileIds" not in answer["prompt"]
    # Somebody else's file is refused like one that does not exist.
    other = await new_user()
    refusals = [await other.post("/prompt-svc/prompt", json={**body, "fileIds": [i]}) for i in (file_id, "file-none")]
    assert [one.status_code for one in refusals] == [400, 400]
    said = [one.json()["error"].replace(file_id, "ID").replace("file-none", "ID") for one in refusals]
    assert said == ["fileIds: got 'ID', allowed is the ids of files of your own"] * 2
    # Erasing the prompt leaves the file.
    await user.delete(f"/prompt-svc/prompt/{answer['prompt']['id']}")
    assert (await user.get(f"/file-svc/serve/upload/{file_id}")).content == b"some notes"


async def test_downloads_are_off_by_default(user: httpx.AsyncClient) -> None:
    response = await user.put("/file-svc/download", json={"url": "https://example.com/a.png"})
    assert response.status_code == 400
    assert "switched off" in response.json()["error"]
