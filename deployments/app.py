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
from ray.serve.config import RequestRouterConfig

from deployments.announcing_router import ANNOUNCING_ROUTER
from deployments.diffusion import Diffusion
from deployments.ingress.deployment import Ingress
from deployments.llm import LLM
from deployments.router import Router
from deployments.settings import DRAIN_MARGIN_S, ModelSpec, Settings


def model_options(spec: ModelSpec) -> dict[str, Any]:
    """Options of the deployment that runs a model; ``serve_config.yaml`` goes before them."""
    return {
        "name": spec.deployment,
        # Headroom beyond the permits, so that a full replica can still say so.
        "max_ongoing_requests": 2 * spec.permits,
        "graceful_shutdown_timeout_s": spec.drain_s + DRAIN_MARGIN_S,
        "graceful_shutdown_wait_loop_s": 0.5,
        "request_router_config": RequestRouterConfig(request_router_class=ANNOUNCING_ROUTER),
    }


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
    return deployment.options(**model_options(spec)).bind(spec, settings)
