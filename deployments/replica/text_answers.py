"""Text: from a claimed prompt through the engine into its log and its answer."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import orjson

from deployments.replica.attempt_log import AttemptLog
from deployments.replica.histories import Histories
from deployments.replica.persist import persist
from pipeline.delta import TEXT_KINDS, Delta, DeltaKind, FinishReason
from pipeline.engine import Engine, TextRequest
from pipeline.errors import EngineError, StaleLease
from pipeline.ids import new_id
from pipeline.store.attempts import AttemptStore, Claimed


class TextAnswers:
    """The ``Work`` of a language model."""

    def __init__(self, *, store: AttemptStore, engine: Engine, histories: Histories, model_id: str) -> None:
        self._store = store
        self._engine = engine
        self._histories = histories
        self._model_id = model_id

    @property
    def fingerprint(self) -> str:
        return self._engine.fingerprint

    async def answer(self, claimed: Claimed, log: AttemptLog) -> bool:
        claimed = await self._with_history(claimed)
        answer = [claimed.logged_text]
        tokens = len(claimed.logged_token_ids)
        thought = sum(len(delta.token_ids) for delta in claimed.logged if delta.kind is DeltaKind.THINKING)
        request = TextRequest(
            request_id=f"{new_id('att')}-{claimed.fence}",
            prompt_token_ids=claimed.prompt_token_ids,
            sampling=claimed.sampling,
            logged_token_ids=claimed.logged_token_ids,
            logged_text=claimed.logged_text,
            logged=claimed.logged,
        )
        async with contextlib.aclosing(self._engine.generate(request)) as deltas:
            async for delta in deltas:
                tokens += len(delta.token_ids)
                if delta.kind in TEXT_KINDS:
                    answer.append(delta.text)
                elif delta.kind is DeltaKind.THINKING:
                    thought += len(delta.token_ids)
                if delta.kind is DeltaKind.END:
                    return await self._finish(claimed, log, delta, "".join(answer), tokens=tokens, thought=thought)
                if delta.kind is DeltaKind.RESTART:
                    await log.append_now(delta)
                    answer.clear()
                    tokens = thought = 0
                else:
                    log.put(delta)
        raise EngineError("the engine ended the answer without saying so")

    async def _with_history(self, claimed: Claimed) -> Claimed:
        """The prompt as the model gets it. It is stored before anything comes of it, so that whoever resumes the answer goes on
        from the same ids, whatever happens to the thread."""
        wanted = claimed.history
        if wanted is None:
            return claimed
        rendered = await persist(lambda: self._histories.render(wanted, claimed.sampling.max_tokens))
        token_ids = claimed.prompt_token_ids if rendered is None else rendered
        if not await persist(lambda: self._store.keep_rendered(claimed.ref, claimed.fence, token_ids)):
            raise StaleLease
        return replace(claimed, prompt_token_ids=token_ids, history=None)

    async def _finish(
        self, claimed: Claimed, log: AttemptLog, end: Delta, text: str, *, tokens: int, thought: int
    ) -> bool:
        """The last script: text that is not written yet travels in the end entry, so `done` and `completed` are one."""
        pending = await log.unwritten()
        if pending and pending[-1].kind is DeltaKind.CONTENT:
            end = replace(
                pending.pop().merged_with(end),
                kind=DeltaKind.END,
                finish_reason=end.finish_reason or FinishReason.STOP,
            )
        await log.append_all(pending)
        message_id = new_id("msg")
        meta = {
            "modelId": self._model_id,
            "finishReason": end.finish_reason,
            "promptTokens": len(claimed.prompt_token_ids),
            "completionTokens": tokens,
        }
        if thought:
            meta["reasoningTokens"] = thought
        return await persist(
            lambda: self._store.finish(
                claimed.ref,
                claimed.fence,
                message_id=message_id,
                text=text,
                meta_json=orjson.dumps(meta).decode(),
                end=end,
                entries=log.written,
            )
        )
