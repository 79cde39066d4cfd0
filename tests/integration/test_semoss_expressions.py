"""What expressions of SEMOSS clients ask for, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.delta import DeltaKind, FinishReason, ToolPart
from tests.integration.ingress_app import ingress_app
from tests.integration.model_by_hand import MODEL, ModelByHand
from tests.integration.semoss_client import ASK, BASE, Browser, another, finish

CODE = f"""from ai_server import ModelEngine
model = ModelEngine(engine_id = "{MODEL}")

# Text Generation
command = 'write me a paragraph about soccer'
output = model.ask(command = command, param_dict={{'max_completion_tokens':200,'temperature':0.3}})
output"""


async def test_a_pixel_is_run_and_waited_for(visitor: Browser, model: ModelByHand):
    asking = asyncio.ensure_future(visitor.post("runPixel", expression=ASK, insightId="new"))
    await model.answer("Hello", " you")
    reply = (await asking).json()
    (entry,) = reply["pixelReturn"]
    assert entry["output"] == {
        "response": "Hello you",
        "messageId": entry["output"]["messageId"],
        "messageType": "CHAT",
        "roomId": reply["insightID"],
        "numberOfTokensInPrompt": 7,
        "numberOfTokensInResponse": 3,
    }
    assert entry["operationType"] == ["OPERATION"]
    assert entry["pixelExpression"] == ASK
    assert reply["sessionTimeRemaining"] == "1800"


@pytest.mark.parametrize("expression", [CODE, f'Py("<encode>{CODE}</encode>")', f'Py(code="<encode>{CODE}</encode>");'])
async def test_the_documented_code_is_understood_and_never_run(visitor: Browser, model: ModelByHand, expression: str):
    job_id = await visitor.start(expression)
    attempt = await model.answer("Soccer")
    assert (attempt.claimed.sampling.max_tokens, attempt.claimed.sampling.temperature) == (200, 0.3)
    (entry,) = (await visitor.result(job_id))["pixelReturn"]
    assert entry["operationType"] == ["CODE_EXECUTION"]
    assert entry["output"][0]["output"]["response"] == "Soccer"


@pytest.mark.parametrize(
    ("expression", "types", "says"),
    [
        ("1+1", ["ERROR", "INVALID_SYNTAX"], "expression: at character 1 there is"),
        ("LLM(", ["ERROR", "INVALID_SYNTAX"], "expression"),
        (ASK + ASK, ["ERROR", "INVALID_SYNTAX"], "more than one statement"),
        ('Database(database=["x"]);', ["ERROR"], "the reactor Database is not one of this service"),
        ('LLM(engine="none", command="x");', ["ERROR"], "modelId: got 'none', allowed is one of org/small"),
        (f'LLM(engine="{MODEL}");', ["ERROR"], "command: got nothing"),
        (f'LLM(engine="{MODEL}", command="x", paramValues=[{{"frob": 1}}]);', ["ERROR"], "frob: got an unknown key"),
        (
            f'LLM(engine="{MODEL}", command="x", paramValues=[{{"schema":{{"maximum":99999999999999999999}}}}]);',
            ["ERROR"],
            "schema: got an object, allowed is a valid JSON schema",
        ),
        (f'LLM(engine="{MODEL}", command="{"x" * 300}");', ["ERROR"], "tokens, allowed is at most"),
        ('Py("import os; os.system(1)");', ["ERROR"], "python: line 1: Import is not run here"),
        ('Embeddings(engine="x", values=["a"]);', ["ERROR"], "the reactor Embeddings"),
    ],
)
async def test_what_cannot_be_run_is_a_clear_error_of_either_kind(
    visitor: Browser, model: ModelByHand, expression: str, types: list[str], says: str
):
    answer = await visitor.post("runPixel", expression=expression)
    assert answer.status_code == 200
    (entry,) = answer.json()["pixelReturn"]
    assert entry["operationType"] == types
    assert says in entry["output"]
    job_id = await visitor.start(expression)
    assert await visitor.poll(job_id) == {"message": [finish("error")], "status": "ProgressComplete"}
    assert await visitor.poll(job_id) == {"message": [], "status": "ProgressComplete"}
    assert await visitor.poll(job_id, "partial") == {"message": {}, "status": "Error"}
    assert await visitor.poll(job_id, "error") == {"message": [entry["output"]], "status": "ProgressComplete"}
    assert await visitor.poll(job_id, "error") == {"message": [], "status": "ProgressComplete"}
    assert (await visitor.result(job_id))["pixelReturn"][0]["output"] == entry["output"]
    assert await model.waiting() == 0


@pytest.mark.parametrize(
    ("fields", "error_type"),
    [
        ({}, "EXPRESSION_NOT_FOUND"),
        ({"expression": "  "}, "EXPRESSION_NOT_FOUND"),
        ({"expression": ASK, "insightId": "8b419eaf-df7d-4a7f-869e-8d7d59bbfde8"}, "INSIGHT_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("endpoint", ["runPixel", "runPixelAsync"])
async def test_a_request_without_what_it_needs_is_a_400(
    visitor: Browser, endpoint: str, fields: dict[str, str], error_type: str
):
    answer = await visitor.post(endpoint, **fields)
    assert (answer.status_code, answer.json()["errorType"]) == (400, error_type)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {"content-type": "application/json"}, 400),
        (b"[]", {"content-type": "application/json"}, 400),
        (b"expression=%ff", {}, 400),
        (b"expression=%00", {}, 400),
        (b"&".join([b"a=b"] * 40), {}, 400),
        (b"x" * 2_000_000, {}, 413),
        (b"", {"content-encoding": "gzip"}, 415),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    visitor: Browser, body: bytes, headers: dict[str, str], status: int
):
    answer = await visitor.http.post(f"{BASE}/engine/runPixelAsync", content=body, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["errorMessage"]


async def test_a_body_may_be_json(visitor: Browser):
    answer = await visitor.http.post(f"{BASE}/engine/runPixel", json={"expression": "META | true", "insightId": "new"})
    assert answer.json()["pixelReturn"][0]["output"] is True


async def test_unknown_paths_and_methods_answer_in_the_doors_shape(visitor: Browser):
    for method, path, status in (("GET", "/engine/nothing", 404), ("GET", "/engine/runPixel", 405)):
        answer = await visitor.http.request(method, BASE + path)
        assert (answer.status_code, list(answer.json())) == (status, ["errorMessage"])


async def test_an_insight_is_a_conversation(visitor: Browser, model: ModelByHand):
    insight = (await visitor.post("runPixel", expression="META | true", insightId="new")).json()["insightID"]
    for words in ("My name is Ada", "What is my name"):
        await visitor.start(f'LLM(engine="{MODEL}", command="<encode>{words}</encode>");', insightId=insight)
        attempt = await model.answer("Ada")
    assert attempt.claimed.history is not None
    assert attempt.claimed.history.thread_id == insight
    listed = (await visitor.post("runPixel", expression=f'GetRoomMessages(roomId="{insight}");')).json()
    rows = listed["pixelReturn"][0]["output"]
    assert [(row["MESSAGE_TYPE"], row["MESSAGE_DATA"]) for row in rows] == [
        ("INPUT", "My name is Ada"),
        ("RESPONSE", "Ada"),
        ("INPUT", "What is my name"),
        ("RESPONSE", "Ada"),
    ]
    await visitor.start(f'LLM(engine="{MODEL}", command="x", useHistory=false);', insightId=insight)
    assert (await model.answer("alone")).claimed.history is None


async def test_a_context_and_a_full_prompt_are_what_the_model_gets(visitor: Browser, model: ModelByHand):
    room = 'roomId="<encode>r1</encode>"'
    await visitor.start(f'LLM(engine="{MODEL}", command="first", {room});')
    await model.answer("one")

    async def heard(rest: str) -> str:
        await visitor.start(f'LLM(engine="{MODEL}", {rest}, {room});')
        return bytes(i for i in (await model.answer("x")).claimed.prompt_token_ids if i < 256).decode()

    assert await heard('command="second", context=["<encode>be kind</encode>"]') == "be kindfirstonesecond"
    assert await heard('command="third", context="be kind", useHistory=false') == "be kindthird"
    chat = '[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]'
    assert await heard(f'command="", paramValues=[{{"full_prompt": {chat}}}]') == "abc"


async def test_of_a_long_past_as_much_as_fits_goes_along(visitor: Browser, model: ModelByHand):
    room = 'roomId="r1"'
    for number in range(6):
        await visitor.start(f'LLM(engine="{MODEL}", command="{number}{"q" * 20}", useHistory=false, {room});')
        await model.answer(f"{number}{'a' * 20}")
    await visitor.start(
        f'LLM(engine="{MODEL}", command="now", context="rules", {room}, paramValues=[{{"max_tokens": 100}}]);'
    )
    heard = (await model.answer("x")).claimed.prompt_token_ids
    text = bytes(i for i in heard if i < 256).decode()
    assert text.startswith("rules")
    assert "5q" in text
    assert "0q" not in text
    assert len(heard) <= 156


async def test_the_other_pixels_of_the_sdk(visitor: Browser):
    async def output(expression: str, **fields: str) -> Any:
        return (await visitor.post("runPixel", expression=expression, **fields)).json()["pixelReturn"][0]["output"]

    first = (await visitor.post("runPixel", expression="META | true")).json()["insightID"]
    assert await output(f'GetModelAPI(model="{MODEL}");', insightId=first) == "OPEN_AI"
    assert "allowed is one of" in await output('GetModelAPI(model="none");', insightId=first)
    second = (await visitor.post("runPixel", expression="META | true")).json()["insightID"]
    assert await output("MyOpenInsights();", insightId=first) == [[first, second]]
    await output("DropInsight();", insightId=second)
    assert await output("MyOpenInsights();", insightId=first) == [[first]]


TOOLS = """[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "type": "function"}}]"""


@pytest.fixture
async def roomy(redis_url: str) -> AsyncIterator[Browser]:
    """A client of a model into whose context tools fit."""
    spec = {"id": MODEL, "engine": "scripted", "source": "none", "context_tokens": 2048}
    async with (
        ingress_app(redis_url, models=[spec]) as replica,
        another(replica, await replica.user("alice")) as browser,
    ):
        yield browser


async def test_tools_are_offered_and_their_calls_are_the_result(roomy: Browser, model: ModelByHand):
    parameters = f'{{"tools": {TOOLS}, "tool_choice": "required"}}'
    job_id = await roomy.start(f'LLM(engine="{MODEL}", command="What is 1+1?", paramValues=[{parameters}]);')
    attempt = await model.take()
    assert attempt.claimed.sampling.parsing is not None
    assert attempt.claimed.sampling.parsing.tools[0]["function"]["name"] == "add"
    assert attempt.claimed.sampling.parsing.tool_choice == "required"
    await attempt.say("", DeltaKind.TOOL, ToolPart(index=0, id="call_1", name="add"))
    await attempt.say('{"a": 1}', DeltaKind.TOOL, ToolPart(index=0))
    await attempt.end(reason=FinishReason.TOOL_CALLS)
    polled = (await roomy.poll(job_id))["message"]
    assert [chunk["stream_type"] for chunk in polled] == ["tool", "tool", "tool", "tool", "usage", "tool"]
    assert polled[-1]["data"] == {"finish_reason": "tool_calls"}
    output = (await roomy.result(job_id))["pixelReturn"][0]["output"]
    assert output["messageType"] == "TOOL"
    assert output["response"] == [{"id": "call_1", "type": "function", "name": "add", "arguments": '{"a": 1}'}]


async def test_tools_that_the_model_cannot_be_offered_are_refused(visitor: Browser):
    expression = f'LLM(engine="{MODEL}", command="x", paramValues=[{{"tools": {TOOLS}}}]);'
    (entry,) = (await visitor.post("runPixel", expression=expression)).json()["pixelReturn"]
    assert "its entry in the catalogue has no tool_parser" in entry["output"]
