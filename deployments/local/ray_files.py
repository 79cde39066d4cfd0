"""The files of the embedded Ray: below the temporary directory while it runs, since they hold sockets; what is worth keeping of
them, the logs of the last run, is in the data directory afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path


def session_logs(folder: Path) -> Path:
    """Where the logs of the Ray are that runs with its files in ``folder``."""
    return folder / "session_latest" / "logs"


def put_away(folder: Path, logs: Path) -> None:
    """Move the logs of the last session to ``logs``, in place of an earlier run's, and remove all else. No session may run.

    Raises:
        OSError: the logs could not be moved; then nothing is removed.
    """
    sessions = sorted(path for path in folder.glob("session_2*") if path.is_dir())
    if sessions and (sessions[-1] / "logs").is_dir():
        shutil.rmtree(logs, ignore_errors=True)
        shutil.move(sessions[-1] / "logs", logs)
        # Whoever else may look into the data directory has no business there.
        logs.chmod(0o700)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
