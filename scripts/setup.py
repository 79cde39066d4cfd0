"""Set up what Prompt Svc needs in this folder: the virtual environment ``.venv`` with the commands ``oo`` and ``prompt-chat`` in
it, and the embedded model.

    python3 scripts/setup.py [LOCK ...]

Standard library only; runs under the system's Python. ``requirements-cpu.lock`` is always installed, further locks
(``requirements-dev.lock``) are installed on top. Each lock leaves a stamp with its hash when it is in, so an interrupted
set-up goes on where it stopped, and a complete one returns at once without network.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE_LOCK = "requirements-cpu.lock"
OLDEST_PYTHON = (3, 11)
#: The lock has no wheels for newer ones.
NEWEST_PYTHON = (3, 13)
#: What the packages and the embedded model take together, bytes.
NEEDED_BYTES = 5 * 1024**3
#: Free space for the rest of a set-up that was interrupted, and for an upgrade, bytes: pip unpacks what comes before it removes
#: what goes.
SPARE_BYTES = NEEDED_BYTES // 10
#: Only asked when the configured indexes do not have torch's CPU build.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
#: Requirements per pip run: what a run has installed is kept when the next one is interrupted.
CHUNK = 40

_NO_TORCH = re.compile(r"No matching distribution found for torch==")
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Network is unreachable"
    r"|Temporary failure in name resolution|Failed to resolve|Connection refused|Could not connect"
)
_NO_SPACE = re.compile(r"No space left on device")


class SetupRefused(Exception):
    """Set-up cannot go on; the message is the one line that the user sees."""


def check_platform(system: str, machine: str, environ: Mapping[str, str]) -> str | None:
    """Refuse what the lock has no wheels for.

    Returns:
        A warning when only the embedded store is missing on this platform, else None.

    Raises:
        SetupRefused: neither the platform is supported nor is another store named by REDIS_URL.
    """
    if system == "Linux" and machine in {"x86_64", "AMD64"}:
        return None
    if environ.get("REDIS_URL"):
        return (
            f"{system} {machine} is not a tested platform; the store is the one of REDIS_URL, the embedded one is off"
        )
    raise SetupRefused(
        f"unsupported platform {system} {machine}: Prompt Svc runs on Linux x86_64 "
        "(elsewhere only with REDIS_URL set to your own Redis)"
    )


def check_python(version: tuple[int, int]) -> None:
    """Raises SetupRefused for a Python that the lock has no wheels for."""
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        raise SetupRefused(
            f"Python {version[0]}.{version[1]} does not work: Prompt Svc needs 3.{OLDEST_PYTHON[1]} to "
            f"3.{NEWEST_PYTHON[1]} (name another one with `make PYTHON=python3.11 ...`)"
        )


def check_disk(folder: Path, needed: int = NEEDED_BYTES) -> None:
    """Raises SetupRefused when the disk that holds the folder has less than the needed bytes free."""
    import shutil

    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupRefused(
            f"the disk is full: set-up needs {needed / 1e9:.1f} GB under {folder}, {free / 1e9:.1f} GB are free"
        )


def needed_bytes(venv: Path) -> int:
    """Free space that goes on with what the environment holds already."""
    return max(SPARE_BYTES, NEEDED_BYTES - _size(venv))


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; 0 for one that is not there."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # a service that runs meanwhile compiles its modules
                continue
    return total


def requirements(lock: Path) -> list[str]:
    """The pins of a lock, torch first: it is the largest and the one most likely to be missing from an index."""
    lines = [line.strip() for line in lock.read_text(encoding="utf-8").splitlines()]
    pins = [line for line in lines if line and not line.startswith("#")]
    return sorted(pins, key=lambda pin: not pin.startswith("torch=="))


def chunks(pins: list[str]) -> list[list[str]]:
    """Torch alone, then the rest in chunks that each pip run installs."""
    first = [pin for pin in pins if pin.startswith("torch==")]
    rest = [pin for pin in pins if not pin.startswith("torch==")]
    return ([first] if first else []) + [rest[i : i + CHUNK] for i in range(0, len(rest), CHUNK)]


def fingerprint(lock: Path, version: tuple[int, int]) -> str:
    """What the stamp holds: a hash of the lock and of the Python it was installed for."""
    import hashlib

    digest = hashlib.sha256(lock.read_bytes())
    digest.update(f"python{version[0]}.{version[1]}".encode())
    return digest.hexdigest()


def is_installed(lock: Path, venv: Path, version: tuple[int, int]) -> bool:
    """Whether the stamp says that this very lock is installed completely."""
    try:
        return _stamp(lock, venv).read_text(encoding="utf-8") == fingerprint(lock, version)
    except FileNotFoundError:
        return False


def mark_installed(lock: Path, venv: Path, version: tuple[int, int]) -> None:
    """Write the stamp; call it last."""
    stamp = _stamp(lock, venv)
    partial = stamp.with_suffix(".partial")
    partial.write_text(fingerprint(lock, version), encoding="utf-8")
    partial.replace(stamp)


def _stamp(lock: Path, venv: Path) -> Path:
    return venv / f".installed-{lock.stem}"


def pip_failure(output: str) -> str:
    """One line that says why pip failed, from what it printed."""
    if _NO_SPACE.search(output):
        return (
            "the disk is full: pip could not write what it downloaded; free some space and run the same command again"
        )
    if _NO_NETWORK.search(output):
        return "no network: the package index cannot be reached; run the same command again when it can, it resumes"
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    return "pip failed: " + (errors[-1].removeprefix("ERROR: ") if errors else "see its output above")


def install(lock: Path, venv: Path) -> None:
    """Install one lock, chunk by chunk, in the default pip configuration.

    Raises:
        SetupRefused: pip failed.
    """
    parts = chunks(requirements(lock))
    for number, pins in enumerate(parts, start=1):
        _say(f"{lock.name}: part {number} of {len(parts)} ({pins[0]}{' ...' if len(pins) > 1 else ''})")
        arguments = ["install", "--no-deps", "--progress-bar", "on" if sys.stdout.isatty() else "off", *pins]
        code, output = _pip(venv, arguments)
        if code and _NO_TORCH.search(output) and not _NO_NETWORK.search(output):
            _say("the configured package indexes have no CPU build of torch; trying PyTorch's own index")
            code, output = _pip(venv, [*arguments, "--extra-index-url", TORCH_INDEX])
        if code:
            raise SetupRefused(pip_failure(output))


def make_venv(venv: Path) -> None:
    """Create the virtual environment, or make a broken one anew, and bring its pip up to date.

    Raises:
        SetupRefused: this Python cannot make virtual environments, or pip cannot be updated.
    """
    import subprocess

    python = venv / "bin" / "python"
    works = python.exists() and not subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode
    if not works:
        _say("creating .venv")
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            reason = (made.stdout + made.stderr).strip().splitlines() or ["no reason given"]
            raise SetupRefused(f"cannot create .venv (on Debian: apt install python3-venv): {reason[0]}")
    version = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) < 25:
        # Old ones do not know today's wheel tags and metadata.
        _say("upgrading pip")
        code, output = _pip(venv, ["install", "--quiet", "--upgrade", "pip"])
        if code:
            raise SetupRefused(pip_failure(output))


def _pip(venv: Path, arguments: list[str]) -> tuple[int, str]:
    """Run pip in the environment, its output passed on as it comes; returns the exit status and the output."""
    import subprocess

    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--retries", "2", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        output = bytearray()
        # Bytes as they come, not lines: pip redraws its progress bar with carriage returns.
        while piece := os.read(process.stdout.fileno(), 65536):
            output += piece
            if sys.stdout.isatty():
                sys.stdout.buffer.write(piece)
            else:
                sys.stdout.buffer.write(
                    b"".join(x for x in piece.splitlines(True) if not x.startswith(b"Requirement already"))
                )
            sys.stdout.flush()
    return process.returncode, output.decode("utf-8", "replace")


#: Commands of the project, and the modules that they run.
COMMANDS = {"oo": "clients.oo", "prompt-chat": "clients.chat", "prompt-batch": "clients.batch"}


def make_launchers(venv: Path) -> None:
    """Put the command lines into the environment, running from this folder: the project itself is not installed."""
    import shlex

    for name, module in COMMANDS.items():
        launcher = venv / "bin" / name
        # -P: no module of the folder that the user is in stands in for one of ours.
        python = shlex.quote(str(venv / "bin" / "python"))
        text = f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {python} -P -m {module} "$@"\n'
        if launcher.is_file() and launcher.read_text(encoding="utf-8") == text:
            continue
        partial = launcher.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o755)
        partial.replace(launcher)


def make_model(venv: Path) -> None:
    """Convert the embedded model once; see ``deployments.local.embedded_model``."""
    import subprocess

    # Asked here as well, so that a complete set-up does not even start another process.
    models = Path(os.environ.get("PROMPT_SVC_MODELS_DIR") or ROOT / "data" / "models")
    if (models / "SmolLM2-135M-Instruct" / "config.json").exists():
        return
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PROMPT_SVC_MODELS_DIR": str(models)}
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-m", "deployments.local.embedded_model"], env=environ, cwd=ROOT, check=False
    )
    if done.returncode:
        raise SetupRefused("the embedded model could not be converted, see above")


def _say(line: str) -> None:
    print(f"set-up: {line}", flush=True)


def main(arguments: Sequence[str]) -> int:
    venv = ROOT / ".venv"
    locks = [ROOT / BASE_LOCK, *(ROOT / name for name in arguments if name != BASE_LOCK)]
    version = sys.version_info[:2]
    try:
        check_python(version)
        warning = check_platform(platform.system(), platform.machine(), os.environ)
        missing = [lock for lock in locks if not is_installed(lock, venv, version)]
        if missing:
            import fcntl

            if warning:
                _say(warning)
            # This file itself is the lock: two set-ups in one folder take turns, and nothing is left behind.
            with open(__file__, "rb") as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                missing = [lock for lock in locks if not is_installed(lock, venv, version)]
                if missing:
                    check_disk(ROOT, needed_bytes(venv) if locks[0] in missing else SPARE_BYTES)
                    make_venv(venv)
                for lock in missing:
                    install(lock, venv)
                    mark_installed(lock, venv, version)
        make_launchers(venv)
        make_model(venv)
    except SetupRefused as refusal:
        print(f"prompt-svc: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "prompt-svc: set-up interrupted; run the same command again, it goes on where it stopped", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
