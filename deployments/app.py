"""The whole application graph on one page.

    client ──HTTP──> Ingress ──accept──> store <──lease── PromptLedger (an actor per model queue)
                        ^                  ^                    ^
                        └──stream──────────┤                    │ grants
                                           │                  Router ──run(lease)──> LLM (one deployment per model)
                                           └──────────── deltas, heartbeats, the end ─────────┘

``serve_config.yaml`` names ``build`` and carries its arguments.
"""

from __future__ import annotations

from typing import Any

from ray import serve

from deployments.ingress.deployment import Ingress
from deployments.llm import LLM
from deployments.router import Router
from deployments.settings import Settings, deployment_name


def build(args: dict[str, Any]) -> serve.Application:
    """The graph for one serve_config.yaml.

    Args:
        args: the application's ``args``; the environment adds to them (``deployments.settings.Settings``).

    Raises:
        InvalidSettings: names every wrong field.
    """
    settings = Settings.parse(args)
    models = {
        # Headroom beyond the permits, so that a full replica can still say so.
        spec.id: LLM.options(name=deployment_name(spec.id), max_ongoing_requests=2 * spec.permits).bind(spec, settings)
        for spec in settings.models
    }
    router = Router.bind(settings, models)
    return Ingress.bind(settings, router)
