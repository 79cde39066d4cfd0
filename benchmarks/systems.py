"""The systems that are compared: how each is started on the same model with the same engine flags."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from benchmarks import processes
from benchmarks.clients import Client, OpenAIClient, OurOpenAIClient, PromptSvcClient

ROOT = Path(__file__).resolve().parent.parent
MODEL_NAME = "SmolLM2-135M-Instruct"
MODEL_ID = f"HuggingFaceTB/{MODEL_NAME}"
#: The flags of serve_config.yaml's model, in the words of vLLM's command line.
ENGINE_ARGS = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 32, "max_model_len": 8192}

#: The same for all.
_COMMON = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
#: Both cores, no second process.
_UNIPROC = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": str(os.cpu_count() or 2),
}


def _replica_environ() -> dict[str, str]:
    """What serve_config.yaml gives the model's replica."""
    application = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))["applications"][0]
    (deployment,) = (d for d in application["deployments"] if d["name"].startswith("LLM-"))
    return dict(deployment["ray_actor_options"]["runtime_env"]["env_vars"])


#: A shell that has these set would measure something else.
_CLEARED = (
    *(*_UNIPROC, "RAY_ADDRESS", "REDIS_URL", "RAY_SERVE_ENABLE_HA_PROXY"),
    *("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"),
)


@dataclass(frozen=True, kw_only=True)
class System:
    """One row of the table."""

    name: str
    command: Callable[[int, Path], list[str]]
    environ: Mapping[str, str]
    client: Callable[[aiohttp.ClientSession, str], Client]
    #: How long it may take to end by itself, seconds.
    grace_s: float = 20.0


def models_dir() -> Path:
    return Path(os.environ.get("PROMPT_SVC_MODELS_DIR") or ROOT / "data" / "models").absolute()


def model_dir() -> Path:
    return models_dir() / MODEL_NAME


def _vllm(port: int, data: Path) -> list[str]:
    flags = [
        part
        for name, value in ENGINE_ARGS.items()
        for part in (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))
    ]
    module = "vllm.entrypoints.openai.api_server"
    return [
        *(sys.executable, "-m", module, "--model", str(model_dir()), "--served-model-name", MODEL_ID),
        *("--host", "127.0.0.1", "--port", str(port), "--disable-log-stats", "--disable-uvicorn-access-log", *flags),
    ]


def _ray_llm(port: int, data: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.ray_llm_server", str(port)]


def _prompt_svc(port: int, data: Path) -> list[str]:
    return [sys.executable, "-m", "deployments.local"]


def _openai(http: aiohttp.ClientSession, password: str) -> Client:
    return OpenAIClient(http, MODEL_ID)


def _ours(http: aiohttp.ClientSession, password: str) -> Client:
    return PromptSvcClient(http, password)


def _our_openai(http: aiohttp.ClientSession, password: str) -> Client:
    return OurOpenAIClient(http, MODEL_ID, password)


SYSTEMS = (
    System(name="vllm", command=_vllm, environ={}, client=_openai),
    System(name="vllm-uniproc", command=_vllm, environ=_UNIPROC, client=_openai),
    # Its threads wait as ours do: without spinning, which is faster on idle cores and collapses on busy ones.
    System(name="vllm-as-replica", command=_vllm, environ=_replica_environ(), client=_openai),
    # As it is shipped, too: its engine process and its binding are its own.
    System(name="ray.serve.llm", command=_ray_llm, environ={}, client=_openai),
    # The environment of its replica is in serve_config.yaml.
    System(
        name="prompt-svc", command=_prompt_svc, environ={"RAY_SERVE_ENABLE_HA_PROXY": "1"}, client=_ours, grace_s=45
    ),
    # The same service through its OpenAI door.
    System(
        name="prompt-svc-openai",
        command=_prompt_svc,
        environ={"RAY_SERVE_ENABLE_HA_PROXY": "1"},
        client=_our_openai,
        grace_s=45,
    ),
    System(name="prompt-svc-pyproxy", command=_prompt_svc, environ={}, client=_ours, grace_s=45),
)


class Running:
    """A system that has been started, from its process to its first answer and its end."""

    def __init__(self, system: System, logs: Path) -> None:
        self.system = system
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # HAProxy binds every interface, so the service rightly refuses its documented default.
        self.password = secrets.token_urlsafe(16)
        self.output = logs / f"{system.name}.log"
        # Short: Ray puts sockets below TMPDIR, whose names have 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="psb-"))
        self.command = system.command(self.port, self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    def environ(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _CLEARED}
        return {
            **inherited,
            **_COMMON,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PROMPT_SVC_MODELS_DIR": str(models_dir()),
            "PROMPT_SVC_DATA_DIR": str(self.folder / "data"),
            "PROMPT_SVC_ADMIN_PASSWORD": self.password,
            "PORT": str(self.port),
            "TMPDIR": str(self.folder),
            # HAProxy's own pages; their defaults may be taken, and then it does not start.
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
            **self.system.environ,
        }

    def start(self) -> None:
        self._process = processes.start(self.command, environ=self.environ(), cwd=ROOT, output=self.output)

    async def first_answer(self, client: Client, timeout_s: float) -> None:
        """Wait until it answers a prompt.

        Raises:
            RuntimeError: it ended instead, or did not answer in time; with the end of its output.
        """

        async def answer() -> None:
            await client.log_in()
            async with client.conversation() as ask:
                await ask("Say hello.", 4)

        await self.wait_for(answer, timeout_s)

    async def wait_for(self, attempt: Callable[[], Awaitable[None]], timeout_s: float) -> None:
        """Try until it works. Raises RuntimeError as ``first_answer`` does."""
        assert self._process is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        why: Exception | None = None
        while loop.time() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.system.name} ended with {self._process.returncode}: {self._last_words()}")
            try:
                async with asyncio.timeout_at(deadline):
                    await attempt()
                return
            except Exception as error:  # Not there yet, in one of many ways.
                why = error
            await asyncio.sleep(0.1)
        raise RuntimeError(
            f"{self.system.name} did not answer within {timeout_s:.0f} s ({why!r}): {self._last_words()}"
        )

    def stop(self) -> None:
        """End it and everything below it, and remove its files."""
        if self._process is not None:
            processes.stop(self._process, grace_s=self.system.grace_s)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _last_words(self) -> str:
        lines = self.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        # Results are published; where this machine keeps its files is nobody's business.
        return re.sub(r"/[^\s\"']*/", "", " / ".join(lines[-3:]))[-600:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
