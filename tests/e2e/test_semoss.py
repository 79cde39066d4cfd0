"""SEMOSS clients against the real service: the page's curl and Python, and a job whose ingress replica is killed."""

from __future__ import annotations

import os
import signal

import httpx
import psutil

from tests.e2e.pages import blocks, documents, run_python, run_shell
from tests.service import Service
from tests.waiting import until_true

PAGE = "docs/semoss.md"


def test_curl_as_documented(service: Service):
    (block,) = blocks(PAGE, "sh")
    config, *polls, result = documents(run_shell(block, service))
    assert config["logins"] == {"NATIVE": "1backend"}
    chunks = [chunk for poll in polls for chunk in poll["message"]]
    *texts, usage, finish = chunks
    assert {chunk["stream_type"] for chunk in texts} == {"content"}
    assert len(polls) > 1
    assert len(texts) > 5
    assert usage["stream_type"] == "usage"
    assert 5 < usage["data"]["output_tokens"] <= 60
    assert finish["stream_type"] == "content"
    assert finish["data"] in ({"finish_reason": "length"}, {"finish_reason": "stop"})
    assert [poll["status"] for poll in polls][-1] == "ProgressComplete"
    assert all(poll["status"] in ("Created", "InProgress") for poll in polls[:-1])
    answer = result["pixelReturn"][0]["output"][0]["output"]
    assert answer["response"] == "".join(chunk["data"]["content"] for chunk in texts)
    assert answer["numberOfTokensInResponse"] == usage["data"]["output_tokens"]


def test_the_sdk_as_documented(service: Service):
    (block,) = blocks(PAGE, "python")
    answer, _, essay = run_python(block, service).partition("\n")
    assert "Paris" in answer
    assert len(essay.split()) > 20


async def test_a_job_goes_on_when_an_ingress_replica_is_killed(service: Service, user: httpx.AsyncClient):
    base = "/Monolith/api/engine"
    expression = 'LLM(engine="test/slow", command="<encode>say something</encode>", useHistory=false);'
    job_id = (await user.post(f"{base}/runPixelAsync", data={"expression": expression})).json()["jobId"]
    got: list[str] = []

    async def has_words(more: int) -> bool:
        try:
            answer = await user.post(f"{base}/pixelJobStreaming", data={"jobId": job_id})
        except httpx.TransportError:
            return False
        if answer.status_code >= 500:
            return False  # the replica that is dead
        polled = answer.json()
        assert polled["status"] in ("Created", "InProgress")
        got.extend(chunk["data"]["content"] for chunk in polled["message"])
        return len(got) >= more

    await until_true(lambda: has_words(3), timeout_s=30, every_s=0.2, what="the first words")
    victim = next(
        process.pid
        for process in service.processes()
        if psutil.pid_exists(process.pid)
        and "ServeReplica:prompt-svc:Ingress" in " ".join(psutil.Process(process.pid).cmdline())
    )
    os.kill(victim, signal.SIGKILL)
    before = len(got)
    await until_true(lambda: has_words(before + 3), timeout_s=30, every_s=0.2, what="words after the kill")
    stop = {"expression": f'StopPixelExecution(id=["{job_id}"]);'}
    stopped = (await user.post(f"{base}/runPixel", data=stop)).json()["pixelReturn"][0]["output"]
    assert stopped == f"job {job_id}: cancel requested"
    last = (await user.post(f"{base}/pixelJobStreaming", data={"jobId": job_id})).json()
    assert (last["status"], last["message"][-1]["data"]) == ("Canceled", {"finish_reason": "canceled"})
    got += [chunk["data"]["content"] for chunk in last["message"][:-1]]
    # All of it, each piece once: what the prompt's own stream has.
    stream = f"/prompt-svc/prompts/{(await thread_of(user, job_id))}/responses/subscribe"
    async with user.stream("GET", stream, headers={"last-event-id": "1-0"}) as events:
        text = ""
        async for line in events.aiter_lines():
            if '"type":"canceled"' in line:
                break
            if line.startswith("data: "):
                text += str(documents(line.removeprefix("data: "))[0].get("text", ""))
    assert "".join(got) == text


async def thread_of(user: httpx.AsyncClient, prompt_id: str) -> str:
    return str((await user.get(f"/prompt-svc/prompt/{prompt_id}")).json()["prompt"]["threadId"])
