"""A deterministic engine for unit and chaos tests, never a default: the answer is a pure function of the prompt's ids.

So whatever died in between, the text a resumed attempt completes can be compared with ``expected_answer``. Its ids are
bytes, so that most cuts fall inside a character.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from deployments.engines.parsed import Parsers
from deployments.engines.tool_text import tools_as_text
from deployments.settings import InvalidSettings, ModelSpec
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.engine import SamplingParameters, TextRequest
from pipeline.errors import ClientError, EngineDead, EngineError, PermanentEngineError
from pipeline.resume import ResumeMethod, plan_resume
from pipeline.text_stream import TextStream

#: Exit status of a process that ``die_after_tokens`` ended.
DIED = 86
#: Most tokens of prompt and answer together, unless the catalogue says otherwise.
CONTEXT_TOKENS = 4096

_END = 256
_ROLES = {"system": 257, "user": 258, "assistant": 259, "tool": 260}
_WORDS = (
    "river", "stone", "parrot 🦜", "naïve", "日本語", "family 👩‍👩‍👧", "café", "the", "and", "of", "rocket 🚀",
    "Grüße", "नमस्ते", "cloud", "e\u0301clair", "🏳️‍🌈", "light", "a", "slow", "morning",
)  # fmt: skip


class ScriptedOptions(BaseModel):
    """``engine_args`` of a scripted model. Faults concern the prompts whose text contains ``faulty_prompts``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Seconds per token.
    step_s: float = Field(default=0.01, ge=0)
    #: Seconds before the first token.
    first_step_s: float = Field(default=0, ge=0)
    tokens_per_delta: int = Field(default=1, ge=1)
    #: Tokens until the answer ends by itself, the end token included. None: 16 to 79, depending on the prompt.
    answer_tokens: int | None = Field(default=None, ge=1)
    #: The answer to every prompt, in place of words that depend on it.
    answer: str | None = None

    faulty_prompts: str = ""
    #: So many attempts at a faulty prompt fail (EngineError) in this process.
    fail_first: int = Field(default=0, ge=0)
    fail_permanently: bool = False
    #: New tokens an attempt yields before it fails.
    fail_after_tokens: int = Field(default=0, ge=0)
    #: The process ends (status 86) after so many new tokens of a faulty prompt.
    die_after_tokens: int | None = Field(default=None, ge=0)
    #: The engine is lost (EngineDead) after so many new tokens.
    lose_engine_after_tokens: int | None = Field(default=None, ge=0)
    #: Nothing comes any more after so many new tokens, until the request is aborted.
    hang_after_tokens: int | None = Field(default=None, ge=0)
    #: Dying, losing the engine and hanging happen once in all processes: only to the one that creates this file.
    once_file: Path | None = None


class ScriptedRenderer:
    """Renders prompts for a scripted model: UTF-8 bytes, with one special id per message and role."""

    def __init__(self) -> None:
        self.tokenizer = _tokenizer()

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[int, ...]:
        ids: list[int] = []
        for message in tools_as_text(messages, tools):
            if message["role"] not in _ROLES:
                raise ClientError(f"role: allowed is one of {', '.join(_ROLES)}")
            ids += [_ROLES[message["role"]], *str(message["content"]).encode(), _END]
        return (*ids, _ROLES["assistant"])

    def render_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())


class ScriptedEngine:
    """See ``pipeline.engine.Engine``."""

    fingerprint = "scripted-1"

    def __init__(self, spec: ModelSpec) -> None:
        """
        Raises:
            InvalidSettings: ``spec.engine_args`` has an unknown or wrong option.
        """
        try:
            self.options = ScriptedOptions(**spec.engine_args)
        except ValidationError as error:
            issues = "; ".join(f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in error.errors())
            raise InvalidSettings(f"models: {spec.id}: engine_args: {issues}") from None
        self.context_tokens = spec.context_tokens or CONTEXT_TOKENS
        self._always_replay = spec.resume == "replay"
        self._aborted: dict[str, asyncio.Event] = {}
        self._attempts: Counter[tuple[int, ...]] = Counter()
        self._dead = False

    @property
    def running(self) -> frozenset[str]:
        """Ids of the requests that are being generated."""
        return frozenset(self._aborted)

    async def generate(self, request: TextRequest) -> AsyncIterator[Delta]:
        self._require_alive()
        if request.sampling.json_schema is not None or request.sampling.structural_tag is not None:
            raise PermanentEngineError("the scripted engine follows no JSON schema")
        plan = plan_resume(
            request,
            tokenizer=_tokenizer(),
            end_ids=(_END,),
            context_tokens=self.context_tokens,
            always_replay=self._always_replay,
        )
        if plan.finish_reason is not None:
            yield Delta(kind=DeltaKind.END, text=plan.owed_text, finish_reason=plan.finish_reason)
            return
        if len(request.prompt_token_ids) >= self.context_tokens:
            raise PermanentEngineError(f"the prompt does not fit into the model's {self.context_tokens} tokens")
        already = len(request.logged_token_ids)
        if plan.method is ResumeMethod.RESTART:
            already = 0
            yield Delta(kind=DeltaKind.RESTART)
        elif plan.owed_text:
            yield Delta(text=plan.owed_text)

        aborted = self._aborted.setdefault(request.request_id, asyncio.Event())
        try:
            waiting: list[Delta] = []
            script = _script(request, self.options.answer_tokens, self.options.answer)
            steps = _answer(request, plan.stream, already, self.context_tokens, script)
            for new_tokens, delta in enumerate(steps):
                await self._inject_faults(request, new_tokens, aborted)
                await self._wait(aborted, self.options.step_s + (0 if new_tokens else self.options.first_step_s))
                waiting.append(delta)
                if delta.kind is DeltaKind.END or len(waiting) >= self.options.tokens_per_delta:
                    yield _merged(waiting)
                    waiting = []
        finally:
            self._aborted.pop(request.request_id, None)

    async def abort(self, request_id: str) -> None:
        if (event := self._aborted.get(request_id)) is not None:
            event.set()

    async def check_health(self) -> None:
        self._require_alive()

    async def shutdown(self) -> None:
        self._dead = True
        for event in self._aborted.values():
            event.set()

    def _require_alive(self) -> None:
        if self._dead:
            raise EngineDead

    async def _wait(self, aborted: asyncio.Event, seconds: float | None) -> None:
        if seconds == 0:
            await asyncio.sleep(0)
        else:
            # Not ``wait_for``: before Python 3.12 it may lose a cancellation (cpython#86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await aborted.wait()
        self._require_alive()
        if aborted.is_set():
            raise EngineError("the request was aborted")

    async def _inject_faults(self, request: TextRequest, new_tokens: int, aborted: asyncio.Event) -> None:
        options = self.options
        if options.faulty_prompts.encode() not in bytes(i for i in request.prompt_token_ids if i < _END):
            return
        if new_tokens == options.fail_after_tokens:
            if options.fail_permanently:
                raise PermanentEngineError("scripted permanent failure")
            self._attempts[request.prompt_token_ids] += 1
            if self._attempts[request.prompt_token_ids] <= options.fail_first:
                raise EngineError("scripted failure")
        if new_tokens == options.die_after_tokens and self._first_time():
            os._exit(DIED)
        if new_tokens == options.lose_engine_after_tokens and self._first_time():
            self._dead = True
            raise EngineDead
        if new_tokens == options.hang_after_tokens and self._first_time():
            await self._wait(aborted, None)

    def _first_time(self) -> bool:
        if self.options.once_file is None:
            return True
        try:
            self.options.once_file.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def expected_answer(
    prompt_token_ids: tuple[int, ...],
    sampling: SamplingParameters,
    *,
    answer_tokens: int | None = None,
    context_tokens: int = CONTEXT_TOKENS,
) -> tuple[str, FinishReason]:
    """What an undisturbed attempt answers."""
    request = TextRequest(request_id="expected", prompt_token_ids=prompt_token_ids, sampling=sampling)
    stream = TextStream(_tokenizer(), sampling.stop)
    deltas = list(_answer(request, stream, 0, context_tokens, _script(request, answer_tokens)))
    reason = deltas[-1].finish_reason
    assert reason is not None
    return "".join(delta.text for delta in deltas), reason


def _answer(
    request: TextRequest, stream: TextStream, already: int, context_tokens: int, script: Iterator[int]
) -> Iterator[Delta]:
    """One delta per token behind the first ``already`` ones; the last is the END."""
    most = min(request.sampling.max_tokens, context_tokens - len(request.prompt_token_ids))
    for position, token_id in enumerate(itertools.islice(script, already, None), start=already + 1):
        text, stopped = ("", True) if token_id == _END else stream.feed((token_id,))
        if stopped or position >= most:
            yield Delta(
                kind=DeltaKind.END,
                text=text + stream.finish(),
                token_ids=(token_id,),
                finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            )
            return
        yield Delta(text=text, token_ids=(token_id,))


def _script(request: TextRequest, answer_tokens: int | None, answer: str | None = None) -> Iterator[int]:
    """Bytes of pseudo-random words, or of the answer, then the end token."""
    if answer is not None:
        return iter((*answer.encode(), _END))
    key = hashlib.sha256(f"{request.prompt_token_ids}{request.sampling.seed}".encode()).digest()
    length = answer_tokens or 16 + key[0] % 64
    words = (_WORDS[hashlib.sha256(key + index.to_bytes(8)).digest()[0] % len(_WORDS)] for index in itertools.count())
    text = itertools.chain.from_iterable(f"{word} ".encode() for word in words)
    return itertools.chain(itertools.islice(text, length - 1), (_END,))


def scripted_parsers(spec: ModelSpec) -> Parsers:
    """vLLM's parsers for the answers of a scripted model. Imports vLLM: seconds and half a gigabyte."""
    from transformers import PreTrainedTokenizerFast

    from deployments.engines.vllm_parsers import VllmParsers

    return VllmParsers(spec, PreTrainedTokenizerFast(tokenizer_object=_tokenizer()))


def _merged(deltas: list[Delta]) -> Delta:
    return Delta(
        kind=deltas[-1].kind,
        text="".join(delta.text for delta in deltas),
        token_ids=tuple(itertools.chain.from_iterable(delta.token_ids for delta in deltas)),
        finish_reason=deltas[-1].finish_reason,
    )


@cache
def _tokenizer() -> Tokenizer:
    """Id n is the byte n. Byte-level tokenizers write bytes as printable characters, GPT-2's way."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in printable)
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    tokenizer = Tokenizer(models.BPE(vocab={character: byte for byte, character in shown.items()}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken("<|end|>", special=True), *(AddedToken(f"<|{role}|>", special=True) for role in _ROLES)]
    )
    return tokenizer
