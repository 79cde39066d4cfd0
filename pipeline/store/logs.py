"""The prompt log: a stream of deltas per prompt, written by one attempt at a time, read by any number of subscribers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason, TokenLogprob, ToolPart
from pipeline.prompt import pack_token_ids, unpack_token_ids
from pipeline.store.keys import Keys

#: Field names of an entry are one letter: they are stored with every token.
_KIND, _CHOICE, _TEXT, _IDS, _REASON, _ERROR, _MESSAGE = "k", "c", "t", "i", "r", "e", "m"
_TOOL, _LOGPROBS = "o", "l"
#: Of pictures: "step/steps", the preview, and on the end entry the JSON list of their files' ids, which finish.lua writes.
_STEP, _PREVIEW, _FILES = "s", "p", "f"

#: Entries as the client returns them: id and fields.
RawPage: TypeAlias = list[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEntry:
    """One entry of a prompt's log."""

    #: 1, 2, 3 … without gaps.
    number: int
    delta: Delta
    #: Id of the answer's chat message; only on the end entry of a completed prompt.
    message_id: str = ""
    #: Ids of the answer's files; as above.
    file_ids: tuple[str, ...] = ()


def encode_delta(delta: Delta) -> list[str | bytes]:
    """The fields of an entry; what is empty is left out."""
    fields: list[str | bytes] = [_KIND, delta.kind.value]
    if delta.choice:
        fields += [_CHOICE, str(delta.choice)]
    if delta.text:
        fields += [_TEXT, delta.text]
    if delta.steps:
        fields += [_STEP, f"{delta.step}/{delta.steps}"]
    if delta.preview:
        fields += [_PREVIEW, delta.preview]
    if delta.token_ids:
        fields += [_IDS, pack_token_ids(delta.token_ids)]
    if delta.finish_reason is not None:
        fields += [_REASON, delta.finish_reason.value]
    if delta.error is not None:
        fields += [_ERROR, delta.error]
    if delta.tool is not None:
        fields += [_TOOL, orjson.dumps([delta.tool.index, delta.tool.id, delta.tool.name]).decode()]
    if delta.logprobs:
        rows = [[one.token, one.logprob, one.top] for one in delta.logprobs]
        fields += [_LOGPROBS, orjson.dumps(rows).decode()]
    return fields


def decode_entry(entry_id: bytes, fields: dict[bytes, bytes] | Sequence[bytes]) -> LogEntry:
    raw = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    shown = {name.decode(): value.decode() for name, value in raw.items() if name != _IDS.encode()}
    return _entry(int(entry_id.split(b"-")[0]), shown, unpack_token_ids(raw.get(_IDS.encode(), b"")))


def decode_rung_entry(number: int, document: bytes) -> LogEntry:
    """An entry as the bell carries it: without token ids."""
    return _entry(number, orjson.loads(document), ())


def _entry(number: int, fields: Mapping[str, str], token_ids: tuple[int, ...]) -> LogEntry:
    reason = fields.get(_REASON)
    step, _, steps = fields.get(_STEP, "0/0").partition("/")
    return LogEntry(
        number=number,
        delta=Delta(
            kind=DeltaKind(fields.get(_KIND, "")),
            choice=int(fields.get(_CHOICE, 0)),
            text=fields.get(_TEXT, ""),
            step=int(step),
            steps=int(steps),
            preview=fields.get(_PREVIEW, ""),
            token_ids=token_ids,
            finish_reason=None if reason is None else FinishReason(reason),
            error=fields.get(_ERROR),
            tool=_tool(fields[_TOOL]) if _TOOL in fields else None,
            logprobs=_logprobs(fields[_LOGPROBS]) if _LOGPROBS in fields else (),
        ),
        message_id=fields.get(_MESSAGE, ""),
        file_ids=tuple(orjson.loads(fields.get(_FILES, "[]"))),
    )


def _tool(document: str) -> ToolPart:
    index, call_id, name = orjson.loads(document)
    return ToolPart(index=index, id=call_id, name=name)


def _logprobs(document: str) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token=token, logprob=logprob, top=tuple((other, likely) for other, likely in top))
        for token, logprob, top in orjson.loads(document)
    )


def decode_page(page: RawPage) -> list[LogEntry]:
    """Raises ValueError, KeyError or TypeError if another version of the service wrote what this one cannot read."""
    return [decode_entry(entry_id, fields) for entry_id, fields in page]


class LogReader:
    """Reads logs and the order of a thread's prompts."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def read(self, cursors: Iterable[tuple[str, int]], count: int = 256) -> list[RawPage]:
        """For each (ref, number) up to ``count`` entries behind that number, in one round trip. For ``decode_page``."""
        pipe = self._client.pipeline(transaction=False)
        for ref, number in cursors:
            pipe.xrange(self._keys.log(ref), min=f"({number}-0", count=count)
        return await pipe.execute()

    async def first_unfinished(self, user_id: str, thread_id: str) -> tuple[int, str] | None:
        """Place and ref of the first prompt of the thread that has not ended."""
        return _placed(
            await self._client.zrange(self._keys.thread_open(f"{user_id}/{thread_id}"), 0, 0, withscores=True)
        )

    async def following(self, user_id: str, thread_id: str, place: int) -> tuple[int, str] | None:
        """Place and ref of the first prompt of the thread behind ``place``."""
        return _placed(
            await self._client.zrangebyscore(
                self._keys.thread_prompts(f"{user_id}/{thread_id}"), f"({place}", "+inf", 0, 1, withscores=True
            )
        )

    async def last_place(self, user_id: str, thread_id: str) -> int:
        """Place of the latest prompt of the thread, 0 if it has none."""
        return int(await self._client.hget(self._keys.thread(f"{user_id}/{thread_id}"), "place") or 0)


def _placed(rows: list[Any]) -> tuple[int, str] | None:
    if not rows:
        return None
    ref, place = rows[0]
    return int(place), bytes(ref).decode()
