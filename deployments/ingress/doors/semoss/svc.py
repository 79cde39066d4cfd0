"""The endpoints of the SEMOSS door (contract B.1, B.2, B.4, B.5)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission
from deployments.ingress.doors.semoss.chunks import JobStatus, chunks, finish_chunk, job_status, text_of, usage_of
from deployments.ingress.doors.semoss.envelopes import OperationType, Outcome, envelope
from deployments.ingress.doors.semoss.errors import WrongSyntax
from deployments.ingress.doors.semoss.forms import read_fields
from deployments.ingress.doors.semoss.jobs import JobReader, Poll, new_job_id
from deployments.ingress.doors.semoss.questions import Question
from deployments.ingress.doors.semoss.reactors import Reactors
from deployments.ingress.doors.semoss.replies import (
    BASE,
    ExpressionNotFound,
    InsightNotFound,
    JobNotFinished,
    ToldReply,
    json_reply,
    semoss_door,
)
from deployments.ingress.doors.semoss.sessions import CSRF_HEADER, Session, Sessions, session_of, set_cookie
from deployments.ingress.doors.semoss.statements import Asking, Statement, read_statement
from deployments.ingress.doors.semoss.submissions import EXPRESSION, Submissions
from deployments.ingress.service import PromptService
from deployments.settings import Settings
from pipeline.delta import FinishReason
from pipeline.errors import ClientError, NotFound
from pipeline.prompt import Prompt
from pipeline.states import Status
from pipeline.store.connection import translated_errors
from pipeline.store.pixel_jobs import MOST_ENTRIES, Channel, PixelJob, PixelJobs, PollUnderWay
from pipeline.store.pixel_sessions import IDLE_S, PixelSessions

#: How long ``partial`` holds a reply that would hold nothing, seconds: the SDK asks again at once, without a pause.
HOLD_S = 0.2
#: What clients send for "make a new insight".
_NO_INSIGHT = ("", "undefined", "new")
#: Refusals of an expression are its result; these are about the request.
_NOT_A_RESULT = (401, 429)


class SemossDoor:
    """Sessions, pixels and their jobs."""

    def __init__(
        self,
        settings: Settings,
        service: PromptService,
        sessions: Sessions,
        insights: PixelSessions,
        jobs: PixelJobs,
        reader: JobReader,
        reactors: Reactors,
        submissions: Submissions,
    ) -> None:
        self._settings = settings
        self._service = service
        self._sessions = sessions
        self._insights = insights
        self._jobs = jobs
        self._reader = reader
        self._reactors = reactors
        self._submissions = submissions

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        door = semoss_door(self._sessions.identify)

        def route(
            method: str, path: str, endpoint: Any, access: Permission | Access, *, limited: bool = False
        ) -> GuardedRoute:
            return GuardedRoute(method, BASE + path, endpoint, access=access, gate=gate, door=door, limited=limited)

        return [
            route("GET", "/config", self.config, Access.PUBLIC),
            route("GET", "/config/fetchCsrf", self.fetch_csrf, Access.AUTHENTICATED),
            route("GET", "/logout", self.logout, Access.PUBLIC),
            route("GET", "/logout/all", self.logout, Access.PUBLIC),
            route("POST", "/engine/runPixel", self.run_pixel, Permission.PROMPT_CREATE, limited=True),
            route("POST", "/engine/runPixelAsync", self.run_pixel_async, Permission.PROMPT_CREATE, limited=True),
            route("POST", "/engine/pixelJobStreaming", self.pixel_job_streaming, Permission.PROMPT_STREAM),
            route("POST", "/engine/partial", self.partial, Permission.PROMPT_STREAM),
            route("POST", "/engine/result", self.result, Permission.PROMPT_VIEW),
            route("POST", "/engine/status", self.status, Permission.PROMPT_VIEW),
            route("POST", "/engine/console", self.console, Permission.PROMPT_VIEW),
            route("POST", "/engine/error", self.error, Permission.PROMPT_VIEW),
            route("POST", "/engine/terminate", self.terminate, Permission.PROMPT_STREAM),
        ]

    # -- sessions ----------------------------------------------------------------------------------------------------------

    async def config(self, request: Request) -> Response:
        """Who the caller is, for anyone; credentials begin a session, whose cookie comes with the reply."""
        session, cookie = await self._sessions.entered(request), ""
        if session is None and (begun := await self._sessions.begin(request)):
            session, cookie = begun
        reply = json_reply(config_object(session, csrf=self._settings.semoss_csrf))
        if cookie:
            set_cookie(request, reply, cookie)
        return reply

    async def fetch_csrf(self, request: Request) -> Response:
        """The session's CSRF token, as a header."""
        reply = json_reply({})
        if request.headers.get(CSRF_HEADER, "").lower() == "fetch":
            reply.headers[CSRF_HEADER] = session_of(request).csrf
        return reply

    async def logout(self, request: Request) -> Response:
        """End the session. What it has asked goes on: it is the user's, who finds it among their prompts."""
        await self._sessions.end(request)
        reply = json_reply({"success": True})
        set_cookie(request, reply, "")
        return reply

    # -- pixels ------------------------------------------------------------------------------------------------------------

    async def run_pixel(self, request: Request) -> Response:
        """Run an expression and wait for what comes of it."""
        session, insight_id, expression = await self._expression(request)
        started = time.monotonic()
        try:
            statement = await read_statement(expression)
            if isinstance(statement, Asking):
                outcome = await self._ask_and_wait(session, insight_id, expression, statement)
            else:
                outcome = await self._reactors.run(session, insight_id, statement)
        except ClientError as error:
            outcome = _refusal(error)
        return json_reply(
            envelope(
                outcome,
                insight_id=insight_id,
                expression=expression,
                time_ms=int((time.monotonic() - started) * 1000),
                session_seconds=IDLE_S,
            )
        )

    async def run_pixel_async(self, request: Request) -> Response:
        """Run an expression as a job. What is wrong with it is the job's result."""
        session, insight_id, expression = await self._expression(request)
        job_id = new_job_id()
        prompt: Prompt | None = None
        question: Question | None = None
        statement: Statement | None = None
        outcome: Outcome | None = None
        try:
            statement = await read_statement(expression)
            if isinstance(statement, Asking):
                question = statement.question
                prompt = await self._submit(session, insight_id, expression, question, prompt_id=job_id)
            else:
                outcome = await self._reactors.run(session, insight_id, statement)
        except ClientError as error:
            outcome = _refusal(error)
        with translated_errors():
            await self._jobs.add(
                PixelJob(
                    id=job_id,
                    session=session.digest,
                    user_id=session.caller.user_id,
                    insight_id=insight_id,
                    room_id=(question.room_id if question else None) or insight_id,
                    expression="" if prompt else expression,
                    prompt_id=prompt.id if prompt else "",
                    streams=question is None or question.streams,
                    by_code=isinstance(statement, Asking) and statement.by_code,
                    outcome=outcome.to_record() if outcome else None,
                    tells_failure=outcome is not None and outcome.failed,
                )
            )
        return json_reply({"jobId": job_id})

    async def _expression(self, request: Request) -> tuple[Session, str, str]:
        """The session, the insight and the expression of a request."""
        session = session_of(request)
        fields = await read_fields(request, max_bytes=self._settings.max_body_bytes)
        expression = fields.get("expression", "").strip()
        if not expression:
            raise ExpressionNotFound
        insight_id = fields.get("insightId", "").strip()
        with translated_errors():
            if insight_id in _NO_INSIGHT:
                insight_id = str(uuid.uuid4())
                await self._insights.open_insight(session.digest, insight_id)
            elif not await self._insights.has_insight(session.digest, insight_id):
                raise InsightNotFound
        return session, insight_id, expression if expression.endswith(";") else f"{expression};"

    async def _submit(
        self, session: Session, insight_id: str, expression: str, question: Question, *, prompt_id: str | None
    ) -> Prompt:
        user_id = session.caller.user_id
        submission = await self._submissions.build(
            user_id,
            question,
            expression=expression,
            room_id=question.room_id or insight_id,
            prompt_id=prompt_id,
        )
        return (await self._service.submit(user_id, submission)).prompt

    async def _ask_and_wait(self, session: Session, insight_id: str, expression: str, asking: Asking) -> Outcome:
        prompt = await self._submit(session, insight_id, expression, asking.question, prompt_id=None)
        prompt = await self._service.wait(prompt, self._settings.sync_wait_s)
        if not prompt.status.is_terminal:
            return Outcome.error(f"not finished within {self._settings.sync_wait_s:g} s; the prompt goes on")
        return await self._reader.outcome(prompt, prompt.thread_id, by_code=asking.by_code)

    # -- jobs --------------------------------------------------------------------------------------------------------------

    async def pixel_job_streaming(self, request: Request) -> Response:
        """The chunks since the last poll, and how the job is. Its end is told with the last chunk, or after it."""
        session = session_of(request)
        try:
            poll = await self._reader.poll(session, await self._job_id(request), Channel.STREAM)
        except PollUnderWay:
            return json_reply({"message": [], "status": JobStatus.IN_PROGRESS})
        if poll is None:
            return json_reply({"message": [], "status": JobStatus.UNKNOWN_JOB})
        page = poll.page
        usage = usage_of(await self._reader.usage_meta(session, page))
        message = chunks(page.deltas, usage=usage)
        if not page.ref and page.is_claimed:
            message = [finish_chunk(FinishReason.ERROR)]
        status = job_status(page.status, is_read_out=page.is_last)
        return ToldReply({"message": message, "status": status}, poll.keep)

    async def partial(self, request: Request) -> Response:
        """The text since the last poll, and all of it.

        For the SDK's ``stream_ask``: it drops what is only white space, so that waits for the next word; and it would ask for
        ever after a job that ends without a text, so such a job ends in an error.
        """
        session, job_id = session_of(request), await self._job_id(request)
        try:
            poll = await self._reader.poll(session, job_id, Channel.PARTIAL)
            if poll is not None and not _has_words(poll):
                await _put_back(poll)
                await self._reader.wait_for_more(session, poll.page, HOLD_S)
                poll = await self._reader.poll(session, job_id, Channel.PARTIAL)
        except PollUnderWay:
            return json_reply({"message": {}, "status": JobStatus.IN_PROGRESS})
        if poll is None:
            return json_reply({"message": {}, "status": JobStatus.UNKNOWN_JOB})
        page = poll.page
        delivers = _has_words(poll)
        total = text_of(await self._reader.written(page, page.end if delivers else page.delivered))
        status = job_status(page.status, is_read_out=page.is_last)
        if page.is_last and page.status is not Status.CANCELED and (page.status is Status.ABANDONED or not total):
            status = JobStatus.ERROR
        message = {"total": total, "new": text_of(page.deltas) if delivers else ""} if total else {}
        if not delivers:
            await _put_back(poll)
            return json_reply({"message": message, "status": status})
        return ToldReply({"message": message, "status": status}, poll.keep)

    async def result(self, request: Request) -> Response:
        """The job's envelope; after it the job is gone, but for a moment in which the same reply can be had again."""
        job = await self._job(request)
        if job is None:
            return json_reply("NULL")
        time_ms, expression = 0, job.expression
        if job.outcome is not None:
            outcome = Outcome.from_record(job.outcome)
        else:
            prompt = await self._prompt(job)
            if prompt is None:
                return json_reply("NULL")
            if not prompt.status.is_terminal:
                raise JobNotFinished
            time_ms = (prompt.updated_us - prompt.created_us) // 1000
            expression = str((prompt.parameters or {}).get(EXPRESSION, ""))
            outcome = await self._reader.outcome(prompt, job.room_id, by_code=job.by_code)
        with translated_errors():
            await self._jobs.fetched(job.id)
        return json_reply(
            envelope(
                outcome,
                insight_id=job.insight_id,
                expression=expression,
                time_ms=time_ms,
                session_seconds=IDLE_S,
            )
        )

    async def status(self, request: Request) -> Response:
        """The job's state as a JSON string."""
        job = await self._job(request)
        if job is None or job.is_fetched:
            return json_reply("NULL")
        return json_reply(await self._state(job))

    async def console(self, request: Request) -> Response:
        """What the job's code printed: nothing, for no code is run."""
        return json_reply({"message": [], "status": await self._state_of(request)})

    async def error(self, request: Request) -> Response:
        """What went wrong, once."""
        job = await self._job(request)
        if job is None or job.is_fetched:
            return json_reply({"message": [], "status": JobStatus.UNKNOWN_JOB})
        lines: list[str] = []
        outcome = Outcome.from_record(job.outcome) if job.outcome else None
        prompt = None if outcome else await self._prompt(job)
        if outcome and outcome.failed:
            lines = [str(outcome.output)]
        elif prompt and prompt.status is Status.ABANDONED:
            lines = [prompt.error]
        if lines:
            with translated_errors():
                lines = lines if await self._jobs.tell_failure(job.id) else []
        return json_reply({"message": lines, "status": await self._state(job)})

    async def terminate(self, request: Request) -> Response:
        """Drop what polls have not got yet. The job goes on; ``StopPixelExecution`` cancels it."""
        with translated_errors():
            await self._jobs.skip_output(await self._job_id(request), session=session_of(request).digest)
        return json_reply("success")

    async def _job_id(self, request: Request) -> str:
        fields = await read_fields(request, max_bytes=self._settings.max_body_bytes)
        return fields.get("jobId", "").strip()

    async def _job(self, request: Request) -> PixelJob | None:
        job_id = await self._job_id(request)
        with translated_errors():
            return await self._jobs.find(job_id, session=session_of(request).digest)

    async def _state_of(self, request: Request) -> JobStatus:
        job = await self._job(request)
        return JobStatus.UNKNOWN_JOB if job is None or job.is_fetched else await self._state(job)

    async def _state(self, job: PixelJob) -> JobStatus:
        if job.outcome is not None:
            return JobStatus.PROGRESS_COMPLETE
        prompt = await self._prompt(job)
        return JobStatus.UNKNOWN_JOB if prompt is None else job_status(prompt.status, is_read_out=True)

    async def _prompt(self, job: PixelJob) -> Prompt | None:
        try:
            return (await self._service.read(job.user_id, job.prompt_id))[0]
        except NotFound:
            return None


def config_object(session: Session | None, *, csrf: bool) -> Mapping[str, Any]:
    """What clients read of the service, and of themselves."""
    config: dict[str, Any] = {
        "loginDetails": {},
        "logins": {},
        "availableProviders": [{"provider": "native", "name": "Native", "isOauth": False}],
        "csrf": csrf,
    }
    if session is not None:
        caller = session.caller
        config["loginDetails"] = {"NATIVE": {"id": caller.user_id, "name": caller.slug, "username": caller.slug}}
        config["logins"] = {"NATIVE": caller.slug}
        if csrf:
            config["X-CSRF-Token"] = session.csrf
    return config


def _refusal(error: ClientError) -> Outcome:
    """An expression that is refused has that for its result."""
    if error.status in _NOT_A_RESULT:
        raise error
    if isinstance(error, WrongSyntax):
        return Outcome.error(error.message, OperationType.INVALID_SYNTAX)
    return Outcome.error(error.message)


def _has_words(poll: Poll) -> bool:
    """Whether what is new is worth a reply of ``partial``: a word, or the end."""
    page = poll.page
    return page.is_last or len(page.deltas) == MOST_ENTRIES or bool(text_of(page.deltas).strip())


async def _put_back(poll: Poll) -> None:
    """Nothing of it was delivered: white space waits for the next word, what is no text at all is passed over."""
    if text_of(poll.page.deltas):
        await poll.leave()
    else:
        await poll.keep()
