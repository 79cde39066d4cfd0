"""Files that go with a prompt, in the store: on the record, on the user's message, and left alone by an erasure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from pipeline.files.blobs import DirectoryBlobs
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileLimits, FileRecord
from pipeline.prompt import NewPrompt
from pipeline.store.connection import connect_patient
from pipeline.store.files import FileIndex
from pipeline.store.keys import Keys
from pipeline.store.messages import MessageStore
from pipeline.store.prompts import PromptStore

KEYS = Keys("test")
LIMITS = FileLimits(file_bytes=100, user_bytes=1000, user_files=10)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_patient(redis_url)
    yield client
    await client.aclose()


async def put(files: FileStore) -> FileRecord:
    async def stream() -> AsyncIterator[bytes]:
        yield b"pixels"

    return await files.put("usr", stream(), "", "a.png")


def a_prompt(*file_ids: str) -> NewPrompt:
    return NewPrompt(
        id="p", user_id="usr", thread_id="t", model_id="m", prompt="hi", prompt_token_ids=(1,), file_ids=file_ids
    )


async def test_erasing_a_prompt_leaves_the_users_files(client: Redis, tmp_path: Path) -> None:
    prompts, messages = PromptStore(client, KEYS), MessageStore(client, KEYS)
    files = FileStore(FileIndex(client, KEYS), DirectoryBlobs(tmp_path), LIMITS)
    file = await put(files)
    accepted = await prompts.accept(a_prompt(file.id))
    assert accepted.prompt.file_ids == (file.id,)
    assert await prompts.get("usr", "p") == accepted.prompt
    message = await messages.get("usr", "p")
    assert message is not None
    assert message.file_ids == (file.id,)

    await prompts.cancel("usr/p")
    assert await prompts.erase("usr/p")
    assert await messages.get("usr", "p") is None
    assert b"".join([piece async for piece in files.read(file)]) == b"pixels"
    files.close()


async def test_a_prompt_without_files_says_nothing_of_them(client: Redis) -> None:
    prompts, messages = PromptStore(client, KEYS), MessageStore(client, KEYS)
    await prompts.accept(a_prompt())
    message = await messages.get("usr", "p")
    assert message is not None
    assert message.file_ids == ()
    assert not await client.hexists(KEYS.message("usr/p"), "files")
