"""Every command of the original's documentation, as it stands there, against the real service.

Each block runs in a shell of its own as a user of its own, some at a time; the tests look at what its commands printed and at
what has become of its prompts. Only the address differs, and what would never end: ``document_tools``, ``document_shell``.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from tests.e2e.document_shell import Call, Ran, blocks, run_block
from tests.service import ROOT, Service
from tests.waiting import wait_for

#: Blocks that run at the same time: the more prompts the model has, the more tokens it makes in all.
AT_A_TIME = 8
#: How long all prompts of a block may take, seconds.
ANSWERED_S = 240

_CATALOGUE = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))["applications"][0]["args"][
    "models"
]
#: What some model of the catalogue can do.
CAPABILITIES = {capability for model in _CATALOGUE for capability in model.get("capabilities", ())}


def missing_capability(submission: Call) -> str | None:
    """What no model of the catalogue has and this prompt needs: then it is refused, with a word about the capability. Changes by
    itself when such a model comes into serve_config.yaml."""
    asked = " ".join(submission.words)
    if "--parameters.textToImage." in asked or "--engineParameters.stableDiffusion." in asked:
        needed = "text-to-image"
    elif "--fileIds=" in asked:
        needed = "image-text-to-text"
    else:
        return None
    return None if needed in CAPABILITIES else needed


# -- what a block takes for granted, and what must come of it --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """How a block is run."""

    #: Commands that make what the block takes for granted.
    before: str = ""
    #: Answers after which its subscriptions are left; 0: when they are open.
    ends: int = 1
    #: It loops for ever.
    one_iteration: bool = False


#: Answered soon however busy the others keep the model.
ASK = 'oo post /prompt-svc/prompt --sync=true --prompt="What is 2+2?" --parameters.textToText.maxTokens=5'
#: A prompt that stays unanswered while the block runs.
STUCK = 'oo post /prompt-svc/prompt --prompt="x" --modelId=test/slow --threadId=thread_12345'
PICTURE = "\"$PYTHON\" -c \"from PIL import Image; Image.new('RGB', (8, 8)).save('image.jpg')\""

SPECIAL = {
    "prompt-management": Block(before=f"{STUCK} --id=prom_12345"),
    "queue-management": Block(before=ASK),
    "server-sent-events-sse": Block(ends=0),
    "1-interactive-chatbot": Block(ends=2),
    "4-document-analysis-system": Block(ends=3),
    "file-svc-integration": Block(before=PICTURE),
    "queue-optimization": Block(before=STUCK),
    "queue-status-monitoring": Block(before=ASK, one_iteration=True),
    "performance-analytics": Block(before=f"{ASK} --threadId=sums"),
    "prompts-stuck-in-queue": Block(before=f"{STUCK} --id=STUCK_PROMPT_ID"),
    "streaming-not-working": Block(ends=0),
    "memory-performance-issues": Block(before=STUCK),
    "debug-commands": Block(before=f"{ASK} --id=prom_12345"),
}

Check = Callable[[Ran, httpx.Client], None]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def keep(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return keep


def stored(client: httpx.Client, *ids: str) -> list[dict[str, Any]]:
    """The user's prompts of these ids."""
    query = {"filters": [{"field": "id", "operator": "in", "value": list(ids)}], "limit": 100}
    prompts: list[dict[str, Any]] = client.post("/prompt-svc/prompts", json={"query": query}).json()["prompts"]
    return prompts


def events(stream: Call) -> list[dict[str, Any]]:
    return [json.loads(line[len("data: ") :]) for line in stream.stdout.splitlines() if line.startswith("data: ")]


@check("advanced-configuration")
def own_ids_and_retries_are_taken(ran: Ran, client: httpx.Client) -> None:
    business, custom = (call.json["prompt"] for call in ran.submissions)
    assert (business["threadId"], business["maxRetries"]) == ("business_analysis_001", 5)
    assert (custom["id"], custom["threadId"]) == ("prom_custom_12345", "ai_research_summary")


@check("prompt-management")
def a_prompt_is_listed_until_it_is_deleted(ran: Ran, client: httpx.Client) -> None:
    active, running, of_thread = (call.json["prompts"] for call in ran.lists)
    assert [prompt["id"] for prompt in active] == ["prom_12345"]
    assert {prompt["status"] for prompt in running} <= {"running"}
    assert [(prompt["id"], prompt["status"]) for prompt in of_thread] == [("prom_12345", "canceled")]


@check("queue-management")
def the_last_prompts_are_listed(ran: Ran, client: httpx.Client) -> None:
    waiting, errored, last = (call.json["prompts"] for call in ran.lists)
    assert (waiting, errored) == ([], [])
    assert [prompt["prompt"] for prompt in last] == ["What is 2+2?"]


@check("retry-logic")
def retries_are_taken(ran: Ran, client: httpx.Client) -> None:
    assert [call.json["prompt"]["maxRetries"] for call in ran.submissions] == [5]


@check("text-generation-asynchronous-with-streaming")
@check("stream-management")
@check("1-interactive-chatbot")
@check("4-document-analysis-system")
def the_stream_shows_the_answers_in_order(ran: Ran, client: httpx.Client) -> None:
    (stream,) = ran.streams
    order = list(dict.fromkeys(event["promptId"] for event in events(stream)))
    ids = [call.json["prompt"]["id"] for call in ran.submissions]
    assert order == ids
    for prompt_id in ids:
        own = [event for event in events(stream) if event["promptId"] == prompt_id]
        assert [event["type"] for event in own] == ["progress"] * (len(own) - 1) + ["done"]
        assert "".join(event.get("text", "") for event in own).strip()
    output = ran.folder / "analysis_output.txt"
    assert not output.exists() or output.read_text(encoding="utf-8").count('"type":"done"') == len(ids)


@check("server-sent-events-sse")
@check("streaming-not-working")
def the_stream_opens(ran: Ran, client: httpx.Client) -> None:
    assert [call.stdout.startswith(": subscribed\n") for call in ran.streams] == [True]


@check("6-batch-processing-system")
def the_batch_is_watched(ran: Ran, client: httpx.Client) -> None:
    assert [call.json["prompt"]["id"] for call in ran.submissions] == [f"batch_item_{i}" for i in range(4)]
    assert [call.json["prompt"]["prompt"] for call in ran.submissions] == [
        "Analyze customer sentiment in this review: 'Great product, fast delivery'",
        "Translate to Spanish: 'Welcome to our customer support'",
        "Summarize: 'The quarterly earnings report shows...'",
        "Generate email template for customer onboarding",
    ]
    assert [line for line in ran.stdout.splitlines() if line.startswith("Submitted")] == [
        f"Submitted batch item {i}" for i in range(4)
    ]
    watched = re.findall(r'\{\s*"id": "(\w+)",\s*"status": "(\w+)"\s*\}', ran.stdout)
    assert sorted(prompt_id for prompt_id, _ in watched) == [f"batch_item_{i}" for i in range(4)]
    assert {status for _, status in watched} <= {"scheduled", "running", "completed"}


@check("chat-svc-integration")
def the_conversation_is_kept(ran: Ran, client: httpx.Client) -> None:
    thread, submission, messages = (call.json for call in ran.calls)
    assert thread["thread"]["title"] == "AI Assistant Chat"
    assert submission["prompt"]["threadId"] == thread["thread"]["id"]
    question = "Hello! Can you help me learn Python?"
    assert [message["text"] for message in messages["messages"]][:1] == [question]
    path = f"/chat-svc/thread/{thread['thread']['id']}/messages"
    asked, answer = client.post(path).json()["messages"]
    assert (asked["text"], asked["id"]) == (question, submission["prompt"]["id"])
    assert answer["text"]


@check("model-svc-integration")
def the_default_model_runs(ran: Ran, client: httpx.Client) -> None:
    (status,) = (call.json["status"] for call in ran.calls if call.words[0] == "get")
    assert (status["assetsReady"], status["running"]) == (True, True)
    assert status["address"]


@check("file-svc-integration")
def the_picture_is_uploaded(ran: Ran, client: httpx.Client) -> None:
    (upload,) = (call.json["upload"] for call in ran.calls if call.program == "curl")
    assert upload["fileName"] == "image.jpg"
    assert upload["fileSize"] == (ran.folder / "image.jpg").stat().st_size
    (submission,) = ran.submissions
    assert submission.flag("fileIds") == f'["{upload["fileId"]}"]'
    served = client.get(f"/file-svc/serve/upload/{upload['fileId']}")
    assert served.content == (ran.folder / "image.jpg").read_bytes()


@check("queue-optimization")
def the_queue_is_counted(ran: Ran, client: httpx.Client) -> None:
    # The one from before the block: it waits or runs already.
    assert ran.stdout.splitlines()[0] in ("0", "1")
    assert ran.lists[0].json["count"] == int(ran.stdout.splitlines()[0])
    assert [call.json["prompt"]["prompt"] for call in ran.submissions[1:]] == [
        f"Analyze sentiment: text{i}" for i in (1, 2, 3)
    ]


@check("queue-status-monitoring")
def prompts_are_counted_by_status(ran: Ran, client: httpx.Client) -> None:
    first, *counts, end = ran.stdout.splitlines()
    assert first.startswith("=== Queue Status ")
    assert [line for line in counts if line.strip()] == ["scheduled: 0", "running: 0", "completed: 1", "errored: 0"]
    assert end == "---"


@check("performance-analytics")
def times_and_threads_are_shown(ran: Ran, client: httpx.Client) -> None:
    (prompt,) = ran.lists[0].json["prompts"]
    times, threads = json_documents(ran.stdout)
    assert times == {
        "id": prompt["id"],
        "created": prompt["createdAt"],
        "lastRun": prompt["lastRun"],
        "runCount": 1,
    }
    assert threads == [{"thread": "sums", "count": 1}]


@check("health-checking")
def the_service_is_healthy(ran: Ran, client: httpx.Client) -> None:
    assert ran.stdout == "Testing Prompt Svc health...\n✅ Prompt Svc is healthy\n"


@check("prompts-stuck-in-queue")
def a_stuck_prompt_is_cancelled(ran: Ran, client: httpx.Client) -> None:
    assert {prompt["id"] for prompt in ran.lists[0].json["prompts"]} <= {"STUCK_PROMPT_ID"}
    assert [prompt["status"] for prompt in stored(client, "STUCK_PROMPT_ID")] == ["canceled"]


@check("high-retry-counts")
def the_health_of_every_model_is_told(ran: Ran, client: httpx.Client) -> None:
    # The document asks the port of its llama.cpp container; ours answers on the service's own (docs/command-line.md).
    health = ran.calls[-1].json
    assert health["status"] == "ok"
    assert health["models"]["HuggingFaceTB/SmolLM2-135M-Instruct"]["running"] is True


@check("memory-performance-issues")
def the_depth_of_the_queue_is_told(ran: Ran, client: httpx.Client) -> None:
    assert ran.stdout == "Queue depth: 1\n"


@check("debug-commands")
def a_prompt_is_inspected(ran: Ran, client: httpx.Client) -> None:
    inspected = json_documents(ran.stdout)[0]
    assert inspected["id"] == "prom_12345"
    assert (inspected["status"], inspected["runCount"], inspected["error"]) == ("completed", 1, None)
    assert ran.streams[0].stdout.count('"type":"done"') == 1


def json_documents(text: str) -> list[Any]:
    """The JSON values in what a shell printed, other lines left out."""
    found, decoder, position = [], json.JSONDecoder(), 0
    while (start := re.compile(r"^[\[{]", re.MULTILINE).search(text, position)) is not None:
        value, position = decoder.raw_decode(text, start.start())
        found.append(value)
    return found


# -- the tests ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(
    service: Service, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ran]]]:
    """The blocks of the tests that were selected; they begin together and the tests wait for theirs."""
    wanted = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_block.__name__
    ]
    texts = blocks()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        runs = {}
        for name in wanted:
            how = SPECIAL.get(name, Block())
            runs[name] = pool.submit(
                run_block,
                texts[name],
                tmp_path_factory.mktemp(name),
                service.url,
                before=how.before,
                ends=how.ends,
                one_iteration=how.one_iteration,
            )
        yield runs
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", blocks())
def test_block(name: str, running: dict[str, Future[Ran]], service: Service) -> None:
    ran = running[name].result()
    print(ran.stdout)
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {ran.token}"}, timeout=60) as client:
        accepted = {}
        for call in ran.calls:
            needed = missing_capability(call)
            if needed is not None:
                assert (call.code, call.stdout) == (1, ""), call
                assert re.match(r"oo: POST /prompt-svc/prompt: 400 .*\bcapability\b", call.stderr), call
                continue
            assert call.code == 0, call
            if call in ran.submissions:
                prompt = call.json["prompt"]
                accepted[prompt["id"]] = call
            elif call not in ran.streams:
                assert "error" not in call.json
        for call in ran.lists:
            assert isinstance(call.json["prompts"], list)
        all_answered(client, accepted)
        if name in CHECKS:
            CHECKS[name](ran, client)
        # What was made to stay unanswered holds a permit that others need.
        for prompt in client.post("/prompt-svc/prompts").json()["prompts"]:
            client.delete(f"/prompt-svc/prompt/{prompt['id']}")


def all_answered(client: httpx.Client, accepted: dict[str, Call]) -> None:
    """Every prompt is completed, as it was asked for; a synchronous one came back with its answer, unless it took too long."""

    def ended() -> list[dict[str, Any]] | None:
        prompts = stored(client, *accepted)
        assert len(prompts) == len(accepted)
        return (
            prompts if all(prompt["status"] not in ("scheduled", "running", "errored") for prompt in prompts) else None
        )

    if not accepted:
        return
    for prompt in wait_for(ended, timeout_s=ANSWERED_S, every_s=0.5, what="the answers"):
        call = accepted[prompt["id"]]
        assert (prompt["status"], prompt.get("error")) == ("completed", None), call
        assert prompt["prompt"] == call.flag("prompt")
        if (thread := call.flag("threadId")) is not None:
            assert prompt["threadId"] == thread
        answer = call.json
        if call.flag("sync") == "true":
            if "responseMessage" in answer:
                assert answer["prompt"]["status"] == "completed"
                # To a template that it does not know the model may have nothing to say but that it has ended.
                message = answer["responseMessage"]
                assert message.get("fileIds") or message["meta"]["completionTokens"] >= 1
            else:
                assert answer["error"].startswith("not finished within"), answer
        else:
            assert list(answer) == ["prompt"] or set(answer) == {"prompt", "queuePosition"}
        if prompt["type"] == "Text-to-Image":
            check_picture(client, prompt, call)


def check_picture(client: httpx.Client, prompt: dict[str, Any], call: Call) -> None:
    """One picture, as large as the command says."""
    messages = client.post("/chat-svc/messages", json={"threadId": prompt["threadId"]}).json()["messages"]
    (message,) = (message for message in messages if message["id"] == prompt["responseMessageId"])
    (file_id,) = message["fileIds"]
    served = client.get(f"/file-svc/serve/upload/{file_id}")
    asked = [
        call.flag(f"parameters.textToImage.{side}") or call.flag(f"engineParameters.stableDiffusion.txt2Img.{side}")
        for side in ("width", "height")
    ]
    with Image.open(io.BytesIO(served.content)) as image:
        assert [str(side) for side in image.size] == asked, call


def test_every_block_is_known() -> None:
    names = set(blocks())
    assert len(names) == 33
    assert set(SPECIAL) <= names
    assert set(CHECKS) <= names
    assert sum(len(re.findall(r"\boo (?:post|get|delete) /", text)) for text in blocks().values()) == 70


def test_the_documented_login(service: Service, tmp_path: Path) -> None:
    """And the words that go with it; the admin's password is the documented one on loopback."""
    script = """
      oo env add test "$URL"; oo login 1backend changeme; oo whoami; oo env current; oo env ls
      oo env select local; oo env select test; oo env rm local; oo set-token "$(oo token)"; oo su 1backend; oo get /health
    """
    ran = run_block(script, tmp_path, service.url, before="", ends=0, one_iteration=False)
    assert {call.words: call.code for call in ran.calls if call.code} == {}
    (me,) = (call.json for call in ran.calls if call.words == ("whoami",))
    assert me["user"]["slug"] == "1backend"
    assert "changeme" not in (tmp_path / "cliConfig.yaml").read_text(encoding="utf-8")
    shown = [call for call in ran.calls if call.words != ("token",)]
    (token,) = (call.stdout.strip() for call in ran.calls if call.words == ("token",))
    assert not [call for call in shown if token in call.stdout + call.stderr]
