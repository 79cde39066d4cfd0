"""What of a chat's branch the model is given: the newest turns that fit behind the system's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.doors.open_assistant.context import instructions, newest_that_fit
from pipeline.chat_tree import Role
from pipeline.errors import ClientError

BRANCH = [
    (Role.PROMPTER, "one"),
    (Role.ASSISTANT, "two"),
    (Role.PROMPTER, "three"),
    (Role.ASSISTANT, "four"),
    (Role.PROMPTER, "five"),
]


def render(messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """A token per character, and one for each message."""
    return tuple(range(sum(len(message["content"]) + 1 for message in messages)))


def said(messages: Sequence[Mapping[str, str]]) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in messages]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (100, ["user: one", "assistant: two", "user: three", "assistant: four", "user: five"]),
        (24, ["user: one", "assistant: two", "user: three", "assistant: four", "user: five"]),
        (23, ["user: three", "assistant: four", "user: five"]),
        (15, ["user: five"]),
        (5, ["user: five"]),
        (3, ["user: ve"]),
        (0, ["user: five"]),
    ],
)
def test_the_oldest_turns_go_first_then_the_beginning_of_the_last_message(most: int, expected: list[str]):
    assert said(newest_that_fit(BRANCH, None, render=render, most_tokens=most)) == expected


def test_the_systems_words_stay():
    messages = newest_that_fit(BRANCH, "sys", render=render, most_tokens=15 + 4)
    assert said(messages) == ["system: sys", "user: five"]
    messages = newest_that_fit(BRANCH, "sys", render=render, most_tokens=4 + 3)
    assert said(messages) == ["system: sys", "user: ve"]


def test_an_answer_that_was_erased_is_left_out():
    branch = [(Role.PROMPTER, "one"), (Role.ASSISTANT, ""), (Role.PROMPTER, "two")]
    assert said(newest_that_fit(branch, None, render=render, most_tokens=100)) == ["user: one\n\ntwo"]


def test_an_empty_message_is_one():
    assert said(newest_that_fit([(Role.PROMPTER, "")], None, render=render, most_tokens=100)) == ["user: "]


def test_a_template_that_refuses_everything_is_left_to_say_so():
    def refuse(_messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        raise ClientError("no")

    assert said(newest_that_fit(BRANCH, None, render=refuse, most_tokens=100)) == ["user: five"]


@given(
    lengths=st.lists(st.integers(min_value=1, max_value=20), min_size=1, max_size=9).filter(lambda v: len(v) % 2 == 1),
    most=st.integers(min_value=3, max_value=120),
)
def test_as_much_as_fits_and_no_more(lengths: list[int], most: int):
    roles = [Role.PROMPTER, Role.ASSISTANT]
    branch = [(roles[i % 2], "x" * length) for i, length in enumerate(lengths)]
    messages = newest_that_fit(branch, None, render=render, most_tokens=most)
    assert len(render(messages)) <= most
    if len(messages) == len(branch):
        return
    if len(messages) > 1 or len(messages[0]["content"]) == lengths[-1]:
        more = branch[-len(messages) - 2 :]
        assert sum(len(text) + 1 for _, text in more) > most
    else:
        assert len(render(messages)) == most


def test_instructions_are_one_message():
    nothing: dict[str, None] = dict.fromkeys(("system_prompt", "user_profile", "user_response_instructions"))
    assert instructions(**nothing) is None
    assert instructions(system_prompt="", user_profile=None, user_response_instructions="") is None
    text = instructions(system_prompt="Be kind.", user_profile="A sailor.", user_response_instructions="In rhymes.")
    assert text is not None
    assert text.split("\n\n") == [
        "Be kind.",
        "About the user: A sailor.",
        "How the user wants you to answer: In rhymes.",
    ]
