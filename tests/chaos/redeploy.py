"""``serve deploy`` of a changed file on a running service, in a process of its own (see ``serve_status``).

python -m tests.chaos.redeploy <address of the Ray> <file>
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.service import ROOT


def redeploy(ray_address: str, path: Path) -> None:
    """Hand the file to Serve; returns when it has it. Raises CalledProcessError."""
    subprocess.run(
        [sys.executable, "-m", "tests.chaos.redeploy", ray_address, str(path)],
        cwd=ROOT,
        env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        check=True,
        timeout=60,
    )


def main(address: str, path: str) -> None:
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client

    from deployments import config_file

    ray.init(address=address, namespace="prompt-svc", log_to_driver=False, logging_level="ERROR")
    serve.status()
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(config_file.read(Path(path), {}), _blocking=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
