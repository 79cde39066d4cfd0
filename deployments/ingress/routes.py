"""What the ingress offers, built from what it stands on: the route table, and the calls through a handle. Neither Ray nor Serve:
tests build the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from deployments.ingress import wire
from deployments.ingress.api_key_svc import ApiKeySvc
from deployments.ingress.api_keys import ApiKeys
from deployments.ingress.auth import Gate, GuardedRoute
from deployments.ingress.bearers import Bearers
from deployments.ingress.chat_svc import ChatSvc
from deployments.ingress.default_model import DefaultModel
from deployments.ingress.doors.handle.callers import Callers
from deployments.ingress.doors.handle.calls import HandleCalls
from deployments.ingress.doors.llm_inference import llm_inference_door
from deployments.ingress.doors.open_assistant.service import OpenAssistant
from deployments.ingress.doors.openai import openai_door
from deployments.ingress.doors.semoss import semoss_service
from deployments.ingress.downloader import Downloader
from deployments.ingress.enroll_svc import EnrollSvc
from deployments.ingress.events import UserEvents
from deployments.ingress.file_svc import FileSvc
from deployments.ingress.firehose_svc import FirehoseSvc
from deployments.ingress.front_page import FrontPage
from deployments.ingress.grants import Grants
from deployments.ingress.hub import Hub
from deployments.ingress.image_sources import ImageSources
from deployments.ingress.model_state import ServeControl
from deployments.ingress.model_svc import ModelSvc
from deployments.ingress.notices import Notices
from deployments.ingress.openapi import OpenApi
from deployments.ingress.permit_svc import PermitSvc
from deployments.ingress.policies import Policies
from deployments.ingress.policy_svc import PolicySvc
from deployments.ingress.prompt_svc import PromptSvc
from deployments.ingress.revocations import Revocations
from deployments.ingress.self_svc import SelfSvc
from deployments.ingress.service import PromptService
from deployments.ingress.submitter import Submitter
from deployments.ingress.template_svc import TemplateSvc
from deployments.ingress.threads import ThreadReader
from deployments.ingress.tickets import Tickets
from deployments.ingress.tokens import Tokens
from deployments.ingress.user_svc import UserSvc
from deployments.ingress.users_svc import UsersSvc
from deployments.models import ModelText
from deployments.routing import CurrentRouting
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Account, Accounts
from pipeline.files.file_store import FileStore
from pipeline.store.api_keys import ApiKeyStore
from pipeline.store.default_model import DefaultModelStore
from pipeline.store.enrolls import EnrollStore
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What clients can reach."""

    #: Every route of the service, in order.
    routes: list[GuardedRoute]
    #: What the methods of the deployment answer.
    calls: HandleCalls


def route_table(settings: Settings, client: Redis, **parts: Any) -> list[GuardedRoute]:
    """The routes of ``ingress_offer``, whose arguments it takes."""
    return ingress_offer(settings, client, **parts).routes


def ingress_offer(
    settings: Settings,
    client: Redis,
    *,
    accounts: Accounts,
    tokens: Tokens,
    texts: Mapping[str, ModelText],
    supervisor: Supervisor,
    files: FileStore,
    serve: ServeControl | None = None,
    routing: CurrentRouting | None = None,
    downloader: Downloader | None = None,
    anonymous: Account | None = None,
) -> Offer:
    """All of it. A service is added by adding it to ``services``.

    Args:
        client: of the store; nothing is sent before the first request, but for the hub's subscription.
        texts: by model id.
        files: users' files.
        routing: None: prompts run on the models that they name.
        serve: None where the routes are served without Serve.
        downloader: None: as the settings say, from the public internet.
        supervisor: owns the hub's tasks; stop it when the app stops.
        anonymous: whose prompts those of callers without a token are, where there may be such callers; None: nowhere.
    """
    keys = Keys(settings.redis_namespace)
    prompts = PromptStore(client, keys)
    messages = MessageStore(client, keys)
    hub = Hub(client, keys, supervisor)
    routing = routing or CurrentRouting(settings)
    default_model = DefaultModel(settings, DefaultModelStore(client, keys), routing)
    templates = TemplateStore(client, keys)
    listing = Listing(client, keys, prompts, time_of=wire.timestamp)
    threads = ThreadReader(client, keys, hub)
    events = UserEvents(EventLog(client, keys), hub, heartbeat_s=settings.sse_heartbeat_s)
    downloader = downloader or Downloader(enabled=settings.file_downloads, max_bytes=settings.max_download_bytes)
    queues = {spec.id: ModelQueue(client, keys, spec.id) for spec in settings.models}
    grants = Grants(settings.default_grants, PermitStore(client, keys))
    sources = ImageSources(files, downloader, grants, prompts)
    service = PromptService(
        settings, prompts, hub, texts, default_model, templates, files=files, routing=routing, sources=sources
    )
    submitter = Submitter(settings, service, sources)
    revocations = Revocations(accounts.store)
    tickets = Tickets(TicketStore(client, keys))
    api_keys = ApiKeys(ApiKeyStore(client, keys), accounts)
    bearers = Bearers(tokens, revocations=revocations, api_keys=api_keys)
    policies = Policies(PolicyStore(client, keys))
    deployments = {spec.id: spec.deployment for spec in settings.models}
    notices = Notices(client, keys, queues, deployments, serve)
    services = (
        FrontPage(),
        PromptSvc(settings, service, listing, messages, threads, notices, submitter),
        TemplateSvc(settings, templates),
        ChatSvc(settings, ThreadStore(client, keys, prompts), messages, events, files=files),
        ModelSvc(settings, queues, default_model, serve, routing),
        FirehoseSvc(events),
        FileSvc(files, downloader, max_body_bytes=settings.max_body_bytes),
        UserSvc(accounts, tokens, max_body_bytes=settings.max_body_bytes),
        SelfSvc(accounts, grants, tickets, revocations, max_body_bytes=settings.max_body_bytes),
        ApiKeySvc(api_keys, max_body_bytes=settings.max_body_bytes),
        UsersSvc(accounts, grants, revocations, max_body_bytes=settings.max_body_bytes),
        EnrollSvc(EnrollStore(client, keys), revocations, max_body_bytes=settings.max_body_bytes),
        PermitSvc(grants, max_body_bytes=settings.max_body_bytes),
        PolicySvc(policies, max_body_bytes=settings.max_body_bytes),
        OpenAssistant(
            settings,
            client,
            keys,
            accounts=accounts,
            tokens=tokens,
            bearers=bearers,
            service=service,
            threads=threads,
            texts=texts,
            queues=queues,
        ),
        semoss_service(settings, client, keys, service, threads, accounts, tokens, bearers, supervisor),
        llm_inference_door(settings, service, threads, bearers, supervisor, anonymous),
        openai_door(
            settings, client, keys, service=service, threads=threads, texts=texts, files=files, supervisor=supervisor
        ),
    )
    gate = Gate(
        bearers,
        grants=grants,
        tickets=tickets,
        policies=policies,
        trusted_proxies=settings.trusted_proxies,
    )
    table = [route for svc in services for route in svc.routes(gate)]
    return Offer(
        routes=[*table, *OpenApi([route for route in table if route.door is None]).routes(gate)],
        calls=HandleCalls(settings, service, submitter, threads, messages, Callers(accounts, grants)),
    )
