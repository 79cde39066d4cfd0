"""Files that go with a prompt: in the request, checked, in the record and on the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deployments.ingress import wire
from deployments.ingress.default_model import DefaultModel
from deployments.ingress.prompt_request import parse_prompt_request
from deployments.ingress.service import PromptService
from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from pipeline.errors import InvalidField
from pipeline.submission import PromptSubmission
from tests.unit.chosen_default import ChosenDefault
from tests.unit.snapshot import check_json
from tests.unit.test_prompt_record import new_prompt, stored
from tests.unit.test_prompt_service import Files, Prompts
from tests.unit.test_wire import ANSWER, WAITING

MODEL = ModelSpec(id="org/small", engine="scripted", source="none", context_tokens=64)


def file_ids(value: Any) -> tuple[str, ...]:
    return parse_prompt_request({"prompt": "Hi", "fileIds": value}).file_ids


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (["file-1", "file-2"], ("file-1", "file-2")),
        ('["file-1", "file-2"]', ("file-1", "file-2")),
        ("file-1", ("file-1",)),
        (["b", "a", "b"], ("b", "a")),
        ([], ()),
        ("[]", ()),
        (None, ()),
        ([7], ("7",)),
        ([f"file-{i}" for i in range(16)], tuple(f"file-{i}" for i in range(16))),
    ],
)
def test_a_list_an_id_or_what_the_command_line_sends(sent: Any, read: tuple[str, ...]):
    assert file_ids(sent) == read


@pytest.mark.parametrize(
    "sent",
    [
        "",
        [""],
        ["x" * 257],
        [f"file-{i}" for i in range(17)],
        [["file-1"]],
        {"a": 1},
        [None],
        [{}],
        '["file-1", 2' * 99,
    ],
    ids=range(9),
)
def test_anything_else_is_named(sent: Any):
    with pytest.raises(InvalidField, match=r"^fileIds") as refused:
        file_ids(sent)
    assert "at most 16 ids of files" in refused.value.message or "a string" in refused.value.message


@pytest.fixture
def prompts() -> Prompts:
    return Prompts()


@pytest.fixture
def service(prompts: Prompts) -> PromptService:
    settings = Settings.parse({"redis_url": "redis://none.invalid", "models": [MODEL]})
    nobody: Any = None
    store: Any = prompts
    texts = {MODEL.id: ModelText.open(MODEL, settings)}
    chosen: Any = ChosenDefault()
    default = DefaultModel(settings, chosen)
    return PromptService(settings, store, nobody, texts, default, nobody, files=Files())


async def test_a_prompt_is_stored_with_its_files(service: PromptService, prompts: Prompts):
    await service.submit("usr-1", PromptSubmission(prompt="hi", file_ids=("file-mine",)))
    assert prompts.accepted[0].file_ids == ("file-mine",)


@pytest.mark.parametrize(
    ("user_id", "ids", "named"),
    [
        ("usr-2", ("file-mine",), "file-mine"),
        ("usr-1", ("file-none",), "file-none"),
        ("usr-1", ("file-mine", "file-none"), "file-none"),
    ],
)
async def test_a_file_of_somebody_else_is_refused_like_one_that_is_not_there(
    service: PromptService, prompts: Prompts, user_id: str, ids: tuple[str, ...], named: str
):
    with pytest.raises(InvalidField) as refused:
        await service.submit(user_id, PromptSubmission(prompt="hi", file_ids=ids))
    assert refused.value.status == 400
    assert refused.value.message == f"fileIds: got '{named}', allowed is the ids of files of your own"
    assert prompts.accepted == []


def test_the_record_keeps_them_and_does_without():
    assert stored(new_prompt(file_ids=("file-1", "file-2"))).file_ids == ("file-1", "file-2")
    assert stored(new_prompt()).file_ids == ()
    assert "file_ids" not in new_prompt().to_record()


def test_the_message_shows_them_and_the_prompt_object_does_not():
    """Go clients refuse a key inside ``prompt`` that they do not know (contract §0.8)."""
    message = replace(ANSWER, user_id="usr-1", meta=None, file_ids=("file-1",))
    check_json("message-user-with-files", wire.message_object(message))
    assert wire.prompt_object(replace(WAITING, file_ids=("file-1",))) == wire.prompt_object(WAITING)
