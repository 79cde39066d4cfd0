"""The whole application graph on one page.

    client ──HTTP──> Ingress ──accept──> store <──lease── PromptLedger (an actor per model queue)
                        ^                  ^                    ^
                        └──stream──────────┤                    │ grants
                                           │                  Router ──run(lease)──> LLM, Diffusion (one deployment per model)
                                           └──────────── deltas, heartbeats, the end ─────────┘

``serve_config.yaml`` names ``build`` and carries its arguments.
"""

from __future__ import annotations

from typing import Any

from ray import serve

from deployments.diffusion import Diffusion
from deployments.ingress.deployment import Ingress
from deployments.llm import LLM
from deployments.router import Router
from deployments.settings import ModelSpec, Settings


def build(args: dict[str, Any]) -> serve.Application:
    """The graph for one serve_config.yaml.

    Args:
        args: the application's ``args``; the environment adds to them (``deployments.settings.Settings``).

    Raises:
        InvalidSettings: names every wrong field.
    """
    settings = Settings.parse(args)
    router = Router.bind(settings, {spec.id: _model(spec, settings) for spec in settings.models})
    return Ingress.bind(settings, router)


def _model(spec: ModelSpec, settings: Settings) -> serve.Application:
    deployment = Diffusion if spec.paints else LLM
    # Headroom beyond the permits, so that a full replica can still say so.
    return deployment.options(name=spec.deployment, max_ongoing_requests=2 * spec.permits).bind(spec, settings)
