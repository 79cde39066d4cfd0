"""What the ingress does with prompts, whichever door a caller came through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from deployments.ingress.default_model import DefaultModel
from deployments.ingress.hub import Hub
from deployments.ingress.image_sources import ImageSources
from deployments.ingress.model_choice import Choice, find_model, route
from deployments.ingress.own_files import FileLookup, own_files
from deployments.models import ModelText
from deployments.routing import CurrentRouting
from deployments.settings import ModelSpec, Settings
from pipeline.cost import TEXT, image_cost
from pipeline.engine import Parsing
from pipeline.errors import ClientError, InvalidField, NotFound, Shown, StoreUnavailable
from pipeline.ids import new_id
from pipeline.image_parameters import ImageParameters, ImageTask
from pipeline.image_wish import ImageWish, is_within
from pipeline.prompt import Fallback, NewPrompt, Prompt, make_ref
from pipeline.retry import DEFAULT_MAX_RETRIES
from pipeline.states import Status
from pipeline.store.connection import translated_errors
from pipeline.store.prompts import Accepted, PromptStore
from pipeline.store.templates import TemplateStore
from pipeline.submission import PromptSubmission
from pipeline.template import unescape_newlines


class PromptService:
    """Accept, wait for, and remove prompts on behalf of one user at a time."""

    def __init__(
        self,
        settings: Settings,
        prompts: PromptStore,
        hub: Hub,
        texts: Mapping[str, ModelText],
        default_model: DefaultModel,
        templates: TemplateStore,
        *,
        files: FileLookup,
        routing: CurrentRouting | None = None,
        sources: ImageSources | None = None,
    ) -> None:
        """
        Args:
            texts: by model id; image models have none.
            sources: None: nobody looks at the pictures that prompts start from before a replica does.
        """
        self._settings = settings
        self._prompts = prompts
        self._hub = hub
        self._texts = texts
        self._default_model = default_model
        self._templates = templates
        self._files = files
        self._routing = routing or CurrentRouting(settings)
        self._sources = sources

    async def submit(self, user_id: str, submission: PromptSubmission, choice: Choice | None = None) -> Accepted:
        """Store and queue a prompt; when this returns, it is durable. An id the user has used before returns what is stored.

        Args:
            choice: that ``choose`` made for it; None: it is made now.

        Raises:
            ClientError: the model or the template is unknown, no model can do it, the prompt does not fit it, its id is taken, or
                a file is not the user's; nothing was stored.
            StoreUnavailable: nothing was stored, or (if the connection broke on the way back) it was: submit it again with
                the same id to find out.
        """
        return await self.accept(await self.prepare(user_id, submission, choice))

    async def accept(self, new: NewPrompt) -> Accepted:
        """The second half of ``submit``: store and queue what was prepared."""
        with translated_errors():
            return await self._prompts.accept(new)

    async def prepare(self, user_id: str, submission: PromptSubmission, choice: Choice | None = None) -> NewPrompt:
        """The first half of ``submit``: everything that can be refused is, before anything is stored."""
        prompt_id = submission.id or new_id("prom")
        thread_id = submission.thread_id or prompt_id
        choice = choice or await self._model_for(submission, f"{user_id}/{thread_id}")
        if submission.names_tokens:
            await self._check_same_tokens(choice, submission)
        spec = choice.model
        submission = await self._with_saved_template(user_id, submission)
        submission = _parsed_by(spec, submission)
        history = _history(submission, spec)
        files = await own_files(self._files, user_id, submission.file_ids)
        image = _image_parameters(submission, spec) if spec.paints else None
        if image is not None and image.task is ImageTask.IMAGE and self._sources is not None:
            await self._sources.check(files)
        token_ids = () if spec.paints else await self._texts[spec.id].render(submission)
        return NewPrompt(
            id=prompt_id,
            user_id=user_id,
            thread_id=thread_id,
            model_id=spec.id,
            prompt=submission.prompt,
            prompt_token_ids=token_ids,
            sampling=submission.sampling,
            image=image,
            max_retries=DEFAULT_MAX_RETRIES if submission.max_retries is None else submission.max_retries,
            priority=submission.priority,
            sync=submission.sync,
            type=submission.type.value,
            history=history,
            file_ids=submission.file_ids,
            parameters=submission.parameters,
            engine_parameters=submission.engine_parameters,
            fallback=await self._fallback(choice, submission, image),
            routed=choice.routed,
            cost=TEXT if image is None else _cost(image, spec),
        )

    async def choose(self, user_id: str, submission: PromptSubmission) -> Choice:
        """The model that would run it in its thread. Raises ClientError as ``submit`` does."""
        return await self._model_for(submission, f"{user_id}/{submission.thread_id or submission.id}")

    async def model_of(self, user_id: str, submission: PromptSubmission) -> tuple[ModelSpec, ModelText]:
        """The same, and what renders and measures it there."""
        model = (await self.choose(user_id, submission)).model
        return model, self._texts[model.id]

    def model_named(self, name: str) -> ModelSpec | None:
        """The model behind an id, an alias or the name of a split, of which it is the one that most prompts run on."""
        routing = self._routing.now
        return find_model(self._settings.models, routing.heaviest(name) if name in routing.splits else name)

    async def default_model(self) -> ModelSpec:
        """The model that runs a prompt which names none, if it can."""
        return await self._default_model.get()

    async def _model_for(self, submission: PromptSubmission, key: str) -> Choice:
        choice = route(
            self._settings.models,
            self._routing.now,
            default=await self._default_model.name(),
            named=submission.model_id,
            prompt_type=submission.type,
            key=key,
            auto_tools=submission.auto_tools,
        )
        if submission.type.needs_files and not submission.file_ids:
            raise InvalidField("fileIds", Shown("nothing"), f"at least one file with the type {submission.type}")
        return choice

    async def _fallback(
        self, choice: Choice, submission: PromptSubmission, image: ImageParameters | None
    ) -> Fallback | None:
        """The prompt as the fallback model gets it, made now: whoever moves it later has no templates and tokenizers. A picture
        is painted as it was resolved for the first model, if that is within the other's limits."""
        other = choice.fallback
        if other is None or not await self._can_take_over(choice.model, other, submission):
            return None
        try:
            if other.paints:
                if image is not None and not is_within(image, other.images):
                    return None
                return Fallback(model_id=other.id, prompt_token_ids=())
            token_ids = await self._texts[other.id].render(submission)
        except ClientError:
            # It does not fit that model; it waits for its own.
            return None
        return Fallback(model_id=other.id, prompt_token_ids=token_ids)

    async def _can_take_over(self, model: ModelSpec, other: ModelSpec, submission: PromptSubmission) -> bool:
        """Whether the other model can do what was checked for the first one."""
        if submission.auto_tools and other.tool_parser is None:
            return False
        if (submission.sampling.logprobs or 0) > other.most_logprobs:
            return False
        return not submission.names_tokens or await self._have_same_tokens(model, other)

    async def _check_same_tokens(self, choice: Choice, submission: PromptSubmission) -> None:
        """Raises InvalidField for ids of tokens where the client cannot know whose they are."""
        for other in choice.candidates:
            if not await self._have_same_tokens(choice.model, other):
                names = ", ".join(model.id for model in choice.candidates)
                raise InvalidField(
                    "logit_bias" if submission.prompt_token_ids is None else "prompt",
                    Shown("ids of tokens"),
                    f"none where models with different tokens share the prompts; name one of {names}",
                )

    async def _have_same_tokens(self, model: ModelSpec, other: ModelSpec) -> bool:
        if model.id == other.id:
            return True
        first, second = self._texts[model.id], self._texts[other.id]
        return await asyncio.to_thread(lambda: first.tokens == second.tokens)

    async def _with_saved_template(self, user_id: str, submission: PromptSubmission) -> PromptSubmission:
        name = submission.template_name
        if name is None:
            return submission
        with translated_errors():
            saved = await self._templates.get(user_id, name)
        if saved is None:
            raise InvalidField("templateName", name, "the name of a template you have saved")
        return replace(submission, template=unescape_newlines(saved.template), variables=submission.variables or {})

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

    async def read(self, user_id: str, prompt_id: str) -> tuple[Prompt, int | None]:
        """A prompt, and where it stands in its queue (``PromptStore.queue_position``).

        Raises:
            NotFound: the user has no such prompt.
        """
        with translated_errors():
            prompt, position = await asyncio.gather(
                self._prompts.get(user_id, prompt_id), self._prompts.queue_position(make_ref(user_id, prompt_id))
            )
        if prompt is None:
            raise NotFound
        return prompt, position

    async def cancel(self, user_id: str, prompt_id: str) -> Status:
        """Cancel a prompt unless it has ended. Returns the terminal status it has now; nothing is erased.

        Raises:
            NotFound: the user has no such prompt.
        """
        with translated_errors():
            return await self._prompts.cancel(make_ref(user_id, prompt_id))

    async def remove(self, user_id: str, prompt_id: str) -> None:
        """Cancel a prompt that has not ended, erase a finished one with its text.

        Raises:
            NotFound: the user has no such prompt.
        """
        with translated_errors():
            await self._prompts.remove(make_ref(user_id, prompt_id))


def _parsed_by(spec: ModelSpec, submission: PromptSubmission) -> PromptSubmission:
    """What a model thinks is told from what it answers wherever its own chat template is used, which makes it think."""
    is_chat = submission.template is None and submission.prompt_token_ids is None
    if spec.reasoning_parser is None or not is_chat or submission.sampling.parsing is not None:
        return submission
    return replace(submission, sampling=replace(submission.sampling, parsing=Parsing()))


def _image_parameters(submission: PromptSubmission, spec: ModelSpec) -> ImageParameters:
    """How the model is to paint it. Raises InvalidField, or as ``PromptSubmission.text``."""
    text = submission.text
    return (submission.image or ImageWish()).resolve(
        spec.images,
        task=submission.type.image_task,
        prompt=submission.prompt if text is None else text,
        model_id=spec.id,
    )


def _cost(image: ImageParameters, spec: ModelSpec) -> float:
    """What the pictures cost a replica. One that is made from another is as large as that, which nobody has looked at yet: it
    counts as the model's usual size."""
    return image_cost(
        width=image.width or spec.images.width,
        height=image.height or spec.images.height,
        steps=image.steps,
        images=image.images,
    )


def _history(submission: PromptSubmission, spec: ModelSpec) -> bool | None:
    """Whether the prompt gets its thread's history, None if the thread decides. A template is filled with the new prompt alone,
    a chat has its history in it, and an image model reads the new prompt alone.

    Raises:
        InvalidField: both were asked for.
    """
    if submission.messages is not None:
        if submission.history:
            raise InvalidField("history", Shown("true"), "false with messages, which are the history")
        return False
    if spec.paints:
        if submission.history:
            raise InvalidField("history", Shown("true"), f"false with {spec.id}, which paints the new prompt alone")
        return False
    if submission.template is None:
        return submission.history
    if submission.history:
        raise InvalidField("history", Shown("true"), "false with a template, which is filled with the new prompt alone")
    return False
