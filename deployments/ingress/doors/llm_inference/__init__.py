"""The door for clients of the LLM Inference Service: one text or several, generated while the caller waits (contract C)."""

from __future__ import annotations

from deployments.ingress.bearers import Bearers
from deployments.ingress.doors.llm_inference.generation import Generator
from deployments.ingress.doors.llm_inference.svc import LlmInferenceDoor
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Account


def llm_inference_door(
    settings: Settings,
    service: PromptService,
    threads: ThreadReader,
    bearers: Bearers,
    supervisor: Supervisor,
    anonymous: Account | None,
) -> LlmInferenceDoor:
    """The door with what it stands on."""
    return LlmInferenceDoor(settings, Generator(service, threads, supervisor), bearers, anonymous)
