"""Attempts at pictures: what is logged, kept, dropped and said of failures."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from PIL import Image

from deployments.replica import persist
from deployments.replica.attempts import AttemptRunner, Outcome
from deployments.replica.pictures import Pictures
from deployments.tasks import Supervisor
from pipeline.delta import Delta, DeltaKind
from pipeline.engine import Painted, PaintStep
from pipeline.errors import EngineDead, EngineError, PermanentEngineError, StoreUnavailable
from pipeline.files.file_store import FilesUnavailable
from pipeline.files.record import QuotaExceeded
from pipeline.image_parameters import ImageFormat, ImageParameters, ImageTask
from pipeline.states import Status
from pipeline.store.attempts import FilesSwept, PicturesWanted
from tests.unit.attempts_in_memory import MemoryAttempts, StoredPrompt, away
from tests.unit.painters import RED, HandPainter, MemoryFiles
from tests.waiting import until

PARAMETERS = ImageParameters(prompt="a boat", seed=7, steps=4, guidance_scale=5, width=8, height=6)


@dataclass
class Replica:
    store: MemoryAttempts
    painter: HandPainter
    files: MemoryFiles
    runner: AttemptRunner
    deaths: list[str]

    @property
    def prompt(self) -> StoredPrompt:
        return self.store.prompts["a"]

    def run(self, fence: int = 1) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.runner.run("a", fence, False))

    async def ends(self) -> Outcome:
        return await asyncio.wait_for(self.run(), 10)


NewReplica = Callable[..., Replica]


@pytest.fixture
async def new(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NewReplica]:
    monkeypatch.setattr(persist, "RETRY_S", 0)
    supervisor = Supervisor()
    opened: list[Pictures] = []

    def make(
        *,
        file_ids: tuple[str, ...] = (),
        files: MemoryFiles | None = None,
        metadata: bool = True,
        stored: StoredPrompt | None = None,
        **changes: Any,
    ) -> Replica:
        wanted = PicturesWanted(
            user_id="usr-1", prompt_id="my/id", parameters=replace(PARAMETERS, **changes), file_ids=file_ids
        )
        prompt = stored or StoredPrompt((), pictures=wanted)
        store, painter, kept = MemoryAttempts(a=prompt), HandPainter(), files or MemoryFiles()
        deaths: list[str] = []
        anything: Any = kept
        attempts: Any = store
        work = Pictures(store=attempts, painter=painter, files=anything, model_id="m", metadata=metadata)
        opened.append(work)
        runner = AttemptRunner(
            store=attempts,
            work=work,
            model_id="m",
            replica="replica",
            node="node",
            permits=4,
            lease_s=10,
            supervisor=supervisor,
            on_engine_death=lambda: deaths.append("dead"),
        )
        return Replica(store, painter, kept, runner, deaths)

    yield make
    await supervisor.stop()
    for work in opened:
        work.close()


async def test_a_picture_becomes_a_file_and_the_answer(new: NewReplica):
    replica = new()
    replica.painter.steps.put_nowait(Painted(index=0, seed=7, image=RED, scheduler="ddim", seconds=1.23456))
    assert await replica.ends() is Outcome.ENDED
    assert replica.prompt.status is Status.COMPLETED
    owner, data, made = replica.files.made["file-1"]
    assert (owner, made.content_type, replica.prompt.files) == ("usr-1", "image/png", (made,))
    with Image.open(io.BytesIO(data)) as image:
        assert image.convert("RGB").tobytes() == RED.tobytes()
        assert image.info["parameters"].endswith("Steps: 4, Sampler: ddim, CFG scale: 5, Seed: 7, Size: 8x6, Model: m")
    assert replica.prompt.text == replica.prompt.message_text == "Here is your image."
    assert orjson.loads(replica.prompt.message_meta) == {
        "modelId": "m",
        "finishReason": "stop",
        "images": [{"fileId": "file-1", "seed": 7}],
        "steps": 4,
        "guidanceScale": 5.0,
        "scheduler": "ddim",
        "paintSeconds": 1.235,
    }
    assert replica.files.unmade == []


async def test_several_pictures_are_files_in_their_order(new: NewReplica):
    replica = new(images=3, format=ImageFormat.WEBP)
    for index in (2, 0, 1):
        replica.painter.steps.put_nowait(Painted(index=index, seed=7 + index, image=RED, cut_short=index == 1))
    await replica.ends()
    assert [file.name for file in replica.prompt.files] == ["my/id-1.webp", "my/id-2.webp", "my/id-3.webp"]
    meta = orjson.loads(replica.prompt.message_meta)
    assert [image["seed"] for image in meta["images"]] == [7, 8, 9]
    assert meta["promptCutShort"] is True
    assert replica.prompt.message_text == "Here are your 3 images."


async def test_parameters_stay_out_of_the_file_where_the_operator_says_so(new: NewReplica):
    replica = new(metadata=False)
    replica.painter.finish()
    await replica.ends()
    assert "parameters" not in Image.open(io.BytesIO(replica.files.made["file-1"][1])).info


async def test_steps_and_previews_are_logged_while_it_paints(new: NewReplica):
    replica = new()
    running = replica.run()
    await replica.painter.started.wait()
    replica.painter.steps.put_nowait(PaintStep(step=1, steps=4, preview=b"webp"))
    await until(lambda: len(replica.prompt.log) == 1)
    assert replica.prompt.log[0].delta == Delta(
        kind=DeltaKind.STEP, step=1, steps=4, preview=base64.b64encode(b"webp").decode()
    )
    replica.painter.finish()
    assert await asyncio.wait_for(running, 10) is Outcome.ENDED
    assert [entry.delta.kind for entry in replica.prompt.log] == [DeltaKind.STEP, DeltaKind.END]


async def test_steps_that_gather_are_one_entry_the_latest_with_the_last_preview(new: NewReplica):
    replica = new()
    replica.store.answering.clear()
    running = replica.run()
    await replica.painter.started.wait()
    replica.painter.steps.put_nowait(PaintStep(step=1, steps=9))
    await replica.store.seen("append")
    for step, preview in ((2, b"a"), (3, b"b"), (4, b"")):
        replica.painter.steps.put_nowait(PaintStep(step=step, steps=9, preview=preview))
    await until(replica.painter.steps.empty)
    replica.store.answering.set()
    await until(lambda: len(replica.prompt.log) == 2)
    latest = replica.prompt.log[1].delta
    assert (latest.step, base64.b64decode(latest.preview)) == (4, b"b")
    replica.painter.finish()
    await asyncio.wait_for(running, 10)


async def test_an_attempt_after_one_that_showed_steps_begins_with_a_restart(new: NewReplica):
    first = new()
    stored = first.prompt
    stored.fingerprint = "hand"
    stored.add(Delta(kind=DeltaKind.STEP, step=3, steps=4))
    second = new(stored=stored)
    second.painter.finish()
    await second.ends()
    assert [entry.delta.kind for entry in stored.log] == [DeltaKind.STEP, DeltaKind.RESTART, DeltaKind.END]
    assert second.painter.requests[0].parameters.seed == 7


async def test_a_first_attempt_has_nothing_to_restart(new: NewReplica):
    replica = new()
    replica.painter.finish()
    await replica.ends()
    assert [entry.delta.kind for entry in replica.prompt.log] == [DeltaKind.END]


async def test_a_cancelled_prompt_stops_the_painter_and_leaves_no_file(new: NewReplica):
    replica = new(images=2)
    running = replica.run()
    await replica.painter.started.wait()
    replica.painter.steps.put_nowait(Painted(index=0, seed=7, image=RED))
    await until(lambda: "file-1" in replica.files.made)
    replica.store.cancel("a")
    await replica.runner.look_again("a")
    assert await asyncio.wait_for(running, 10) is Outcome.STALE
    assert replica.painter.closed.is_set()
    assert replica.files.unmade == ["file-1"]
    assert replica.runner.permits_used == 0


async def test_a_late_end_of_an_old_attempt_keeps_no_file(new: NewReplica):
    replica = new()
    running = replica.run()
    await replica.painter.started.wait()
    replica.store.grant_again("a")
    replica.painter.finish()
    assert await asyncio.wait_for(running, 10) is Outcome.STALE
    assert (replica.prompt.files, replica.files.unmade) == ((), ["file-1"])


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (EngineError("the model ran out of memory painting 8 x 6 pixels"), Status.ERRORED, "ran out of memory"),
        (PermanentEngineError("scheduler: got x"), Status.ABANDONED, "scheduler: got x"),
        (ValueError("a canary in the prompt"), Status.ERRORED, "internal error (ValueError)"),
    ],
)
async def test_a_failed_attempt_says_why_and_leaves_no_file(
    new: NewReplica, error: Exception, status: Status, message: str
):
    replica = new(images=2)
    replica.painter.steps.put_nowait(Painted(index=0, seed=7, image=RED))
    replica.painter.steps.put_nowait(error)
    assert await replica.ends() is Outcome.ENDED
    assert replica.prompt.status is status
    assert message in replica.prompt.error
    assert replica.files.unmade == ["file-1"]


async def test_a_painter_that_is_gone_ends_the_replica_and_the_prompt_is_run_elsewhere(new: NewReplica):
    replica = new()
    replica.painter.steps.put_nowait(EngineDead())
    assert await replica.ends() is Outcome.STALE
    assert (replica.prompt.status, replica.deaths) == (Status.SCHEDULED, ["dead"])


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (QuotaExceeded("the user's files would take more than 5 bytes"), Status.ABANDONED, "more than 5 bytes"),
        (FilesUnavailable(), Status.ERRORED, "the picture cannot be kept: The storage of files"),
    ],
)
async def test_a_picture_that_cannot_be_kept_fails_the_attempt(
    new: NewReplica, error: Exception, status: Status, message: str
):
    replica = new()
    replica.files.failing = [error]
    replica.painter.finish()
    await replica.ends()
    assert replica.prompt.status is status
    assert message in replica.prompt.error


async def test_a_store_that_is_away_costs_no_picture(new: NewReplica):
    replica = new()
    replica.store.failing = [away()]
    replica.files.failing = [StoreUnavailable(), StoreUnavailable()]
    replica.painter.finish()
    assert await replica.ends() is Outcome.ENDED
    assert replica.prompt.status is Status.COMPLETED
    assert len(replica.painter.requests) == 1


async def test_files_that_were_swept_before_the_end_cost_an_attempt(new: NewReplica, monkeypatch: pytest.MonkeyPatch):
    replica = new()

    async def too_late(*_: Any, **__: Any) -> bool:
        raise FilesSwept

    monkeypatch.setattr(replica.store, "finish", too_late)
    replica.painter.finish()
    await replica.ends()
    assert (replica.prompt.status, replica.files.unmade) == (Status.ERRORED, ["file-1"])


def png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", size, (0, 0, 255, 0)).save(file, "PNG")
    return file.getvalue()


async def test_a_picture_to_start_from_comes_decoded_and_clean(new: NewReplica):
    replica = new(task=ImageTask.IMAGE, file_ids=("file-mine",), files=MemoryFiles(**{"file-mine": png((5, 3))}))
    replica.painter.finish()
    await replica.ends()
    (request,) = replica.painter.requests
    assert request.source is not None
    assert (request.source.mode, request.source.size, request.source.getpixel((0, 0))) == ("RGB", (5, 3), (255,) * 3)


@pytest.mark.parametrize(
    ("file_ids", "message"),
    [
        (("file-gone",), "the image to start from is not there any more"),
        ((), "the image to start from is not there any more"),
        (("file-text",), "the image is in another format"),
        (("file-bomb",), "pixels, allowed are 16000000 in all"),
    ],
)
async def test_a_picture_that_cannot_be_started_from_is_no_matter_of_retries(
    new: NewReplica, file_ids: tuple[str, ...], message: str
):
    bomb = io.BytesIO()
    Image.new("1", (5000, 4000)).save(bomb, "PNG")
    files = MemoryFiles(**{"file-text": b"words", "file-bomb": bomb.getvalue()})
    replica = new(task=ImageTask.IMAGE, file_ids=file_ids, files=files)
    await replica.ends()
    assert replica.prompt.status is Status.ABANDONED
    assert message in replica.prompt.error
    assert replica.painter.requests == []


async def test_a_prompt_for_text_is_refused_for_good(new: NewReplica):
    replica = new(stored=StoredPrompt((1,)))
    await replica.ends()
    assert (replica.prompt.status, replica.prompt.error) == (
        Status.ABANDONED,
        "the prompt is not one for an image model",
    )
