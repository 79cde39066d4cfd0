"""How an attempt goes on behind what earlier attempts logged (DESIGN §3, Resume). A decision, no generation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from tokenizers import Tokenizer

from pipeline.delta import FinishReason
from pipeline.engine import TextRequest
from pipeline.text_stream import LogMismatch, TextStream


class ResumeMethod(StrEnum):
    #: Nothing is logged.
    FRESH = "fresh"
    #: Prompt and logged ids are prefilled together.
    PREFIX = "prefix"
    #: Generation starts at the prompt and is forced through the logged ids.
    REPLAY = "replay"
    #: What is logged cannot be continued; readers are told to forget it.
    RESTART = "restart"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumePlan:
    """What is left to do of an answer."""

    method: ResumeMethod
    #: Takes the ids that follow the logged ones.
    stream: TextStream
    #: Text the logged ids stand for that was not published yet; to be published first.
    owed_text: str = ""
    #: Set when the answer ended within the log: nothing is to be generated.
    finish_reason: FinishReason | None = None


def plan_resume(
    request: TextRequest,
    *,
    tokenizer: Tokenizer,
    end_ids: Collection[int],
    context_tokens: int,
    always_replay: bool = False,
    can_replay: bool = True,
) -> ResumePlan:
    """Decide how to go on.

    Args:
        end_ids: ids that end an answer and are not part of its text.
        context_tokens: most tokens of prompt and answer together; an answer that reaches it ends with LENGTH.
        always_replay: replay even where a prefix would do.
        can_replay: whether the engine can force ids at all.
    """
    sampling, logged = request.sampling, request.logged_token_ids
    skip = sampling.skip_special_tokens
    stream = TextStream(tokenizer, sampling.stop, skip)
    if not logged and not request.logged_text:
        return ResumePlan(method=ResumeMethod.FRESH, stream=stream)
    restart = ResumePlan(method=ResumeMethod.RESTART, stream=TextStream(tokenizer, sampling.stop, skip))

    replay = sampling.needs_replay or (always_replay and can_replay)
    method = ResumeMethod.REPLAY if replay else ResumeMethod.PREFIX
    end_logged = bool(logged) and logged[-1] in end_ids
    text_ids = logged[:-1] if end_logged else logged
    full = len(logged) >= sampling.max_tokens or len(request.prompt_token_ids) + len(logged) >= context_tokens

    try:
        if not end_logged and not full:
            owed, stopped = stream.restore(text_ids, request.logged_text)
            if stopped:
                return ResumePlan(method=method, stream=stream, owed_text=owed, finish_reason=FinishReason.STOP)
            return ResumePlan(method=method, stream=stream, owed_text=owed) if can_replay or not replay else restart
        text, stopped = stream.feed(text_ids)
        text += stream.finish()
        if not text.startswith(request.logged_text):
            return restart
        return ResumePlan(
            method=method,
            stream=stream,
            owed_text=text[len(request.logged_text) :],
            finish_reason=FinishReason.STOP if end_logged or stopped else FinishReason.LENGTH,
        )
    except LogMismatch:
        return restart
