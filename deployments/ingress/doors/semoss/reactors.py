"""The pixels beside ``LLM`` and ``Py`` that clients send of themselves (contract B.3). All others are refused by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from deployments.ingress.body import kind_of
from deployments.ingress.doors.semoss.envelopes import OperationType, Outcome
from deployments.ingress.doors.semoss.errors import WrongExpression
from deployments.ingress.doors.semoss.pixel import Pixel
from deployments.ingress.doors.semoss.sessions import Session
from deployments.ingress.model_choice import find_model
from deployments.ingress.service import PromptService
from deployments.ingress.wire import timestamp
from deployments.settings import Settings
from pipeline.errors import InvalidField, NotFound, Shown
from pipeline.states import Status
from pipeline.store.connection import translated_errors
from pipeline.store.messages import Message, MessageStore
from pipeline.store.pixel_jobs import PixelJobs
from pipeline.store.pixel_sessions import PixelSessions

#: Jobs that one pixel stops.
MOST_STOPPED = 100
#: Messages of a room that are listed.
MOST_LISTED = 1000
#: The SDK builds OpenAI's messages for models of this API, which is what is understood here.
MODEL_API = "OPEN_AI"

_Reactor = Callable[[Session, str, Pixel], Awaitable[Outcome]]


class Reactors:
    """Runs them."""

    def __init__(
        self,
        settings: Settings,
        service: PromptService,
        messages: MessageStore,
        sessions: PixelSessions,
        jobs: PixelJobs,
    ) -> None:
        self._settings = settings
        self._service = service
        self._messages = messages
        self._sessions = sessions
        self._jobs = jobs
        self._reactors: Mapping[str, _Reactor] = {
            "META": self._probe,
            "GetModelAPI": self._model_api,
            "GetRoomMessages": self._room_messages,
            "MyOpenInsights": self._open_insights,
            "DropInsight": self._drop_insight,
            "StopPixelExecution": self._stop,
        }

    async def run(self, session: Session, insight_id: str, pixel: Pixel) -> Outcome:
        """What comes of a pixel.

        Raises:
            WrongExpression, InvalidField: it is unknown, or its arguments are wrong.
            StoreUnavailable: nothing came of it.
        """
        reactor = self._reactors.get(pixel.name)
        if reactor is None:
            known = ", ".join(["LLM", "Py", *self._reactors])
            raise WrongExpression(f"the reactor {pixel.name} is not one of this service, which has {known}")
        with translated_errors():
            return await reactor(session, insight_id, pixel)

    async def _probe(self, _session: Session, _insight_id: str, _pixel: Pixel) -> Outcome:
        return Outcome(output=True, is_meta=True)

    async def _model_api(self, _session: Session, _insight_id: str, pixel: Pixel) -> Outcome:
        name = _text(pixel, "model")
        if find_model(self._settings.models, name) is None:
            raise InvalidField("model", name, f"one of {', '.join(sorted(self._settings.model_names))}")
        return Outcome(output=MODEL_API)

    async def _room_messages(self, session: Session, _insight_id: str, pixel: Pixel) -> Outcome:
        room_id = _text(pixel, "roomId")
        page = await self._messages.page(session.caller.user_id, room_id, limit=MOST_LISTED)
        rows = [_row(message) for message in page.messages]
        return Outcome(output=rows, types=(OperationType.VECTOR,))

    async def _open_insights(self, session: Session, _insight_id: str, _pixel: Pixel) -> Outcome:
        # A list in a list: the SDK takes the first item for the answer.
        return Outcome(output=[await self._sessions.insights(session.digest)], types=(OperationType.VECTOR,))

    async def _drop_insight(self, session: Session, insight_id: str, _pixel: Pixel) -> Outcome:
        await self._sessions.drop_insight(session.digest, insight_id)
        return Outcome(output=True)

    async def _stop(self, session: Session, _insight_id: str, pixel: Pixel) -> Outcome:
        ids = pixel.named.get("id")
        ids = [ids] if isinstance(ids, str) else ids
        if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_STOPPED or not all(isinstance(i, str) for i in ids):
            raise InvalidField("id", Shown(kind_of(ids)), f"1 to {MOST_STOPPED} ids of jobs")
        return Outcome(output="; ".join([await self._stop_one(session, job_id) for job_id in ids]))

    async def _stop_one(self, session: Session, job_id: str) -> str:
        job = await self._jobs.find(job_id, session=session.digest)
        if job is None or job.is_fetched:
            return "job not found"
        if not job.prompt_id:
            return f"job {job_id} has already completed"
        try:
            status = await self._service.cancel(job.user_id, job.prompt_id)
        except NotFound:
            return "job not found"
        return f"job {job_id}: " + ("cancel requested" if status is Status.CANCELED else "has already completed")


def _text(pixel: Pixel, name: str) -> str:
    value = pixel.named.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidField(name, Shown("nothing" if value is None else kind_of(value)), "a string")
    return value


def _row(message: Message) -> dict[str, Any]:
    return {
        "MESSAGE_ID": message.id,
        "MESSAGE_TYPE": "INPUT" if message.user_id else "RESPONSE",
        "MESSAGE_DATA": message.text,
        "DATE_CREATED": timestamp(message.created_us),
    }
