"""Our objects in the words of the contract (A.3, A.5): every key is always there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deployments.ingress.doors.open_assistant.bodies import DEFAULT_NEW_TOKENS
from pipeline.chat_tree import Chat, ChatMessage, Role
from pipeline.prompt import Prompt
from pipeline.states import Status

#: What becomes of an answer, by its prompt (contract A.6). ``timeout`` does not occur: a prompt waits for as long as it takes.
_STATES = {
    Status.SCHEDULED: "pending",
    Status.RUNNING: "in_progress",
    Status.ERRORED: "in_progress",
    Status.COMPLETED: "complete",
    Status.ABANDONED: "aborted_by_worker",
    Status.CANCELED: "cancelled",
}
#: States of which nothing is to be streamed; the client reads the message instead.
FINISHED = frozenset({"complete", "aborted_by_worker"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A message with what its prompt says of it."""

    message: ChatMessage
    #: None for the user's, and for an answer whose prompt was erased.
    prompt: Prompt | None = None
    #: Text of a complete answer, None if it was erased.
    answer: str | None = None

    @property
    def state(self) -> str:
        if self.message.role is Role.PROMPTER:
            return "manual"
        return "cancelled" if self.prompt is None else _STATES[self.prompt.status]


def timestamp(microseconds: int) -> str:
    """ISO 8601 in UTC, without saying so."""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


def chat_in_list(chat: Chat) -> dict[str, Any]:
    """ChatListRead; in listings the tail is null (contract A.3)."""
    return {
        "id": chat.id,
        "created_at": timestamp(chat.created_us),
        "modified_at": timestamp(chat.modified_us),
        "title": chat.title,
        "hidden": chat.is_hidden,
        "allow_data_use": chat.allows_data_use,
        "active_thread_tail_message_id": None,
    }


def chat_object(chat: Chat, messages: Sequence[Told]) -> dict[str, Any]:
    """ChatRead."""
    return {
        **chat_in_list(chat),
        "active_thread_tail_message_id": chat.tail_id,
        "messages": [message_object(told) for told in messages],
    }


def message_object(told: Told) -> dict[str, Any]:
    """MessageRead."""
    message = told.message
    return {
        "id": message.id,
        "parent_id": message.parent_id,
        "content": message.text if message.role is Role.PROMPTER else told.answer,
        "chat_id": message.chat_id,
        "created_at": timestamp(message.created_us),
        "role": message.role.value,
        "state": told.state,
        "score": message.score,
        "reports": [
            {"id": report.id, "report_type": report.type.value, "reason": report.reason} for report in message.reports
        ],
        "work_parameters": message.work_parameters,
        "safe_content": None,
        "safety_level": None,
        "safety_label": None,
        "safety_rots": None,
        "used_plugin": None,
    }


def pending_event(*, position: int, size: int) -> dict[str, Any]:
    """``position`` is 1 for the answer that is next, 0 for one that waits no more."""
    return {"event_type": "pending", "queue_position": position, "queue_size": max(size, position)}


def token_event(text: str) -> dict[str, Any]:
    return {"event_type": "token", "text": text}


def message_event(told: Told) -> dict[str, Any]:
    return {"event_type": "message", "message": message_object(told)}


def error_event(error: str, told: Told | None) -> dict[str, Any]:
    return {"event_type": "error", "error": error, "message": None if told is None else message_object(told)}


def _sampling(**given: float | int) -> dict[str, Any]:
    names = ("top_k", "top_p", "typical_p", "temperature", "repetition_penalty")
    return {**dict.fromkeys(names), "max_new_tokens": DEFAULT_NEW_TOKENS, **given}


_K50 = {"top_k": 50, "top_p": 0.95, "repetition_penalty": 1.2}
#: What clients offer for every model (contract A.4, Configs).
PRESETS: dict[str, dict[str, Any]] = {
    "k50": _sampling(**_K50, temperature=0.75),
    "k50-Creative": _sampling(**_K50, temperature=0.85),
    "k50-Precise": _sampling(**_K50, temperature=0.1),
    "k50-Original": _sampling(**_K50, temperature=0.9),
    "k50-Plugins": _sampling(top_k=50, temperature=0.35, repetition_penalty=round(1 / 0.9, 6)),
    "nucleus9": _sampling(top_p=0.9, temperature=0.8, repetition_penalty=1.2),
    "typical2": _sampling(temperature=0.8, typical_p=0.2, repetition_penalty=1.2),
    "typical3": _sampling(temperature=0.8, typical_p=0.3, repetition_penalty=1.2),
}


def model_config(name: str, description: str) -> dict[str, Any]:
    """A model as clients choose one."""
    return {
        "name": name,
        "description": description,
        "parameter_configs": [
            {"name": preset, "description": "", "sampling_parameters": sampling} for preset, sampling in PRESETS.items()
        ],
    }
