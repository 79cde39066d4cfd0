"""Jobs of the SEMOSS door on a real store: what polls get, whose jobs they are, and what dies with a replica."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from pipeline.delta import DeltaKind, FinishReason
from pipeline.store import pixel_jobs
from tests.integration.ingress_app import EXPIRED, IngressApp, ingress_app, token
from tests.integration.model_by_hand import ModelByHand
from tests.integration.semoss_client import ASK, BAD_SESSION, USAGE, Browser, another, content, finish
from tests.waiting import until_true


async def test_polls_get_each_chunk_once_and_the_end_with_the_last(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    assert job_id[14] == "7"
    assert await visitor.poll(job_id) == {"message": [], "status": "Created"}
    attempt = await model.take()
    assert await visitor.poll(job_id) == {"message": [], "status": "InProgress"}
    await attempt.say("Soccer")
    await attempt.say(",")
    assert await visitor.poll(job_id) == {"message": content("Soccer", ","), "status": "InProgress"}
    assert await visitor.poll(job_id) == {"message": [], "status": "InProgress"}
    await attempt.say("mulling", DeltaKind.THINKING)
    await attempt.say(" known")
    await attempt.end(" as football", FinishReason.LENGTH)
    assert await visitor.poll(job_id) == {
        "message": [
            {"stream_type": "thinking", "data": {"thinking": "mulling"}},
            *content(" known", " as football"),
            USAGE,
            finish("length"),
        ],
        "status": "ProgressComplete",
    }
    assert await visitor.poll(job_id) == {"message": [], "status": "ProgressComplete"}
    assert (await visitor.post("status", jobId=job_id)).json() == "ProgressComplete"
    assert await visitor.poll(job_id, "console") == {"message": [], "status": "ProgressComplete"}


async def test_the_end_is_not_told_before_the_last_chunk(
    visitor: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pixel_jobs, "MOST_ENTRIES", 2)
    job_id = await visitor.start(ASK)
    await model.answer("a", "b", "c")
    assert await visitor.poll(job_id) == {"message": content("a", "b"), "status": "InProgress"}
    assert await visitor.poll(job_id) == {
        "message": [*content("c"), USAGE, finish("stop")],
        "status": "ProgressComplete",
    }


async def test_the_result_is_had_once_but_not_lost_with_its_reply(visitor: Browser, model: ModelByHand, redis_url: str):
    job_id = await visitor.start(ASK)
    early = await visitor.post("result", jobId=job_id)
    assert (early.status_code, early.json()["errorType"]) == (400, "JOB_NOT_FINISHED")
    await model.answer("Yes")
    first = await visitor.result(job_id)
    assert first["pixelReturn"][0]["output"]["response"] == "Yes"
    assert first["pixelReturn"][0]["pixelExpression"] == ASK
    assert await visitor.result(job_id) == first
    assert await visitor.poll(job_id) == {"message": [], "status": "UnknownJob"}
    assert (await visitor.post("status", jobId=job_id)).json() == "NULL"
    async with Redis.from_url(redis_url) as client:
        assert 0 < await client.ttl(f"ps:px-job:{job_id}") <= 60
        await client.delete(f"ps:px-job:{job_id}")
    assert await visitor.result(job_id) == "NULL"


async def test_a_job_that_does_not_stream_has_only_an_end(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK.replace(");", ', paramValues=[{"stream": false}]);'))
    attempt = await model.take()
    await attempt.say("Yes")
    assert await visitor.poll(job_id) == {"message": [], "status": "InProgress"}
    await attempt.end()
    assert await visitor.poll(job_id) == {"message": [], "status": "ProgressComplete"}
    assert (await visitor.result(job_id))["pixelReturn"][0]["output"]["response"] == "Yes"


async def test_a_job_whose_model_fails_says_so(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    attempt = await model.take()
    await attempt.say("Ye")
    await attempt.fail("the engine is broken")
    assert await visitor.poll(job_id) == {"message": [*content("Ye"), finish("error")], "status": "ProgressComplete"}
    assert (await visitor.poll(job_id, "partial"))["status"] == "Error"
    assert (await visitor.poll(job_id, "error"))["message"] == ["the engine is broken"]
    (entry,) = (await visitor.result(job_id))["pixelReturn"]
    assert (entry["operationType"], entry["output"]) == (["ERROR"], "the engine is broken")


async def test_a_restart_is_told(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    attempt = await model.take()
    await attempt.say("Ol")
    assert (await visitor.poll(job_id, "partial"))["message"] == {"total": "Ol", "new": "Ol"}
    await attempt.say("", DeltaKind.RESTART)
    await attempt.say("New")
    await attempt.end()
    assert (await visitor.poll(job_id))["message"] == [
        *content("Ol"),
        {"stream_type": "content", "data": {"event": "restart"}},
        *content("New"),
        USAGE,
        finish("stop"),
    ]
    assert (await visitor.poll(job_id, "partial"))["message"] == {"total": "New", "new": "New"}


async def test_stopping_a_job_cancels_it(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    attempt = await model.take()
    await attempt.say("Ye")

    async def stop(*ids: str) -> str:
        listed = ", ".join(f'"{job}"' for job in ids)
        answer = await visitor.post("runPixel", expression=f"StopPixelExecution(id=[{listed}]);")
        return str(answer.json()["pixelReturn"][0]["output"])

    assert await stop(job_id, "none") == f"job {job_id}: cancel requested; job not found"
    with pytest.raises(AssertionError):
        await attempt.say("s")
    assert await visitor.poll(job_id) == {"message": [*content("Ye"), finish("canceled")], "status": "Canceled"}
    assert await visitor.poll(job_id, "partial") == {"message": {"total": "Ye", "new": "Ye"}, "status": "Canceled"}
    done = await visitor.start(ASK)
    await model.answer("x")
    assert await stop(done) == f"job {done}: has already completed"
    assert (await visitor.result(done))["pixelReturn"][0]["output"]["response"] == "x"


async def test_terminate_drops_what_is_unread_but_not_the_end(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    attempt = await model.take()
    await attempt.say("dropped")
    assert (await visitor.post("terminate", jobId=job_id)).json() == "success"
    await attempt.say("kept")
    assert (await visitor.poll(job_id))["message"] == content("kept")
    await attempt.end()
    await visitor.post("terminate", jobId=job_id)
    assert await visitor.poll(job_id) == {"message": [USAGE, finish("stop")], "status": "ProgressComplete"}


async def test_an_erased_prompt_is_an_unknown_job_and_its_text_is_gone(
    replica: IngressApp, visitor: Browser, model: ModelByHand, redis_url: str
):
    job_id = await visitor.start(ASK)
    await model.answer("x")
    account = await replica.accounts.store.by_slug("alice")
    assert account is not None
    assert (await replica.send("DELETE", f"/prompt-svc/prompt/{job_id}", as_=account)).status_code == 200
    assert await visitor.poll(job_id) == {"message": [], "status": "UnknownJob"}
    assert await visitor.result(job_id) == "NULL"
    async with Redis.from_url(redis_url) as client:
        assert b"there" not in b"".join((await client.hgetall(f"ps:px-job:{job_id}")).values())


async def test_partial_shows_all_and_what_is_new(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    assert await visitor.poll(job_id, "partial") == {"message": {}, "status": "Created"}
    attempt = await model.take()
    await attempt.say("One")
    assert (await visitor.poll(job_id, "partial"))["message"] == {"total": "One", "new": "One"}
    await attempt.say(" ")
    await attempt.say("\n")
    # White space alone would be dropped by the SDK: it waits for the word behind it.
    assert (await visitor.poll(job_id, "partial"))["message"] == {"total": "One", "new": ""}
    await attempt.say("two")
    assert (await visitor.poll(job_id, "partial"))["message"] == {"total": "One \ntwo", "new": " \ntwo"}
    await attempt.end(".")
    assert await visitor.poll(job_id, "partial") == {
        "message": {"total": "One \ntwo.", "new": "."},
        "status": "ProgressComplete",
    }
    assert await visitor.poll(job_id, "partial") == {
        "message": {"total": "One \ntwo.", "new": ""},
        "status": "ProgressComplete",
    }


async def test_a_held_partial_answers_as_soon_as_a_word_is_there(
    visitor: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deployments.ingress.doors.semoss.svc.HOLD_S", 60)
    job_id = await visitor.start(ASK)
    attempt = await model.take()
    polling = asyncio.ensure_future(visitor.poll(job_id, "partial"))
    await attempt.say("mulling", DeltaKind.THINKING)
    await attempt.say("One")
    async with asyncio.timeout(10):
        polled = await polling
        while not polled["message"]:
            polled = await visitor.poll(job_id, "partial")
    assert polled["message"] == {"total": "One", "new": "One"}


async def test_an_answer_without_a_word_ends_the_sdks_loop(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    await model.answer()
    assert await visitor.poll(job_id, "partial") == {"message": {}, "status": "Error"}
    assert (await visitor.result(job_id))["pixelReturn"][0]["output"]["response"] == ""


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
async def test_a_job_is_its_sessions_alone(replica: IngressApp, visitor: Browser, model: ModelByHand, endpoint: str):
    job_id = await visitor.start(ASK)
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
    assert (await visitor.poll(job_id))["message"] == [*content("secret"), USAGE, finish("stop")]


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
    replica: IngressApp, visitor: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch, endpoint: str
):
    monkeypatch.setattr(pixel_jobs, "REPLY_S", 0.5)
    job_id = await visitor.start(ASK)
    await model.answer("last words")
    dying = Browser(Cut(replica.app))
    dying.http.cookies.update(visitor.http.cookies)
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the server sees when a connection breaks)
        await dying.post(endpoint, jobId=job_id)
    await dying.http.aclose()
    # Until it is sure that the reply is lost the next poll is told to come again, never that this was all.
    polled = await visitor.poll(job_id, endpoint)
    assert polled["status"] == "InProgress"
    assert not polled["message"]

    async def words() -> dict[str, Any] | None:
        polled = await visitor.poll(job_id, endpoint)
        return polled if polled["message"] else None

    polled = await until_true(words, what="the words") or {}
    assert polled["status"] == "ProgressComplete"
    assert "last words" in str(polled["message"])
    again = await visitor.poll(job_id, endpoint)
    assert again["message"] in ([], {"total": "last words", "new": ""})


async def test_polls_at_the_same_time_share_what_there_is(visitor: Browser, model: ModelByHand):
    job_id = await visitor.start(ASK)
    attempt = await model.take()
    words = [f"w{number}" for number in range(20)]
    for word in words:
        await attempt.say(word)
    await attempt.end()
    got = await asyncio.gather(*(visitor.poll(job_id) for _ in range(8)))
    chunks = [chunk for polled in got for chunk in polled["message"]]
    assert chunks == [*content(*words), USAGE, finish("stop")]


async def test_a_confirmation_outlives_a_store_that_is_away_for_a_moment(
    visitor: Browser, model: ModelByHand, monkeypatch: pytest.MonkeyPatch
):
    confirm = pixel_jobs.PixelJobs.confirm
    failures = iter([True, True])

    async def flaky(self: Any, *arguments: Any, **named: Any) -> None:
        if next(failures, False):
            raise ConnectionError
        await confirm(self, *arguments, **named)

    monkeypatch.setattr(pixel_jobs.PixelJobs, "confirm", flaky)
    job_id = await visitor.start(ASK)
    attempt = await model.take()
    await attempt.say("a")
    assert (await visitor.poll(job_id))["message"] == content("a")
    await attempt.say("b")

    async def more() -> list[dict[str, Any]]:
        return list((await visitor.poll(job_id))["message"])

    assert await until_true(more) == content("b")
