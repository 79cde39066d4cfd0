"""The route table of the ingress, built from what it stands on. Neither Ray nor Serve: tests build the same table."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from deployments.ingress.auth import Gate, GuardedRoute
from deployments.ingress.hub import Hub
from deployments.ingress.model_svc import ModelSvc
from deployments.ingress.openapi import OpenApi
from deployments.ingress.prompt_svc import PromptSvc
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.ingress.tokens import Tokens
from deployments.ingress.user_svc import UserSvc
from deployments.models import ModelText
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Accounts
from pipeline.store.keys import Keys
from pipeline.store.listing import Listing
from pipeline.store.messages import MessageStore
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue


def route_table(
    settings: Settings,
    client: Redis,
    *,
    accounts: Accounts,
    tokens: Tokens,
    texts: Mapping[str, ModelText],
    supervisor: Supervisor,
) -> list[GuardedRoute]:
    """Every route of the service, in order. A service is added by adding it to ``services``.

    Args:
        client: of the store; nothing is sent before the first request, but for the hub's subscription.
        texts: by model id.
        supervisor: owns the hub's tasks; stop it when the app stops.
    """
    keys = Keys(settings.redis_namespace)
    prompts = PromptStore(client, keys)
    messages = MessageStore(client, keys)
    hub = Hub(client, keys, supervisor)
    service = PromptService(settings, prompts, hub, texts)
    services = (
        PromptSvc(settings, service, Listing(client, keys, prompts), messages, ThreadReader(client, keys, hub)),
        ModelSvc(settings, {spec.id: ModelQueue(client, keys, spec.id) for spec in settings.models}),
        UserSvc(accounts, tokens, max_body_bytes=settings.max_body_bytes),
    )
    gate = Gate(tokens)
    table = [route for svc in services for route in svc.routes(gate)]
    return [*table, *OpenApi(table).routes(gate)]
