"""What is asked, and how answers are counted; the same for every system."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

#: Tokens an answer may have. The prompts ask for more, so that nearly every answer is cut there.
MAX_TOKENS = 64

_SUBJECTS = (
    "a lighthouse keeper who finds a message in a bottle",
    "the history of the bicycle from the draisine to carbon frames",
    "how a compiler turns source code into machine code",
    "a day on a container ship in the North Sea",
    "the water cycle, for a class of ten-year-olds",
    "an argument between two chefs about salt",
    "why leaves change their colour in autumn",
    "a train journey through the Alps in winter",
    "how vaccines teach the immune system",
    "a robot that learns to paint with watercolours",
    "the rules of chess, piece by piece",
    "the rise and fall of the Hanseatic League",
    "what happens inside a star over its life",
    "a letter from an astronaut to her younger brother",
    "how bread rises and why it has holes",
    "the mountains, rivers and cities of Peru",
    "a detective who solves a case in a library at night",
    "how the internet carries a message across an ocean",
    "the migration of monarch butterflies",
    "three ways to cook potatoes, step by step",
    "the story of zero in mathematics",
    "a village that decides to build its own windmill",
    "how a piano makes its sound",
    "the discovery of penicillin and what came of it",
    "a conversation between the sun and the moon",
    "how to plan a vegetable garden for a whole year",
    "the voyage of a salmon from the sea to its spring",
    "why the sky is blue and sunsets are red",
    "an inventor who builds a clock out of ice",
    "the parts of a cell and what each of them does",
    "how a bill becomes a law in a parliament",
    "a market in Marrakesh early in the morning",
)


def prompts(count: int) -> list[str]:
    """A fixed list of prompts, no two alike, each good for a long answer."""
    forms = ("Write a long and detailed text about {}.", "Write a long essay in many paragraphs about {}.")
    texts = [form.format(subject) for form in forms for subject in _SUBJECTS]
    return [texts[i % len(texts)] + (f" Part {i // len(texts) + 1}." if i >= len(texts) else "") for i in range(count)]


@cache
def _tokenizer(model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model / "tokenizer.json"))


def count_tokens(model: Path, answers: Sequence[str]) -> int:
    """Tokens of the answers' texts. Counted from the text for every system alike: not every API reports usage."""
    encodings = _tokenizer(model).encode_batch(list(answers), add_special_tokens=False)
    return sum(len(encoding.ids) for encoding in encodings)
