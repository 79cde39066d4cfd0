"""Which turns of a conversation the model gets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.engines.scripted import ScriptedRenderer
from deployments.replica import histories
from deployments.replica.histories import Histories
from pipeline.conversation import Author, Said, answer_room, chat, newest_that_fit, turn_starts
from pipeline.errors import ClientError
from pipeline.store.attempts import HistoryWanted
from pipeline.store.history import HistoryPage

render = ScriptedRenderer().render_chat

USER, ASSISTANT = Author.USER, Author.ASSISTANT
TALK = [
    Said(author=USER, text="one"),
    Said(author=ASSISTANT, text="1"),
    Said(author=USER, text="two"),
    Said(author=ASSISTANT, text="2"),
]


def strict(messages: list[dict[str, str]]) -> tuple[int, ...]:
    """Like the templates of Llama 2, Mistral and Gemma: user and assistant must take turns, the user first."""
    if [m["role"] for m in messages] != [("user", "assistant")[i % 2] for i in range(len(messages))]:
        raise ClientError("must alternate")
    return render(messages)


def test_the_model_gets_what_was_said_in_order_and_then_the_prompt() -> None:
    assert chat(TALK, "three") == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "three"},
    ]


def test_neighbours_of_one_author_become_one_message() -> None:
    said = [*TALK, Said(author=ASSISTANT, text="by hand"), Said(author=USER, text="wait")]
    assert chat(said, "three")[-2:] == [
        {"role": "assistant", "content": "2\n\nby hand"},
        {"role": "user", "content": "wait\n\nthree"},
    ]


def test_all_of_it_if_it_fits() -> None:
    whole = render(chat(TALK, "three"))
    assert newest_that_fit(TALK, "three", render=render, most_tokens=len(whole)) == whole


def test_the_oldest_turn_goes_first_and_whole() -> None:
    whole = render(chat(TALK, "three"))
    assert newest_that_fit(TALK, "three", render=render, most_tokens=len(whole) - 1) == render(chat(TALK[2:], "three"))


def test_nothing_if_not_even_the_last_turn_fits() -> None:
    least = render(chat(TALK[2:], "three"))
    assert newest_that_fit(TALK, "three", render=render, most_tokens=len(least) - 1) is None
    assert newest_that_fit([], "three", render=render, most_tokens=1000) is None


def test_answers_before_any_question_are_dropped_where_the_template_refuses_them() -> None:
    said = [Said(author=ASSISTANT, text="Welcome"), *TALK]
    assert turn_starts(said) == [0, 1, 3]
    assert newest_that_fit(said, "three", render=render, most_tokens=1000) == render(chat(said, "three"))
    assert newest_that_fit(said, "three", render=strict, most_tokens=1000) == render(chat(TALK, "three"))


@given(
    said=st.lists(
        st.builds(Said, author=st.sampled_from(Author), text=st.text(min_size=1, max_size=20)), min_size=1, max_size=40
    ),
    most=st.integers(1, 400),
)
def test_what_fits_is_the_longest_run_of_newest_turns(said: list[Said], most: int) -> None:
    starts = turn_starts(said)
    fitting = [ids for start in starts if len(ids := render(chat(said[start:], "p"))) <= most]
    assert newest_that_fit(said, "p", render=render, most_tokens=most) == (fitting[0] if fitting else None)


@pytest.mark.parametrize(("max_tokens", "room"), [(1, 1), (512, 512), (1024, 1024), (1025, 1024), (1_000_000, 1024)])
def test_the_answer_keeps_its_room_but_no_more_than_half(max_tokens: int, room: int) -> None:
    assert answer_room(max_tokens, 2048) == room


class MemoryHistory:
    """A thread as the reader pages through it."""

    def __init__(self, said: list[Said]) -> None:
        self.said = said
        self.pages: list[int] = []

    async def page(self, user_id: str, thread_id: str, *, before: int, most: int) -> HistoryPage:
        self.pages.append(most)
        newest = self.said[max(0, before - most) : before][::-1]
        return HistoryPage(said=newest, before=before - most if before > most else None)


class Text:
    """What ``Histories`` needs of a model."""

    def __init__(self, context_tokens: int, render: Any = render) -> None:
        self.context_tokens = context_tokens
        self.render_chat = render


def histories_of(said: list[Said], context_tokens: int, render: Any = render) -> tuple[Histories, MemoryHistory]:
    reader: Any = MemoryHistory(said)
    text: Any = Text(context_tokens, render)
    return Histories(reader, text), reader


def wanted(said: list[Said]) -> HistoryWanted:
    # The reader in memory counts messages; a real one's order is twice the place, less one.
    return HistoryWanted(user_id="u", thread_id="t", place=(len(said) + 1) // 2, prompt="now")


def long_talk(turns: int) -> list[Said]:
    talk = [Said(author=a, text=f"{a}{n:04}") for n in range(turns) for a in (USER, ASSISTANT)]
    return [Said(author=ASSISTANT, text="hello"), *talk]


@pytest.mark.parametrize("template", [render, strict])
async def test_a_long_thread_is_read_until_it_no_longer_fits(template: Any) -> None:
    said = long_talk(500)
    rendering, reader = histories_of(said, 1000, template)
    token_ids = await rendering.render(wanted(said), 100)
    assert token_ids == newest_that_fit(said, "now", render=render, most_tokens=900)
    assert reader.pages == [16, 32, 64]


async def test_a_thread_that_fits_is_read_to_its_beginning() -> None:
    said = long_talk(50)
    rendering, _ = histories_of(said, 100_000)
    assert await rendering.render(wanted(said), 100) == render(chat(said, "now"))


async def test_reading_a_thread_ends_even_if_nothing_in_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "MOST_MESSAGES", 100)
    rendering, reader = histories_of(long_talk(500), 1_000_000)

    async def nothing(user_id: str, thread_id: str, *, before: int, most: int) -> HistoryPage:
        reader.pages.append(most)
        return HistoryPage(said=[], before=before)

    monkeypatch.setattr(reader, "page", nothing)
    assert await rendering.render(wanted(long_talk(500)), 100) is None
    assert sum(reader.pages) < 200
