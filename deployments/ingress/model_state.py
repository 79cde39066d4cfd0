"""What state a model is in: from the replicas registered with the store, and from Serve's own word about its deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

#: Characters of an error that are shown.
_MOST_DETAIL = 300


class State(StrEnum):
    """Values on the wire."""

    #: A replica takes prompts.
    RUNNING = "running"
    #: A replica loads the model.
    STARTING = "starting"
    #: No replica is wanted at this time; starting the model brings one.
    SCALED_TO_ZERO = "scaled-to-zero"
    #: No replica runs and Serve has given up starting one.
    FAILED = "failed"
    #: Serve does not answer, and the store knows no replica.
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeView:
    """A deployment as Serve sees it (``ray.serve.schema.DeploymentStatusOverview``)."""

    #: UPDATING, HEALTHY, UNHEALTHY, DEPLOY_FAILED, UPSCALING, DOWNSCALING.
    status: str
    #: Number of replicas by Serve's state.
    replicas: Mapping[str, int] = field(default_factory=dict)
    #: What is wrong or under way; behind ``Error:`` a whole traceback.
    message: str = ""

    @property
    def running(self) -> int:
        return self._count("RUNNING", "PENDING_MIGRATION")

    @property
    def starting(self) -> int:
        return self._count("STARTING", "RECOVERING", "UPDATING")

    def _count(self, *states: str) -> int:
        return sum(self.replicas.get(state, 0) for state in states)


class ServeControl(Protocol):
    """What the ingress asks of Serve."""

    async def view(self, deployment: str) -> ServeView | None:
        """The deployment a second ago at most; None if Serve does not answer or does not know it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelState:
    state: State
    #: Why it is not simply running, in a sentence for everybody; empty if there is nothing to say.
    reason: str = ""
    #: The error behind it, for admins: it may name files and hosts.
    detail: str = ""


def model_state(*, registered: int, view: ServeView | None) -> ModelState:
    """The state of a model.

    Args:
        registered: replicas that offer their permits in the store. One that died is among them for up to a lease.
        view: None if Serve does not answer; then the store's word counts.
    """
    if view is None:
        if registered:
            return ModelState(state=State.RUNNING)
        return ModelState(state=State.UNKNOWN, reason="Serve does not answer and no replica is registered")
    reason, detail = _told(view.message)
    if registered and view.running:
        return ModelState(state=State.RUNNING, reason="" if view.status == "HEALTHY" else reason, detail=detail)
    if view.status == "DEPLOY_FAILED":
        return ModelState(state=State.FAILED, reason=reason, detail=detail)
    if view.starting or view.status in ("UPDATING", "UPSCALING"):
        return ModelState(state=State.STARTING, reason=reason, detail=detail)
    if view.running:
        return ModelState(state=State.STARTING, reason="A replica runs but has not registered with the store yet")
    if view.status == "UNHEALTHY":
        return ModelState(state=State.FAILED, reason=reason, detail=detail)
    return ModelState(state=State.SCALED_TO_ZERO)


def _told(message: str) -> tuple[str, str]:
    """A sentence, and the last line of the traceback: the exception itself."""
    sentences, _, traceback = message.partition("Error:\n")
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    return " ".join(sentences.split())[:_MOST_DETAIL], lines[-1][:_MOST_DETAIL] if lines else ""
