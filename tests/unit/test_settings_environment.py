"""What the environment does to the settings."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from deployments.settings import Settings

ARGS: dict[str, Any] = {"redis_url": "redis://store.invalid", "models": [{"id": "m", "source": "m"}]}
ENV_FILE = Path(__file__).resolve().parents[2] / "deploy" / "prompt-svc.env.example"


def test_a_variable_goes_before_the_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROMPT_SVC_STORE_ID", "fed")
    assert Settings.parse({**ARGS, "store_id": "abc"}).store_id == "fed"


@pytest.mark.parametrize("name", ["store_id", "data_dir", "models_dir", "files_url", "default_model"])
def test_an_empty_variable_is_none(name: str, monkeypatch: pytest.MonkeyPatch):
    """The template of deploy/ leaves some to be filled in; an empty store_id would switch off the check for a wiped store."""
    monkeypatch.setenv(f"PROMPT_SVC_{name.upper()}", "")
    assert getattr(Settings.parse({**ARGS, name: "m"}), name) == "m"


def test_what_the_template_leaves_as_it_is_takes_nothing_from_the_file(monkeypatch: pytest.MonkeyPatch):
    shell = subprocess.run(
        ["sh", "-c", 'set -a; . "$0"; env -0', ENV_FILE], capture_output=True, text=True, check=True, env={}
    )
    variables = dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)
    for name in [name for name in variables if name.startswith("PROMPT_SVC_")]:
        monkeypatch.setenv(name, variables[name])
    settings = Settings.parse({**ARGS, "store_id": "abc", "admin_password": "correct horse"})
    assert settings.store_id == "abc"
    assert settings.admin_password.get_secret_value() == "correct horse"
    assert "PROMPT_SVC_STORE_ID" not in variables
