"""Ray jobs, actors and drivers that use the running service: through its handle, and with a batch that is killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.local.environment import Folders
from deployments.local.ray_environment import ray_environment
from tests.service import ROOT, Service
from tests.waiting import wait_for

LINES, BAD = 200, 17
RAY = Path(sys.executable).with_name("ray")


@pytest.fixture
def in_ray(service: Service) -> dict[str, str]:
    """What a program needs in its environment to find the service's Ray."""
    found = ray_environment(Folders.of({"PROMPT_SVC_DATA_DIR": str(service.data_dir)}), os.environ)
    assert found is not None
    return {**os.environ, **found, "PYTHONPATH": str(ROOT)}


@contextmanager
def driver(in_ray: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A driver of ``handle_driver.py``; what it says are lines of JSON."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.handle_driver", *arguments],
        env=in_ray,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.startswith("{"):  # not one of Ray's own
            found: dict[str, Any] = json.loads(line)
            return found
    raise AssertionError(f"the driver ended with {process.wait(10)}")


async def test_a_driver_an_actor_and_a_task_use_the_handle(in_ray: dict[str, str], user: httpx.AsyncClient) -> None:
    me = (await user.post("/user-svc/self", json={})).json()["user"]
    with driver(in_ray, "calls", me["slug"]) as process:
        answer = said(process)
        assert "Paris" in answer["text"]
        assert answer["streamed"] == answer["text"]
        assert answer["numbers"] == list(range(1, len(answer["numbers"]) + 1))
        assert said(process) == {"actor": [answer["text"]] * 3}
        assert said(process) == {
            "field": "priority",
            "value": "99",
            "allowed": "an integer from -10 to 10",
        }
        assert said(process) == {"own": "usr-service-job"}
        assert said(process) == {"canceled": "canceled", "final": "canceled"}
        assert process.wait(30) == 0
    # It is the user's own prompt, whichever door it came through.
    found = (await user.get("/prompt-svc/prompt/from%20a%20job")).json()
    assert (found["prompt"]["userId"], found["responseMessage"]["text"]) == (me["id"], answer["text"])


def replicas(service: Service, deployment: str) -> set[int]:
    return {
        process.pid
        for process in service.processes()
        if f"ServeReplica:prompt-svc:{deployment}" in _command_line(process.pid)
    }


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.timeout(180)
def test_a_stream_goes_on_when_the_ingress_replicas_are_killed(service: Service, in_ray: dict[str, str]) -> None:
    killed = replicas(service, "Ingress")
    assert len(killed) == 2
    with driver(in_ray, "follow") as process:
        assert process.stdin is not None
        for number in range(1, 9):
            assert said(process) == {"number": number}
            if number == 3:
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
            process.stdin.write("more\n" if number < 8 else "enough\n")
            process.stdin.flush()
        assert said(process) == {"numbers": [1, 2, 3, 4, 5, 6, 7, 8], "canceled": "canceled"}
    wait_for(lambda: len(replicas(service, "Ingress") - killed) == 2, timeout_s=60, what="two new ingress replicas")

    def answers() -> bool:
        try:
            return all(httpx.get(f"{service.url}/health", timeout=5).status_code == 200 for _ in range(6))
        except httpx.HTTPError:
            return False

    wait_for(answers, timeout_s=60, what="HTTP to be answered again")


def job(in_ray: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RAY, "job", *arguments], env=in_ray, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.timeout(240)
def test_a_batch_job_is_killed_and_the_same_command_finishes_it(in_ray: dict[str, str], tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    with source.open("w") as file:
        for number in range(1, LINES + 1):
            body = {"id": f"q-{number}", "prompt": f"Say {number}", "parameters": {"textToText": {"maxTokens": 2}}}
            file.write(json.dumps(body if number != BAD else {**body, "colour": "red"}) + "\n")
    command = ["python", "-m", "clients.batch", str(source), str(output), "--concurrency", "16"]
    begun = job(in_ray, "submit", "--no-wait", "--", *command)
    assert begun.returncode == 0, begun.stderr

    def written() -> int:
        return len(output.read_bytes().splitlines()) if output.exists() else 0

    def batch_process() -> int | None:
        found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return next((pid for pid in found if _command_line(pid).startswith(" ".join(command))), None)

    wait_for(lambda: written() > 20, timeout_s=90, what="the first answers")
    pid = batch_process()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: batch_process() is None, what="the batch to be dead")
    before = written()
    assert before < LINES - 1, "it was through before it was killed"
    with output.open("ab") as file:
        file.write(b'{"line":200,"text":"to')  # where a power cut would have left it

    done = job(in_ray, "submit", "--", *command)
    # Exit code 1: one line is in the error file, for which Ray calls the job failed.
    assert "exit code 1" in done.stdout + done.stderr
    answers = [json.loads(line) for line in output.read_bytes().splitlines()]
    expected = [number for number in range(1, LINES + 1) if number != BAD]
    assert sorted(record["line"] for record in answers) == expected
    assert {record["id"] for record in answers} == {f"q-{number}" for number in expected}
    assert len({record["promptId"] for record in answers}) == LINES - 1
    (error,) = (json.loads(line) for line in (tmp_path / "out.errors.jsonl").read_bytes().splitlines())
    assert (error["line"], error["id"], error["field"]) == (BAD, f"q-{BAD}", "colour")
    assert f"{LINES - 1} answered, 1 errors;" in done.stdout
    assert f"({before + 1} were done before)" in done.stdout
    # No prompt in a job's log (DESIGN §4, D7).
    assert "Say " not in begun.stdout + done.stdout + done.stderr
