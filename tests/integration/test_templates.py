"""Saved templates and the stored default model, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from pipeline.store.connection import connect_patient
from pipeline.store.default_model import DefaultModelStore
from pipeline.store.keys import Keys
from pipeline.store.templates import MOST_TEMPLATES, TemplateStore, TooManyTemplates

KEYS = Keys("test")


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_patient(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def templates(client: Redis) -> TemplateStore:
    return TemplateStore(client, KEYS)


async def test_a_template_is_kept_as_it_was_sent(templates: TemplateStore) -> None:
    text = '1 2 {"a": {context}}\\n\n🙂 {prompt} '
    saved = await templates.save("usr-1", "my own/🙂", text)
    assert (saved.template, saved.created_us) == (text, saved.updated_us)
    assert await templates.get("usr-1", "my own/🙂") == saved
    assert await templates.all("usr-1") == [saved]


async def test_replacing_keeps_the_time_of_creation(templates: TemplateStore) -> None:
    first = await templates.save("usr-1", "qa", "{prompt}")
    second = await templates.save("usr-1", "qa", "again {prompt}")
    assert second.created_us == first.created_us
    assert second.updated_us > first.updated_us
    assert await templates.all("usr-1") == [second]


async def test_templates_are_listed_by_name_and_are_ones_own(templates: TemplateStore) -> None:
    for name in ("b", "a", "c"):
        await templates.save("usr-1", name, "{prompt}")
    assert [saved.name for saved in await templates.all("usr-1")] == ["a", "b", "c"]
    assert await templates.all("usr-2") == []
    assert await templates.get("usr-2", "a") is None
    assert not await templates.delete("usr-2", "a")


async def test_deleting(templates: TemplateStore) -> None:
    await templates.save("usr-1", "qa", "{prompt}")
    assert await templates.delete("usr-1", "qa")
    assert not await templates.delete("usr-1", "qa")
    assert await templates.get("usr-1", "qa") is None


async def test_no_more_than_allowed_even_when_they_come_together(templates: TemplateStore) -> None:
    results = await asyncio.gather(
        *(templates.save("usr-1", f"t{n}", "{prompt}") for n in range(MOST_TEMPLATES + 20)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, TooManyTemplates)]
    assert len(refused) == 20
    assert len(await templates.all("usr-1")) == MOST_TEMPLATES
    # Those there are may be replaced, and another user has a number of their own.
    kept = (await templates.all("usr-1"))[0].name
    assert (await templates.save("usr-1", kept, "new {prompt}")).template == "new {prompt}"
    await templates.save("usr-2", "t0", "{prompt}")


async def test_the_default_model_is_none_until_it_is_set(client: Redis) -> None:
    store = DefaultModelStore(client, KEYS)
    assert await store.get() is None
    await store.set("org/small")
    assert await store.get() == "org/small"
