"""Listings of prompts so long that neither a page nor the memory of an ingress takes many of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from deployments.ingress import wire
from pipeline.prompt import Prompt
from pipeline.query import parse_query
from pipeline.store.page import MOST_PAGE_BYTES
from pipeline.store.scan import MOST_CHUNK_BYTES, Match
from pipeline.store.sorted_page import Sorter
from tests.integration.listing_store import Store, ids, pages
from tests.unit.test_wire import WAITING

NAMES = [f"p{number}" for number in range(10)]
LISTINGS: dict[str, dict[str, Any]] = {
    "by creation": {"orderBy": [{"field": "createdAt"}]},
    "looked through": {"filters": [{"field": "runCount", "operator": "equals", "value": None}]},
    "sorted": {"orderBy": [{"field": "id"}]},
    "by id": {"filters": [{"field": "id", "operator": "in", "value": NAMES}]},
    "by id, sorted": {
        "filters": [{"field": "id", "operator": "in", "value": NAMES}],
        "orderBy": [{"field": "prompt"}, {"field": "id"}],
    },
}


class Reads:
    """Which prompts a store reads together."""

    def __init__(self, store: Store) -> None:
        self.refs: list[list[str]] = []
        self._get_many = store.prompts.get_many
        store.prompts.get_many = self.get_many  # type: ignore[method-assign]

    async def get_many(self, refs: Sequence[str]) -> list[Prompt | None]:
        self.refs.append(list(refs))
        return await self._get_many(refs)


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_page_ends_before_its_texts_get_too_long(store: Store, name: str) -> None:
    for prompt_id in NAMES:
        await store.accept("ann", prompt_id, prompt="x" * (MOST_PAGE_BYTES // 4 - 10), parameters={"a": 1})
    found = await pages(store.listing(seconds=60), {**LISTINGS[name], "limit": 1000, "count": True}, user_id="ann")
    assert [len(page.prompts) for page in found] == [4, 4, 2]
    assert ids(found) == NAMES
    assert [(page.after is not None, page.is_truncated) for page in found] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    assert {page.count for page in found} == {10}


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("field", ["prompt", "parameters", "engine_parameters"])
async def test_a_page_has_one_prompt_at_least(store: Store, name: str, field: str) -> None:
    text = "x" * (MOST_PAGE_BYTES + 1)
    for prompt_id in NAMES[:3]:
        await store.accept("ann", prompt_id, **{field: text if field == "prompt" else {"a": text}})
    found = await pages(store.listing(seconds=60), LISTINGS[name], user_id="ann")
    assert [[prompt.id for prompt in page.prompts] for page in found] == [["p0"], ["p1"], ["p2"]]


async def test_a_page_that_is_full_before_its_texts_are_long_is_not_cut_short(store: Store) -> None:
    for prompt_id in NAMES:
        await store.accept("ann", prompt_id, prompt="x" * (MOST_PAGE_BYTES // 4 - 10))
    for name in LISTINGS:
        found = await pages(store.listing(seconds=60), {**LISTINGS[name], "limit": 3}, user_id="ann")
        assert [len(page.prompts) for page in found] == [3, 3, 3, 1]
        assert not any(page.is_truncated for page in found)


@pytest.mark.parametrize("name", LISTINGS)
async def test_long_prompts_are_read_a_few_at_a_time(store: Store, name: str) -> None:
    for prompt_id in NAMES:
        await store.accept("ann", prompt_id, prompt="x" * (MOST_CHUNK_BYTES // 3))
    reads = Reads(store)
    await pages(store.listing(seconds=60), {**LISTINGS[name], "count": True}, user_id="ann")
    assert {len(refs) for refs in reads.refs} <= {3, 1}
    assert {ref for refs in reads.refs for ref in refs} == {f"ann/{prompt_id}" for prompt_id in NAMES}


@pytest.mark.parametrize("name", LISTINGS)
async def test_short_prompts_are_read_together(store: Store, name: str) -> None:
    for prompt_id in NAMES:
        await store.accept("ann", prompt_id)
    reads = Reads(store)
    await store.listing().page(parse_query(LISTINGS[name]), user_id="ann", show=wire.searched_object)
    assert [len(refs) for refs in reads.refs] == [10]


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_listing_that_is_out_of_time_ends_between_two_long_prompts(store: Store, name: str) -> None:
    for prompt_id in NAMES:
        await store.accept("ann", prompt_id, prompt="x" * MOST_CHUNK_BYTES)
    reads = Reads(store)
    page = await store.listing(seconds=0).page(parse_query(LISTINGS[name]), user_id="ann", show=wire.searched_object)
    assert len(reads.refs) == len(reads.refs[0]) == len(page.prompts) == 1
    assert page.is_truncated
    assert page.after is not None


@pytest.mark.parametrize("name", ["by creation", "looked through", "by id"])
async def test_what_comes_behind_a_page_by_creation_is_not_read(store: Store, name: str) -> None:
    for prompt_id in NAMES:
        await store.accept("ann", prompt_id, prompt="x" * (MOST_PAGE_BYTES // 4 - 10))
    reads = Reads(store)
    query = parse_query({**LISTINGS[name], "limit": 1000})
    page = await store.listing(seconds=60).page(query, user_id="ann", show=wire.searched_object)
    # One more than is shown tells whether there is more.
    assert (len(page.prompts), len(reads.refs)) == (4, 5)


class Document(dict[str, Any]):
    """One that can be told from its like."""

    __hash__ = object.__hash__


def test_what_is_not_on_the_page_is_not_kept_while_prompts_are_sorted() -> None:
    alive: weakref.WeakSet[Document] = weakref.WeakSet()
    sorter = Sorter(parse_query({"orderBy": [{"field": "id"}], "limit": 1000}), None)
    for number in range(100):
        document = Document(id=f"p{number:03}")
        alive.add(document)
        sorter.add([Match(WAITING, document, MOST_PAGE_BYTES // 4)])
        del document
        assert len(alive) <= 5
    assert len(sorter.page(newest_us=1, oldest_us=None).prompts) == 4
