"""scripts/setup.py: what it refuses, when it has nothing to do, and what it makes of pip's failures."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prompt_svc_setup", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_supported_platform_passes_without_a_word(setup: ModuleType) -> None:
    assert setup.check_platform("Linux", "x86_64", {}) is None


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "aarch64")])
def test_another_platform_is_refused_unless_a_store_is_named(setup: ModuleType, system: str, machine: str) -> None:
    with pytest.raises(setup.SetupRefused, match=f"unsupported platform {system} {machine}"):
        setup.check_platform(system, machine, {})
    assert "REDIS_URL" in setup.check_platform(system, machine, {"REDIS_URL": "redis://somewhere"})


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_a_python_without_wheels_is_refused(setup: ModuleType, version: tuple[int, int]) -> None:
    with pytest.raises(setup.SetupRefused, match=f"Python {version[0]}.{version[1]} does not work"):
        setup.check_python(version)


def test_a_full_disk_is_refused(setup: ModuleType, tmp_path: Path) -> None:
    setup.check_disk(tmp_path, needed=1)
    with pytest.raises(setup.SetupRefused, match="the disk is full"):
        setup.check_disk(tmp_path, needed=10**18)


def _with_free_space(setup: ModuleType, folder: Path, free: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a set-up in the folder, with so many bytes free and nothing to be done but the check of them."""
    (folder / setup.BASE_LOCK).write_text("a==2\n")
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(setup, "ROOT", folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    for done in ("make_venv", "make_model", "install"):
        monkeypatch.setattr(setup, done, lambda *_: None)
    status: int = setup.main([])
    return status


def test_what_is_installed_already_needs_no_room_again(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption in the last part, and after a pull that changes one pin."""
    installed = 1024**2
    package = tmp_path / ".venv" / "lib" / "package.so"
    package.parent.mkdir(parents=True)
    package.write_bytes(bytes(installed))
    (package.parent / "dangling").symlink_to("nowhere")
    free = 10 * 1024**2
    monkeypatch.setattr(setup, "SPARE_BYTES", free)
    monkeypatch.setattr(setup, "NEEDED_BYTES", free + 2 * installed)
    assert _with_free_space(setup, tmp_path, free, monkeypatch) == 1
    monkeypatch.setattr(setup, "NEEDED_BYTES", free + installed)
    assert _with_free_space(setup, tmp_path, free, monkeypatch) == 0


def test_an_upgrade_needs_some_room_however_much_is_installed(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "NEEDED_BYTES", 0)
    assert _with_free_space(setup, tmp_path, setup.SPARE_BYTES - 1, monkeypatch) == 1
    assert _with_free_space(setup, tmp_path, setup.SPARE_BYTES, monkeypatch) == 0


def test_the_room_that_the_readme_names_is_enough(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (named,) = re.findall(r"and (\d+) GB of disk", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert _with_free_space(setup, tmp_path, int(named) * 10**9, monkeypatch) == 0


def test_the_stamp_holds_for_this_lock_and_this_python_only(setup: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("a==1\n")
    assert not setup.is_installed(lock, tmp_path, (3, 11))
    setup.mark_installed(lock, tmp_path, (3, 11))
    assert setup.is_installed(lock, tmp_path, (3, 11))
    assert not setup.is_installed(lock, tmp_path, (3, 12))
    lock.write_text("a==2\n")
    assert not setup.is_installed(lock, tmp_path, (3, 11))


def test_an_interrupted_install_leaves_no_stamp(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (setup.BASE_LOCK, "more.lock"):
        (tmp_path / name).write_text("a==1\n")
    done: list[str] = []

    def install(lock: Path, venv: Path) -> None:
        if lock.name == "more.lock" and not done.count("more.lock"):
            done.append("more.lock")
            raise KeyboardInterrupt
        done.append(lock.name)

    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "make_venv", lambda venv: None)
    monkeypatch.setattr(setup, "make_model", lambda venv: None)
    monkeypatch.setattr(setup, "check_disk", lambda *_: None)
    monkeypatch.setattr(setup, "install", install)
    assert setup.main(["more.lock"]) == 130
    assert setup.main(["more.lock"]) == 0
    # The base lock was in already: only what was interrupted is done again.
    assert done == [setup.BASE_LOCK, "more.lock", "more.lock"]


def test_the_command_line_runs_from_any_folder(setup: ModuleType, tmp_path: Path) -> None:
    venv = tmp_path / "my venv"
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    setup.make_launchers(venv)
    setup.make_launchers(venv)
    # What stands in the user's folder is not ours.
    (tmp_path / "clients.py").write_text("raise SystemExit(3)")
    oo = [venv / "bin" / "oo", "env", "current"]
    environ = {"OO_CONFIG": str(tmp_path / "none.yaml"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(oo, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "local\n", "")
    chat = [venv / "bin" / "prompt-chat", "--url", "nonsense"]
    done = subprocess.run(chat, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:36]) == (1, "prompt-chat: --url: got nonsense, al")


def test_torch_is_looked_for_in_its_own_index_only_when_the_configured_ones_lack_it(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("# why\nabc==1\ntorch==2.13.0+cpu\n")
    calls: list[list[str]] = []

    def pip(venv: Path, arguments: list[str]) -> tuple[int, str]:
        calls.append(arguments)
        missing = "torch==2.13.0+cpu" in arguments and setup.TORCH_INDEX not in arguments
        return (1, "ERROR: No matching distribution found for torch==2.13.0+cpu") if missing else (0, "")

    monkeypatch.setattr(setup, "_pip", pip)
    setup.install(lock, tmp_path)
    assert [setup.TORCH_INDEX in call for call in calls] == [False, True, False]
    assert all("--no-deps" in call for call in calls)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("NewConnectionError(...)\nERROR: No matching distribution found for torch==1", "no network: "),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "the disk is full: ",
        ),
        (
            "ERROR: some\nERROR: No matching distribution found for a==1",
            "pip failed: No matching distribution found for a",
        ),
    ],
)
def test_a_failure_of_pip_becomes_one_line(setup: ModuleType, output: str, line: str) -> None:
    reason = setup.pip_failure(output)
    assert reason.startswith(line)
    assert "\n" not in reason


@pytest.mark.parametrize("name", ["requirements-cpu.lock", "requirements-dev.lock"])
def test_locks_hold_pins_only(setup: ModuleType, name: str) -> None:
    pins = setup.requirements(ROOT / name)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.+]+", pin) for pin in pins)
    assert len({pin.partition("==")[0] for pin in pins}) == len(pins)
    # Their builds for this platform want CUDA, and break transformers where it is missing.
    assert not any(pin.startswith(("torchvision", "torchaudio", "torchcodec")) for pin in pins)
