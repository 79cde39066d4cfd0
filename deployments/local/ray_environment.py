"""``eval "$(python -m deployments.local.ray_environment)"``: let this shell's Ray programs find the Ray of ``make serve``.

It prints ``export`` lines. RAY_ADDRESS is what ``ray.init()``, ``ray job submit`` and ``python -m clients.batch`` look at.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping

from deployments.local.environment import Folders
from deployments.local.processes import RunRecord


def ray_environment(folders: Folders, environ: Mapping[str, str]) -> dict[str, str] | None:
    """The variables, None if no service runs with the data in these folders."""
    record = RunRecord.read(folders.record)
    if record is None or not record.launcher.is_alive or not record.ray_address:
        return None
    # Its node is 127.0.0.1, see deployments/local/environment.py.
    variables = {"RAY_ADDRESS": record.ray_address, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    if "RAY_AUTH_MODE" not in environ:
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folders.ray_token)}
    return variables


def main() -> int:
    folders = Folders.of(os.environ)
    variables = ray_environment(folders, os.environ)
    if variables is None:
        print(
            f"prompt-svc: no service runs with the data in {folders.data}; start it with `make serve`", file=sys.stderr
        )
        # What eval gets ends the shell's command as well.
        print("false")
        return 1
    print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
