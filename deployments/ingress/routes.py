"""The route table of the ingress, built from what it stands on. Neither Ray nor Serve: tests build the same table."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from deployments.ingress import wire
from deployments.ingress.auth import Gate, GuardedRoute
from deployments.ingress.chat_svc import ChatSvc
from deployments.ingress.default_model import DefaultModel
from deployments.ingress.downloader import Downloader
from deployments.ingress.events import UserEvents
from deployments.ingress.file_svc import FileSvc
from deployments.ingress.firehose_svc import FirehoseSvc
from deployments.ingress.grants import Grants
from deployments.ingress.hub import Hub
from deployments.ingress.image_sources import ImageSources
from deployments.ingress.model_state import ServeControl
from deployments.ingress.model_svc import ModelSvc
from deployments.ingress.openapi import OpenApi
from deployments.ingress.permit_svc import PermitSvc
from deployments.ingress.policies import Policies
from deployments.ingress.policy_svc import PolicySvc
from deployments.ingress.prompt_svc import PromptSvc
from deployments.ingress.self_svc import SelfSvc
from deployments.ingress.service import PromptService
from deployments.ingress.template_svc import TemplateSvc
from deployments.ingress.threads import ThreadReader
from deployments.ingress.tickets import Tickets
from deployments.ingress.tokens import Tokens
from deployments.ingress.user_svc import UserSvc
from deployments.models import ModelText
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Accounts
from pipeline.files.file_store import FileStore
from pipeline.store.default_model import DefaultModelStore
from pipeline.store.events import EventLog
from pipeline.store.keys import Keys
from pipeline.store.listing import Listing
from pipeline.store.messages import MessageStore
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from pipeline.store.tables import PermitStore, PolicyStore
from pipeline.store.templates import TemplateStore
from pipeline.store.threads import ThreadStore
from pipeline.store.tickets import TicketStore


def route_table(
    settings: Settings,
    client: Redis,
    *,
    accounts: Accounts,
    tokens: Tokens,
    texts: Mapping[str, ModelText],
    supervisor: Supervisor,
    files: FileStore,
    serve: ServeControl | None = None,
    downloader: Downloader | None = None,
) -> list[GuardedRoute]:
    """Every route of the service, in order. A service is added by adding it to ``services``.

    Args:
        client: of the store; nothing is sent before the first request, but for the hub's subscription.
        texts: by model id.
        files: users' files.
        serve: None where the routes are served without Serve.
        downloader: None: as the settings say, from the public internet.
        supervisor: owns the hub's tasks; stop it when the app stops.
    """
    keys = Keys(settings.redis_namespace)
    prompts = PromptStore(client, keys)
    messages = MessageStore(client, keys)
    hub = Hub(client, keys, supervisor)
    default_model = DefaultModel(settings, DefaultModelStore(client, keys))
    templates = TemplateStore(client, keys)
    listing = Listing(client, keys, prompts, time_of=wire.timestamp)
    threads = ThreadReader(client, keys, hub)
    events = UserEvents(EventLog(client, keys), hub, heartbeat_s=settings.sse_heartbeat_s)
    downloader = downloader or Downloader(enabled=settings.file_downloads, max_bytes=settings.max_download_bytes)
    queues = {spec.id: ModelQueue(client, keys, spec.id) for spec in settings.models}
    grants = Grants(settings.default_grants, PermitStore(client, keys))
    sources = ImageSources(files, downloader, grants)
    service = PromptService(settings, prompts, hub, texts, default_model, templates, files=files, sources=sources)
    tickets = Tickets(TicketStore(client, keys))
    policies = Policies(PolicyStore(client, keys))
    services = (
        PromptSvc(settings, service, listing, messages, threads, sources),
        TemplateSvc(settings, templates),
        ChatSvc(settings, ThreadStore(client, keys, prompts), messages, events, files=files),
        ModelSvc(settings, queues, default_model, serve),
        FirehoseSvc(events),
        FileSvc(files, downloader, max_body_bytes=settings.max_body_bytes),
        UserSvc(accounts, tokens, max_body_bytes=settings.max_body_bytes),
        SelfSvc(accounts, grants, tickets, max_body_bytes=settings.max_body_bytes),
        PermitSvc(grants, max_body_bytes=settings.max_body_bytes),
        PolicySvc(policies, max_body_bytes=settings.max_body_bytes),
    )
    gate = Gate(tokens, grants=grants, tickets=tickets, policies=policies, trusted_proxies=settings.trusted_proxies)
    table = [route for svc in services for route in svc.routes(gate)]
    return [*table, *OpenApi([route for route in table if route.door is None]).routes(gate)]
