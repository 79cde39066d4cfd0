"""What the ingress does with prompts, whichever door a caller came through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from deployments.ingress.hub import Hub
from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from pipeline.errors import InvalidField, NotFound, StoreUnavailable
from pipeline.ids import new_id
from pipeline.prompt import NewPrompt, Prompt, make_ref
from pipeline.retry import DEFAULT_MAX_RETRIES
from pipeline.store.connection import translated_errors
from pipeline.store.prompts import Accepted, PromptStore
from pipeline.submission import PromptSubmission


class PromptService:
    """Accept, wait for, and remove prompts on behalf of one user at a time."""

    def __init__(self, settings: Settings, prompts: PromptStore, hub: Hub, texts: Mapping[str, ModelText]) -> None:
        self._settings = settings
        self._prompts = prompts
        self._hub = hub
        self._texts = texts

    async def submit(self, user_id: str, submission: PromptSubmission) -> Accepted:
        """Store and queue a prompt; when this returns, it is durable. An id the user has used before returns what is stored.

        Raises:
            ClientError: the model is unknown, or the prompt does not fit it; nothing was stored.
            StoreUnavailable: nothing was stored, or (if the connection broke on the way back) it was: submit it again with
                the same id to find out.
        """
        spec = self._model_for(submission)
        prompt_id = submission.id or new_id("prom")
        token_ids = await self._texts[spec.id].render(submission)
        new = NewPrompt(
            id=prompt_id,
            user_id=user_id,
            thread_id=submission.thread_id or prompt_id,
            model_id=spec.id,
            prompt=submission.prompt,
            prompt_token_ids=token_ids,
            sampling=submission.sampling,
            max_retries=DEFAULT_MAX_RETRIES if submission.max_retries is None else submission.max_retries,
            sync=submission.sync,
            parameters=submission.parameters,
            engine_parameters=submission.engine_parameters,
        )
        with translated_errors():
            return await self._prompts.accept(new)

    def _model_for(self, submission: PromptSubmission) -> ModelSpec:
        spec = self._settings.resolve_model(submission.model_id)
        if spec is None:
            known = ", ".join(sorted(self._settings.model_names))
            raise InvalidField("modelId", submission.model_id, f"one of {known}")
        return spec

    async def wait(self, prompt: Prompt, timeout_s: float) -> Prompt:
        """The prompt once it has ended, or as it is when the time is over; it goes on either way.

        Raises:
            NotFound: it was erased meanwhile.
        """
        if prompt.status.is_terminal:
            return prompt
        latest = prompt
        try:
            async with asyncio.timeout(timeout_s), self._hub.watch(prompt.user_id, prompt.thread_id) as watch:
                watch.awaited = prompt.place
                while not latest.status.is_terminal:
                    latest = await self._look(prompt) or latest
                    # Progress rings too; only the end, or silence, is worth another look.
                    while not latest.status.is_terminal and await watch.news() and not watch.has_ended:
                        pass
        except TimeoutError:
            latest = await self._look(prompt) or latest
        return latest

    async def _look(self, prompt: Prompt) -> Prompt | None:
        """The prompt as it is now; None while the store is away, which says nothing about the prompt."""
        try:
            with translated_errors():
                current = await self._prompts.get(prompt.user_id, prompt.id)
        except StoreUnavailable:
            return None
        if current is None:
            raise NotFound
        return current

    async def remove(self, user_id: str, prompt_id: str) -> None:
        """Cancel a prompt that has not ended, erase a finished one with its text.

        Raises:
            NotFound: the user has no such prompt.
        """
        with translated_errors():
            await self._prompts.remove(make_ref(user_id, prompt_id))
