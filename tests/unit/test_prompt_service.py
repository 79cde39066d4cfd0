import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from deployments.engines.scripted import ScriptedRenderer
from deployments.ingress import hub as module
from deployments.ingress.default_model import DefaultModel
from deployments.ingress.hub import Hub
from deployments.ingress.model_choice import NotCapable
from deployments.ingress.service import PromptService
from deployments.models import ModelText, PromptTooLong
from deployments.routing import CurrentRouting
from deployments.settings import ModelSpec, Settings
from deployments.tasks import Supervisor
from pipeline.engine import Parsing, SamplingParameters
from pipeline.errors import InvalidField, NotFound, StoreUnavailable
from pipeline.files.record import FileRecord
from pipeline.prompt import NewPrompt, Prompt
from pipeline.prompt_type import PromptType
from pipeline.states import Status
from pipeline.store.prompts import Accepted
from pipeline.store.templates import SavedTemplate
from pipeline.submission import PromptSubmission
from pipeline.template import MissingVariable
from tests.unit.chosen_default import ChosenDefault
from tests.unit.logs_in_memory import THREAD, USER, MemoryLogs
from tests.unit.test_wire import WAITING
from tests.unit.tokenizers_for_tests import byte_fallback
from tests.waiting import until

MODEL = ModelSpec(id="org/small", aliases=("documented",), engine="scripted", source="none", context_tokens=64)
PAINTER = ModelSpec(
    id="org/painter",
    engine="scripted",
    source="none",
    context_tokens=64,
    capabilities=("image-to-image", "image-text-to-text"),
)
THINKER = ModelSpec(id="org/thinker", engine="scripted", source="none", context_tokens=64, reasoning_parser="qwen3")
PROMPT = replace(WAITING, id="a", user_id=USER, thread_id=THREAD, place=1)


class Prompts:
    """The store's prompts: one that the test changes, and what was accepted."""

    def __init__(self) -> None:
        self.current: Prompt | None = PROMPT
        self.accepted: list[NewPrompt] = []
        self.failing: Exception | None = None
        self.looks = 0

    async def accept(self, new: NewPrompt) -> Accepted:
        if self.failing:
            raise self.failing
        self.accepted.append(new)
        return Accepted(prompt=PROMPT, is_new=True)

    async def get(self, user_id: str, prompt_id: str) -> Prompt | None:
        self.looks += 1
        return self.current

    async def queue_position(self, ref: str) -> int | None:
        return 7

    async def remove(self, ref: str) -> None:
        if ref != "usr-2/theirs":
            raise NotFound


class Files:
    """One user with one file."""

    async def find(self, owner: str, file_ids: Sequence[str]) -> list[FileRecord | None]:
        record = FileRecord(id="", user_id="usr-1", name="", content_type="", size=1, created_us=1, url="")
        return [replace(record, id=i) if (owner, i) == (USER, "file-mine") else None for i in file_ids]


class Templates:
    """One saved template, of one user."""

    async def get(self, user_id: str, name: str) -> SavedTemplate | None:
        if (user_id, name) != (USER, "qa"):
            return None
        return SavedTemplate(name="qa", template=r"{context}\n{prompt}", created_us=1, updated_us=1)


@pytest.fixture
def prompts() -> Prompts:
    return Prompts()


@pytest.fixture
def logs() -> MemoryLogs:
    return MemoryLogs()


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop()


@pytest.fixture
async def service(
    prompts: Prompts, logs: MemoryLogs, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> PromptService:
    monkeypatch.setattr(module, "LOOK_ANYWAY_S", 60)
    settings = Settings.parse({"redis_url": "redis://none.invalid", "models": [MODEL, PAINTER, THINKER]})
    store: Any = prompts
    client: Any = logs
    templates: Any = Templates()
    chosen: Any = ChosenDefault()
    return PromptService(
        settings,
        store,
        Hub(client, logs.keys, supervisor),
        {spec.id: ModelText.open(spec, settings) for spec in settings.models},
        DefaultModel(settings, chosen),
        templates,
        files=Files(),
    )


async def test_thoughts_are_told_from_answers_where_the_models_own_template_makes_it_think(
    service: PromptService, prompts: Prompts
):
    for submission in (
        PromptSubmission(prompt="hi", model_id=THINKER.id),
        PromptSubmission(prompt="hi", model_id=THINKER.id, messages=({"role": "user", "content": "hi"},)),
        PromptSubmission(prompt="hi", model_id=THINKER.id, template="{prompt}"),
        PromptSubmission(prompt="hi", model_id=THINKER.id, prompt_token_ids=(104, 105)),
        PromptSubmission(prompt="hi"),
    ):
        await service.submit(USER, submission)
    assert [new.sampling.parsing for new in prompts.accepted] == [Parsing(), Parsing(), None, None, None]
    assert prompts.accepted[3].prompt_token_ids == (104, 105)


async def test_token_ids_that_the_model_does_not_have_are_refused(service: PromptService, prompts: Prompts):
    with pytest.raises(InvalidField, match="token ids from 0 to 260"):
        await service.submit(USER, PromptSubmission(prompt="hi", prompt_token_ids=(104, 261)))
    assert prompts.accepted == []


async def test_a_prompt_is_stored_with_its_ids_and_the_defaults(service: PromptService, prompts: Prompts):
    await service.submit(USER, PromptSubmission(prompt="hi"))
    (new,) = prompts.accepted
    assert new.id.startswith("prom-")
    assert new.thread_id == new.id
    assert (new.model_id, new.max_retries, new.priority) == ("org/small", 4, 0)
    assert bytes(i for i in new.prompt_token_ids if i < 256) == b"hi"


async def test_an_alias_runs_on_its_model(service: PromptService, prompts: Prompts):
    await service.submit(USER, PromptSubmission(prompt="hi", model_id="documented", id="mine", thread_id="t"))
    (new,) = prompts.accepted
    assert (new.model_id, new.id, new.thread_id) == ("org/small", "mine", "t")


async def test_an_unknown_model_is_refused_and_nothing_is_stored(service: PromptService, prompts: Prompts):
    with pytest.raises(
        InvalidField, match="modelId: got 'gpt-9', allowed is one of documented, org/painter, org/small"
    ):
        await service.submit(USER, PromptSubmission(prompt="hi", model_id="gpt-9"))
    assert prompts.accepted == []


async def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(service: PromptService, prompts: Prompts):
    await service.submit(USER, PromptSubmission(prompt="x" * 63, template="{prompt}"))
    with pytest.raises(PromptTooLong, match=r"prompt: got 64 tokens, allowed is at most 63"):
        await service.submit(USER, PromptSubmission(prompt="x" * 64, template="{prompt}"))
    assert len(prompts.accepted) == 1


async def test_type_and_priority_are_stored(service: PromptService, prompts: Prompts):
    await service.submit(USER, PromptSubmission(prompt="hi", type=PromptType.TRANSLATION, priority=-3))
    (new,) = prompts.accepted
    assert (new.type, new.priority) == ("Translation", -3)


async def test_without_a_model_the_first_capable_one_runs_it(service: PromptService, prompts: Prompts):
    await service.submit(USER, PromptSubmission(prompt="hi", type=PromptType.IMAGE_TO_IMAGE, file_ids=("file-mine",)))
    assert prompts.accepted[0].model_id == "org/painter"


async def test_what_no_model_can_do_is_refused_and_nothing_is_stored(service: PromptService, prompts: Prompts):
    with pytest.raises(NotCapable, match="no model of the catalogue has the capability text-to-image"):
        await service.submit(USER, PromptSubmission(prompt="hi", type=PromptType.TEXT_TO_IMAGE))
    assert prompts.accepted == []


async def test_a_type_about_files_needs_one(service: PromptService, prompts: Prompts):
    with pytest.raises(
        InvalidField, match="fileIds: got nothing, allowed is at least one file with the type Visual Ques"
    ):
        await service.submit(USER, PromptSubmission(prompt="hi", type=PromptType.VISUAL_QUESTION_ANSWERING))
    assert prompts.accepted == []


async def test_a_saved_template_is_filled(service: PromptService, prompts: Prompts):
    await service.submit(USER, PromptSubmission(prompt="Why?", template_name="qa", variables={"context": "{prompt}"}))
    (new,) = prompts.accepted
    assert bytes(i for i in new.prompt_token_ids if i < 256) == b"{prompt}\nWhy?"
    assert new.prompt == "Why?"


async def test_a_saved_templates_variables_must_be_given(service: PromptService, prompts: Prompts):
    with pytest.raises(MissingVariable, match=r"variables\.context"):
        await service.submit(USER, PromptSubmission(prompt="Why?", template_name="qa"))
    assert prompts.accepted == []


@pytest.mark.parametrize(("user", "name"), [(USER, "other"), ("usr-2", "qa")])
async def test_an_unknown_template_is_named_and_anothers_is_unknown(
    service: PromptService, prompts: Prompts, user: str, name: str
):
    with pytest.raises(
        InvalidField, match=f"templateName: got '{name}', allowed is the name of a template you have saved"
    ):
        await service.submit(user, PromptSubmission(prompt="Why?", template_name=name))
    assert prompts.accepted == []


async def test_a_prompt_is_read_with_its_position(service: PromptService, prompts: Prompts):
    assert await service.read(USER, "a") == (PROMPT, 7)
    prompts.current = None
    with pytest.raises(NotFound):
        await service.read(USER, "a")


@pytest.mark.parametrize("history", [None, True, False])
async def test_history_is_left_to_the_thread_unless_the_request_says(
    service: PromptService, prompts: Prompts, history: bool | None
):
    await service.submit(USER, PromptSubmission(prompt="hi", history=history))
    assert [new.history for new in prompts.accepted] == [history]


@pytest.mark.parametrize("history", [None, False])
async def test_a_template_is_filled_with_the_prompt_alone(
    service: PromptService, prompts: Prompts, history: bool | None
):
    await service.submit(USER, PromptSubmission(prompt="hi", template="{prompt}", history=history))
    assert [new.history for new in prompts.accepted] == [False]


async def test_a_template_with_history_is_refused(service: PromptService, prompts: Prompts):
    with pytest.raises(InvalidField, match="history: got true, allowed is false with a template"):
        await service.submit(USER, PromptSubmission(prompt="hi", template="{prompt}", history=True))
    assert prompts.accepted == []


async def test_a_store_that_is_away_is_a_503(service: PromptService, prompts: Prompts):
    prompts.failing = ConnectionError("refused")
    with pytest.raises(StoreUnavailable):
        await service.submit(USER, PromptSubmission(prompt="hi"))


async def test_waiting_ends_with_the_prompts_own_end(service: PromptService, prompts: Prompts, logs: MemoryLogs):
    mine, other = logs.begin("a"), logs.begin("b")
    waiting = asyncio.create_task(service.wait(PROMPT, 600))
    await until(lambda: prompts.looks >= 1)
    logs.add(mine, "text")
    logs.end(other)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    looks = prompts.looks
    prompts.current = replace(PROMPT, status=Status.ABANDONED)
    logs.end(mine, Status.ABANDONED)
    assert (await asyncio.wait_for(waiting, 10)).status is Status.ABANDONED
    assert prompts.looks == looks + 1


async def test_what_has_ended_is_not_waited_for(service: PromptService, prompts: Prompts):
    ended = replace(PROMPT, status=Status.CANCELED)
    assert await service.wait(ended, 600) is ended
    assert prompts.looks == 0


async def test_after_its_time_the_prompt_comes_back_as_it_is(service: PromptService):
    assert (await asyncio.wait_for(service.wait(PROMPT, 0.01), 10)).status is Status.SCHEDULED


async def test_a_prompt_erased_meanwhile_is_not_found(service: PromptService, prompts: Prompts):
    prompts.current = None
    with pytest.raises(NotFound):
        await asyncio.wait_for(service.wait(PROMPT, 600), 10)


async def test_what_is_anothers_is_not_found(service: PromptService):
    with pytest.raises(NotFound):
        await service.remove(USER, "theirs")


def test_the_default_model_may_be_named_by_an_alias():
    other = MODEL.model_copy(update={"id": "org/other", "aliases": ("second",)})
    settings = Settings.parse({"redis_url": "redis://x", "models": [MODEL, other], "default_model": "second"})
    assert [spec and spec.id for spec in map(settings.resolve_model, (None, "", "documented", "nope"))] == [
        "org/other",
        "org/other",
        "org/small",
        None,
    ]


CHAT = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"})


async def test_a_chat_is_rendered_whole_and_gets_nothing_of_the_thread(service: PromptService, prompts: Prompts):
    await service.submit(USER, PromptSubmission(prompt="hi"))
    await service.submit(USER, PromptSubmission(prompt="hi", messages=CHAT))
    alone, chat = prompts.accepted
    assert len(chat.prompt_token_ids) > len(alone.prompt_token_ids)
    assert (chat.prompt, chat.history) == ("hi", False)


BYTES = ModelSpec(id="org/bytes", engine="scripted", source="none", tool_parser="hermes")
SAME = ModelSpec(id="org/same", engine="scripted", source="none", engine_args={"max_logprobs": 2})
PIECES = ModelSpec(id="org/pieces", engine="scripted", source="none", tool_parser="hermes")


class Pieces(ScriptedRenderer):
    """Other tokens, and as many ids."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = byte_fallback()


def routed(prompts: Prompts, logs: MemoryLogs, supervisor: Supervisor, routing: dict[str, Any]) -> PromptService:
    """Over the three models."""
    settings = Settings.parse({"redis_url": "redis://none.invalid", "models": [BYTES, SAME, PIECES]})
    store: Any = prompts
    client: Any = logs
    templates: Any = Templates()
    chosen: Any = ChosenDefault()
    in_force = CurrentRouting(settings)
    in_force.reconfigure(routing)
    return PromptService(
        settings,
        store,
        Hub(client, logs.keys, supervisor),
        {
            BYTES.id: ModelText.open(BYTES, settings),
            SAME.id: ModelText.open(SAME, settings),
            PIECES.id: ModelText(PIECES, Pieces(), 4096),
        },
        DefaultModel(settings, chosen),
        templates,
        files=Files(),
        routing=in_force,
    )


TOOL = {"type": "function", "function": {"name": "add"}}
PLAIN = PromptSubmission(prompt="hi", messages=CHAT)
BIASED = replace(PLAIN, sampling=SamplingParameters(logit_bias=((7, 5.0),)))
IDS = PromptSubmission(prompt="hi", template="{prompt}", prompt_token_ids=(104, 105))
WITH_TOOLS = replace(PLAIN, sampling=SamplingParameters(parsing=Parsing(tools=(TOOL,))))
MUST_CALL = replace(PLAIN, sampling=SamplingParameters(parsing=Parsing(tools=(TOOL,), tool_choice="required")))


@pytest.mark.parametrize(
    ("submission", "takers"),
    [
        (PLAIN, {SAME.id, PIECES.id}),
        (BIASED, {SAME.id}),
        (IDS, {SAME.id}),
        (WITH_TOOLS, {PIECES.id}),
        (MUST_CALL, {SAME.id, PIECES.id}),
        (replace(PLAIN, sampling=SamplingParameters(logprobs=2)), {SAME.id, PIECES.id}),
        (replace(PLAIN, sampling=SamplingParameters(logprobs=3)), {PIECES.id}),
    ],
)
async def test_a_prompt_has_no_fallback_that_cannot_do_it(
    prompts: Prompts, logs: MemoryLogs, supervisor: Supervisor, submission: PromptSubmission, takers: set[str]
):
    for other in (SAME.id, PIECES.id):
        service = routed(prompts, logs, supervisor, {"fallbacks": {BYTES.id: {"model": other}}})
        await service.submit(USER, replace(submission, model_id=BYTES.id))
    assert {new.fallback.model_id for new in prompts.accepted if new.fallback} == takers


@pytest.mark.parametrize(("submission", "field"), [(BIASED, "logit_bias"), (IDS, "prompt")])
async def test_ids_of_tokens_are_refused_where_models_with_other_tokens_share_the_prompts(
    prompts: Prompts, logs: MemoryLogs, supervisor: Supervisor, submission: PromptSubmission, field: str
):
    alike, unlike = {BYTES.id: 1, SAME.id: 1}, {BYTES.id: 1, PIECES.id: 1}
    service = routed(prompts, logs, supervisor, {"splits": {"alike": alike, "unlike": unlike}})
    await service.submit(USER, replace(submission, model_id="alike"))
    await service.submit(USER, replace(PLAIN, model_id="unlike"))
    assert len(prompts.accepted) == 2
    for thread in range(8):
        with pytest.raises(InvalidField, match=f"^{field}: .*name one of {BYTES.id}, {PIECES.id}"):
            await service.submit(USER, replace(submission, model_id="unlike", thread_id=f"t{thread}"))
    await service.submit(USER, replace(submission, model_id=PIECES.id))
    assert len(prompts.accepted) == 3


async def test_a_choice_holds_whatever_the_routing_becomes(prompts: Prompts, service: PromptService):
    choice = await service.choose(USER, replace(PLAIN, model_id=THINKER.id, thread_id="t"))
    await service.submit(USER, replace(PLAIN, model_id=MODEL.id), choice)
    assert [new.model_id for new in prompts.accepted] == [THINKER.id]


async def test_a_chat_with_history_is_refused(service: PromptService, prompts: Prompts):
    with pytest.raises(InvalidField, match="history: got true, allowed is false with messages"):
        await service.submit(USER, PromptSubmission(prompt="hi", messages=CHAT, history=True))
    assert prompts.accepted == []
