"""The SEMOSS door on a real store: sessions, pixels, jobs, and what becomes of polls whose replica dies."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from deployments.ingress.doors.semoss import jobs as jobs_module
from pipeline.accounts import Account
from pipeline.delta import DeltaKind, FinishReason
from pipeline.store import pixel_jobs
from tests.integration.ingress_app import EXPIRED, PASSWORD, IngressApp, ingress_app, token
from tests.integration.model_by_hand import MODEL, ModelByHand
from tests.waiting import until_true

BASE = "/Monolith/api"
ASK = f'LLM(engine="{MODEL}", command="<encode>hi "there"; you</encode>", useHistory=true);'
CODE = f"""from ai_server import ModelEngine
model = ModelEngine(engine_id = "{MODEL}")

# Text Generation
command = 'write me a paragraph about soccer'
output = model.ask(command = command, param_dict={{'max_completion_tokens':200,'temperature':0.3}})
output"""
BAD_SESSION = {"errorMessage": "User session is invalid"}


class Browser:
    """A client with cookies."""

    def __init__(self, app: Any) -> None:
        transport = httpx.ASGITransport(app=app, client=("192.0.2.1", 4711))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def log_in(self, account: Account, password: str = PASSWORD) -> httpx.Response:
        return await self.http.get(f"{BASE}/config", headers={"authorization": basic(account.slug, password)})

    async def post(self, endpoint: str, headers: Mapping[str, str] | None = None, **fields: str) -> httpx.Response:
        return await self.http.post(f"{BASE}/engine/{endpoint}", data=fields, headers=headers)

    async def start(self, expression: str, **fields: str) -> str:
        answer = await self.post("runPixelAsync", expression=expression, **fields)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["jobId"]
        return str(answer.json()["jobId"])

    async def poll(self, job_id: str, endpoint: str = "pixelJobStreaming") -> dict[str, Any]:
        answer = await self.post(endpoint, jobId=job_id)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def result(self, job_id: str) -> Any:
        return (await self.post("result", jobId=job_id)).json()


def basic(slug: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{slug}:{password}".encode()).decode()


def content(*words: str) -> list[dict[str, Any]]:
    return [{"stream_type": "content", "data": {"content": word}} for word in words]


def finish(reason: str) -> dict[str, Any]:
    return {"stream_type": "content", "data": {"finish_reason": reason}}


USAGE = {"stream_type": "usage", "data": {"input_tokens": 7, "output_tokens": 3}}


@pytest.fixture
async def replica(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url) as replica:
        yield replica


@pytest.fixture
async def model(redis_url: str) -> AsyncIterator[ModelByHand]:
    async with ModelByHand(redis_url) as model:
        yield model


@pytest.fixture
async def alice(replica: IngressApp) -> AsyncIterator[Browser]:
    browser = Browser(replica.app)
    await browser.log_in(await replica.user("alice"))
    yield browser
    await browser.http.aclose()


@asynccontextmanager
async def another(replica: IngressApp, account: Account | None = None) -> AsyncIterator[Browser]:
    """Another client, perhaps logged in."""
    browser = Browser(replica.app)
    if account is not None:
        await browser.log_in(account)
    yield browser
    await browser.http.aclose()


# -- sessions ------------------------------------------------------------------------------------------------------------------


async def test_credentials_begin_a_session_and_its_cookie_goes_on_with_it(replica: IngressApp):
    account = await replica.user("alice")
    async with another(replica) as browser:
        answer = await browser.log_in(account)
        assert answer.json()["loginDetails"]["NATIVE"]["name"] == "alice"
        assert answer.json()["csrf"] is False
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("JSESSIONID=")
        assert "Path=/Monolith" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        again = await browser.http.get(f"{BASE}/config")
        assert again.json()["logins"] == {"NATIVE": "alice"}
        assert "set-cookie" not in again.headers


async def test_a_session_behind_tls_has_a_secure_cookie(replica: IngressApp):
    account = await replica.user("alice")
    headers = {"authorization": basic(account.slug), "x-forwarded-proto": "https"}
    async with another(replica) as browser:
        assert "Secure" in (await browser.http.get(f"{BASE}/config", headers=headers)).headers["set-cookie"]


async def test_without_credentials_the_config_says_that_nobody_is_logged_in(replica: IngressApp):
    async with another(replica) as browser:
        answer = await browser.http.get(f"{BASE}/config")
        assert (answer.status_code, answer.json()["loginDetails"], answer.json()["logins"]) == (200, {}, {})
        assert "set-cookie" not in answer.headers


async def test_a_wrong_password_begins_nothing_and_is_counted(replica: IngressApp):
    account = await replica.user("alice")
    async with another(replica) as browser:
        for _ in range(10):
            answer = await browser.log_in(account, "wrong")
            assert (answer.status_code, answer.json()) == (401, BAD_SESSION)
            assert "www-authenticate" not in answer.headers
        late = await browser.log_in(account)
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Bearer a.b.c",
        "Digest x",
        "Basic /w==",
    ],
)
async def test_bad_credentials_are_a_401_everywhere(replica: IngressApp, header: str):
    async with another(replica) as browser:
        for path in ("/config/fetchCsrf", "/config"):
            answer = await browser.http.get(BASE + path, headers={"authorization": header})
            assert (answer.status_code, answer.json()) == (401, BAD_SESSION)


async def test_an_access_token_is_good_with_and_without_a_session(replica: IngressApp, model: ModelByHand):
    account = await replica.user("alice")
    headers = {"authorization": token(account), "bearer-provider": "ours"}
    async with another(replica) as browser:
        job_id = (await browser.post("runPixelAsync", headers, expression=ASK)).json()["jobId"]
        assert "set-cookie" not in browser.http.headers
        await model.answer("Yes")
        polled = (await browser.post("pixelJobStreaming", headers, jobId=job_id)).json()
        assert polled["message"][0] == content("Yes")[0]
        await browser.http.get(f"{BASE}/config", headers=headers)
        assert (await browser.http.get(f"{BASE}/config")).json()["logins"] == {"NATIVE": "alice"}


async def test_basic_without_a_cookie_finds_its_jobs_again(replica: IngressApp):
    account = await replica.user("alice")
    headers = {"authorization": basic(account.slug)}
    async with another(replica) as browser:
        job_id = (await browser.post("runPixelAsync", headers, expression=ASK)).json()["jobId"]
        assert (await browser.post("status", headers, jobId=job_id)).json() == "Created"


async def test_a_session_ends_by_logging_out(replica: IngressApp, alice: Browser, redis_url: str):
    job_id = await alice.start(ASK)
    kept = dict(alice.http.cookies)
    answer = await alice.http.get(f"{BASE}/logout/all")
    assert answer.status_code == 200
    async with another(replica) as thief:
        thief.http.cookies.update(kept)
        answer = await thief.post("status", jobId=job_id)
        assert (answer.status_code, answer.json()) == (401, BAD_SESSION)
    async with Redis.from_url(redis_url) as client:
        assert await client.keys("ps:px-session:*") == []


async def test_a_session_ends_by_itself_and_the_store_holds_no_cookie(alice: Browser, redis_url: str):
    await alice.start(ASK)
    cookie = alice.http.cookies["JSESSIONID"]
    async with Redis.from_url(redis_url) as client:
        (key,) = await client.keys("ps:px-session:*")
        assert cookie.encode() not in key + b"".join((await client.hgetall(key)).values())
        assert 1790 < await client.ttl(key) <= 1800
        await client.delete(key)
    assert (await alice.post("runPixel", expression="META | true")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
async def test_another_site_cannot_use_the_cookie(alice: Browser, headers: dict[str, str]):
    answer = await alice.post("runPixelAsync", headers, expression=ASK)
    assert answer.status_code == 403
    assert list(answer.json()) == ["errorMessage"]
    for own in ({"origin": "http://test"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert (await alice.post("runPixelAsync", own, expression=ASK)).status_code == 200


async def test_with_csrf_on_a_session_needs_its_token(redis_url: str):
    async with ingress_app(redis_url, semoss_csrf=True) as replica:
        account = await replica.user("alice")
        async with another(replica, account) as browser, another(replica, account) as second:
            refused = await browser.post("runPixel", expression="META | true")
            assert (refused.status_code, refused.headers["x-csrf-token"]) == (403, "Required")
            fetch = {"x-csrf-token": "fetch"}
            mine = (await browser.http.get(f"{BASE}/config/fetchCsrf", headers=fetch)).headers["x-csrf-token"]
            theirs = (await second.http.get(f"{BASE}/config/fetchCsrf", headers=fetch)).headers["x-csrf-token"]
            assert (await browser.http.get(f"{BASE}/config")).json()["X-CSRF-Token"] == mine
            for sent, status in ((mine, 200), (theirs, 403), ("", 403)):
                answer = await browser.post("runPixel", {"x-csrf-token": sent}, expression="META | true")
                assert answer.status_code == status


# -- expressions ---------------------------------------------------------------------------------------------------------------


async def test_a_pixel_is_run_and_waited_for(alice: Browser, model: ModelByHand):
    asking = asyncio.ensure_future(alice.post("runPixel", expression=ASK, insightId="new"))
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
async def test_the_documented_code_is_understood_and_never_run(alice: Browser, model: ModelByHand, expression: str):
    job_id = await alice.start(expression)
    attempt = await model.answer("Soccer")
    assert (attempt.claimed.sampling.max_tokens, attempt.claimed.sampling.temperature) == (200, 0.3)
    (entry,) = (await alice.result(job_id))["pixelReturn"]
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
        (f'LLM(engine="{MODEL}", command="{"x" * 300}");', ["ERROR"], "tokens, allowed is at most"),
        ('Py("import os; os.system(1)");', ["ERROR"], "python: line 1: Import is not run here"),
        ('Embeddings(engine="x", values=["a"]);', ["ERROR"], "the reactor Embeddings"),
    ],
)
async def test_what_cannot_be_run_is_a_clear_error_of_either_kind(
    alice: Browser, model: ModelByHand, expression: str, types: list[str], says: str
):
    answer = await alice.post("runPixel", expression=expression)
    assert answer.status_code == 200
    (entry,) = answer.json()["pixelReturn"]
    assert entry["operationType"] == types
    assert says in entry["output"]
    job_id = await alice.start(expression)
    assert await alice.poll(job_id) == {"message": [finish("error")], "status": "ProgressComplete"}
    assert await alice.poll(job_id) == {"message": [], "status": "ProgressComplete"}
    assert await alice.poll(job_id, "partial") == {"message": {}, "status": "Error"}
    assert await alice.poll(job_id, "error") == {"message": [entry["output"]], "status": "ProgressComplete"}
    assert await alice.poll(job_id, "error") == {"message": [], "status": "ProgressComplete"}
    assert (await alice.result(job_id))["pixelReturn"][0]["output"] == entry["output"]
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
    alice: Browser, endpoint: str, fields: dict[str, str], error_type: str
):
    answer = await alice.post(endpoint, **fields)
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
async def test_a_body_that_cannot_be_read_is_refused(alice: Browser, body: bytes, headers: dict[str, str], status: int):
    answer = await alice.http.post(f"{BASE}/engine/runPixelAsync", content=body, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["errorMessage"]


async def test_a_body_may_be_json(alice: Browser):
    answer = await alice.http.post(f"{BASE}/engine/runPixel", json={"expression": "META | true", "insightId": "new"})
    assert answer.json()["pixelReturn"][0]["output"] is True


async def test_unknown_paths_and_methods_answer_in_the_doors_shape(alice: Browser):
    for method, path, status in (("GET", "/engine/nothing", 404), ("GET", "/engine/runPixel", 405)):
        answer = await alice.http.request(method, BASE + path)
        assert (answer.status_code, list(answer.json())) == (status, ["errorMessage"])


async def test_an_insight_is_a_conversation(alice: Browser, model: ModelByHand):
    insight = (await alice.post("runPixel", expression="META | true", insightId="new")).json()["insightID"]
    for words in ("My name is Ada", "What is my name"):
        await alice.start(f'LLM(engine="{MODEL}", command="<encode>{words}</encode>");', insightId=insight)
        attempt = await model.answer("Ada")
    assert attempt.claimed.history is not None
    assert attempt.claimed.history.thread_id == insight
    listed = (await alice.post("runPixel", expression=f'GetRoomMessages(roomId="{insight}");')).json()
    rows = listed["pixelReturn"][0]["output"]
    assert [(row["MESSAGE_TYPE"], row["MESSAGE_DATA"]) for row in rows] == [
        ("INPUT", "My name is Ada"),
        ("RESPONSE", "Ada"),
        ("INPUT", "What is my name"),
        ("RESPONSE", "Ada"),
    ]
    await alice.start(f'LLM(engine="{MODEL}", command="x", useHistory=false);', insightId=insight)
    assert (await model.answer("alone")).claimed.history is None


async def test_a_context_and_a_full_prompt_are_what_the_model_gets(alice: Browser, model: ModelByHand):
    room = 'roomId="<encode>r1</encode>"'
    await alice.start(f'LLM(engine="{MODEL}", command="first", {room});')
    await model.answer("one")

    async def heard(rest: str) -> str:
        await alice.start(f'LLM(engine="{MODEL}", {rest}, {room});')
        return bytes(i for i in (await model.answer("x")).claimed.prompt_token_ids if i < 256).decode()

    assert await heard('command="second", context=["<encode>be kind</encode>"]') == "be kindfirstonesecond"
    assert await heard('command="third", context="be kind", useHistory=false') == "be kindthird"
    chat = '[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]'
    assert await heard(f'command="", paramValues=[{{"full_prompt": {chat}}}]') == "abc"


async def test_of_a_long_past_as_much_as_fits_goes_along(alice: Browser, model: ModelByHand):
    room = 'roomId="r1"'
    for number in range(6):
        await alice.start(f'LLM(engine="{MODEL}", command="{number}{"q" * 20}", useHistory=false, {room});')
        await model.answer(f"{number}{'a' * 20}")
    await alice.start(
        f'LLM(engine="{MODEL}", command="now", context="rules", {room}, paramValues=[{{"max_tokens": 100}}]);'
    )
    heard = (await model.answer("x")).claimed.prompt_token_ids
    text = bytes(i for i in heard if i < 256).decode()
    assert text.startswith("rules")
    assert "5q" in text
    assert "0q" not in text
    assert len(heard) <= 156


async def test_the_other_pixels_of_the_sdk(alice: Browser):
    async def output(expression: str, **fields: str) -> Any:
        return (await alice.post("runPixel", expression=expression, **fields)).json()["pixelReturn"][0]["output"]

    first = (await alice.post("runPixel", expression="META | true")).json()["insightID"]
    assert await output(f'GetModelAPI(model="{MODEL}");', insightId=first) == "OPEN_AI"
    assert "allowed is one of" in await output('GetModelAPI(model="none");', insightId=first)
    second = (await alice.post("runPixel", expression="META | true")).json()["insightID"]
    assert await output("MyOpenInsights();", insightId=first) == [[first, second]]
    await output("DropInsight();", insightId=second)
    assert await output("MyOpenInsights();", insightId=first) == [[first]]


# -- jobs ----------------------------------------------------------------------------------------------------------------------


async def test_polls_get_each_chunk_once_and_the_end_with_the_last(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    assert job_id[14] == "7"
    assert await alice.poll(job_id) == {"message": [], "status": "Created"}
    attempt = await model.take()
    assert await alice.poll(job_id) == {"message": [], "status": "InProgress"}
    await attempt.say("Soccer")
    await attempt.say(",")
    assert await alice.poll(job_id) == {"message": content("Soccer", ","), "status": "InProgress"}
    assert await alice.poll(job_id) == {"message": [], "status": "InProgress"}
    await attempt.say("mulling", DeltaKind.THINKING)
    await attempt.say(" known")
    await attempt.end(" as football", FinishReason.LENGTH)
    assert await alice.poll(job_id) == {
        "message": [
            {"stream_type": "thinking", "data": {"thinking": "mulling"}},
            *content(" known", " as football"),
            USAGE,
            finish("length"),
        ],
        "status": "ProgressComplete",
    }
    assert await alice.poll(job_id) == {"message": [], "status": "ProgressComplete"}
    assert (await alice.post("status", jobId=job_id)).json() == "ProgressComplete"
    assert await alice.poll(job_id, "console") == {"message": [], "status": "ProgressComplete"}


async def test_the_end_is_not_told_before_the_last_chunk(
    alice: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pixel_jobs, "MOST_ENTRIES", 2)
    job_id = await alice.start(ASK)
    await model.answer("a", "b", "c")
    assert await alice.poll(job_id) == {"message": content("a", "b"), "status": "InProgress"}
    assert await alice.poll(job_id) == {
        "message": [*content("c"), USAGE, finish("stop")],
        "status": "ProgressComplete",
    }


async def test_the_result_is_had_once_but_not_lost_with_its_reply(alice: Browser, model: ModelByHand, redis_url: str):
    job_id = await alice.start(ASK)
    early = await alice.post("result", jobId=job_id)
    assert (early.status_code, early.json()["errorType"]) == (400, "JOB_NOT_FINISHED")
    await model.answer("Yes")
    first = await alice.result(job_id)
    assert first["pixelReturn"][0]["output"]["response"] == "Yes"
    assert await alice.result(job_id) == first
    assert await alice.poll(job_id) == {"message": [], "status": "UnknownJob"}
    assert (await alice.post("status", jobId=job_id)).json() == "NULL"
    async with Redis.from_url(redis_url) as client:
        assert 0 < await client.ttl(f"ps:px-job:{job_id}") <= 60
        await client.delete(f"ps:px-job:{job_id}")
    assert await alice.result(job_id) == "NULL"


async def test_a_job_that_does_not_stream_has_only_an_end(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK.replace(");", ', paramValues=[{"stream": false}]);'))
    attempt = await model.take()
    await attempt.say("Yes")
    assert await alice.poll(job_id) == {"message": [], "status": "InProgress"}
    await attempt.end()
    assert await alice.poll(job_id) == {"message": [], "status": "ProgressComplete"}
    assert (await alice.result(job_id))["pixelReturn"][0]["output"]["response"] == "Yes"


async def test_a_job_whose_model_fails_says_so(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    attempt = await model.take()
    await attempt.say("Ye")
    await attempt.fail("the engine is broken")
    assert await alice.poll(job_id) == {"message": [*content("Ye"), finish("error")], "status": "ProgressComplete"}
    assert (await alice.poll(job_id, "partial"))["status"] == "Error"
    assert (await alice.poll(job_id, "error"))["message"] == ["the engine is broken"]
    (entry,) = (await alice.result(job_id))["pixelReturn"]
    assert (entry["operationType"], entry["output"]) == (["ERROR"], "the engine is broken")


async def test_a_restart_is_told(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    attempt = await model.take()
    await attempt.say("Ol")
    assert (await alice.poll(job_id, "partial"))["message"] == {"total": "Ol", "new": "Ol"}
    await attempt.say("", DeltaKind.RESTART)
    await attempt.say("New")
    await attempt.end()
    assert (await alice.poll(job_id))["message"] == [
        *content("Ol"),
        {"stream_type": "content", "data": {"event": "restart"}},
        *content("New"),
        USAGE,
        finish("stop"),
    ]
    assert (await alice.poll(job_id, "partial"))["message"] == {"total": "New", "new": "New"}


async def test_stopping_a_job_cancels_it(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    attempt = await model.take()
    await attempt.say("Ye")

    async def stop(*ids: str) -> str:
        listed = ", ".join(f'"{job}"' for job in ids)
        answer = await alice.post("runPixel", expression=f"StopPixelExecution(id=[{listed}]);")
        return str(answer.json()["pixelReturn"][0]["output"])

    assert await stop(job_id, "none") == f"job {job_id}: cancel requested; job not found"
    with pytest.raises(AssertionError):
        await attempt.say("s")
    assert await alice.poll(job_id) == {"message": [*content("Ye"), finish("canceled")], "status": "Canceled"}
    assert await alice.poll(job_id, "partial") == {"message": {"total": "Ye", "new": "Ye"}, "status": "Canceled"}
    done = await alice.start(ASK)
    await model.answer("x")
    assert await stop(done) == f"job {done}: has already completed"
    assert (await alice.result(done))["pixelReturn"][0]["output"]["response"] == "x"


async def test_terminate_drops_what_is_unread_but_not_the_end(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    attempt = await model.take()
    await attempt.say("dropped")
    assert (await alice.post("terminate", jobId=job_id)).json() == "success"
    await attempt.say("kept")
    assert (await alice.poll(job_id))["message"] == content("kept")
    await attempt.end()
    await alice.post("terminate", jobId=job_id)
    assert await alice.poll(job_id) == {"message": [USAGE, finish("stop")], "status": "ProgressComplete"}


async def test_an_erased_prompt_is_an_unknown_job(replica: IngressApp, alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    await model.answer("x")
    account = await replica.accounts.store.by_slug("alice")
    assert account is not None
    assert (await replica.send("DELETE", f"/prompt-svc/prompt/{job_id}", as_=account)).status_code == 200
    assert await alice.poll(job_id) == {"message": [], "status": "UnknownJob"}
    assert await alice.result(job_id) == "NULL"


# -- partial, as the SDK polls it ----------------------------------------------------------------------------------------------


async def test_partial_shows_all_and_what_is_new(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    assert await alice.poll(job_id, "partial") == {"message": {}, "status": "Created"}
    attempt = await model.take()
    await attempt.say("One")
    assert (await alice.poll(job_id, "partial"))["message"] == {"total": "One", "new": "One"}
    await attempt.say(" ")
    await attempt.say("\n")
    # White space alone would be dropped by the SDK: it waits for the word behind it.
    assert (await alice.poll(job_id, "partial"))["message"] == {"total": "One", "new": ""}
    await attempt.say("two")
    assert (await alice.poll(job_id, "partial"))["message"] == {"total": "One \ntwo", "new": " \ntwo"}
    await attempt.end(".")
    assert await alice.poll(job_id, "partial") == {
        "message": {"total": "One \ntwo.", "new": "."},
        "status": "ProgressComplete",
    }
    assert await alice.poll(job_id, "partial") == {
        "message": {"total": "One \ntwo.", "new": ""},
        "status": "ProgressComplete",
    }


async def test_a_held_partial_answers_as_soon_as_a_word_is_there(
    alice: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deployments.ingress.doors.semoss.svc.HOLD_S", 60)
    job_id = await alice.start(ASK)
    attempt = await model.take()
    polling = asyncio.ensure_future(alice.poll(job_id, "partial"))
    await attempt.say("mulling", DeltaKind.THINKING)
    await attempt.say("One")
    async with asyncio.timeout(10):
        polled = await polling
        while not polled["message"]:
            polled = await alice.poll(job_id, "partial")
    assert polled["message"] == {"total": "One", "new": "One"}


async def test_an_answer_without_a_word_ends_the_sdks_loop(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    await model.answer()
    assert await alice.poll(job_id, "partial") == {"message": {}, "status": "Error"}
    assert (await alice.result(job_id))["pixelReturn"][0]["output"]["response"] == ""


# -- whose jobs they are -------------------------------------------------------------------------------------------------------

POLLS: dict[str, Any] = {
    "pixelJobStreaming": {"message": [], "status": "UnknownJob"},
    "partial": {"message": {}, "status": "UnknownJob"},
    "console": {"message": [], "status": "UnknownJob"},
    "error": {"message": [], "status": "UnknownJob"},
    "status": "NULL",
    "result": "NULL",
    "terminate": "success",
}


@pytest.mark.parametrize("endpoint", POLLS)
async def test_a_job_is_its_sessions_alone(replica: IngressApp, alice: Browser, model: ModelByHand, endpoint: str):
    job_id = await alice.start(ASK)
    await model.answer("secret")
    account = await replica.accounts.store.by_slug("alice")
    assert account is not None
    bob, admin = await replica.user("bob"), await replica.admin()
    for who in (account, bob, admin):
        async with another(replica, who) as browser:
            foreign, unknown = [await browser.post(endpoint, jobId=i) for i in (job_id, "none")]
            assert (foreign.status_code, foreign.json()) == (200, POLLS[endpoint])
            assert (unknown.status_code, unknown.json()) == (200, POLLS[endpoint])
            stopped = await browser.post("runPixel", expression=f'StopPixelExecution(id=["{job_id}"]);')
            assert stopped.json()["pixelReturn"][0]["output"] == "job not found"
    async with another(replica) as nobody:
        for headers in ({}, {"authorization": "Bearer a.b.c"}, {"authorization": token(account, EXPIRED)}):
            answer = await nobody.post(endpoint, headers, jobId=job_id)
            assert (answer.status_code, answer.json()) == (401, BAD_SESSION)
    # Nothing was taken from its owner by all this.
    assert (await alice.poll(job_id))["message"] == [*content("secret"), USAGE, finish("stop")]


# -- replicas die --------------------------------------------------------------------------------------------------------------


async def test_any_replica_goes_on_where_another_was(redis_url: str, model: ModelByHand):
    async with ingress_app(redis_url) as first:
        account = await first.user("alice")
        browser = Browser(first.app)
        await browser.log_in(account)
        job_id = await browser.start(ASK)
        attempt = await model.take()
        await attempt.say("a")
        assert (await browser.poll(job_id))["message"] == content("a")
    # It is gone, and with it all that it knew.
    async with ingress_app(redis_url) as second:
        moved = Browser(second.app)
        moved.http.cookies.update(browser.http.cookies)
        await attempt.say("b")
        assert (await moved.poll(job_id))["message"] == content("b")
        await attempt.end()
        assert (await moved.poll(job_id))["message"] == [USAGE, finish("stop")]
        await moved.http.aclose()
    await browser.http.aclose()


class Cut:
    """An app whose replies do not get out: the replica dies with them."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def refuse(_message: Any) -> None:
            raise ConnectionResetError

        await self._app(scope, receive, refuse)


@pytest.mark.parametrize("endpoint", ["pixelJobStreaming", "partial"])
async def test_a_poll_that_dies_with_its_replica_takes_nothing_with_it(
    replica: IngressApp, alice: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch, endpoint: str
):
    monkeypatch.setattr(pixel_jobs, "REPLY_S", 0.5)
    job_id = await alice.start(ASK)
    await model.answer("last words")
    dying = Browser(Cut(replica.app))
    dying.http.cookies.update(alice.http.cookies)
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the server sees when a connection breaks)
        await dying.post(endpoint, jobId=job_id)
    await dying.http.aclose()
    # Until it is sure that the reply is lost the next poll is told to come again, never that this was all.
    polled = await alice.poll(job_id, endpoint)
    assert polled["status"] == "InProgress"
    assert not polled["message"]

    async def again() -> dict[str, Any] | None:
        polled = await alice.poll(job_id, endpoint)
        return polled if polled["message"] else None

    polled = await until_true(again, what="the words") or {}
    assert polled["status"] == "ProgressComplete"
    assert "last words" in str(polled["message"])
    assert "last words" not in str((await alice.poll(job_id))["message"]) or endpoint == "partial"


async def test_polls_at_the_same_time_share_what_there_is(alice: Browser, model: ModelByHand):
    job_id = await alice.start(ASK)
    attempt = await model.take()
    words = [f"w{number}" for number in range(20)]
    for word in words:
        await attempt.say(word)
    await attempt.end()
    got = await asyncio.gather(*(alice.poll(job_id) for _ in range(8)))
    chunks = [chunk for polled in got for chunk in polled["message"]]
    assert chunks == [*content(*words), USAGE, finish("stop")]


async def test_a_confirmation_outlives_a_store_that_is_away_for_a_moment(
    alice: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch
):
    confirm = pixel_jobs.PixelJobs.confirm
    failures = iter([True, True])

    async def flaky(self: Any, *arguments: Any, **named: Any) -> None:
        if next(failures, False):
            raise ConnectionError
        await confirm(self, *arguments, **named)

    monkeypatch.setattr(jobs_module.PixelJobs, "confirm", flaky)
    job_id = await alice.start(ASK)
    attempt = await model.take()
    await attempt.say("a")
    assert (await alice.poll(job_id))["message"] == content("a")
    await attempt.say("b")

    async def more() -> list[dict[str, Any]]:
        return list((await alice.poll(job_id))["message"])

    assert await until_true(more) == content("b")
