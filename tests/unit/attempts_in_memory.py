"""An ``AttemptStore`` in a dict, with the rules of its scripts: every write checks status and fence.

``test_attempt_store_in_memory.py`` keeps it honest: same methods, same signatures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from pipeline.delta import TEXT_KINDS, Delta, DeltaKind, FinishReason
from pipeline.engine import SamplingParameters
from pipeline.errors import LogForgotten, StaleLease
from pipeline.files.record import MadeFile
from pipeline.states import Status, advance
from pipeline.store.attempts import Claimed, HistoryWanted, PicturesWanted, Standing, Written, _since_restart
from pipeline.store.logs import LogEntry, decode_entry, encode_delta


@dataclass(slots=True)
class StoredPrompt:
    """A leased prompt: granted under ``fence``, not claimed yet."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    fence: int = 1
    status: Status = Status.RUNNING
    holder: str = ""
    runs: int = 1
    failures: int = 0
    crashes: int = 0
    max_retries: int = 4
    fingerprint: str = ""
    error: str = ""
    #: Of the retry that was asked for, seconds.
    delay_s: float | None = None
    history: HistoryWanted | None = None
    pictures: PicturesWanted | None = None
    #: Those that the end kept.
    files: tuple[MadeFile, ...] = ()
    log: list[LogEntry] = field(default_factory=list)
    message_text: str | None = None
    message_meta: str = ""

    def add(self, delta: Delta, message_id: str = "") -> None:
        fields = [part if isinstance(part, bytes) else part.encode() for part in encode_delta(delta)]
        fields += [b"m", message_id.encode()] if message_id else []
        self.log.append(decode_entry(b"%d-0" % (len(self.log) + 1), fields))

    @property
    def text(self) -> str:
        """What a reader has who saw every entry."""
        return "".join(entry.delta.text for entry in _since_restart(self.log))


class MemoryAttempts:
    def __init__(self, **prompts: StoredPrompt) -> None:
        self.prompts = prompts
        self.replicas: dict[str, int] = {}
        #: As the last heartbeat said.
        self.permits_used = 0
        #: Names of the calls that were made, in order.
        self.calls: list[str] = []
        #: What the next calls raise instead, first one first.
        self.failing: list[Exception] = []
        #: Clear it to hold calls of ``append`` where they are written but not answered.
        self.answering = asyncio.Event()
        self.answering.set()
        self._called = asyncio.Condition()

    async def seen(self, name: str, times: int = 1) -> None:
        """Wait until a method has been called so many times."""
        async with self._called:
            await asyncio.wait_for(self._called.wait_for(lambda: self.calls.count(name) >= times), 10)

    def cancel(self, ref: str) -> None:
        prompt = self.prompts[ref]
        prompt.status = advance(prompt.status, "cancel")
        prompt.add(Delta(kind=DeltaKind.END, finish_reason=FinishReason.CANCELED))

    def grant_again(self, ref: str) -> None:
        """The lease expired and another replica has the prompt."""
        prompt = self.prompts[ref]
        prompt.fence, prompt.holder, prompt.runs = prompt.fence + 1, "other", prompt.runs + 1

    async def claim(self, ref: str, fence: int, *, replica: str, lease_s: float, fingerprint: str) -> Claimed:
        await self._call("claim")
        prompt = self._owned(ref, fence)
        if prompt is None or prompt.holder not in ("", replica):
            raise StaleLease
        if prompt.log and prompt.fingerprint != fingerprint:
            prompt.add(Delta(kind=DeltaKind.RESTART))
        prompt.fingerprint, prompt.holder = fingerprint, replica
        answer = _since_restart(prompt.log)
        return Claimed(
            ref=ref,
            fence=fence,
            prompt_token_ids=prompt.prompt_token_ids,
            sampling=prompt.sampling,
            failures=prompt.failures,
            max_retries=prompt.max_retries,
            logged_token_ids=tuple(i for entry in answer for i in entry.delta.token_ids),
            logged_text="".join(entry.delta.text for entry in answer if entry.delta.kind in TEXT_KINDS),
            entries=len(prompt.log),
            history=prompt.history,
            logged=tuple(entry.delta for entry in answer),
            pictures=prompt.pictures,
            shown=bool(answer),
        )

    async def keep_rendered(self, ref: str, fence: int, token_ids: tuple[int, ...]) -> bool:
        await self._call("keep_rendered")
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        prompt.prompt_token_ids, prompt.history = token_ids, None
        return True

    async def append(self, entries: Sequence[tuple[str, int, int, Delta]]) -> list[Written]:
        await self._call("append")
        written = []
        for ref, fence, number, delta in entries:
            prompt = self._owned(ref, fence)
            if prompt is None:
                written.append(Written.STALE)
                continue
            written.append(Written.DONE if len(prompt.log) >= number - 1 else Written.FORGOTTEN)
            if len(prompt.log) == number - 1:
                prompt.add(delta)
        await self.answering.wait()
        return written

    async def heartbeat(
        self, model_id: str, replica: str, leases: Iterable[tuple[str, int]], *, lease_s: float, permits_used: int = 0
    ) -> tuple[Standing, list[str]]:
        await self._call("heartbeat")
        self.permits_used = permits_used
        gone = [ref for ref, fence in leases if (p := self._owned(ref, fence)) is None or p.holder != replica]
        return Standing.SERVING if replica in self.replicas else Standing.UNKNOWN, gone

    async def finish(
        self,
        ref: str,
        fence: int,
        *,
        message_id: str,
        text: str,
        meta_json: str,
        end: Delta,
        files: Sequence[MadeFile] = (),
        entries: int = 0,
    ) -> bool:
        await self._call("finish")
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        if len(prompt.log) < entries:
            raise LogForgotten
        self._end(prompt, "finish")
        prompt.message_text, prompt.message_meta, prompt.files = text, meta_json, tuple(files)
        prompt.add(end, message_id)
        return True

    async def retry_later(self, ref: str, fence: int, *, error: str, delay_s: float) -> bool:
        await self._call("retry_later")
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        self._end(prompt, "retry")
        prompt.failures, prompt.error, prompt.delay_s = prompt.failures + 1, error, delay_s
        return True

    async def abandon(self, ref: str, fence: int, *, error: str) -> bool:
        await self._call("abandon")
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        self._end(prompt, "abandon")
        prompt.failures, prompt.error = prompt.failures + 1, error
        prompt.add(Delta(kind=DeltaKind.END, finish_reason=FinishReason.ERROR, error=error))
        return True

    async def keep(self, ref: str, fence: int, *, lease_s: float) -> bool:
        await self._call("keep")
        prompt = self._owned(ref, fence)
        return prompt is not None and not prompt.holder

    async def hand_back(self, ref: str, fence: int, *, replica: str) -> bool:
        await self._call("hand_back")
        prompt = self._owned(ref, fence)
        if prompt is None or prompt.holder not in ("", replica):
            return False
        self._end(prompt, "hand_back")
        prompt.runs -= 1
        return True

    async def lose(self, ref: str, fence: int, *, node: str) -> bool:
        await self._call("lose")
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        self._end(prompt, "lose")
        prompt.crashes += 1
        return True

    async def register(self, model_id: str, replica: str, *, permits: int, node: str, lease_s: float) -> None:
        await self._call("register")
        self.replicas[replica] = permits

    async def unregister(self, model_id: str, replica: str) -> None:
        await self._call("unregister")
        self.replicas.pop(replica, None)

    async def _call(self, name: str) -> None:
        async with self._called:
            self.calls.append(name)
            self._called.notify_all()
        if self.failing:
            raise self.failing.pop(0)

    def _owned(self, ref: str, fence: int) -> StoredPrompt | None:
        prompt = self.prompts.get(ref)
        return prompt if prompt and prompt.status is Status.RUNNING and prompt.fence == fence else None

    def _end(self, prompt: StoredPrompt, transition: str) -> None:
        prompt.status, prompt.holder = advance(prompt.status, transition), ""


def away() -> RedisError:
    """What a call raises while the store restarts."""
    from redis.exceptions import ConnectionError

    return ConnectionError("Connection refused")


def public_methods(cls: type) -> dict[str, Any]:
    return {name: member for name, member in vars(cls).items() if callable(member) and not name.startswith("_")}
