"""What is left of a run's files when it has ended."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deployments.local.ray_files import put_away, session_logs


def session(folder: Path, name: str, text: str) -> None:
    logs = folder / name / "logs"
    logs.mkdir(parents=True)
    (logs / "serve").mkdir()
    (logs / "serve" / "replica.log").write_text(text)
    (folder / name / "sockets").mkdir()
    latest = folder / "session_latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "ray"
    folder.mkdir()
    return folder


def test_the_last_runs_logs_are_kept_and_nothing_else(tmp_path: Path, folder: Path) -> None:
    session(folder, "session_2026-11-25_02-56-58_655633_9275", "older")
    session(folder, "session_2026-11-25_03-00-00_000000_1", "newer")
    assert (session_logs(folder) / "serve" / "replica.log").read_text() == "newer"
    (folder / "worker.out").touch()
    logs = tmp_path / "logs"
    put_away(folder, logs)
    assert (logs / "serve" / "replica.log").read_text() == "newer"
    assert stat.S_IMODE(logs.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []


def test_they_take_the_place_of_an_earlier_runs(tmp_path: Path, folder: Path) -> None:
    logs = tmp_path / "logs"
    for text in ("first", "second"):
        session(folder, "session_2026-11-25_03-00-00_000000_1", text)
        (session_logs(folder) / f"{text}.log").touch()
        put_away(folder, logs)
    assert sorted(path.name for path in logs.iterdir()) == ["second.log", "serve"]


def test_without_a_run_the_logs_stay(tmp_path: Path, folder: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "kept.log").touch()
    put_away(folder, logs)
    assert [path.name for path in logs.iterdir()] == ["kept.log"]


def test_logs_that_cannot_be_moved_are_not_removed(tmp_path: Path, folder: Path) -> None:
    session(folder, "session_2026-11-25_03-00-00_000000_1", "precious")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        put_away(folder, tmp_path / "file" / "logs")
    assert (session_logs(folder) / "serve" / "replica.log").read_text() == "precious"
