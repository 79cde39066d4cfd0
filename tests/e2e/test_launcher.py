"""`python -m deployments.local` around a toy application: it starts, supervises and stops everything of its own, and
nothing else; what it cannot do it says in one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from deployments.local.processes import ProcessId, wait_gone
from tests.service import Service, free_port, running_service
from tests.waiting import wait_for

CONFIG = """
http_options: {host: 127.0.0.1, port: 11337}
applications:
  - {name: toy, route_prefix: /, import_path: "tests.e2e.toy_app:build", args: {%s}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "toy.yaml"
    path.write_text(CONFIG % "")
    return path


@pytest.fixture(scope="module")
def service(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("data"), config=config) as running:
        yield running


def test_replicas_know_where_the_store_and_the_data_are(service: Service) -> None:
    known = httpx.get(service.url).json()
    assert known["REDIS_URL"] == service.record.redis_url
    assert known["PROMPT_SVC_DATA_DIR"] == str(service.data_dir)
    assert known["HF_HUB_OFFLINE"] == "1"
    assert known["TOKENIZERS_PARALLELISM"] == "false"


def test_it_says_how_to_log_in_and_where_the_logs_are(service: Service) -> None:
    assert f"Prompt Svc runs at {service.url} (up after " in service.output
    assert "slug 1backend, password changeme" in service.output
    logs = next(line.split()[1] for line in service.output.splitlines() if line.split()[:1] == ["logs"])
    assert list(Path(logs).glob("raylet*"))


def test_a_second_copy_on_the_same_data_is_refused_in_one_line(service: Service, config: Path) -> None:
    second = Service(service.data_dir, config=config)
    second.output_file = service.data_dir / "second.out"
    second.launch()
    assert second.wait(30) == 1
    (line,) = second.output.splitlines()
    assert line.startswith("prompt-svc: it runs already")
    assert f"pid {service.pid}" in line
    assert httpx.get(service.url).status_code == 200


def test_a_store_that_dies_comes_back_with_its_data(service: Service) -> None:
    store = service.record.store
    assert store is not None
    with redis.Redis.from_url(service.record.redis_url) as client:
        client.set("kept", "yes")
    os.kill(store.pid, signal.SIGKILL)
    wait_for(lambda: service.record.store not in (None, store), what="the store to be started again")
    with redis.Redis.from_url(service.record.redis_url) as client:
        assert client.get("kept") == b"yes"
    assert "the store has died" in service.output


def test_ctrl_c_stops_all_of_it_within_15_seconds_and_a_new_start_works_after_kill_9(
    config: Path, tmp_path: Path
) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    service = Service(tmp_path, config=config)
    try:
        service.start()
        before = service.record
        # A worker that hangs: it does not notice that its Ray is gone.
        with (Path(before.ray_folder) / "worker.out").open("wb") as log:
            hanging = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=log)
        service.kill_launcher()
        assert hanging.poll() is None
        service.start()
        assert "clearing up" in service.output
        hanging.communicate(timeout=5)
        assert before.store is not None
        assert not before.store.is_alive
        ours = service.processes()
        assert len(ours) > 5
        assert service.stop(timeout_s=15) == 0
        assert wait_gone(ours, 0) == []
        assert not (tmp_path / "run.json").exists()
        # Of Ray's files only the logs stay, and where the data is.
        assert list(Path(before.ray_folder).iterdir()) == []
        assert any((tmp_path / "logs").rglob("*replica*.log"))
        assert bystander.poll() is None
    finally:
        service.stop()
        bystander.communicate(b"\n")


def _refusal(config: Path, data_dir: Path, port: int) -> str:
    service = Service(data_dir, config=config, port=port)
    service.launch()
    assert service.wait(60) == 1
    (line,) = [text for text in service.output.splitlines() if text.startswith("prompt-svc: ")]
    return line


def test_a_busy_port_is_one_line_and_nothing_is_left(config: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert _refusal(config, tmp_path, port) == (
            f"prompt-svc: port {port} is busy; choose another one: make serve PORT={port + 1}"
        )
    assert not (tmp_path / "run.json").exists()


def test_a_typo_in_the_file_is_one_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(CONFIG.replace("route_prefix", "route_prefx") % "")
    line = _refusal(wrong, tmp_path / "data", free_port())
    assert "applications[0].route_prefx: unknown key (did you mean 'route_prefix'?)" in line


def test_an_application_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    failing = tmp_path / "failing.yaml"
    failing.write_text(CONFIG % 'fail: "no such luck"')
    assert _refusal(failing, tmp_path / "data", free_port()) == "prompt-svc: toy failed: ValueError: no such luck"
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_process_that_only_has_an_old_pid_is_left_alone(config: Path, tmp_path: Path) -> None:
    """A run.json whose pids meanwhile belong to others."""
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        from deployments.local.processes import RunRecord

        now = ProcessId.of(bystander.pid)
        assert now is not None
        stale = ProcessId(pid=now.pid, started=now.started - 100)
        RunRecord(launcher=stale, url="http://x", ray_folder="/nowhere", store=stale).write(tmp_path / "run.json")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            _refusal(config, tmp_path, taken.getsockname()[1])
        assert bystander.poll() is None
    finally:
        bystander.communicate(b"\n")
