"""Pictures that a prompt names by their URL: fetched by whoever may, as files of the caller's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deployments.ingress.downloader import DownloadsOff
from deployments.ingress.grants import Grants
from deployments.ingress.image_sources import ImageSources
from deployments.ingress.principal import Principal
from pipeline.accounts import Role
from pipeline.errors import InvalidField, Unauthorized
from pipeline.files.images import MOST_BYTES, ImageRefused
from pipeline.files.record import FileRecord
from pipeline.submission import PromptSubmission

URL = "https://images.example/a.png"
CALLER = Principal(
    user_id="usr-1", slug="x", roles=(Role.USER,), app_id="a", device="", token_id="t", expires_at=2_000_000_000
)
RECORD = FileRecord(id="file-9", user_id="usr-1", name="a.png", content_type="image/png", size=1, created_us=1, url=URL)


class Internet:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, str]] = []

    async def download(self, _files: Any, owner: str, url: str) -> FileRecord:
        self.asked.append((owner, url))
        if self.error:
            raise self.error
        return RECORD


def sources(internet: Internet, *grants: str) -> ImageSources:
    anything: Any = internet
    nothing: Any = None
    return ImageSources(nothing, anything, Grants(grants or ("file-svc:*",)))


async def test_what_a_url_gives_becomes_one_of_the_prompts_files():
    internet = Internet()
    submission = PromptSubmission(prompt="x", image_url=URL, file_ids=("file-1",))
    fetched = await sources(internet).fetched(CALLER, submission)
    assert fetched == replace(submission, image_url=None, file_ids=("file-1", "file-9"))
    assert internet.asked == [("usr-1", URL)]


async def test_without_a_url_nothing_is_fetched():
    internet = Internet()
    submission = PromptSubmission(prompt="x")
    assert await sources(internet).fetched(CALLER, submission) is submission
    assert internet.asked == []


async def test_who_may_not_download_may_not_by_way_of_a_prompt_either():
    internet = Internet()
    nobody = sources(internet, "prompt-svc:*")
    with pytest.raises(Unauthorized):
        await nobody.fetched(CALLER, PromptSubmission(prompt="x", image_url=URL))
    assert internet.asked == []


async def test_what_stops_a_download_stops_the_prompt():
    with pytest.raises(DownloadsOff):
        await sources(Internet(DownloadsOff())).fetched(CALLER, PromptSubmission(prompt="x", image_url=URL))


async def test_there_is_one_picture_to_start_from_and_it_is_not_too_large():
    checked = sources(Internet())
    for files in ([], [RECORD, RECORD]):
        with pytest.raises(InvalidField, match=rf"fileIds: got {len(files)} files, allowed is one image to start from"):
            await checked.check(files)
    with pytest.raises(ImageRefused, match=rf"fileIds: the image has {MOST_BYTES + 1} bytes, allowed are {MOST_BYTES}"):
        await checked.check([replace(RECORD, size=MOST_BYTES + 1)])
