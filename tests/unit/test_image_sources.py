"""Pictures that a prompt names by their URL: fetched by whoever may, as files of the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from deployments.ingress import image_sources
from deployments.ingress.downloader import DownloadsOff
from deployments.ingress.grants import Grants
from deployments.ingress.image_sources import ImageSources
from deployments.ingress.principal import Principal
from pipeline.accounts import Role
from pipeline.errors import InvalidField, StoreUnavailable, Unauthorized
from pipeline.files.images import MOST_BYTES, ImageRefused, ImageTooSlow
from pipeline.files.record import FileRecord
from pipeline.prompt import Prompt
from pipeline.submission import PromptSubmission
from tests.unit.test_wire import WAITING

URL = "https://images.example/a.png"
CALLER = Principal(
    user_id="usr-1", slug="x", roles=(Role.USER,), app_id="a", device="", token_id="t", expires_at=2_000_000_000
)
RECORD = FileRecord(id="file-9", user_id="usr-1", name="a.png", content_type="image/png", size=1, created_us=1, url=URL)


class Internet:
    """What is downloaded, and the user's files."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, str]] = []
        self.deleted: list[tuple[str, str]] = []
        self.reading: list[str] = []
        self.go_on = asyncio.Event()

    async def download(self, _files: Any, owner: str, url: str, *, in_place: bool) -> FileRecord:
        assert not in_place
        self.asked.append((owner, url))
        if self.error:
            raise self.error
        return RECORD

    async def delete(self, owner: str, file_id: str) -> None:
        self.deleted.append((owner, file_id))

    async def read(self, record: FileRecord) -> AsyncGenerator[bytes, None]:
        self.reading.append(record.id)
        await self.go_on.wait()
        yield b"words"


class Stored:
    """Of the store's prompts one, or none."""

    def __init__(self, prompt: Prompt | None) -> None:
        self._prompt = prompt

    async def get(self, user_id: str, prompt_id: str) -> Prompt | None:
        assert (user_id, prompt_id) == ("usr-1", "mine")
        return self._prompt


def sources(internet: Internet, *grants: str, stored: Prompt | None = None) -> ImageSources:
    anything: Any = internet
    return ImageSources(anything, anything, Grants(grants or ("file-svc:*",)), Stored(stored))


async def submit(found: ImageSources, submission: PromptSubmission) -> PromptSubmission:
    async with found.fetched(CALLER, submission) as whole:
        return whole


async def test_what_a_url_gives_becomes_one_of_the_prompts_files():
    internet = Internet()
    submission = PromptSubmission(prompt="x", image_url=URL, file_ids=("file-1",))
    fetched = await submit(sources(internet), submission)
    assert fetched == replace(submission, image_url=None, file_ids=("file-1", "file-9"))
    assert internet.asked == [("usr-1", URL)]


async def test_without_a_url_nothing_is_fetched():
    internet = Internet()
    submission = PromptSubmission(prompt="x")
    assert await submit(sources(internet), submission) is submission
    assert internet.asked == []


async def test_who_may_not_download_may_not_by_way_of_a_prompt_either():
    internet = Internet()
    with pytest.raises(Unauthorized):
        await submit(sources(internet, "prompt-svc:*"), PromptSubmission(prompt="x", image_url=URL))
    assert internet.asked == []


async def test_what_stops_a_download_stops_the_prompt():
    with pytest.raises(DownloadsOff):
        await submit(sources(Internet(DownloadsOff())), PromptSubmission(prompt="x", image_url=URL))


async def test_a_prompt_that_is_sent_again_has_its_picture_already():
    internet = Internet()
    found = sources(internet, stored=replace(WAITING, file_ids=("file-1", "file-7")))
    submission = PromptSubmission(prompt="x", id="mine", image_url=URL, file_ids=("file-1",))
    assert (await submit(found, submission)).file_ids == ("file-1", "file-7")
    assert internet.asked == []


@pytest.mark.parametrize(("error", "is_kept"), [(InvalidField("x", "y", "z"), False), (StoreUnavailable(), True)])
async def test_the_picture_of_a_prompt_that_is_refused_is_deleted(error: Exception, is_kept: bool):
    """Not where nobody knows whether the prompt was stored."""
    internet = Internet()
    with pytest.raises(type(error)):
        async with sources(internet).fetched(CALLER, PromptSubmission(prompt="x", image_url=URL)):
            raise error
    assert internet.deleted == [] if is_kept else [("usr-1", "file-9")]


async def test_few_pictures_are_in_memory_at_the_same_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_sources, "DEADLINE_S", 0.1)
    internet = Internet()
    found = sources(internet)
    checks = [asyncio.create_task(found.check([RECORD])) for _ in range(9)]
    done, waiting = await asyncio.wait(checks, timeout=5, return_when=asyncio.FIRST_EXCEPTION)
    while len(done) < 5:
        more, waiting = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_EXCEPTION)
        done |= more
    assert {type(check.exception()) for check in done} == {ImageTooSlow}
    assert len(internet.reading) == 4
    internet.go_on.set()
    # What is read is no picture.
    assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {ImageRefused}


async def test_there_is_one_picture_to_start_from_and_it_is_not_too_large():
    checked = sources(Internet())
    for files in ([], [RECORD, RECORD]):
        with pytest.raises(InvalidField, match=rf"fileIds: got {len(files)} files, allowed is one image to start from"):
            await checked.check(files)
    with pytest.raises(ImageRefused, match=rf"fileIds: the image has {MOST_BYTES + 1} bytes, allowed are {MOST_BYTES}"):
        await checked.check([replace(RECORD, size=MOST_BYTES + 1)])
