"""A batch over a service that is made up: each line exactly one record, whatever happens to the service or the run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from clients.answer import Answer
from clients.batch import main as module
from clients.batch import runner
from clients.batch.main import app
from clients.errors import NotAllowed, NotFound, PromptSvcError, Refused, ServiceFailed, Unavailable

SECRET = "the prompt nobody may see"


class FakeService:
    """Answers every prompt, unless ``answer`` says otherwise, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.now = self.most = 0
        self.checks: list[PromptSvcError] = []
        self.closed = False
        self.answer: Callable[[Mapping[str, Any]], Answer] = self.completed

    async def check(self) -> None:
        if self.checks:
            raise self.checks[0]

    async def run(self, body: Mapping[str, Any]) -> Answer:
        self.asked.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            return self.answer(body)
        finally:
            self.now -= 1

    async def close(self) -> None:
        self.closed = True

    @staticmethod
    def completed(body: Mapping[str, Any], **changes: Any) -> Answer:
        known: dict[str, Any] = {
            "prompt_id": body["id"],
            "thread_id": "t",
            "status": "completed",
            "model_id": "org/small",
            "text": body["prompt"].upper(),
            "completion_tokens": 3,
            "prompt_tokens": 2,
            "finish_reason": "stop",
        }
        return Answer(**(known | changes))


class Folder:
    """A batch in a folder, run as from the command line."""

    def __init__(self, path: Path, service: FakeService) -> None:
        self.input, self.output = path / "in.jsonl", path / "out.jsonl"
        self.service = service

    def write(self, *lines: Any) -> None:
        self.input.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))

    def run(self, *options: str) -> Result:
        return CliRunner().invoke(app, [str(self.input), str(self.output), "--job", "job", *options])

    @property
    def answers(self) -> list[Any]:
        return _records(self.output)

    @property
    def errors(self) -> list[Any]:
        return _records(self.output.with_suffix(".errors.jsonl"))


def _records(path: Path) -> list[Any]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(found, key=lambda record: record["line"])


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def folder(tmp_path: Path, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(module, "_inside_ray", lambda *_: service)
    monkeypatch.setattr(runner, "_PAUSE_S", 0.0)
    return Folder(tmp_path, service)


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"q-{number}", "prompt": f"ask {number}"} for number in range(1, count + 1)]


def test_every_line_gets_its_answer_under_its_own_id(folder: Folder, service: FakeService):
    folder.write(*prompts(3), {"prompt": "no id", "priority": -1})
    done = folder.run()
    assert (done.exit_code, service.closed) == (0, True)
    assert folder.answers[0] == {
        "line": 1,
        "id": "q-1",
        "status": "completed",
        "promptId": "job:1",
        "threadId": "t",
        "modelId": "org/small",
        "text": "ASK 1",
        "finishReason": "stop",
        "promptTokens": 2,
        "completionTokens": 3,
    }
    assert [record.get("id") for record in folder.answers] == ["q-1", "q-2", "q-3", None]
    assert service.asked[3] == {"prompt": "no id", "priority": -1, "id": "job:4"}
    assert folder.errors == []
    assert done.stdout.startswith("4 answered, 0 errors; 4 lines in ")


def test_an_image_line_comes_back_with_its_files(folder: Folder, service: FakeService):
    service.answer = lambda body: service.completed(
        body, text=None, file_ids=("f-1", "f-2"), completion_tokens=0, finish_reason=None
    )
    folder.write({"prompt": "a cat", "type": "Text-to-Image", "parameters": {"textToImage": {"steps": 4}}})
    assert folder.run().exit_code == 0
    (record,) = folder.answers
    assert (record["text"], record["fileIds"]) == ("", ["f-1", "f-2"])
    assert "completionTokens" not in record


def test_bad_lines_are_reported_with_their_number_and_stop_nothing(folder: Folder, service: FakeService):
    def answer(body: Mapping[str, Any]) -> Answer:
        match body["prompt"]:
            case "too hot":
                raise Refused("temperature: got 9", status=400, field="temperature", value="9", allowed="0 to 2")
            case "erased":
                raise NotFound("Not Found", status=404)
            case "broken":
                return service.completed(body, status="abandoned", text=None, error="the engine gave up")
            case "canceled":
                return service.completed(body, status="canceled", text=None)
        return service.completed(body)

    service.answer = answer
    folder.write(
        {"id": "a", "prompt": "fine"},
        f'{{"prompt": "{SECRET}\n',
        "\n",
        {"id": "d", "prompt": SECRET, "colour": "red"},
        {"id": "e", "prompt": "too hot"},
        {"id": "f", "prompt": "erased"},
        {"id": "g", "prompt": "broken"},
        {"id": "h", "prompt": "canceled"},
        '{"prompt": "' + "x" * (1024 * 1024) + '"}\n',
        {"id": "j", "prompt": "fine too"},
    )
    done = folder.run()
    assert done.exit_code == 1
    assert [record["id"] for record in folder.answers] == ["a", "j"]
    assert [(record["line"], record["status"], record["error"][:30]) for record in folder.errors] == [
        (2, "refused", "invalid JSON: unexpected end o"),
        (4, "refused", "colour: got an unknown key, al"),
        (5, "refused", "temperature: got 9"),
        (6, "refused", "Not Found"),
        (7, "abandoned", "the engine gave up"),
        (8, "canceled", "canceled"),
        (9, "refused", "the line is too long, allowed "),
    ]
    assert [record.get("id") for record in folder.errors] == [None, "d", "e", "f", "g", "h", None]
    assert folder.errors[2] == {
        "line": 5,
        "id": "e",
        "status": "refused",
        "error": "temperature: got 9",
        "code": 400,
        "field": "temperature",
        "value": "9",
        "allowed": "0 to 2",
    }
    assert folder.errors[4] == {
        "line": 7,
        "id": "g",
        "status": "abandoned",
        "promptId": "job:7",
        "error": "the engine gave up",
    }
    assert done.stdout.startswith("2 answered, 7 errors; 9 lines in ")
    said = done.output + folder.output.with_suffix(".errors.jsonl").read_text()
    assert SECRET not in said
    assert "xxx" not in said


@pytest.mark.parametrize("concurrency", [1, 7])
def test_no_more_lines_are_in_flight_than_allowed(folder: Folder, service: FakeService, concurrency: int):
    folder.write(*prompts(50))
    assert folder.run("--concurrency", str(concurrency)).exit_code == 0
    assert service.most == concurrency
    assert len(folder.answers) == 50


def test_a_run_that_was_killed_goes_on_without_repeating_or_losing_a_line(folder: Folder, service: FakeService):
    folder.write(*prompts(20), "not JSON\n")
    assert folder.run().exit_code == 1
    # What a kill -9 leaves: some whole records, and a part of one.
    whole = folder.output.read_bytes().splitlines(keepends=True)
    folder.output.write_bytes(b"".join(whole[:12]) + whole[12][:9])
    service.asked.clear()
    done = folder.run()
    assert done.exit_code == 1
    assert [record["line"] for record in folder.answers] == list(range(1, 21))
    assert [record["line"] for record in folder.errors] == [21]
    missing = {json.loads(line)["promptId"] for line in whole[12:]}
    assert {body["id"] for body in service.asked} == missing
    assert len(service.asked) == 8
    assert done.stdout.endswith("(13 were done before)\n")


def test_a_run_with_nothing_left_asks_for_nothing(folder: Folder, service: FakeService):
    folder.write(*prompts(5))
    folder.run()
    service.asked.clear()
    assert folder.run().exit_code == 0
    assert service.asked == []
    assert len(folder.answers) == 5


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NotAllowed("Unauthorized", status=401), "the service refuses this caller: Unauthorized"),
        (Refused("user: got 'ada', …", status=400, field="user"), "the service refuses this caller: user: got 'ada'"),
        (Unavailable("no ingress replica answers"), "the service is away: no ingress replica answers"),
    ],
)
def test_what_is_wrong_with_every_line_stops_the_run_and_spoils_none(
    folder: Folder, service: FakeService, error: PromptSvcError, says: str
):
    def answer(body: Mapping[str, Any]) -> Answer:
        if body["id"] == "job:5":
            raise error
        return service.completed(body)

    service.answer = answer
    folder.write(*prompts(9))
    done = folder.run("--concurrency", "1")
    assert done.exit_code == 3
    assert says in done.stderr
    assert ([record["line"] for record in folder.answers], folder.errors) == ([1, 2, 3, 4], [])
    service.answer = service.completed
    assert folder.run().exit_code == 0
    assert len(folder.answers) == 9


def test_many_workers_that_find_the_service_away_stop_as_one(folder: Folder, service: FakeService):
    def answer(body: Mapping[str, Any]) -> Answer:
        raise Unavailable("gone")

    service.answer = answer
    folder.write(*prompts(9))
    done = folder.run("--concurrency", "5")
    assert (done.exit_code, done.stderr) == (3, "batch: the service is away: gone\n")


def test_a_service_that_is_not_there_or_lets_nobody_in_is_noticed_before_a_line_is_read(
    folder: Folder, service: FakeService
):
    service.checks = [NotAllowed("Unauthorized", status=401)]
    folder.write(*prompts(3))
    done = folder.run()
    assert done.exit_code == 3
    assert "the service cannot be used: Unauthorized" in done.stderr
    assert service.asked == []


def test_a_line_that_the_service_fails_at_is_tried_again_and_then_reported(folder: Folder, service: FakeService):
    failing = ["job:2", "job:2", "job:2", "job:3"]

    def answer(body: Mapping[str, Any]) -> Answer:
        if body["id"] in failing:
            failing.remove(body["id"])
            raise ServiceFailed("Internal Server Error", status=500)
        return service.completed(body)

    service.answer = answer
    folder.write(*prompts(4))
    assert folder.run().exit_code == 1
    assert [record["line"] for record in folder.answers] == [1, 3, 4]
    assert folder.errors == [
        {"line": 2, "id": "q-2", "status": "failed", "error": "Internal Server Error", "code": 500}
    ]


def test_a_service_that_fails_at_every_line_stops_the_run(folder: Folder, service: FakeService):
    def answer(body: Mapping[str, Any]) -> Answer:
        raise ServiceFailed("Internal Server Error", status=500)

    service.answer = answer
    folder.write(*prompts(100))
    done = folder.run("--concurrency", "1")
    assert done.exit_code == 3
    assert "the service fails again and again" in done.stderr
    assert len(folder.errors) == 10


def test_a_line_that_is_nested_too_deeply_stops_nothing(folder: Folder):
    deep = '{"id": "deep", "prompt": "x", "parameters": ' + "[" * 300 + "]" * 300 + "}\n"
    folder.write(*prompts(1), deep, *prompts(1))
    assert folder.run().exit_code == 1
    assert [record["line"] for record in folder.answers] == [1, 3]
    (error,) = folder.errors
    assert (error["line"], error["id"], error["status"]) == (2, "deep", "refused")


def test_a_fault_of_the_program_is_no_end_of_the_batch(folder: Folder, service: FakeService):
    def answer(body: Mapping[str, Any]) -> Answer:
        if body["id"] == "job:2":
            raise TypeError("nobody thought of this")
        return service.completed(body)

    service.answer = answer
    folder.write(*prompts(3))
    done = folder.run("--concurrency", "1")
    assert done.exit_code == 4
    assert "a fault of this program; the same command goes on from here" in done.stderr
    assert "nobody thought of this" in done.stderr
    service.answer = service.completed
    assert folder.run().exit_code == 0
    assert [record["line"] for record in folder.answers] == [1, 2, 3]


def test_what_is_added_during_a_run_is_the_next_ones(folder: Folder, service: FakeService):
    def answer(body: Mapping[str, Any]) -> Answer:
        if body["id"] == "job:1":
            with folder.input.open("a") as file:
                file.write('{"prompt": "second"}\n{"prompt": "thi')
        return service.completed(body)

    service.answer = answer
    folder.write({"prompt": "first"})
    assert folder.run("--concurrency", "1").exit_code == 0
    assert ([record["line"] for record in folder.answers], folder.errors) == ([1], [])
    # And half a line that is there when a run begins.
    done = folder.run()
    assert done.exit_code == 1
    assert "the input's last line, 3, had no end and was no JSON object" in done.stderr
    assert ([record["line"] for record in folder.answers], folder.errors) == ([1, 2], [])
    with folder.input.open("a") as file:
        file.write('rd"}')
    assert folder.run().exit_code == 0
    assert [record["text"] for record in folder.answers] == ["FIRST", "SECOND", "THIRD"]


def test_a_batch_that_is_begun_anew_runs_the_lines_that_were_refused(folder: Folder, service: FakeService):
    folder.write({"prompt": "a"}, {"Prompt": "b"}, {"prompt": "c"})
    assert folder.run().exit_code == 1
    folder.write({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    done = folder.run()
    errors = folder.output.with_suffix(".errors.jsonl")
    job = folder.output.with_name("out.jsonl.job")
    assert done.exit_code == 2
    assert f"or remove {folder.output}, {errors} and {job} to begin anew" in done.stderr
    folder.output.unlink()
    job.unlink()
    done = folder.run()
    assert (done.exit_code, f"{errors} is not empty" in done.stderr) == (2, True)
    errors.unlink()
    assert folder.run().exit_code == 0
    assert [record["line"] for record in folder.answers] == [1, 2, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_once_and_the_next_run_goes_on(folder: Folder, service: FakeService, number: signal.Signals):
    def answer(body: Mapping[str, Any]) -> Answer:
        if body["id"] == "job:5":
            os.kill(os.getpid(), number)
        return service.completed(body)

    service.answer = answer
    folder.write(*prompts(30))
    done = folder.run("--concurrency", "2")
    assert done.exit_code == 128 + number
    assert "the same command goes on from here" in done.stderr
    assert len(folder.answers) < 30
    service.answer = service.completed
    assert folder.run().exit_code == 0
    assert [record["line"] for record in folder.answers] == list(range(1, 31))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in.jsonl", "in.jsonl"], "must be three files"),
        (["in.jsonl", "out.jsonl", "--errors", "out.jsonl"], "must be three files"),
        (["none.jsonl", "out.jsonl"], "none.jsonl is not a file"),
        (["in.jsonl", "none/out.jsonl"], "cannot be used: No such file or directory"),
        (["in.jsonl", "out.jsonl", "--url", "example.com"], "--url: got 'example.com'"),
        (["in.jsonl", "out.jsonl", "--url", "http://x", "--user", "ada"], "--user: got a name beside --url"),
        (["in.jsonl", "out.jsonl", "--url", "http://x"], "no token"),
        (["in.jsonl", "out.jsonl", "--url", "http://x", "--token-file", "none"], "none cannot be read"),
        (["in.jsonl", "out.jsonl", "--concurrency", "0"], "concurrency"),
        (["in.jsonl"], "OUT"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
):
    monkeypatch.chdir(folder.input.parent)
    monkeypatch.delenv("PROMPT_SVC_TOKEN", raising=False)
    folder.write(*prompts(1))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert says in done.stderr


def test_the_help_names_defaults_that_are_none_of_typers():
    # Square brackets would be markup.
    said = " ".join(CliRunner().invoke(app, ["--help"]).output.replace("│", " ").split())
    for default in ("OUT, less its .jsonl, and .errors.jsonl", "a random one per output", "service-job"):
        assert f"Default: {default}." in said


def test_without_ray_it_says_what_else_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def nowhere(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray.init", nowhere)
    (tmp_path / "in.jsonl").write_text("")
    done = CliRunner().invoke(app, [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")])
    assert done.exit_code == 3
    assert "set RAY_ADDRESS, or go by HTTP with --url" in done.stderr
