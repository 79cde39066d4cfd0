"""Running the lines: a bounded number at a time, each to exactly one record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from clients.answer import Answer
from clients.batch.errors import BatchStopped, ExitCode
from clients.batch.job import Job
from clients.batch.lines import BadLine, Line, Request, parse
from clients.batch.meter import Meter
from clients.batch.records import Records
from clients.batch.services import BatchService
from clients.errors import NotAllowed, PromptSvcError, Refused, ServiceFailed, Unavailable

#: How often a line is tried that the service fails at without saying why, and the seconds in between.
_TRIES, _PAUSE_S = 3, 1.0
#: So many lines in a row that the service fails at: it is not the lines.
_MOST_FAILURES = 10


class Runner:
    """One run over the lines that are left."""

    def __init__(
        self,
        service: BatchService,
        job: Job,
        lines: Iterator[Line],
        *,
        answers: Records,
        errors: Records,
        meter: Meter,
    ) -> None:
        self._service = service
        self._job = job
        self._lines = lines
        self._answers = answers
        self._errors = errors
        self._meter = meter
        #: Lines in a row that the service failed at.
        self._failures = 0

    async def run(self, concurrency: int) -> None:
        """Run every line. Cancelled, it leaves at once: what is in flight goes on in the service and is found by the next run.

        Raises:
            BatchStopped: the service or a file cannot be used any more.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._work())
        except ExceptionGroup as failed:
            # Workers that fail together fail for one reason.
            if (stopped := failed.subgroup(BatchStopped)) is not None and len(stopped.exceptions) == len(
                failed.exceptions
            ):
                raise stopped.exceptions[0] from None
            raise

    async def _work(self) -> None:
        # All workers draw from one iterator: what is read is in flight, and nothing more.
        for line in self._lines:
            self._meter.in_flight += 1
            try:
                await self._one(line)
            finally:
                self._meter.in_flight -= 1

    async def _one(self, line: Line) -> None:
        known: dict[str, Any] = {"line": line.number}
        try:
            request = parse(line)
            if request.id is not None:
                known["id"] = request.id
            answer = await self._answer({**request.body, "id": self._job.prompt_id(line.number)})
        except (Refused, ServiceFailed) as error:
            _raise_if_everyones(error)
            if isinstance(error, BadLine) and error.own_id is not None:
                known["id"] = error.own_id
            self._errors.write(known | _refusal(error))
            self._meter.errors += 1
            self._count_failure(error)
            return
        except Unavailable as error:
            raise BatchStopped(f"the service is away: {error.message}", ExitCode.NO_SERVICE) from None
        self._failures = 0
        self._check_same(line.number, request, answer)
        if answer.status == "completed":
            self._answers.write(known | _result(answer))
            self._meter.answered += 1
            self._meter.completion_tokens += answer.completion_tokens
        else:
            self._errors.write(known | _failed(answer))
            self._meter.errors += 1

    def _check_same(self, number: int, request: Request, answer: Answer) -> None:
        """Raises BatchStopped if the line's id was used for another prompt before: a job's name was given to another input."""
        asked, stored = request.body.get("prompt"), answer.raw.get("prompt", {}).get("prompt")
        if isinstance(asked, str) and isinstance(stored, str) and asked != stored:
            raise BatchStopped(
                f"--job: {self._job.name!r} was the name of another input's job, whose answers are stored under the ids of this "
                f"one (line {number}); name another job and another output"
            )

    async def _answer(self, body: dict[str, Any]) -> Answer:
        for _ in range(_TRIES - 1):
            try:
                return await self._service.run(body)
            except ServiceFailed:
                await asyncio.sleep(_PAUSE_S)
        return await self._service.run(body)

    def _count_failure(self, error: PromptSvcError) -> None:
        self._failures = self._failures + 1 if isinstance(error, ServiceFailed) else 0
        if self._failures >= _MOST_FAILURES:
            raise BatchStopped(f"the service fails again and again: {error.message}", ExitCode.NO_SERVICE)


def _raise_if_everyones(error: PromptSvcError) -> None:
    """Raises BatchStopped for an error that every other line would get as well: it is the caller, not the line."""
    if isinstance(error, NotAllowed) or error.field == "user":
        raise BatchStopped(f"the service refuses this caller: {error.message}", ExitCode.NO_SERVICE)


def _result(answer: Answer) -> dict[str, Any]:
    result: dict[str, Any] = {
        "status": answer.status,
        "promptId": answer.prompt_id,
        "threadId": answer.thread_id,
        "modelId": answer.model_id,
        "text": answer.text or "",
    }
    if answer.file_ids:
        result["fileIds"] = list(answer.file_ids)
    if answer.finish_reason:
        result["finishReason"] = answer.finish_reason
    if answer.completion_tokens:
        result |= {"promptTokens": answer.prompt_tokens, "completionTokens": answer.completion_tokens}
    return result


def _failed(answer: Answer) -> dict[str, Any]:
    """A prompt that was accepted and ended without an answer."""
    return {"status": answer.status, "promptId": answer.prompt_id, "error": answer.error or answer.status}


def _refusal(error: PromptSvcError) -> dict[str, Any]:
    """A line that was not accepted."""
    details = {"code": error.status, "field": error.field, "value": error.value, "allowed": error.allowed}
    status = "failed" if isinstance(error, ServiceFailed) else "refused"
    return {"status": status, "error": error.message} | {name: v for name, v in details.items() if v is not None}
