"""A batch over HTTP, on the whole route table and a real store: exactly one record per line, whatever is killed in between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from clients.batch.errors import BatchStopped, ExitCode
from clients.batch.main import _prepare
from clients.batch.services import BatchService, HandleService, HttpService
from clients.handle import AsyncPromptHandle
from pipeline.accounts import Account
from pipeline.service_account import SERVICE_ID, ensure_service_account
from tests.integration.ingress_app import IngressApp, ingress_app, token
from tests.integration.model_worker import ModelWorker, working
from tests.integration.test_handle import Deployment
from tests.unit.fake_handle import FakeHandle

SYNC_WAIT_S = 0.02


@pytest.fixture
async def ingress(redis_url: str) -> AsyncIterator[IngressApp]:
    # A sync request gives up soon, so that most lines take several.
    async with ingress_app(redis_url, sync_wait_s=SYNC_WAIT_S) as app:
        await ensure_service_account(app.accounts)
        yield app


@pytest.fixture
async def ada(ingress: IngressApp) -> Account:
    return await ingress.user("ada")


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[ModelWorker]:
    async with working(redis_url) as running:
        yield running


class Breaking(httpx.AsyncBaseTransport):
    """Delivers every request; of some the answer gets lost, and some are answered by what stands in front of the service."""

    def __init__(self, ingress: IngressApp, breaks: Callable[[int], str | None] = lambda _: None) -> None:
        self._inner = httpx.ASGITransport(app=ingress.app, client=("192.0.2.1", 1))
        self._breaks = breaks
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = await self._inner.handle_async_request(request)
        match self._breaks(len(self.requests)):
            case "lost":
                raise httpx.ReadError("connection reset")
            case "gateway":
                return httpx.Response(502, text="<html>Bad Gateway</html>")
            case "busy":
                return httpx.Response(429, json={"error": "Too Many Requests"}, headers={"Retry-After": "0"})
        return response


def http(ingress: IngressApp, as_: Account | str, breaks: Callable[[int], str | None] = lambda _: None) -> HttpService:
    bearer = as_ if isinstance(as_, str) else token(as_).removeprefix("Bearer ")
    return HttpService("http://test", bearer, connections=8, patience_s=5, transport=Breaking(ingress, breaks))


class Batch:
    """Runs of one batch in a folder."""

    def __init__(self, folder: Path) -> None:
        self.input, self.output = folder / "in.jsonl", folder / "out.jsonl"
        self.errors = folder / "out.errors.jsonl"

    async def run(self, service: BatchService, concurrency: int = 8) -> int:
        with ExitStack() as stack:
            run = _prepare(stack, self.input, self.output, self.errors, "job")
            return await run.go(service, concurrency)

    def records(self, path: Path) -> list[Any]:
        return sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda record: record["line"])


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    made = Batch(tmp_path)
    lines = [{"id": f"q-{number}", "prompt": f"say {number}"} for number in range(1, 41)]
    lines[9]["prompt"] = " "
    lines[19]["modelId"] = "org/none"
    made.input.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return made


def _breaks(request: int) -> str | None:
    return {3: "lost", 4: "gateway", 5: "busy", 0: "lost"}.get(request % 9)


async def test_every_line_is_run_once_and_gets_its_own_answer(
    ingress: IngressApp, ada: Account, worker: ModelWorker, batch: Batch
):
    assert await batch.run(http(ingress, ada, _breaks)) == ExitCode.WITH_ERRORS
    answers = batch.records(batch.output)
    assert [record["line"] for record in answers] == [n for n in range(1, 41) if n not in (10, 20)]
    assert all(record["text"] == f"SAY {record['line']} " for record in answers)
    assert all(record["id"] == f"q-{record['line']}" for record in answers)
    assert {record["completionTokens"] for record in answers} == {2}
    assert sorted(worker.ran) == sorted(f"{ada.id}/job:{record['line']}" for record in answers)
    blank, unknown = batch.records(batch.errors)
    assert (blank["line"], blank["code"], blank["error"][:8]) == (10, 400, "prompt: ")
    assert (unknown["line"], unknown["error"][:9]) == (20, "modelId: ")


async def test_a_run_that_is_cut_off_is_finished_by_the_next_without_running_a_prompt_twice(
    ingress: IngressApp, ada: Account, worker: ModelWorker, batch: Batch
):
    def dies(request: int) -> str | None:
        if request > 20:
            raise BatchStopped("killed")
        return None

    with pytest.raises(BatchStopped):
        await batch.run(http(ingress, ada, dies))
    # What it had in flight is accepted, and answered while nobody waits for it.
    before = len(batch.output.read_bytes().splitlines())
    assert before < 38
    batch.output.write_bytes(batch.output.read_bytes()[:-7])
    assert await batch.run(http(ingress, ada)) == ExitCode.WITH_ERRORS
    assert [record["line"] for record in batch.records(batch.output)] == [n for n in range(1, 41) if n not in (10, 20)]
    assert len(worker.ran) == len(set(worker.ran)) == 38


async def test_prompts_that_fail_for_good_are_errors(
    ingress: IngressApp, ada: Account, worker: ModelWorker, batch: Batch
):
    worker.fails = lambda text: text == "say 7"
    assert await batch.run(http(ingress, ada)) == ExitCode.WITH_ERRORS
    (seven,) = (record for record in batch.records(batch.errors) if record["line"] == 7)
    assert (seven["status"], seven["error"], seven["promptId"]) == ("abandoned", "the engine gave up", "job:7")
    assert len(batch.records(batch.output)) == 37


async def test_the_name_of_another_inputs_job_does_not_give_its_answers(
    ingress: IngressApp, ada: Account, worker: ModelWorker, batch: Batch, tmp_path: Path
):
    await batch.run(http(ingress, ada))
    (tmp_path / "other").mkdir()
    other = Batch(tmp_path / "other")
    other.input.write_text('{"prompt": "say something else"}\n')
    with pytest.raises(BatchStopped, match=r"'job' was the name of another input's job, .* \(line 1\)"):
        await other.run(http(ingress, ada))
    assert other.records(other.output) == other.records(other.errors) == []


@pytest.mark.parametrize("bearer", ["", "nonsense"])
async def test_a_token_that_is_not_good_stops_it_before_it_begins(ingress: IngressApp, batch: Batch, bearer: str):
    with pytest.raises(BatchStopped, match="the service cannot be used: Unauthorized") as stopped:
        await batch.run(http(ingress, bearer))
    assert stopped.value.code is ExitCode.NO_SERVICE
    assert batch.records(batch.output) == batch.records(batch.errors) == []


async def test_something_else_at_the_address_is_noticed(batch: Batch):
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>welcome</html>"))
    service = HttpService("http://test", "token", connections=1, patience_s=0, transport=page)
    with pytest.raises(BatchStopped, match="the answer is not JSON"):
        await batch.run(service)


async def test_nobody_at_the_address_is_noticed(batch: Batch):
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    service = HttpService("http://test", "t", connections=1, patience_s=0, transport=httpx.MockTransport(refuse))
    with pytest.raises(BatchStopped, match="the service cannot be used: http://test: ConnectError") as stopped:
        await batch.run(service)
    assert stopped.value.code is ExitCode.NO_SERVICE


async def test_through_a_handle_it_is_the_same(ingress: IngressApp, worker: ModelWorker, batch: Batch):
    handle = AsyncPromptHandle(handle=FakeHandle(Deployment(ingress)))
    assert await batch.run(HandleService(handle)) == ExitCode.WITH_ERRORS
    assert len(batch.records(batch.output)) == 38
    assert set(worker.ran) == {f"{SERVICE_ID}/job:{n}" for n in range(1, 41) if n not in (10, 20)}
    blank = batch.records(batch.errors)[0]
    assert (blank["field"], blank["allowed"]) == ("prompt", "a string that is not blank")


async def test_a_user_who_does_not_exist_stops_it_before_it_begins(ingress: IngressApp, batch: Batch):
    handle = AsyncPromptHandle(handle=FakeHandle(Deployment(ingress)), user="nobody")
    with pytest.raises(BatchStopped, match="user: got 'nobody'"):
        await batch.run(HandleService(handle))
