"""Asking for an answer: the branch of the chat becomes a prompt of the service, under the id of the message that it will be."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from deployments.ingress.doors.open_assistant.bodies import AssistantMessage
from deployments.ingress.doors.open_assistant.context import fit, instructions
from deployments.ingress.doors.open_assistant.errors import Refused
from deployments.ingress.doors.open_assistant.wire import Told
from deployments.ingress.service import PromptService
from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from pipeline.chat_tree import Chat, ChatMessage, Role
from pipeline.conversation import answer_room
from pipeline.errors import NotFound
from pipeline.ids import time_ordered_id
from pipeline.prompt_type import Capability
from pipeline.store.chat_trees import ChatTreeStore, Outcome
from pipeline.store.connection import translated_errors
from pipeline.store.messages import MessageStore
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from pipeline.submission import PromptSubmission

#: Messages of a branch that are looked at.
MOST_BRANCH = 512
#: More bytes than a token has, nearly always: what lies further back than a whole context of them is not read.
_TOKEN_BYTES = 16
#: The plugins of a chat, one after another (contract A.3); there are none here.
_PLUGIN_DEPTH = 4
#: Seeds that JavaScript can tell apart.
_SEED_BITS = 53


class Answers:
    """Adds messages to chats and has them answered; reads them with what became of them."""

    def __init__(
        self,
        settings: Settings,
        chats: ChatTreeStore,
        service: PromptService,
        prompts: PromptStore,
        messages: MessageStore,
        queues: Mapping[str, ModelQueue],
        texts: Mapping[str, ModelText],
    ) -> None:
        self._settings = settings
        self._limits = settings.open_assistant
        self._chats = chats
        self._service = service
        self._prompts = prompts
        self._messages = messages
        self._queues = queues
        self._texts = texts

    def model(self, name: str) -> ModelSpec:
        """The model of that name, an id or an alias. Raises Refused."""
        spec = self._settings.resolve_model(name) if name else None
        if spec is None or Capability.TEXT_GENERATION not in spec.capabilities:
            raise Refused(422, f"Model {name[:200]} not found")
        return spec

    def check_content(self, content: str) -> None:
        """Raises Refused."""
        if len(content) > self._limits.message_max_length:
            raise Refused(413, "Message content exceeds max length")

    async def say(self, user_id: str, chat_id: str, *, parent_id: str | None, content: str) -> ChatMessage:
        """Add a message of the user's. Raises Refused."""
        self.check_content(content)
        with translated_errors():
            outcome, message = await self._chats.add_prompter(
                user_id,
                chat_id,
                time_ordered_id(),
                parent_id=parent_id or None,
                content=content,
                most_messages=self._limits.chat_max_messages,
            )
        if message is None:
            raise _PROMPTER_REFUSED[outcome]()
        return message

    async def ask(self, user_id: str, chat_id: str, wanted: AssistantMessage) -> Told:
        """Have a message answered; when this returns, the answer is a durable prompt and the chat has a message for it. Answers
        of the chat that nobody has begun are cancelled, but for others to the same message.

        Raises:
            Refused: as in contract A.4, POST /chats/{chat_id}/assistant_message.
            ClientError: the prompt cannot be accepted.
        """
        spec = self.model(wanted.model_config_name)
        if any(plugin.enabled for plugin in wanted.plugins):
            raise Refused(422, "Plugins are not supported")
        text = self._texts[spec.id]
        with translated_errors():
            await self._check_parent(user_id, chat_id, wanted.parent_id)
            await self.check_queue(spec)
            branch = await self._chats.chain(
                user_id,
                chat_id,
                wanted.parent_id,
                most=MOST_BRANCH,
                most_bytes=text.context_tokens * _TOKEN_BYTES,
            )
        if not branch:
            raise _no_message()
        system = instructions(
            system_prompt=wanted.system_prompt,
            user_profile=wanted.user_profile,
            user_response_instructions=wanted.user_response_instructions,
        )
        max_new_tokens = wanted.sampling_parameters.max_new_tokens
        messages = await fit(branch, system, text=text, max_new_tokens=max_new_tokens)
        seed = secrets.randbits(_SEED_BITS)
        accepted = await self._service.submit(
            user_id,
            PromptSubmission(
                prompt=branch[-1][1],
                messages=tuple(messages),
                id=time_ordered_id(),
                thread_id=chat_id,
                model_id=spec.id,
                sampling=wanted.sampling_parameters.for_engine(seed=seed),
            ),
        )
        with translated_errors():
            outcome, message = await self._chats.add_assistant(
                user_id,
                chat_id,
                accepted.prompt.id,
                parent_id=wanted.parent_id,
                work_parameters=_work_parameters(wanted, spec, text, seed),
                most_messages=self._limits.chat_max_messages,
            )
            if message is None:
                # The chat was deleted or filled up meanwhile. Nothing of the prompt stays: it is cancelled, then erased.
                await self._prompts.cancel(accepted.prompt.ref)
                await self._prompts.erase(accepted.prompt.ref)
                raise _ASSISTANT_REFUSED[outcome]()
            await self._chats.cancel_waiting(user_id, chat_id, spare=wanted.parent_id)
        return Told(message=message, prompt=accepted.prompt)

    async def _check_parent(self, user_id: str, chat_id: str, parent_id: str) -> None:
        await self._chats.get(user_id, chat_id)
        try:
            parent = await self._chats.message(user_id, chat_id, parent_id)
        except NotFound:
            raise _no_message() from None
        if parent.role is not Role.PROMPTER:
            raise _ASSISTANT_REFUSED[Outcome.WRONG_PARENT]()
        if await self._chats.count(user_id, chat_id) >= self._limits.chat_max_messages:
            raise _full()

    async def check_queue(self, spec: ModelSpec) -> None:
        """Raises Refused when as many prompts wait for the model as may."""
        most = self._limits.queue_max_size
        if most is not None and (await self._queues[spec.id].depth()).waiting >= most:
            raise Refused(503, "The server is currently busy. Please try again later.", retry_after_s=5)

    async def chat(self, user_id: str, chat_id: str) -> tuple[Chat, list[Told]]:
        """A chat and all of its messages. Raises NotFound."""
        with translated_errors():
            chat = await self._chats.get(user_id, chat_id)
            return chat, await self._told(user_id, await self._chats.messages(user_id, chat_id))

    async def message(self, user_id: str, chat_id: str, message_id: str) -> Told:
        """Raises NotFound."""
        with translated_errors():
            (told,) = await self._told(user_id, [await self._chats.message(user_id, chat_id, message_id)])
        return told

    async def _told(self, user_id: str, messages: list[ChatMessage]) -> list[Told]:
        refs = [message.ref for message in messages if message.role is Role.ASSISTANT]
        prompts = {prompt.id: prompt for prompt in await self._prompts.get_many(refs) if prompt is not None}
        answer_ids = [prompt.message_id for prompt in prompts.values() if prompt.message_id]
        answers = {
            answer.id: answer.text
            for answer in await self._messages.get_many(user_id, answer_ids)
            if answer is not None
        }
        return [
            Told(message=message, prompt=prompt, answer=answers.get(prompt.message_id) if prompt else None)
            for message in messages
            for prompt in [prompts.get(message.id)]
        ]

    async def place_in_queue(self, told: Told) -> tuple[int, int]:
        """Where an answer waits, 1 for the one that is next and 0 if it does not, and how many wait for its model. (0, 0) also if
        that has left the catalogue: such an answer is given up soon."""
        queue = self._queues.get(told.prompt.model_id) if told.prompt else None
        if told.prompt is None or queue is None:
            return 0, 0
        with translated_errors():
            position = await self._prompts.queue_position(told.prompt.ref)
            depth = await queue.depth()
        return position or 0, depth.waiting


def _no_message() -> Refused:
    return Refused(400, "Message not found")


def _full() -> Refused:
    return Refused(413, "Maximum number of messages reached for this chat")


_PROMPTER_REFUSED = {
    Outcome.NO_CHAT: NotFound,
    Outcome.FULL: _full,
    Outcome.NOT_EMPTY: lambda: Refused(400, "Trying to add first message to non-empty chat"),
    Outcome.NO_PARENT: lambda: Refused(400, "Parent message not found"),
    Outcome.WRONG_PARENT: lambda: Refused(400, "Parent message is not an assistant message"),
    Outcome.NOT_COMPLETE: lambda: Refused(400, "Parent message is not complete"),
}
_ASSISTANT_REFUSED = {
    Outcome.NO_CHAT: NotFound,
    Outcome.FULL: _full,
    Outcome.NO_PARENT: _no_message,
    Outcome.WRONG_PARENT: lambda: Refused(400, "Parent message is not a prompter message"),
}


def _work_parameters(wanted: AssistantMessage, spec: ModelSpec, text: ModelText, seed: int) -> dict[str, Any]:
    """WorkParameters (contract A.3)."""
    sampling = wanted.sampling_parameters
    return {
        "model_config": {
            "model_id": spec.id,
            "max_input_length": text.context_tokens - answer_room(sampling.max_new_tokens, text.context_tokens),
            "max_total_length": text.context_tokens,
            "quantized": False,
        },
        "sampling_parameters": sampling.model_dump(),
        "do_sample": sampling.temperature != 0,
        "seed": seed,
        "system_prompt": wanted.system_prompt,
        "user_profile": wanted.user_profile,
        "user_response_instructions": wanted.user_response_instructions,
        "plugins": [plugin.model_dump() for plugin in wanted.plugins],
        "plugin_max_depth": _PLUGIN_DEPTH,
    }
