"""What is published depends on the ids alone, not on how they were cut into calls and attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.text_stream import LogMismatch, TextStream
from tests.unit.tokenizers_for_tests import byte_fallback, smollm2

FRAGMENTS = (
    "the ", " stop", "end.", "  ", "\n\n", "a", "é", "e\u0301", "🎉", "🦜", "👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "日本語", "中文",
    "ह‍ि", "STOP", "\ufffd", "ST", "🎉🎉", "\u200d", "ａ", "\U0001f1e9\U0001f1ea",
)  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=12).map("".join)
stops = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(min_size=1, max_size=5)), max_size=3)
Factory = Callable[[], Tokenizer]


@pytest.fixture(scope="module", params=["smollm2", "byte fallback"])
def tokenizer(request: pytest.FixtureRequest, models_dir: Path) -> Tokenizer:
    return smollm2(models_dir) if request.param == "smollm2" else byte_fallback()


def whole(stream: TextStream, batches: Sequence[Sequence[int]]) -> str:
    """Everything a stream publishes for ids in batches."""
    published = []
    for ids in batches:
        text, finished = stream.feed(ids)
        published.append(text)
        if finished:
            return "".join(published)
    return "".join(published) + stream.finish()


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    if tokenizer.token_to_id("<0x00>") is not None:
        # Byte fallback shows wrong bytes as U+FFFD, too, so that its stream cannot wait for them (TextStream's docstring).
        text = text.replace("\ufffd", "")
    return tokenizer.encode(text, add_special_tokens=False).ids


def cut(ids: Sequence[int], data: st.DataObject) -> list[Sequence[int]]:
    places = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4)))
    return [ids[start:end] for start, end in zip([0, *places], [*places, len(ids)], strict=True)]


def until_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the stop string that is complete first; of two, the longer."""
    ends = [(found + len(s), found) for s in stop if (found := text.find(s)) >= 0]
    return text[: min(ends)[1]] if ends else text


@given(text=texts, data=st.data())
@settings(deadline=None, max_examples=200)
def test_published_text_is_the_decoded_text_however_the_ids_are_cut(
    tokenizer: Tokenizer, text: str, data: st.DataObject
) -> None:
    ids = encoded(tokenizer, text)
    assert whole(TextStream(tokenizer), cut(ids, data)) == tokenizer.decode(ids)


@given(text=texts, stop=stops, data=st.data())
@settings(deadline=None, max_examples=200)
def test_the_answer_ends_before_the_first_complete_stop_string_however_the_ids_are_cut(
    tokenizer: Tokenizer, text: str, stop: list[str], data: st.DataObject
) -> None:
    ids = encoded(tokenizer, text)
    stream = TextStream(tokenizer, stop)
    expected = until_stop(tokenizer.decode(ids), stop)
    assert whole(stream, cut(ids, data)) == expected
    assert stream.finished
    assert stream.feed(ids) == ("", True)


@given(ids=st.lists(st.integers(0, 300), max_size=40), stop=stops, data=st.data())
@settings(deadline=None, max_examples=300)
def test_a_restored_stream_goes_on_where_the_logged_one_stood_even_for_garbage(
    tokenizer: Tokenizer, ids: list[int], stop: list[str], data: st.DataObject
) -> None:
    ids = [token_id for token_id in ids if token_id < tokenizer.get_vocab_size()]
    undisturbed = whole(TextStream(tokenizer, stop), [[token_id] for token_id in ids])

    position = data.draw(st.integers(0, len(ids)))
    logged, _ = TextStream(tokenizer, stop).feed(ids[:position])
    # An attempt may die after it logged the ids and before it published all of their text.
    logged = logged[: len(logged) - data.draw(st.integers(0, min(3, len(logged))))]
    stream = TextStream(tokenizer, stop)
    owed, finished = stream.restore(ids[:position], logged)
    rest = "" if finished else whole(stream, cut(ids[position:], data))
    assert logged + owed + rest == undisturbed


@given(text=texts, data=st.data())
@settings(deadline=None)
def test_no_cut_publishes_a_part_of_a_character(tokenizer: Tokenizer, text: str, data: st.DataObject) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    # SmolLM2's vocabulary lacks some bytes of rare characters: their text is broken from the start.
    assume("\ufffd" not in tokenizer.decode(ids))
    published, _ = TextStream(tokenizer).feed(ids[: data.draw(st.integers(0, len(ids)))])
    assert "\ufffd" not in published


@given(ids=st.lists(st.integers(0, 49151), max_size=30))
@settings(deadline=None)
def test_byte_level_garbage_is_published_as_the_tokenizer_decodes_it(models_dir: Path, ids: list[int]) -> None:
    tokenizer = smollm2(models_dir)
    assert whole(TextStream(tokenizer), [[token_id] for token_id in ids]) == tokenizer.decode(ids)


def test_text_waits_only_for_the_rest_of_its_character(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    ids = tokenizer.encode("a🎉b").ids
    stream = TextStream(tokenizer)
    assert [stream.feed([token_id])[0] for token_id in ids] == ["a", "", "", "🎉", "b"]


def test_a_character_that_never_becomes_whole_is_shown_as_the_tokenizer_shows_it(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    ids = tokenizer.encode("a🎉").ids[:-1]
    stream = TextStream(tokenizer)
    assert stream.feed(ids) == ("a", False)
    assert stream.finish() == "\ufffd"
    assert stream.finish() == ""


def test_what_may_become_a_stop_string_is_held_back_until_it_does_not(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    stream = TextStream(tokenizer, ["aab"])
    assert [stream.feed(tokenizer.encode(c).ids)[0] for c in "xaaac"] == ["x", "", "", "a", "aac"]


def test_ids_behind_a_stop_string_are_ignored(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    stream = TextStream(tokenizer, ["END"])
    assert stream.feed(tokenizer.encode("one END two").ids) == ("one ", True)
    assert stream.finish() == ""


def test_special_tokens_are_no_text_unless_asked_for(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    ids = tokenizer.encode("a<|im_end|>b").ids
    assert whole(TextStream(tokenizer), [ids]) == "ab"
    assert whole(TextStream(tokenizer, skip_special_tokens=False), [ids]) == "a<|im_end|>b"


def test_a_stop_string_complete_in_the_log_ends_a_restored_stream_at_once(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    stream = TextStream(tokenizer, ["END"])
    assert stream.restore(tokenizer.encode("one END").ids, "one") == (" ", True)
    assert stream.finished


def test_published_characters_stay_when_byte_fallback_blanks_their_run(models_dir: Path) -> None:
    tokenizer = byte_fallback()
    run = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in "€".encode()]
    assert tokenizer.decode([*run, run[0]]) == "\ufffd" * 4
    assert whole(TextStream(tokenizer), [[*run, run[0]]]) == "€\ufffd"
    assert whole(TextStream(tokenizer), [[*run, run[0], *tokenizer.encode("the").ids]]) == "€\ufffd the"


def test_a_log_whose_text_is_not_that_of_its_ids_is_refused(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    with pytest.raises(LogMismatch):
        TextStream(tokenizer).restore(tokenizer.encode("one two").ids, "three")


def test_endless_garbage_is_published_and_costs_linear_time(models_dir: Path) -> None:
    tokenizer = smollm2(models_dir)
    half = tokenizer.encode("🎉").ids[0]
    assert whole(TextStream(tokenizer), [[half]] * 20_000) == tokenizer.decode([half] * 20_000)
