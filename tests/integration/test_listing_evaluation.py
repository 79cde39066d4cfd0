"""Every query on a real store finds what a plain evaluation in Python finds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.ingress import wire
from pipeline.prompt import Prompt
from pipeline.states import Status
from tests.integration.listing_store import MODEL, USERS, Store, as_seen_by, pages


async def populate(store: Store) -> list[Prompt]:
    """Prompts of three users in every status, some ids and threads shared. Returns them in order of creation."""
    made = []
    for number in range(36):
        user = USERS[number % 3 if number % 5 else 0]
        parameters = (
            {"textToText": {"temperature": number % 4 / 2, "stop": ["x", "y"][: number % 3]}} if number % 2 else None
        )
        made.append(
            await store.accept(
                user,
                f"p{number % 25}",
                f"t{number % 4}",
                prompt=f"secret {number % 7} of {user}",
                max_retries=number % 3,
                sync=number % 4 == 0,
                parameters=parameters,
            )
        )
        outcome = {3: "finish", 8: "abandon", 14: "retry", 20: "leave"}.get(number % 22)
        if outcome:
            await store.run(2, outcome)
        if number % 9 == 7:
            await store.prompts.cancel(made[number - 2].ref)
    everything = await store.prompts.get_many(list(dict.fromkeys(prompt.ref for prompt in made)))
    return sorted((p for p in everything if p is not None), key=lambda p: p.created_us)


TEXTS = {
    "id": [f"p{n}" for n in range(0, 36, 5)],
    "threadId": [f"t{n}" for n in range(5)],
    "userId": [*USERS, "dan"],
    "status": [status.value for status in Status],
    "modelId": [MODEL, "other"],
    "prompt": ["secret 1 of ann", "secret", "ann", ""],
    "error": ["broken", "broken for good"],
    "responseMessageId": ["", "msg-1"],
}
NUMBERS = {"runCount": [0, 1, 2.0], "maxRetries": [0, 1, 2], "parameters.textToText.temperature": [0, 0.5, 1, 1.5]}
OPTIONAL = {"error", "runCount", "prompt", "responseMessageId", "parameters.textToText.temperature"}
ORDERED = ["equals", "notEquals", "in", "gt", "gte", "lt", "lte"]


@st.composite
def leaf(draw: st.DrawFn, created: list[str]) -> dict[str, Any]:
    field = draw(st.sampled_from([*TEXTS, *NUMBERS, "createdAt", "createdAt", "sync", "parameters.textToText.stop"]))
    if field == "createdAt":
        operator, values = draw(st.sampled_from(ORDERED)), created
    elif field == "sync":
        operator, values = draw(st.sampled_from(["equals", "notEquals"])), [True, False]
    elif field.endswith("stop"):
        operator, values = draw(st.sampled_from(["equals", "notEquals", "intersects"])), ["x", "y", "z"]
    elif field in NUMBERS:
        operator, values = draw(st.sampled_from(ORDERED)), NUMBERS[field]
    else:
        operator = draw(st.sampled_from([*ORDERED, "equals", "in", "containsSubstring", "startsWith"]))
        values = TEXTS[field]
    if field in OPTIONAL and operator in ("equals", "notEquals"):
        values = [*values, None]
    one: st.SearchStrategy[Any] = st.sampled_from(values)
    value = draw(st.lists(one, min_size=1, max_size=3) if operator in ("in", "intersects") else one)
    if draw(st.booleans()):
        return {"field": field, "operator": operator, "value": value}
    listed = value if isinstance(value, list) else [value]
    op = "isInList" if operator == "in" else operator
    return {"fields": [field], "op": op, "valuesJson": json.dumps(listed)}


def filters(created: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    either = st.lists(leaf(created), min_size=1, max_size=3).map(lambda inner: {"op": "or", "subFilters": inner})
    return st.lists(st.one_of(leaf(created), leaf(created), either), min_size=1, max_size=3)


SORT_FIELDS = ["createdAt", "createdAt", "status", "runCount", "threadId", "id", "updatedAt", "lastRun", "prompt", "error",
               "parameters.textToText.temperature", "parameters.textToText.stop", "sync"]  # fmt: skip
orders = st.lists(st.fixed_dictionaries({"field": st.sampled_from(SORT_FIELDS), "desc": st.booleans()}), max_size=3)


def plainly(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """What a filter means, written down without a thought of speed or of the code under test."""
    if condition.get("op") == "or":
        return any(plainly(document, inner) for inner in condition["subFilters"])
    field = condition.get("field") or condition["fields"][0]
    operator = condition.get("operator") or condition["op"]
    values = json.loads(condition["valuesJson"]) if "valuesJson" in condition else condition["value"]
    values = values if isinstance(values, list) else [values]
    found: Any = document
    for part in field.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if operator in ("equals", "notEquals"):
        is_equal = values[0] in found if isinstance(found, list) else found == values[0]
        return is_equal == (operator == "equals")
    if operator in ("in", "isInList"):
        return found in values
    if operator == "intersects":
        return isinstance(found, list) and bool({*found} & {*values})
    if found is None or values[0] is None:
        return False
    if operator == "containsSubstring":
        return values[0] in found
    if operator == "startsWith":
        return bool(found.startswith(values[0]))
    compared = {"gt": found > values[0], "gte": found >= values[0], "lt": found < values[0], "lte": found <= values[0]}
    return bool(compared[operator])


def plainly_sorted(documents: list[Mapping[str, Any]], order: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """Stable sorts from the last key to the first, beginning with the oldest first."""
    documents = sorted(documents, key=lambda d: d["createdAt"])

    def key(field: str, document: Mapping[str, Any]) -> tuple[int, Any]:
        found: Any = document
        for part in field.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return (0, 0) if found is None else (1, json.dumps(found)) if isinstance(found, list) else (1, found)

    for sort_key in reversed(order):
        documents = sorted(documents, key=partial(key, sort_key["field"]), reverse=sort_key["desc"])
    return documents


def test_every_query_finds_what_a_plain_evaluation_finds(redis_url: str) -> None:
    """Through all pages, in order, with an exact count; for a user, and for an admin who is not shown the texts of others."""
    loop = asyncio.new_event_loop()
    store = Store(redis_url)
    made = loop.run_until_complete(populate(store))
    assert {prompt.status for prompt in made} == set(Status)
    created = [wire.timestamp(prompt.created_us) for prompt in made]

    @settings(max_examples=250, suppress_health_check=list(HealthCheck))
    @given(filters(created), orders, st.integers(1, 15), st.sampled_from([None, "ann", "bob"]))
    def check(wanted: list[dict[str, Any]], order: list[Any], limit: int, user: str | None) -> None:
        # Texts of others: an admin is "ann" and lists everybody's.
        show = as_seen_by(user or "ann")
        documents = [show(prompt) for prompt in made if user in (None, prompt.user_id)]
        right = plainly_sorted([d for d in documents if all(plainly(d, one) for one in wanted)], order)
        raw = {"filters": wanted, "orderBy": order, "limit": limit, "count": True}
        found = loop.run_until_complete(pages(store.listing(), raw, user_id=user, show=show))
        assert [(show(p)["userId"], p.id) for page in found for p in page.prompts] == [
            (d["userId"], d["id"]) for d in right
        ]
        assert {page.count for page in found} == {len(right)}
        assert not any(page.is_count_partial or page.is_truncated for page in found)
        assert all(len(page.prompts) == limit for page in found[:-1])
        # A cursor if and only if there is more.
        assert len(found) == max(1, -(-len(right) // limit))

    check()
    loop.run_until_complete(store.client.aclose())
    loop.close()
