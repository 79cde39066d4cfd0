"""The door for SEMOSS clients: pixels that ask a language model, run as jobs, streamed by polling (contract B)."""

from __future__ import annotations

from redis.asyncio import Redis

from deployments.ingress.bearers import Bearers
from deployments.ingress.doors.semoss.jobs import JobReader
from deployments.ingress.doors.semoss.reactors import Reactors
from deployments.ingress.doors.semoss.sessions import Sessions
from deployments.ingress.doors.semoss.submissions import Submissions
from deployments.ingress.doors.semoss.svc import SemossDoor
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.ingress.tokens import Tokens
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Accounts
from pipeline.store.history import HistoryReader
from pipeline.store.keys import Keys
from pipeline.store.messages import MessageStore
from pipeline.store.pixel_jobs import PixelJobs
from pipeline.store.pixel_sessions import PixelSessions


def semoss_service(
    settings: Settings,
    client: Redis,
    keys: Keys,
    service: PromptService,
    threads: ThreadReader,
    accounts: Accounts,
    tokens: Tokens,
    bearers: Bearers,
    supervisor: Supervisor,
) -> SemossDoor:
    """The door with what it stands on."""
    sessions, jobs, messages = PixelSessions(client, keys), PixelJobs(client, keys), MessageStore(client, keys)
    return SemossDoor(
        settings,
        service,
        Sessions(sessions, accounts, tokens, bearers, csrf=settings.semoss_csrf),
        sessions,
        jobs,
        JobReader(service, threads, messages, jobs, supervisor),
        Reactors(settings, service, messages, sessions, jobs),
        Submissions(service, HistoryReader(client, keys)),
    )
