"""The refusals and preparations of `make serve` that need neither Ray nor a store."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local import cluster, environment
from deployments.local.environment import (
    CannotStart,
    Folders,
    allow_debug_login,
    check_password,
    check_port,
    prepare,
    take_lock,
)
from deployments.local.processes import ProcessId, RunRecord, stop_all, using_folder, wait_gone
from tests.waiting import wait_for


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(data=tmp_path / "data", models=tmp_path / "models", ray=tmp_path / "ray" / "x")


def test_a_second_copy_does_not_get_the_lock_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    first = take_lock(path)
    assert first is not None
    assert take_lock(path) is None
    os.close(first)
    again = take_lock(path)
    assert again is not None
    os.close(again)


def test_a_busy_port_is_refused_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"port {port} is busy; choose another one: make serve PORT={port + 1}"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_a_full_disk_is_refused(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "NEEDED_BYTES", shutil.disk_usage(folders.data.parent).total * 2)
    with pytest.raises(CannotStart, match="the disk is full"):
        folders.prepare()


def test_a_data_directory_that_cannot_be_used_is_refused(folders: Folders) -> None:
    folders.data.write_text("a file")
    with pytest.raises(CannotStart, match="the data directory cannot be used"):
        folders.prepare()


def test_secrets_are_readable_by_the_owner_only(folders: Folders) -> None:
    folders.prepare()
    launcher = ProcessId.of(os.getpid())
    assert launcher is not None
    RunRecord(launcher=launcher, url="http://x", ray_folder="y", redis_url="redis://:secret@x").write(folders.record)
    for path in (folders.ray_token, folders.record):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = folders.ray_token.read_text()
    folders.prepare()
    assert folders.ray_token.read_text() == token


def test_a_record_survives_being_written_and_a_cut_one_counts_as_none(tmp_path: Path) -> None:
    launcher = ProcessId.of(os.getpid())
    assert launcher is not None
    record = RunRecord(launcher=launcher, url="http://x", ray_folder="/y", ray_address="a:1", store=launcher)
    path = tmp_path / "run.json"
    record.write(path)
    assert RunRecord.read(path) == record
    path.write_text(path.read_text()[:20])
    assert RunRecord.read(path) is None


def test_the_users_own_ray_cluster_is_not_joined(folders: Folders) -> None:
    environ = {"RAY_ADDRESS": "10.0.0.1:6379", "PYTHONPATH": "/theirs"}
    prepare(environ, folders)
    assert "RAY_ADDRESS" not in environ
    assert environ["PYTHONPATH"].split(os.pathsep) == [str(environment.ROOT), "/theirs"]
    assert environ["RAY_AUTH_TOKEN_PATH"] == str(folders.ray_token)


def test_the_python_of_jobs_is_this_one(folders: Folders) -> None:
    environ = {"PATH": "/usr/bin"}
    prepare(environ, folders)
    assert environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]


def test_an_authentication_mode_of_the_users_is_kept(folders: Folders) -> None:
    environ = {"RAY_AUTH_MODE": "disabled"}
    prepare(environ, folders)
    assert environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN_PATH" not in environ


def test_the_default_password_holds_on_loopback_only() -> None:
    environ: dict[str, str] = {}
    check_password("127.0.0.1", environ)
    assert environ == {"PROMPT_SVC_ADMIN_PASSWORD": "changeme"}
    for other in ({}, {"PROMPT_SVC_ADMIN_PASSWORD": "changeme"}, {"PROMPT_SVC_ADMIN_PASSWORD": ""}):
        with pytest.raises(CannotStart, match="set PROMPT_SVC_ADMIN_PASSWORD"):
            check_password("0.0.0.0", dict(other))
    # Serve's HAProxy listens on every interface, whatever the host says.
    with pytest.raises(CannotStart, match="set PROMPT_SVC_ADMIN_PASSWORD"):
        check_password("127.0.0.1", {"RAY_SERVE_ENABLE_HA_PROXY": "1"})
    check_password("0.0.0.0", {"PROMPT_SVC_ADMIN_PASSWORD": "a better one"})


@pytest.mark.parametrize(
    ("host", "environ", "arguments", "allowed"),
    [
        ("127.0.0.1", {}, {}, "true"),
        ("localhost", {"PROMPT_SVC_DEBUG_LOGIN": "false"}, {}, "false"),
        ("127.0.0.1", {}, {"debug_login": False}, None),
        ("0.0.0.0", {}, {}, None),
        ("127.0.0.1", {"RAY_SERVE_ENABLE_HA_PROXY": "1"}, {}, None),
    ],
)
def test_a_login_without_a_password_is_for_this_machine_and_whoever_asks_for_it(
    host: str, environ: dict[str, str], arguments: dict[str, object], allowed: str | None
) -> None:
    allow_debug_login(host, environ, arguments)
    assert environ.get("PROMPT_SVC_DEBUG_LOGIN") == allowed


def test_processes_of_a_folder_are_found_but_not_who_only_reads_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wait = "import sys; print('up', flush=True); sys.stdin.read()"
    programs = [Path(sys.executable)]
    with (
        log.open("wb") as writable,
        subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=writable) as writer,
        log.open("rb") as readable,
        subprocess.Popen(["tail", "-f", str(log)], stdin=readable, stdout=subprocess.DEVNULL) as reader,
    ):
        wait_for(lambda: log.read_text() == "up\n")
        found = using_folder(tmp_path, programs)
        assert [process.pid for process in found] == [writer.pid]
        stop_all(found, grace_s=5)
        assert writer.wait(5) != 0
        assert reader.poll() is None
        reader.terminate()


def test_a_process_id_is_not_the_next_process_with_the_same_pid() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = ProcessId.of(child.pid)
    assert process is not None
    assert process.is_alive
    assert not ProcessId(pid=process.pid, started=process.started - 1).is_alive
    assert wait_gone([process], 0.01) == [process]
    child.communicate(b"\n")
    assert not process.is_alive
    assert wait_gone([process], 1) == []


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr(cluster.ray, "init", fail)
    with pytest.raises(CannotStart) as refused:
        cluster.start_ray(tmp_path)
    assert refused.value.message == "Ray did not start: The current node timed out during startup."
