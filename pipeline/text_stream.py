"""Token ids in, text to publish out: incremental detokenisation and stop strings.

What is published depends only on the sequence of ids, never on how it was cut into calls or attempts: a stream that is
restored from logged ids goes on exactly where the one that logged them stood (DESIGN §3, Resume).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

#: What a decoder shows for bytes that are no character (yet).
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
#: A character has at most four bytes, so at most three replacement marks at the end may still become one.
_MAX_INCOMPLETE = 3
#: Ids that may wait for the rest of a character. Only a model that emits garbage gets there; the bound keeps its
#: cost linear.
_MAX_PENDING_IDS = 64


class LogMismatch(ValueError):
    """The logged text is not what the logged ids decode to, so the answer cannot go on behind it."""


class TextStream:
    """One answer's text, as it grows.

    The concatenation of everything returned equals ``tokenizer.decode(ids)``, up to a stop string if there is one.
    The only exception are ids whose bytes are not UTF-8, or are U+FFFD itself, with a SentencePiece byte-fallback decoder:
    it blanks a whole run of bytes once one of them is wrong, and characters readers have already seen are not taken back.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), skip_special_tokens: bool = True) -> None:
        self._detokenizer = _Detokenizer(tokenizer, skip_special_tokens)
        self._matcher = _StopMatcher(stop)
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether a stop string is complete or ``finish`` was called; nothing is published any more."""
        return self._finished

    def feed(self, ids: Iterable[int]) -> tuple[str, bool]:
        """Take the next ids; return the text that may be published now and whether a stop string ended the answer.

        Ids behind the one that completes a stop string are ignored.
        """
        published: list[str] = []
        for token_id in ids:
            if self._finished:
                break
            text, self._finished = self._matcher.feed(self._detokenizer.feed(token_id))
            published.append(text)
        return "".join(published), self._finished

    def finish(self) -> str:
        """The answer ends here for another reason than a stop string: return what was held back.

        The rest of a character that never became whole is shown as U+FFFD. Empty after a stop string.
        """
        if self._finished:
            return ""
        text, self._finished = self._matcher.feed(self._detokenizer.flush())
        if not self._finished:
            text += self._matcher.flush()
            self._finished = True
        return text

    def restore(self, logged_ids: Iterable[int], logged_text: str) -> tuple[str, bool]:
        """Bring a fresh stream to where one stood that was fed ``logged_ids`` and published ``logged_text``.

        Returns what ``feed`` returns: text that follows ``logged_text`` and could have been published already (an
        attempt may die between two appends), and whether the answer ended within the logged ids.

        Raises:
            LogMismatch: the logged text does not belong to the logged ids.
        """
        published, finished = self.feed(logged_ids)
        if not published.startswith(logged_text):
            raise LogMismatch("the logged text is not what the logged ids decode to")
        return published[len(logged_text) :], finished


class _Detokenizer:
    """Decodes ids one by one. A decoder's text for an id depends on the ids before it (leading spaces, bytes of one
    character), so each id is decoded together with the last ones that were published."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped: frozenset[int] = frozenset(
            token_id
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
            if skip_special_tokens and token.special
        )
        self._context: list[int] = []
        self._context_text = ""
        self._pending: list[int] = []
        #: Characters of the pending ids' text that are published already.
        self._shown = 0

    def feed(self, token_id: int) -> str:
        if token_id in self._skipped:
            return ""
        self._pending.append(token_id)
        text = self._pending_text()
        if text.endswith(_REPLACEMENT) and len(self._pending) < _MAX_PENDING_IDS:
            marks = len(text) - len(text.rstrip(_REPLACEMENT))
            whole = max(self._shown, len(text) - min(marks, _MAX_INCOMPLETE))
            new, self._shown = text[self._shown : whole], whole
            return new
        new = text[self._shown :]
        if new:
            self._publish_pending()
        return new

    def flush(self) -> str:
        new = self._pending_text()[self._shown :]
        self._publish_pending()
        return new

    def _pending_text(self) -> str:
        text = self._decode([*self._context, *self._pending])
        if text.startswith(self._context_text):
            return text[len(self._context_text) :]
        # Byte fallback: a wrong byte blanked the characters before it, too. They are published; go on behind them.
        self._context, self._context_text = [], ""
        return self._decode(self._pending)

    def _publish_pending(self) -> None:
        self._context, self._pending, self._shown = self._pending, [], 0
        self._context_text = self._decode(self._context)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


class _StopMatcher:
    """Finds the stop string that is complete first (of two at the same character, the longer), holding back text that
    may be the beginning of one. One Knuth-Morris-Pratt automaton per stop string: linear in the text."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._patterns = [(pattern, _borders(pattern)) for pattern in stop if pattern]
        self._matched = [0] * len(self._patterns)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        if not self._patterns:
            return text, False
        for position, character in enumerate(text):
            complete = 0
            for index, (pattern, borders) in enumerate(self._patterns):
                state = self._matched[index]
                while state and pattern[state] != character:
                    state = borders[state - 1]
                if pattern[state] == character:
                    state += 1
                if state == len(pattern):
                    complete = max(complete, state)
                    state = borders[state - 1]
                self._matched[index] = state
            if complete:
                seen = self._held + text[: position + 1]
                self._held = ""
                return seen[: len(seen) - complete], True
        seen = self._held + text
        keep = len(seen) - max(self._matched)
        self._held = seen[keep:]
        return seen[:keep], False

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


def _borders(pattern: str) -> list[int]:
    """For every prefix of the pattern, the length of its longest proper prefix that is also its suffix."""
    borders = [0] * len(pattern)
    length = 0
    for position in range(1, len(pattern)):
        while length and pattern[position] != pattern[length]:
            length = borders[length - 1]
        if pattern[position] == pattern[length]:
            length += 1
        borders[position] = length
    return borders
