"""How many replicas Serve wants and has, asked through a process of its own (see ``serve_status``).

python -m tests.chaos.serve_scaling <address of the Ray> <deployment>     writes a line of JSON every EVERY_S seconds
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.service import ROOT

EVERY_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    #: Wall clock, seconds.
    at: float
    #: What Serve has decided on.
    target: int
    running: int
    #: What Serve's handles and replicas hold of requests.
    requests: float


class ScalingWatch:
    """Every moment since it was started."""

    def __init__(self, ray_address: str, deployment: str) -> None:
        self.moments: list[Moment] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.serve_scaling", ray_address, deployment],
            cwd=ROOT,
            env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.moments.append(Moment(**json.loads(line)))

    @property
    def last(self) -> Moment:
        return self.moments[-1]

    def since(self, at: float) -> list[Moment]:
        return [moment for moment in self.moments if moment.at >= at]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main(address: str, deployment: str) -> None:
    import ray
    from ray import serve
    from ray.serve._private.common import DeploymentID
    from ray.serve.context import _get_global_client

    ray.init(address=address, namespace="prompt-svc", log_to_driver=False, logging_level="ERROR")
    serve.status()
    client: Any = _get_global_client()
    name = DeploymentID(name=deployment, app_name="prompt-svc")
    while True:
        application = client.get_serve_details()["applications"]["prompt-svc"]
        details = application["deployments"][deployment]
        requests = ray.get(client._controller._get_total_num_requests_for_deployment_for_testing.remote(name))
        moment = {
            "at": time.time(),
            "target": details["target_num_replicas"],
            "running": sum(replica["state"] == "RUNNING" for replica in details["replicas"]),
            "requests": requests,
        }
        print(json.dumps(moment), flush=True)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
