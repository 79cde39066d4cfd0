import asyncio
import threading
from collections.abc import Mapping

import pytest

from deployments.ingress.model_state import ModelState, ServeView, State, model_state
from deployments.ingress.serve_control import FRESH_S, PATIENCE_S, SharedServeControl
from deployments.tasks import Supervisor
from tests.waiting import until_true

FAILED = (
    "The deployment failed to start 3 times in a row. This may be due to a problem with its constructor or initial health "
    'check failing. See controller logs for details. Error:\nray::ServeReplica()\n  File "/x/llm.py", line 3\n'
    "ValueError: no such file /secret\n"
)
RETRYING = "A replica failed to start with exception. Retrying 2 more time(s). Error:\nRuntimeError: out of memory\n"


def seen(status: str, message: str = "", **replicas: int) -> ServeView:
    return ServeView(status=status, replicas=replicas, message=message)


@pytest.mark.parametrize(
    ("registered", "view", "right"),
    [
        (1, seen("HEALTHY", RUNNING=1), State.RUNNING),
        (1, seen("UPDATING", RUNNING=1, STARTING=1), State.RUNNING),
        (1, seen("HEALTHY", PENDING_MIGRATION=1), State.RUNNING),
        (0, seen("UPDATING", STARTING=1), State.STARTING),
        (0, seen("UPSCALING"), State.STARTING),
        (0, seen("HEALTHY", RUNNING=1), State.STARTING),  # not registered yet
        (1, seen("UNHEALTHY", "dead", STARTING=1), State.STARTING),  # killed a moment ago: the lease is still there
        (0, seen("HEALTHY"), State.SCALED_TO_ZERO),
        (0, seen("DOWNSCALING", STOPPING=1), State.SCALED_TO_ZERO),
        (1, seen("HEALTHY"), State.SCALED_TO_ZERO),  # the last lease of a replica that stopped
        (0, seen("DEPLOY_FAILED", FAILED), State.FAILED),
        (0, seen("DEPLOY_FAILED", FAILED, STARTING=1), State.FAILED),
        (0, seen("UNHEALTHY", "dead"), State.FAILED),
        (1, seen("DEPLOY_FAILED", FAILED, RUNNING=1), State.RUNNING),  # a failed update leaves the old replica
        (1, None, State.RUNNING),
        (0, None, State.UNKNOWN),
    ],
)
def test_the_state_of_a_model(registered: int, view: ServeView | None, right: State):
    assert model_state(registered=registered, view=view).state is right


def test_why_it_failed_in_a_sentence_and_the_error_apart():
    assert model_state(registered=0, view=seen("DEPLOY_FAILED", FAILED)) == ModelState(
        state=State.FAILED,
        reason=FAILED.split(" Error:")[0],
        detail="ValueError: no such file /secret",
    )


def test_why_it_does_not_start():
    found = model_state(registered=0, view=seen("UPDATING", RETRYING, STARTING=1))
    assert found.reason == "A replica failed to start with exception. Retrying 2 more time(s)."
    assert found.detail == "RuntimeError: out of memory"


def test_a_healthy_model_has_no_reason():
    assert model_state(registered=1, view=seen("HEALTHY", RETRYING, RUNNING=1)).reason == ""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Serve:
    """Answers with the number of the question; may hang or fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.failing = False

    def read(self, app_name: str) -> Mapping[str, ServeView]:
        assert app_name == "app"
        self.asked += 1
        assert self.may_answer.wait(10)
        if self.failing:
            raise RuntimeError("no controller")
        return {"LLM-a": seen("HEALTHY", f"{self.asked}")}


def control(serve: Serve, clock: Clock) -> SharedServeControl:
    return SharedServeControl("app", Supervisor(), read=serve.read, clock=clock)


async def test_callers_share_one_question_a_second():
    serve, clock = Serve(), Clock()
    shared = control(serve, clock)
    views = await asyncio.gather(*(shared.view("LLM-a") for _ in range(5)))
    assert [view and view.message for view in views] == ["1"] * 5
    clock.now += FRESH_S
    assert (await shared.view("LLM-a") or seen("")).message == "1"
    clock.now += 0.1
    assert (await shared.view("LLM-a") or seen("")).message == "2"
    assert await shared.view("LLM-none") is None
    assert serve.asked == 2


async def test_a_serve_that_fails_says_nothing():
    serve, clock = Serve(), Clock()
    shared = control(serve, clock)
    serve.failing = True
    assert await shared.view("LLM-a") is None
    serve.failing = False
    assert await shared.view("LLM-a") is not None


async def test_a_serve_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch):
    from deployments.ingress import serve_control as module

    serve, clock = Serve(), Clock()
    shared = control(serve, clock)
    assert await shared.view("LLM-a") is not None
    serve.may_answer.clear()
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    clock.now += PATIENCE_S + FRESH_S + 1
    assert [await shared.view("LLM-a") for _ in range(3)] == [None] * 3
    assert serve.asked == 2
    serve.may_answer.set()
    answered = await until_true(lambda: shared.view("LLM-a"), timeout_s=10, every_s=0.001, what="an answer of Serve")
    assert answered is not None
