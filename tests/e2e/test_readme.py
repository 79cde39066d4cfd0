"""The README's commands, as they stand there, against the real service. Only PORT differs, which they read themselves."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e import pages
from tests.e2e.pages import documents
from tests.service import ROOT, Service

README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Names of the blocks marked ``sh``, in order. The first logs in, the others stand on it.
NAMES = (
    "log in",
    "ask and wait",
    "ask and stream",
    "paint",
    "list",
    "cancel and remove",
    "command line",
    "ray",
    "batch",
    "conversation",
    "openai",
    "kill",
)
#: Another service on this machine is not the README's to kill: its pgrep finds only what belongs to this one.
_OWN_PGREP = """
pgrep() { for pid in $(command pgrep "$@"); do case " $OWN " in *" $pid "*) echo "$pid";; esac; done; }
"""


def blocks(language: str) -> list[str]:
    return pages.blocks("README.md", language)


def test_every_block_is_known():
    assert len(blocks("sh")) == len(NAMES)
    assert len(blocks("sh (cluster)")) == 1


@pytest.fixture
def run(service: Service) -> Callable[..., str]:
    """Runs a block in a shell that has logged in; returns what it printed."""

    def run(name: str, prelude: str = "", **environ: str) -> str:
        login, block = blocks("sh")[0], blocks("sh")[NAMES.index(name)]
        script = prelude + (login if name == "log in" else f"{{ {login} }} > /dev/null\n{block}")
        return pages.run_shell(script, service, **environ)

    return run


def event_numbers(stream: str) -> list[int]:
    return [int(number) for number in re.findall(r"^id: 1-(\d+)$", stream, re.MULTILINE)]


def test_log_in(run: Callable[..., str]):
    (me,) = documents(run("log in"))
    assert me["user"]["slug"] == "1backend"
    assert me["roles"] == ["user-svc:admin", "user-svc:user"]


def test_ask_and_wait(run: Callable[..., str]):
    (answer,) = documents(run("ask and wait"))
    assert answer["prompt"]["status"] == "completed"
    assert "Paris" in answer["responseMessage"]["text"]
    assert answer["responseMessage"]["text"] in README


def test_ask_and_stream(run: Callable[..., str]):
    prompt, first, second = run("ask and stream").split(": subscribed\n")
    assert documents(prompt)[0]["prompt"]["status"] in ("scheduled", "running")
    assert event_numbers(first) == [1, 2]
    numbers = event_numbers(second)
    assert numbers == list(range(3, 3 + len(numbers)))
    assert '"type":"done"' in second.strip().splitlines()[-1]


def test_paint(run: Callable[..., str], tmp_path: Path):
    # The picture goes into the folder that one is in; ``file`` need not be installed where tests run.
    run("paint", prelude=f"cd {tmp_path}\nfile() {{ :; }}\n")
    with Image.open(tmp_path / "sunset.png") as image:
        assert (image.format, image.size) == ("PNG", (256, 256))


def test_list(run: Callable[..., str]):
    (page,) = documents(run("list"))
    assert len(page["prompts"]) == 1
    assert page["prompts"][0]["status"] in ("completed", "running")
    assert page["count"] >= 1


def test_cancel_and_remove(run: Callable[..., str]):
    accepted, nothing, canceled, nothing_more, erased = documents(run("cancel and remove"))
    assert (accepted["prompt"]["id"], accepted["prompt"]["status"]) == ("prom_12345", "scheduled")
    assert nothing == nothing_more == {}
    # The README's user is the admin, who also sees that others have prompts of this id, but not what they wrote.
    own = [[prompt["status"] for prompt in page["prompts"] if prompt["prompt"]] for page in (canceled, erased)]
    assert own == [["canceled"], []]


def test_the_command_line(run: Callable[..., str]):
    added_and_logged_in, answer = run("command line").split("{", 1)
    assert "token" not in added_and_logged_in.lower()
    assert json.loads("{" + answer)["prompt"]["status"] == "completed"


@pytest.fixture
def own_ray(service: Service) -> dict[str, str]:
    """Where README's commands would find the Ray of `make serve` by themselves. Tests have one token for all of theirs."""
    kept = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    return {**kept, "PROMPT_SVC_DATA_DIR": str(service.data_dir)}


def test_a_ray_driver(run: Callable[..., str], own_ray: dict[str, str]):
    output = run("ray", **own_ray)
    assert "Paris" in output
    assert output.strip() in README


def test_a_batch(run: Callable[..., str], own_ray: dict[str, str]):
    summary, *records = run("batch", **own_ray).splitlines()
    assert summary.startswith("3 answered, 0 errors; 3 lines in ")
    answers = {record["id"]: record for record in map(json.loads, records)}
    assert set(answers) == {"France", "Japan", "Peru"}
    assert answers["France"]["text"] in README


def test_the_batch_guides_way_by_http(service: Service, tmp_path: Path):
    guide = (ROOT / "docs" / "batch.md").read_text()
    by_http, again = re.findall(r"^```sh\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "in.jsonl").write_text(
        '{"prompt": "hi", "parameters": {"textToText": {"maxTokens": 2}}}\n{"prompt": " "}\n'
    )
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    done = subprocess.run(
        ["bash", "-eu", "-c", f"{blocks('sh')[0]}\n{by_http.strip()} || [ $? = 1 ]\n{again}"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PORT": str(service.port), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 answered, 1 errors; 2 lines in" in done.stdout
    assert (tmp_path / "again.jsonl").read_text() == '{"prompt": " "}\n'
    assert json.loads((tmp_path / "out.jsonl").read_text())["finishReason"] == "length"


def test_a_conversation(run: Callable[..., str]):
    command_line = blocks("sh")[NAMES.index("command line")]
    login = blocks("sh")[0]
    output = run("conversation", f"{{ {login}\n{command_line} }} > /dev/null\n")
    first, second, messages = documents(output)
    assert first["prompt"]["threadId"] == second["prompt"]["threadId"]
    # The second prompt was put to the model with the first and its answer.
    meta = [answer["responseMessage"]["meta"] for answer in (first, second)]
    assert meta[1]["promptTokens"] > meta[0]["promptTokens"] + meta[0]["completionTokens"]
    assert len(messages["messages"]) == 4


def test_openai(run: Callable[..., str]):
    (reply,) = documents(run("openai"))
    assert reply["choices"][0]["message"]["content"] in README
    assert reply["usage"]["completion_tokens"] == 8


def test_kill_it_and_watch(run: Callable[..., str], service: Service):
    own = " ".join(str(process.pid) for process in service.processes())
    stream = run("kill", _OWN_PGREP, OWN=own)
    numbers = event_numbers(stream)
    assert numbers == list(range(1, len(numbers) + 1))
    assert stream.count('"type":"done"') == 1
    assert '"type":"restart"' not in stream
    killed = {pid for pid in own.split() if not Path("/proc", pid).exists()}
    assert killed, "nothing was killed"


@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("serve", "-m deployments.local"),
        ("check", "-m deployments.config_file serve_config.yaml"),
        ("test", "tests/e2e"),
    ],
)
def test_the_make_commands_run_what_is_tested(target: str, runs: str):
    assert f"make {target}" in README
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert runs in done.stdout


def test_the_cluster_commands_name_files_that_are_valid():
    """``serve deploy`` itself has a test of its own, cluster.yaml one among the unit tests."""
    (block,) = blocks("sh (cluster)")
    for name in re.findall(r"\S+\.yaml", block):
        assert (ROOT / name).is_file()
    check = [sys.executable, "-m", "deployments.config_file", "serve_config.yaml"]
    assert subprocess.run(check, cwd=ROOT, capture_output=True, check=False).returncode == 0
