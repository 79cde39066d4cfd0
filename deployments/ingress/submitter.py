"""What every door that speaks this service's own request does with one, for a caller whom it knows."""

from __future__ import annotations

from deployments.ingress.image_sources import ImageSources
from deployments.ingress.principal import Principal
from deployments.ingress.service import PromptService
from deployments.settings import Settings
from pipeline.priority import HIGHEST, check_priority
from pipeline.store.prompts import Accepted
from pipeline.submission import PromptSubmission


class Submitter:
    """Submits within what the caller may ask for."""

    def __init__(self, settings: Settings, service: PromptService, sources: ImageSources) -> None:
        self._settings = settings
        self._service = service
        self._sources = sources

    async def submit(self, caller: Principal, submission: PromptSubmission) -> Accepted:
        """Fetch the picture that the prompt names by its URL, if it does; store and queue the prompt.

        Raises:
            InvalidField: its priority is above what the caller may ask for.
            Unauthorized, DownloadsOff, …: as ``ImageSources.fetched``.
            ClientError, StoreUnavailable: as ``PromptService.submit``.
        """
        check_priority(submission.priority, highest=HIGHEST if caller.is_admin else self._settings.max_user_priority)
        async with self._sources.fetched(caller, submission) as whole:
            return await self._service.submit(caller.user_id, whole)
