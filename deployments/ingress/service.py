"""What the ingress does with prompts, whichever door a caller came through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from deployments.ingress.hub import Hub
from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from pipeline.errors import InvalidField, NotFound
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
            known = sorted(name for model in self._settings.models for name in (model.id, *model.aliases))
            raise InvalidField("modelId", submission.model_id, f"one of {', '.join(known)}")
        return spec

    async def wait(self, prompt: Prompt, timeout_s: float) -> Prompt:
        """The prompt once it has ended, or as it is when the time is over; it goes on either way.

        Raises:
            NotFound: it was erased meanwhile.
        """
        if prompt.status.is_terminal:
            return prompt
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        async with self._hub.watch(prompt.user_id, prompt.thread_id) as watch:
            look = True
            while True:
                if look:
                    with translated_errors():
                        current = await self._prompts.get(prompt.user_id, prompt.id)
                    if current is None:
                        raise NotFound
                    if current.status.is_terminal or loop.time() >= deadline:
                        return current
                # Progress rings too; only the end, or silence, is worth a look.
                try:
                    rang = await asyncio.wait_for(watch.news(), max(0.0, deadline - loop.time()))
                    look = not rang or prompt.place in watch.ended
                except TimeoutError:
                    look = True

    async def remove(self, user_id: str, prompt_id: str, *, as_admin: bool = False) -> None:
        """Cancel a prompt that has not ended, erase a finished one with its text.

        Args:
            as_admin: look among everybody's prompts when the caller has none of this id.

        Raises:
            NotFound: the caller has no such prompt.
        """
        with translated_errors():
            try:
                await self._prompts.remove(make_ref(user_id, prompt_id))
            except NotFound:
                owner = await self._prompts.owner_of(prompt_id) if as_admin else None
                if owner is None:
                    raise
                await self._prompts.remove(make_ref(owner, prompt_id))
