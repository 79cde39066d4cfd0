"""Splits, fallbacks and the default: which model a prompt gets, and what of it is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deployments.ingress.model_choice import Choice, NotCapable, route
from deployments.routing import CurrentRouting, Routing, pick
from deployments.settings import InvalidSettings, Settings
from pipeline.errors import InvalidField
from pipeline.prompt_type import PromptType

SETTINGS = Settings.parse(
    {
        "redis_url": "redis://none.invalid",
        "models": [
            {"id": "org/a", "aliases": ["first"], "engine": "scripted", "source": "none"},
            {"id": "org/b", "engine": "scripted", "source": "none"},
            {
                "id": "org/painter",
                "engine": "scripted",
                "source": "none",
                "capabilities": ["text-to-image", "text-generation"],
            },
        ],
    }
)
SPLIT = {"splits": {"chat": {"org/a": 90, "org/b": 10}}}


def choose(config: dict[str, Any], key: str = "ann/t", **given: Any) -> Choice:
    asked: dict[str, Any] = {"default": "org/a", "named": None, "prompt_type": PromptType.TEXT_TO_TEXT, **given}
    return route(SETTINGS.models, Routing.parse(config, SETTINGS), key=key, **asked)


def test_without_a_routing_prompts_run_on_what_they_name():
    assert choose({}, named="first") == Choice(model=SETTINGS.models[0], fallback=None, routed="")
    assert choose({}).model.id == "org/a"


def test_a_split_is_as_large_as_its_weights_say():
    chosen = Counter(choose(SPLIT, named="chat", key=f"ann/{n}").model.id for n in range(5000))
    assert set(chosen) == {"org/a", "org/b"}
    assert abs(chosen["org/b"] - 500) < 100


def test_a_conversation_stays_with_its_model():
    assert len({choose(SPLIT, named="chat", key="ann/talk").model.id for _ in range(20)}) == 1


def test_a_larger_weight_moves_no_more_than_it_must():
    before, after = {"org/a": 90.0, "org/b": 10.0}, {"org/a": 80.0, "org/b": 20.0}
    keys = [f"ann/{n}" for n in range(2000)]
    moved = [key for key in keys if pick(before, key) != pick(after, key)]
    assert all(pick(after, key) == "org/b" for key in moved)
    assert abs(len(moved) - 200) < 60


def test_a_weight_of_zero_gets_nothing():
    assert {pick({"a": 0, "b": 1, "c": 0}, f"k{n}") for n in range(200)} == {"b"}


def test_the_choice_is_recorded():
    assert choose(SPLIT, named="chat").routed == "split chat"
    assert choose({**SPLIT, "default_model": "chat"}, default="chat").routed == "split chat"


def test_a_split_is_among_those_that_can():
    split = {"splits": {"any": {"org/a": 1, "org/painter": 1}}}
    found = {choose(split, named="any", key=f"k{n}", prompt_type=PromptType.TEXT_TO_IMAGE).model.id for n in range(40)}
    assert found == {"org/painter"}


def test_a_named_split_that_cannot_is_refused_and_a_default_one_passed_over():
    with pytest.raises(NotCapable, match="no model of chat has the capability text-to-image"):
        choose(SPLIT, named="chat", prompt_type=PromptType.TEXT_TO_IMAGE)
    chosen = choose(SPLIT, default="chat", prompt_type=PromptType.TEXT_TO_IMAGE)
    assert (chosen.model.id, chosen.routed) == ("org/painter", "")


def test_an_unknown_name_is_told_the_splits_too():
    with pytest.raises(InvalidField, match="modelId: got 'chatt', allowed is one of chat, first, org/a"):
        choose(SPLIT, named="chatt")


def test_a_model_has_the_fallback_it_is_given():
    config = {"fallbacks": {"org/a": {"model": "org/b", "over_waiting": 5}}}
    chosen = choose(config, named="first")
    assert chosen.fallback is not None
    assert chosen.fallback.id == "org/b"
    assert choose(config, named="org/b").fallback is None


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"split": {}}, "split: Extra inputs are not permitted"),
        ({"splits": {"org/a": {"org/b": 1}}}, "splits: the name 'org/a' is that of a model"),
        ({"splits": {"first": {"org/b": 1}}}, "splits: the name 'first' is that of a model"),
        ({"splits": {"x": {"org/c": 1}}}, "splits.x: got 'org/c', allowed is one of"),
        ({"splits": {"x": {"org/a": 0}}}, "x: got no weight above 0, allowed is at least one"),
        ({"splits": {"x": {"org/a": -1}}}, "x: org/a: got -1, allowed is 0 to 1e9"),
        ({"splits": {"x": {"org/a": float("nan")}}}, "x: org/a: got nan, allowed is 0 to 1e9"),
        ({"fallbacks": {"org/c": {"model": "org/a"}}}, "fallbacks: got 'org/c', allowed is one of"),
        (
            {"fallbacks": {"org/a": {"model": "org/a"}}},
            "fallbacks.org/a.model: got 'org/a', allowed is one of ['org/b'",
        ),
        ({"fallbacks": {"org/a": {"model": "org/b", "over_waiting": -1}}}, "fallbacks.org/a.over_waiting"),
        ({"fallbacks": {"org/painter": {"model": "org/a"}}}, "org/a lacks the capabilities ['text-to-image']"),
        ({"default_model": "none"}, "default_model: got 'none', allowed is one of ['first', 'org/a'"),
    ],
)
def test_what_is_wrong_is_named(config: dict[str, Any], problem: str):
    with pytest.raises(InvalidSettings) as refused:
        Routing.parse(config, SETTINGS)
    assert problem in str(refused.value)


def test_a_wrong_change_leaves_what_is_in_force(caplog: pytest.LogCaptureFixture):
    routing = CurrentRouting(SETTINGS)
    assert routing.now == Routing()
    with pytest.raises(InvalidSettings):
        routing.reconfigure({"default_model": "none"})
    routing.reconfigure({"default_model": "org/b"})
    routing.reconfigure({"default_model": "none"})
    assert routing.now.default_model == "org/b"
    routing.reconfigure({})
    assert routing.now == Routing()
