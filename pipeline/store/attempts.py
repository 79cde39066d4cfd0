"""What a replica does to the prompts it runs. Every call carries the attempt's fence and changes nothing if it is stale."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from redis.asyncio import Redis

from pipeline.delta import TEXT_KINDS, Delta, DeltaKind, FinishReason
from pipeline.engine import SamplingParameters
from pipeline.errors import EngineError, LogForgotten, StaleLease
from pipeline.files.record import MadeFile
from pipeline.image_parameters import ImageParameters
from pipeline.prompt import pack_token_ids, sampling_from_record, unpack_token_ids
from pipeline.store.keys import Keys
from pipeline.store.logs import LogEntry, decode_entry, encode_delta
from pipeline.store.scripts import Scripts


class Standing(IntEnum):
    """What a replica is to the store."""

    #: It is not registered.
    UNKNOWN = 0
    #: Prompts are given out for its permits.
    SERVING = 1
    #: It is being stopped: it gets no more.
    LEAVING = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryWanted:
    """What a prompt is to be rendered from that is still to get its history."""

    user_id: str
    thread_id: str
    #: The prompt's own place; its history is what stands before it.
    place: int
    prompt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PicturesWanted:
    """What an image prompt asks for, and whose files its pictures become."""

    user_id: str
    prompt_id: str
    parameters: ImageParameters
    #: Files of the user's that go with the prompt.
    file_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """An attempt that a replica has taken."""

    ref: str
    fence: int
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters
    failures: int
    max_retries: int
    #: What earlier attempts logged since the last restart; the text without thoughts and calls of tools.
    logged_token_ids: tuple[int, ...]
    logged_text: str
    #: Number of the last entry in the log.
    entries: int
    #: None if ``prompt_token_ids`` are what the model gets; otherwise they are the prompt alone.
    history: HistoryWanted | None = None
    #: The same with what it was said to be: thoughts, calls of tools.
    logged: tuple[Delta, ...] = ()
    #: Of an image prompt.
    pictures: PicturesWanted | None = None
    #: Whether readers saw anything of earlier attempts that no restart has made void.
    shown: bool = False


class Written(IntEnum):
    """What became of an entry of a log."""

    #: The store has forgotten entries that stand before it: it would leave a gap.
    FORGOTTEN = -1
    #: The attempt no longer owns its prompt.
    STALE = 0
    #: It is in the log.
    DONE = 1


class FilesSwept(EngineError):
    """The attempt's files were not kept in time and have been swept."""


class UnreadableRecord(EngineError):
    """The stored prompt cannot be read by this version of the service."""

    def __init__(self, *, failures: int, max_retries: int) -> None:
        super().__init__()
        self.failures = failures
        self.max_retries = max_retries


class AttemptStore:
    """The replica's side of the store. Every method may raise redis errors; one that was lost on the way may be repeated."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def claim(self, ref: str, fence: int, *, replica: str, lease_s: float, fingerprint: str) -> Claimed:
        """Take a granted attempt.

        Raises:
            StaleLease: cancelled, or granted again under a higher fence, in the meantime.
            UnreadableRecord: it was written by another version of the service; the attempt is claimed all the same.
        """
        rows = await self._scripts.run("claim", ref, fence, replica, round(lease_s * 1e6), fingerprint)
        if not rows:
            raise StaleLease
        (tokens, sampling, failures, max_retries, thread, user, prompt_id, entries, image, files), raw_log, history = (
            rows
        )
        try:
            answer = _since_restart([decode_entry(entry_id, fields) for entry_id, fields in raw_log])
            prompt_token_ids, parameters = unpack_token_ids(tokens), sampling_from_record(sampling)
            wanted = _history_wanted(user, thread, *history) if history else None
            pictures = None if image is None else _pictures_wanted(user, prompt_id, image, files)
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableRecord(failures=int(failures), max_retries=int(max_retries)) from error
        return Claimed(
            ref=ref,
            fence=fence,
            prompt_token_ids=prompt_token_ids,
            sampling=parameters,
            failures=int(failures),
            max_retries=int(max_retries),
            logged_token_ids=tuple(i for entry in answer for i in entry.delta.token_ids),
            logged_text="".join(entry.delta.text for entry in answer if entry.delta.kind in TEXT_KINDS),
            entries=int(entries),
            history=wanted,
            logged=tuple(entry.delta for entry in answer),
            pictures=pictures,
            shown=bool(answer),
        )

    async def keep_rendered(self, ref: str, fence: int, token_ids: tuple[int, ...]) -> bool:
        """Make these the prompt's ids, history included: every later attempt takes them. False if the attempt is stale."""
        return bool(await self._scripts.run("keep_rendered", ref, fence, pack_token_ids(token_ids)))

    async def append(self, entries: Sequence[tuple[str, int, int, Delta]]) -> list[Written]:
        """Write (ref, fence, number, delta) entries of several attempts in one call. ``number`` is the one the entry gets in
        its log."""
        arguments: list[str | bytes | int] = []
        for ref, fence, number, delta in entries:
            fields = encode_delta(delta)
            arguments += [ref, fence, number, len(fields), *fields]
        return [Written(written) for written in await self._scripts.run("append", *arguments)]

    async def heartbeat(
        self, model_id: str, replica: str, leases: Iterable[tuple[str, int]], *, lease_s: float, permits_used: int = 0
    ) -> tuple[Standing, list[str]]:
        """Extend the leases (ref, fence) and say how many permits are in use. Returns what the replica is to the store, and the
        refs it no longer owns."""
        pairs = [part for lease in leases for part in lease]
        standing, *gone = await self._scripts.run(
            "heartbeat", model_id, replica, round(lease_s * 1e6), permits_used, *pairs
        )
        return Standing(standing), [ref.decode() for ref in gone]

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
        """Complete the prompt with its answer; the ``files`` become the user's and the answer's at the same moment. False if the
        attempt is stale. ``entries`` of its log have been acknowledged.

        Raises:
            FilesSwept, LogForgotten: nothing was recorded.
        """
        made = [part for file in files for part in (file.id, file.size, file.name, file.content_type)]
        arguments = (entries, message_id, text, meta_json, len(files), *made, *encode_delta(end))
        outcome = await self._scripts.run("finish", ref, fence, *arguments)
        if outcome == -1:
            raise FilesSwept
        if outcome == -2:
            raise LogForgotten
        return bool(outcome)

    async def retry_later(self, ref: str, fence: int, *, error: str, delay_s: float) -> bool:
        """The attempt failed and another one is due in ``delay_s`` seconds. False if the attempt is stale."""
        return bool(await self._scripts.run("fail", ref, fence, error, round(delay_s * 1e6)))

    async def abandon(self, ref: str, fence: int, *, error: str) -> bool:
        """The attempt failed and there is no other. False if the attempt is stale."""
        end = Delta(kind=DeltaKind.END, finish_reason=FinishReason.ERROR, error=error)
        return bool(await self._scripts.run("fail", ref, fence, error, -1, *encode_delta(end)))

    async def keep(self, ref: str, fence: int, *, lease_s: float) -> bool:
        """Keep a grant that cannot begin yet, without claiming it. False if it was stale, or has been claimed."""
        return bool(await self._scripts.run("keep", ref, fence, round(lease_s * 1e6)))

    async def hand_back(self, ref: str, fence: int, *, replica: str) -> bool:
        """Return the attempt uncharged. False if it was stale, or another replica has claimed it."""
        return bool(await self._scripts.run("hand_back", ref, fence, replica))

    async def lose(self, ref: str, fence: int, *, node: str) -> bool:
        """The engine of this replica, on ``node``, died under the attempt. False if it was stale."""
        return bool(await self._scripts.run("lose", ref, fence, node))

    async def register(self, model_id: str, replica: str, *, permits: int, node: str, lease_s: float) -> None:
        await self._scripts.run("register", model_id, replica, permits, node, round(lease_s * 1e6))

    async def unregister(self, model_id: str, replica: str) -> None:
        await self._scripts.run("unregister", model_id, replica)


def _history_wanted(user: bytes, thread: bytes, place: bytes, prompt: bytes) -> HistoryWanted:
    return HistoryWanted(user_id=user.decode(), thread_id=thread.decode(), place=int(place), prompt=prompt.decode())


def _pictures_wanted(user: bytes, prompt_id: bytes, image: bytes, files: bytes | None) -> PicturesWanted:
    return PicturesWanted(
        user_id=user.decode(),
        prompt_id=prompt_id.decode(),
        parameters=ImageParameters.from_record(image),
        file_ids=tuple(json.loads(files or b"[]")),
    )


def _since_restart(log: list[LogEntry]) -> list[LogEntry]:
    for index in range(len(log) - 1, -1, -1):
        if log[index].delta.kind is DeltaKind.RESTART:
            return log[index + 1 :]
    return log
