"""Serve's own word on its replicas, asked through a process of its own: the launcher ends every process that is connected to
its Ray when it stops, and pytest must not be among them.

    python -m tests.chaos.serve_status <address of the Ray>     answers each line of its input with one line of JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.service import ROOT


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeStatus:
    #: Whether every deployment and every proxy is healthy.
    whole: bool
    #: Id of each replica, by its pid.
    replicas: dict[int, str]


class ServeWatch:
    """Asks the Serve of one service."""

    def __init__(self, ray_address: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.serve_status", ray_address],
            cwd=ROOT,
            # Such a Ray listens on loopback only (deployments/local/environment.py); the token is in the environment.
            env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> ServeStatus:
        """
        Raises:
            RuntimeError: the process has ended; Ray is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("?", file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the service's Ray does not answer")
        raw = json.loads(answer)
        return ServeStatus(whole=raw["whole"], replicas={int(pid): name for pid, name in raw["replicas"].items()})

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _status(details: dict[str, Any]) -> dict[str, Any]:
    deployments = [d for application in details["applications"].values() for d in application["deployments"].values()]
    return {
        "whole": all(d["status"] == "HEALTHY" for d in deployments)
        and all(proxy["status"] == "HEALTHY" for proxy in details["proxies"].values()),
        # By the log files they have open it cannot be told: vLLM closes them.
        # One that is being started has no pid yet.
        "replicas": {r["pid"]: r["replica_id"] for d in deployments for r in d["replicas"] if r.get("pid")},
    }


def main(address: str) -> None:
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client

    ray.init(address=address, namespace="prompt-svc", log_to_driver=False, logging_level="ERROR")
    serve.status()
    for _ in sys.stdin:
        # Not serve.status(): that knows no pids.
        print(json.dumps(_status(_get_global_client().get_serve_details()), default=str), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
