"""The door put together."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from deployments.ingress.auth import Gate, GuardedRoute
from deployments.ingress.bearers import Bearers
from deployments.ingress.doors.door import Door
from deployments.ingress.doors.open_assistant.answers import Answers
from deployments.ingress.doors.open_assistant.auth_routes import AuthRoutes
from deployments.ingress.doors.open_assistant.chat_routes import ChatRoutes
from deployments.ingress.doors.open_assistant.config_routes import ConfigRoutes
from deployments.ingress.doors.open_assistant.errors import error_reply
from deployments.ingress.doors.open_assistant.events import AnswerStream
from deployments.ingress.doors.open_assistant.limits import AnswerLimit
from deployments.ingress.doors.open_assistant.message_routes import MessageRoutes
from deployments.ingress.doors.open_assistant.users import Users
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.ingress.tokens import Tokens
from deployments.models import ModelText
from deployments.settings import Settings
from pipeline.accounts import Accounts
from pipeline.store.chat_trees import ChatTreeStore, RefreshTokenStore
from pipeline.store.keys import Keys
from pipeline.store.messages import MessageStore
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from pipeline.store.tables import PolicyStore
from pipeline.store.threads import ThreadStore

PREFIXES = ("/auth/", "/account/", "/chats", "/configs/")


class OpenAssistant:
    """Its routes, on the same prompts, queues and logs as every other door's."""

    def __init__(
        self,
        settings: Settings,
        client: Redis,
        keys: Keys,
        *,
        accounts: Accounts,
        tokens: Tokens,
        bearers: Bearers,
        service: PromptService,
        threads: ThreadReader,
        texts: Mapping[str, ModelText],
        queues: Mapping[str, ModelQueue],
    ) -> None:
        limits = settings.open_assistant
        prompts = PromptStore(client, keys)
        chats = ChatTreeStore(client, keys, ThreadStore(client, keys, prompts))
        users = Users(
            accounts,
            tokens,
            bearers,
            RefreshTokenStore(client, keys),
            debug_login=settings.debug_login,
            trusted_keys=limits.trusted_client_keys,
        )
        answers = Answers(settings, chats, service, prompts, MessageStore(client, keys), queues, texts)
        stream = AnswerStream(answers, threads, heartbeat_s=settings.sse_heartbeat_s)
        limit = AnswerLimit(PolicyStore(client, keys), most=limits.rate_limit_messages, window_s=limits.rate_limit_s)
        max_bytes = settings.max_body_bytes
        self._door = Door(prefixes=PREFIXES, error_reply=error_reply, identify=users.identify)
        self._parts = (
            AuthRoutes(users, chats),
            ChatRoutes(users, chats, answers, max_body_bytes=max_bytes),
            MessageRoutes(chats, answers, stream, limit, max_body_bytes=max_bytes),
            ConfigRoutes(settings),
        )

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        return [route for part in self._parts for route in part.routes(gate, self._door)]
