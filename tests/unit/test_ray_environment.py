"""Pointing a shell at the Ray of a running ``make serve``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local import launcher
from deployments.local.environment import ROOT, CannotStart, Folders
from deployments.local.processes import ProcessId, RunRecord
from deployments.local.ray_environment import ray_environment


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders.of({"PROMPT_SVC_DATA_DIR": str(tmp_path / "my data")})
    found.data.mkdir()
    return found


def running(folders: Folders, **changes: object) -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    fields: dict[str, object] = {"launcher": me, "ray_address": "127.0.0.1:4711", **changes}
    RunRecord(url="http://x", ray_folder="y", **fields).write(folders.record)  # type: ignore[arg-type]


def test_a_shell_gets_the_address_and_the_token(folders: Folders):
    running(folders)
    assert ray_environment(folders, {}) == {
        "RAY_ADDRESS": "127.0.0.1:4711",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folders.ray_token),
    }


def test_an_authentication_of_the_users_own_is_kept(folders: Folders):
    running(folders)
    found = ray_environment(folders, {"RAY_AUTH_MODE": "disabled"})
    assert found is not None
    assert set(found) == {"RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}


def test_a_service_that_does_not_run_has_none(folders: Folders):
    assert ray_environment(folders, {}) is None
    running(folders, ray_address="")
    assert ray_environment(folders, {}) is None
    running(folders, launcher=ProcessId(pid=os.getpid(), started=1))
    assert ray_environment(folders, {}) is None


def evaluated(folders: Folders) -> subprocess.CompletedProcess[str]:
    program = f"{shlex.quote(sys.executable)} -m deployments.local.ray_environment"
    script = f'eval "$({program})" && echo "$RAY_ADDRESS $RAY_AUTH_TOKEN_PATH"'
    environ = {"PROMPT_SVC_DATA_DIR": str(folders.data), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        ["sh", "-c", script], env=environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_shell_evaluates_what_is_printed(folders: Folders):
    running(folders)
    assert evaluated(folders).stdout == f"127.0.0.1:4711 {folders.ray_token}\n"


def test_without_a_service_the_shells_command_fails_with_a_line(folders: Folders):
    done = evaluated(folders)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "start it with `make serve`" in done.stderr


@pytest.mark.parametrize("given", ["80", "65536", "yes", "-1", "٣٣٣٣"])
def test_a_dashboard_port_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(launcher.DASHBOARD_VARIABLE, given)
    with pytest.raises(CannotStart, match="allowed is a port from 1024 to 65535"):
        launcher._dashboard_port()


def test_without_a_port_there_is_no_dashboard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(launcher.DASHBOARD_VARIABLE, raising=False)
    assert launcher._dashboard_port() is None


def test_make_batch_runs_the_batch_in_that_environment():
    done = subprocess.run(
        ["make", "-n", "batch", "IN=in.jsonl", "OUT=out.jsonl"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'eval "$(.venv/bin/python -m deployments.local.ray_environment)"' in done.stdout
    assert "-m clients.batch --user 1backend in.jsonl out.jsonl" in done.stdout
