"""serve_config.yaml with other models: what tests and benches run in place of the catalogue that ships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: What every application has, whatever its models.
_COMMON = ("Ingress", "Router")


def llm_deployment(application: dict[str, Any]) -> dict[str, Any]:
    """The deployment of the one text model."""
    (deployment,) = (d for d in application["deployments"] if d["name"].startswith("LLM-"))
    found: dict[str, Any] = deployment
    return found


def replace_models(
    application: dict[str, Any], models: Sequence[dict[str, Any]], deployments: Sequence[dict[str, Any]] = ()
) -> None:
    """These models and their deployments in place of all that are in the application; one without has the defaults."""
    application["args"]["models"] = list(models)
    common = [d for d in application["deployments"] if d["name"] in _COMMON]
    application["deployments"] = [*common, *deployments]
