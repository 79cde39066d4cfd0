"""No secret is in what is said of a wrong setting."""

import copy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.config_file import problems
from deployments.local import launcher
from deployments.local.environment import CannotStart
from deployments.settings import InvalidSettings, InvalidVariable, Settings
from pipeline.errors import StoreRefused
from pipeline.store.connection import connect_impatient, connect_patient

FILE = Path(__file__).resolve().parents[2] / "serve_config.yaml"
ARGS: dict[str, Any] = {"redis_url": "redis://store.invalid", "models": [{"id": "m", "source": "m"}]}
SECRET = "12345678"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        # A password of digits without quotes is a number to YAML.
        ({"admin_password": int(SECRET)}, "admin_password: Input should be a valid string"),
        ({"jwt_private_key": [SECRET]}, "jwt_private_key: Input should be a valid string"),
        ({"redis_url": {"password": SECRET}}, "redis_url: Input should be a valid string"),
        (
            {"open_assistant": {"trusted_client_keys": SECRET}},
            "open_assistant.trusted_client_keys: Input should be a valid tuple",
        ),
        (
            {"open_assistant": {"trusted_client_keys": [int(SECRET)]}},
            "open_assistant.trusted_client_keys.0: Input should be a valid string",
        ),
        (
            {"open_assistant": [SECRET]},
            "open_assistant: Input should be a valid dictionary or instance of OpenAssistantSpec",
        ),
        ({"admin_pasword": SECRET}, "admin_pasword: Extra inputs are not permitted"),
        (
            {"open_assistant": {"trusted_client_key": [SECRET]}},
            "open_assistant.trusted_client_key: Extra inputs are not permitted",
        ),
    ],
)
def test_a_wrong_secret_is_named_and_not_shown(wrong: dict[str, Any], named: str):
    with pytest.raises(InvalidSettings) as refused:
        Settings.parse({**ARGS, **wrong})
    assert str(refused.value) == named


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"models": {"id": "x", "engine_args": {"hf_token": SECRET}}}, "models: Input should be a valid tuple"),
        ({"models": f"id: x, hf_token: {SECRET}"}, "models: Input should be a valid tuple"),
        ({"models": [f"id: x, hf_token: {SECRET}"]}, "models.0: Input should be a valid dictionary"),
        (
            {"models": [{"id": "x", "source": "x", "engine_args": SECRET}]},
            "models.0.engine_args: Input should be a valid dictionary",
        ),
        (
            {"models": [{"id": "x", "source": "x", "permits": {"hf_token": SECRET}}]},
            "models.0.permits: Input should be a valid",
        ),
        ({"lease_s": {"admin_password": SECRET}}, "lease_s: Input should be a valid number"),
    ],
)
def test_what_may_have_a_secret_in_it_is_named_by_its_kind(wrong: dict[str, Any], named: str):
    with pytest.raises(InvalidSettings) as refused:
        Settings.parse({**ARGS, **wrong})
    assert str(refused.value).startswith(named)
    assert ", got a" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_what_is_no_secret_is_shown():
    with pytest.raises(InvalidSettings) as refused:
        Settings.parse({**ARGS, "open_assistant": {"rate_limit_s": 0}, "lease_s": "long"})
    lease, rate = str(refused.value).split("; ")
    assert (lease.startswith("lease_s: "), lease.endswith(", got 'long'")) == (True, True)
    assert (rate.startswith("open_assistant.rate_limit_s: "), rate.endswith(", got 0")) == (True, True)


def test_make_check_shows_none_either():
    document = copy.deepcopy(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    document["applications"][0]["args"]["admin_password"] = int(SECRET)
    assert problems(document) == ["applications[0].args.admin_password: Input should be a valid string"]


def test_nor_of_an_application_without_its_dash():
    document = copy.deepcopy(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    document["applications"] = {"args": {"admin_password": SECRET}}
    found = problems(document)
    assert "applications: Input should be a valid list, got an object" in found
    assert SECRET not in " ".join(found)


def test_a_variable_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROMPT_SVC_DEFAULT_GRANTS", "prompt-svc:*")
    with pytest.raises(InvalidVariable) as refused:
        Settings.parse(ARGS)
    assert str(refused.value) == "PROMPT_SVC_DEFAULT_GRANTS: allowed is a JSON list (docs/settings.md)"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("OPEN_ASSISTANT", f"{{trusted_client_keys: [{SECRET}]}}", "object"),
        ("MODELS", f"{{id: x, engine_args: {{hf_token: {SECRET}}}}}", "list"),
    ],
)
def test_a_variable_that_is_no_json_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str, kind: str):
    monkeypatch.setenv(f"PROMPT_SVC_{name}", value)
    with pytest.raises(InvalidVariable) as refused:
        Settings.parse(ARGS)
    assert str(refused.value) == f"PROMPT_SVC_{name}: allowed is a JSON {kind} (docs/settings.md)"


@pytest.mark.parametrize("url", ["redis://:s3cr3t/Zx9@host:6379/0", "rediss://:s3cr3t#Zx9@host", "host:s3cr3t"])
@pytest.mark.parametrize(
    ("use", "error"),
    [
        (connect_impatient, StoreRefused),
        (connect_patient, StoreRefused),
        (launcher._check_external_store, CannotStart),
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str, use: Callable[[str], object], error: type[Exception]):
    """A / or # in a password ends the host: the client's own message has what it takes for the port."""
    with pytest.raises(error, match=r"^REDIS_URL is not a valid URL: .*%-encoded$") as refused:
        use(url)
    assert "s3cr3t" not in "".join(traceback.format_exception(refused.value))
