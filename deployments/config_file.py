"""Strict reading of serve_config.yaml: every key is known and every value valid, or the error names the key.

    python -m deployments.config_file serve_config.yaml

Serve ignores keys that it does not know, so a typo there would silently leave a default in force.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.config import AutoscalingPolicy
from ray.serve.schema import ServeDeploySchema

from deployments.routing import Routing
from deployments.settings import DRAIN_MARGIN_S, InvalidSettings, InvalidVariable, Settings
from deployments.settings_problems import shown
from pipeline.errors import ServerError

#: What settings are checked with where the store's address is not in the environment; it is never connected to.
_NO_STORE = "redis://store.invalid"
#: Deployments that every application of ours has; each model adds one.
FIXED_DEPLOYMENTS = ("Ingress", "Router")
IMPORT_PATH = "deployments.app:build"
#: The autoscaling policy that follows the queues.
POLICY = "deployments.autoscaling:FollowTheQueue"


class InvalidConfigFile(ServerError):
    """serve_config.yaml is wrong."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.problems = tuple(problems)


class InvalidPort(ServerError):
    """PORT of the environment is none."""

    def __init__(self, port: str) -> None:
        super().__init__(f"PORT: got {_shorten(port)}, allowed is 1 to 65535")


def read(path: Path, environ: Mapping[str, str] = os.environ) -> ServeDeploySchema:
    """The configuration in a file, with ``http_options.port`` replaced by ``PORT`` of the environment when it is set.

    Raises:
        InvalidPort: it is set to something else.
        InvalidVariable: so is a variable that holds a list or a mapping.
        InvalidConfigFile: lists every problem with the full path of its key and what is allowed there.
    """
    port = _port(environ)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfigFile(path, [f"cannot be read: {error}"]) from None
    except yaml.YAMLError as error:
        raise InvalidConfigFile(path, ["is not YAML: " + " ".join(str(error).split())]) from None
    if not isinstance(document, dict):
        raise InvalidConfigFile(path, ["must be a mapping with the keys of Serve's config file"])
    found = problems(document)
    if port and isinstance(document.setdefault("http_options", {}), dict):
        document["http_options"]["port"] = port
    if found:
        raise InvalidConfigFile(path, found)
    return ServeDeploySchema.model_validate(document)


def _port(environ: Mapping[str, str]) -> int | None:
    port = environ.get("PORT")
    if not port:
        return None
    if not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise InvalidPort(port)
    return int(port)


def problems(document: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a parsed config file, one line each; empty when it is fine.

    Raises:
        InvalidVariable: the environment, which goes before the file, is wrong.
    """
    found = list(_unknown_keys(document, ServeDeploySchema, ""))
    found += _schema_errors(document)
    applications = document.get("applications")
    for index, application in enumerate(applications if isinstance(applications, list) else []):
        # Another application may share the file; only what ours means by its arguments is known here.
        if isinstance(application, dict) and application.get("import_path") == IMPORT_PATH:
            found += _application_problems(application, f"applications[{index}]")
    return found


def _application_problems(application: dict[str, Any], path: str) -> Iterable[str]:
    args = application.get("args") or {}
    if not isinstance(args, dict):
        return
    unknown = list(_unknown_keys(args, Settings, f"{path}.args"))
    if unknown:
        # The values around an unknown key fail for its sake; they are checked once the keys are right.
        yield from unknown
        return
    try:
        settings = Settings.parse({"redis_url": _NO_STORE, **args})
    except InvalidVariable:
        raise
    except InvalidSettings as error:
        yield from (f"{path}.args.{line}" for line in str(error).split("; "))
        return
    yield from _routing_problems(application, settings, path)
    allowed = [*FIXED_DEPLOYMENTS, *(model.deployment for model in settings.models)]
    deployments = application.get("deployments") or []
    for index, deployment in enumerate(deployments if isinstance(deployments, list) else []):
        name = deployment.get("name") if isinstance(deployment, dict) else None
        if name is not None and name not in allowed:
            yield f"{path}.deployments[{index}].name: unknown deployment {name!r}{_hint(str(name), allowed)}"
        elif isinstance(deployment, dict):
            yield from _too_few_requests(deployment, settings, f"{path}.deployments[{index}]")
            yield from _too_short_grace(deployment, settings, f"{path}.deployments[{index}]")
            yield from _never_woken(deployment, application, f"{path}.deployments[{index}]")


def _routing_problems(application: dict[str, Any], settings: Settings, path: str) -> Iterable[str]:
    """The user_config of the ingress, which chooses models, and of the router, which moves prompts by the same rules."""
    found: dict[str, Any] = {}
    deployments = application.get("deployments") or []
    for index, deployment in enumerate(deployments if isinstance(deployments, list) else []):
        if not isinstance(deployment, dict) or deployment.get("name") not in FIXED_DEPLOYMENTS:
            continue
        here = f"{path}.deployments[{index}].user_config"
        routing = found[str(deployment.get("name"))] = deployment.get("user_config") or {}
        if not isinstance(routing, dict):
            yield f"{here}: got {_shorten(routing)}, allowed is a mapping"
            return
        unknown = list(_unknown_keys(routing, Routing, here))
        yield from unknown
        if not unknown:
            try:
                Routing.parse(routing, settings)
            except InvalidSettings as error:
                yield from (f"{here}.{line}" for line in str(error).split("; "))
    if found.get("Ingress", {}) != found.get("Router", {}):
        yield f"{path}.deployments: the user_config of Ingress and Router differ, allowed is the same (a YAML anchor keeps it so)"


def _too_few_requests(deployment: dict[str, Any], settings: Settings, path: str) -> Iterable[str]:
    """A replica that takes no more calls than it has permits cannot say that it is full; prompts would wait in Serve's memory."""
    most = deployment.get("max_ongoing_requests")
    for model in settings.models:
        if model.deployment == deployment.get("name") and isinstance(most, int) and most <= model.permits:
            yield (
                f"{path}.max_ongoing_requests: got {most}, allowed is more than the {model.permits} permits of the model "
                f"{model.id}"
            )


def _too_short_grace(deployment: dict[str, Any], settings: Settings, path: str) -> Iterable[str]:
    """A replica that is killed while it drains takes its prompts with it."""
    grace = deployment.get("graceful_shutdown_timeout_s")
    for model in settings.models:
        least = model.drain_s + DRAIN_MARGIN_S
        if model.deployment == deployment.get("name") and isinstance(grace, int | float) and grace < least:
            yield (
                f"{path}.graceful_shutdown_timeout_s: got {grace:g}, allowed is {least:g} or more: the drain_s of the model "
                f"{model.id} and {DRAIN_MARGIN_S:g} s"
            )


def _never_woken(deployment: dict[str, Any], application: dict[str, Any], path: str) -> Iterable[str]:
    """Serve's own policy does not see prompts that wait: a model it has scaled to zero would never get a replica again."""
    autoscaling = deployment.get("autoscaling_config")
    if not isinstance(autoscaling, dict) or deployment.get("name") in FIXED_DEPLOYMENTS:
        return
    policy = application.get("autoscaling_policy")
    function = policy.get("policy_function") if isinstance(policy, dict) else None
    deployments = [d for d in application.get("deployments") or [] if isinstance(d, dict)]
    router = next((d for d in deployments if d.get("name") == "Router"), {})
    if function is None:
        yield f"{path}.autoscaling_config: needs the application's autoscaling_policy, such as policy_function: {POLICY}"
    elif function == POLICY and not router.get("autoscaling_config"):
        yield f"{path}.autoscaling_config: needs one for the Router, too: what waits is reported by it"


def _schema_errors(document: dict[str, Any]) -> list[str]:
    """What Serve's own schema says about the values."""
    try:
        ServeDeploySchema.model_validate(document)
    except ValidationError as error:
        return [
            f"{_path(issue['loc'])}: {issue['msg']}"
            + ("" if issue["type"] == "missing" else f", got {_shorten(issue['input'])}")
            for issue in error.errors()
            if issue["type"] != "extra_forbidden"  # named by the walk over the keys
        ]
    return []


def _unknown_keys(value: Any, model: type[BaseModel], path: str) -> Iterable[str]:
    """Keys that are in a mapping but not among a model's fields, at any depth."""
    if not isinstance(value, dict):
        return  # a wrong type is the schema's to report
    fields = {alias or name: field for name, field in model.model_fields.items() for alias in {name, field.alias}}
    for key, item in value.items():
        here = f"{path}.{key}" if path else str(key)
        field = fields.get(key)
        if field is None:
            yield f"{here}: unknown key{_hint(str(key), sorted(fields))}"
        elif key == "runtime_env":
            if isinstance(item, dict):
                allowed = sorted(name for name in RuntimeEnv.known_fields if not name.startswith("_"))
                yield from (f"{here}.{k}: unknown key{_hint(str(k), allowed)}" for k in item if k not in allowed)
        elif key == "autoscaling_policy":
            yield from _unknown_keys(item, AutoscalingPolicy, here)
        elif nested := _model_in(field.annotation):
            if isinstance(item, list):
                for index, element in enumerate(item):
                    yield from _unknown_keys(element, nested, f"{here}[{index}]")
            else:
                yield from _unknown_keys(item, nested, here)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model that a field holds: directly, optionally, beside a plain dict, or as items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is dict:
        return None
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text or "file"


def _hint(key: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, allowed, n=1)
    return (f" (did you mean {close[0]!r}?)" if close else "") + f"; allowed: {', '.join(allowed)}"


def _shorten(value: object, limit: int = 80) -> str:
    text = shown(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m deployments.config_file serve_config.yaml", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        read(path)
    except (InvalidConfigFile, InvalidPort, InvalidVariable) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: OK")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
