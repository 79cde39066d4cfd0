"""The OpenAI API: chat and text completions, images, models, on the service's own prompts (contract openai)."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from deployments.ingress.doors.openai.api import OpenAi
from deployments.ingress.doors.openai.calls import Calls
from deployments.ingress.doors.openai.images import Images
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.models import ModelText
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.files.file_store import FileStore
from pipeline.store.keys import Keys
from pipeline.store.logs import LogReader
from pipeline.store.messages import MessageStore
from pipeline.store.recent_calls import RecentCalls


def openai_door(
    settings: Settings,
    client: Redis,
    keys: Keys,
    *,
    service: PromptService,
    threads: ThreadReader,
    texts: Mapping[str, ModelText],
    files: FileStore,
    supervisor: Supervisor,
) -> OpenAi:
    """The door on what the other services stand on."""
    calls = Calls(
        service,
        threads,
        MessageStore(client, keys),
        LogReader(client, keys),
        RecentCalls(client, keys),
        supervisor,
        wait_s=settings.sync_wait_s,
    )
    return OpenAi(settings, service, calls, texts, Images(settings, calls, files, service.model_named))
