"""Pixel jobs of the SEMOSS door in the store: which prompt answers a job, and what of it has been delivered.

Polls have no cursor of the client's, each gets what the one before did not. So what was delivered is kept here, for any replica
to go on: a poll takes a page, and the page counts as delivered once its reply is out. A replica that dies in between leaves the
page to the next poll; one whose reply is out when it dies, but not the word of it, repeats the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis

from pipeline.delta import Delta
from pipeline.errors import PromptSvcError
from pipeline.states import Status
from pipeline.store.keys import Keys
from pipeline.store.logs import decode_entry
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: How long a job is known, seconds; a session lives as long at most.
KEPT_S = 24 * 3600
#: The same of a job whose outcome was known at once.
SETTLED_S = 1800
#: How long a job can be fetched again after its result was, seconds: the reply may have been lost.
FETCHED_S = 60
#: How long the reply of a poll may take until another poll gets the same page, seconds.
REPLY_S = 2.0
#: Entries of one page.
MOST_ENTRIES = 1024


class PollUnderWay(PromptSvcError):
    """The reply of another poll of this job is under way."""

    status = 409
    retry_after_s = REPLY_S


class Channel(StrEnum):
    """What is delivered apart from one another: each endpoint that polls has a place of its own."""

    STREAM = "stream"
    PARTIAL = "partial"


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelJob:
    """A statement that runs, or ran, by itself."""

    id: str
    #: Digest of the session it belongs to.
    session: str
    user_id: str
    insight_id: str
    room_id: str
    #: Of a job without a prompt; else the prompt keeps it.
    expression: str
    #: Id of the prompt that answers it; empty if the outcome is known.
    prompt_id: str = ""
    #: Whether polls get the answer as it is written.
    streams: bool = True
    #: Whether Python asked.
    by_code: bool = False
    #: What came of a statement that no model answers.
    outcome: Mapping[str, Any] | None = None
    #: Whether a failure is to be told to those who poll, who wait for a reason to stop.
    tells_failure: bool = False
    #: Unix milliseconds.
    created_ms: int = 0
    #: Whether its result was fetched.
    is_fetched: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What one poll takes."""

    #: The prompt that answers it; empty if none does.
    ref: str
    #: Of the prompt; a job without one has completed.
    status: Status
    #: Entries in the whole log, and those delivered before.
    entries: int
    delivered: int
    deltas: tuple[Delta, ...]
    #: Id of the answer's message, once the page holds the end of a completed prompt.
    message_id: str

    @property
    def end(self) -> int:
        """Entries delivered with this page; the failure of a job without a prompt counts as one."""
        return self.delivered + len(self.deltas) if self.ref else self.entries

    @property
    def is_last(self) -> bool:
        """Whether nothing can come behind it."""
        return self.status.is_terminal and self.end >= self.entries

    @property
    def is_claimed(self) -> bool:
        """Whether there is something to confirm."""
        return self.end > self.delivered


class PixelJobs:
    """Every method may raise StoreUnavailable's redis causes."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def add(self, job: PixelJob) -> None:
        record: dict[Any, Any] = {
            "session": job.session,
            "user": job.user_id,
            "insight": job.insight_id,
            "room": job.room_id,
            "expression": job.expression,
            "prompt": job.prompt_id,
            "ref": f"{job.user_id}/{job.prompt_id}" if job.prompt_id else "",
            "streams": int(job.streams),
            "code": int(job.by_code),
            "outcome": "" if job.outcome is None else json.dumps(job.outcome),
            "entries": int(job.tells_failure),
            "created": int(time.time() * 1000),
        }
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._keys.pixel_job(job.id), mapping=record)
        pipe.expire(self._keys.pixel_job(job.id), KEPT_S if job.prompt_id else SETTLED_S)
        await pipe.execute()

    async def find(self, job_id: str, *, session: str) -> PixelJob | None:
        """A job of the session's."""
        record = await self._client.hgetall(self._keys.pixel_job(job_id))
        fields = {text(name): text(value) for name, value in record.items()}
        if fields.get("session") != session:
            return None
        return PixelJob(
            id=job_id,
            session=session,
            user_id=fields["user"],
            insight_id=fields["insight"],
            room_id=fields["room"],
            expression=fields["expression"],
            prompt_id=fields["prompt"],
            streams=fields["streams"] == "1",
            by_code=fields["code"] == "1",
            outcome=json.loads(fields["outcome"]) if fields["outcome"] else None,
            tells_failure=fields["entries"] == "1",
            created_ms=int(fields["created"]),
            is_fetched="fetched" in fields,
        )

    async def poll(self, job_id: str, *, session: str, channel: Channel, poll: str) -> Page | None:
        """What the job has for this poll, None if the session has no such job. ``confirm`` it once the reply is out.

        Raises:
            PollUnderWay: what another poll took is not confirmed yet.
        """
        reply = await self._scripts.run(
            "poll_job", job_id, session, channel.value, poll, int(REPLY_S * 1_000_000), MOST_ENTRIES
        )
        if reply is None:
            return None
        if reply[0] == 1:
            raise PollUnderWay
        _, ref, status, entries, delivered, page = reply
        decoded = [decode_entry(entry_id, fields) for entry_id, fields in page]
        return Page(
            ref=text(ref),
            status=Status(text(status)),
            entries=int(entries),
            delivered=int(delivered),
            deltas=tuple(entry.delta for entry in decoded),
            message_id=decoded[-1].message_id if decoded else "",
        )

    async def confirm(self, job_id: str, *, channel: Channel, poll: str, delivered: int) -> None:
        """The reply of a poll is out, and with it so many entries. Nothing happens if another poll was quicker."""
        await self._scripts.run("confirm_poll", job_id, channel.value, poll, delivered)

    async def deltas(self, ref: str, most: int) -> list[Delta]:
        """The first so many entries of a prompt's log."""
        page: Any = await self._client.xrange(self._keys.log(ref), count=most) if most else []
        return [decode_entry(entry_id, fields).delta for entry_id, fields in page]

    async def tell_failure(self, job_id: str) -> bool:
        """Whether its failure has not been told as a line of output yet; now it has."""
        return bool(await self._client.hsetnx(self._keys.pixel_job(job_id), "told", 1))

    async def skip_output(self, job_id: str, *, session: str) -> bool:
        """Drop what is written and not delivered, but for the end. False if the session has no such job."""
        return bool(await self._scripts.run("skip_output", job_id, session, *Channel))

    async def fetched(self, job_id: str) -> None:
        """Its result goes out: from now on polls do not know it, and it is soon forgotten."""
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._keys.pixel_job(job_id), "fetched", 1)
        pipe.expire(self._keys.pixel_job(job_id), FETCHED_S)
        await pipe.execute()
