"""vLLM behind the engine seam. Tokens come from vLLM; text, stop strings and resuming are ours (``pipeline.text_stream``,
``pipeline.resume``), so that they go on across attempts."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

# vLLM reports usage over the network unless told not to before it is imported.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

from tokenizers import Tokenizer
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from deployments.engines.fingerprint import model_fingerprint
from deployments.engines.rendering import PromptRenderer, model_files
from deployments.engines.replay import REPLAY_KEY, processor_name
from deployments.settings import InvalidSettings, ModelSpec
from pipeline.delta import Delta, DeltaKind, FinishReason, TokenLogprob
from pipeline.engine import SamplingParameters, TextRequest
from pipeline.errors import EngineDead, EngineError, PermanentEngineError
from pipeline.resume import ResumeMethod, ResumePlan, plan_resume

if TYPE_CHECKING:
    from deployments.engines.vllm_parsers import VllmParsers

_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
#: Engine arguments that the service sets itself.
_RESERVED_ARGS = frozenset({"model", "logits_processors", "max_model_len", "skip_tokenizer_init", "reasoning_parser"})
#: What stands for an impossible token: JSON has no infinity. vLLM's own server says the same.
_LEAST_LOGPROB = -9999.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """Ids that the engine has generated, with the reason on the last ones."""

    ids: list[int]
    #: One per id, or none.
    logprobs: Sequence[TokenLogprob] = ()
    reason: FinishReason | None = None


class VllmEngine:
    """One vLLM engine; see ``pipeline.engine.Engine`` for its methods. Made by ``start``."""

    def __init__(
        self,
        llm: AsyncLLM,
        *,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        fingerprint: str,
        always_replay: bool,
        can_replay: bool,
    ) -> None:
        self.fingerprint = fingerprint
        #: Most tokens of prompt and answer together.
        self.context_tokens: int = llm.model_config.max_model_len
        self._llm: AsyncLLM | None = llm
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._always_replay = always_replay
        self._can_replay = can_replay

    @classmethod
    async def start(cls, spec: ModelSpec, source: str) -> VllmEngine:
        """Load the model at ``source`` (a directory or a Hugging Face id) and start the engine; takes seconds to minutes.

        Raises:
            InvalidSettings: ``spec.engine_args`` names something vLLM does not know or the service sets itself.
            EngineError: prompts would be rendered otherwise than vLLM renders them.
        """
        args = _engine_args(spec, source)
        llm, can_replay = await asyncio.to_thread(_load, args)
        try:
            model_dir = await asyncio.to_thread(
                model_files,
                llm.model_config.model,
                revision=llm.model_config.revision,
                download_dir=args.download_dir,
            )
            renderer = PromptRenderer(model_dir)
            _check_same_ids(renderer, llm)
            return cls(
                llm,
                tokenizer=renderer.tokenizer,
                end_ids=_end_ids(llm),
                fingerprint=model_fingerprint(
                    model_dir, str(llm.model_config.dtype), str(llm.model_config.quantization)
                ),
                always_replay=spec.resume == "replay",
                can_replay=can_replay,
            )
        except BaseException:
            await asyncio.to_thread(llm.shutdown)
            raise

    async def generate(self, request: TextRequest) -> AsyncIterator[Delta]:
        plan = plan_resume(
            request,
            tokenizer=self._tokenizer,
            end_ids=self._end_ids,
            context_tokens=self.context_tokens,
            always_replay=self._always_replay,
            can_replay=self._can_replay,
        )
        if plan.finish_reason is not None:
            yield Delta(kind=DeltaKind.END, text=plan.owed_text, finish_reason=plan.finish_reason)
            return
        if len(request.prompt_token_ids) >= self.context_tokens:
            raise PermanentEngineError(
                f"the prompt has {len(request.prompt_token_ids)} tokens; with at least one of answer it must fit "
                f"into the model's {self.context_tokens}"
            )
        if plan.method is ResumeMethod.RESTART:
            yield Delta(kind=DeltaKind.RESTART)
        elif plan.owed_text:
            yield Delta(text=plan.owed_text)
        async with aclosing(self._generate(request, plan)) as deltas:
            async for delta in deltas:
                yield delta

    def parsers(self, spec: ModelSpec) -> VllmParsers:
        """The parsers of its answers. Raises InvalidSettings."""
        from deployments.engines.vllm_parsers import VllmParsers

        llm = self._running()
        return VllmParsers(spec, llm.renderer.get_tokenizer(), llm.model_config)

    async def abort(self, request_id: str) -> None:
        with _translated():
            await self._running().abort(request_id)

    async def check_health(self) -> None:
        with _translated():
            await self._running().check_health()

    async def shutdown(self) -> None:
        if self._llm is not None:
            # vLLM's object must not outlive this: its __del__ shuts down once more, and fails when Python itself ends.
            llm, self._llm = self._llm, None
            await asyncio.to_thread(llm.shutdown)

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineDead
        return self._llm

    async def _generate(self, request: TextRequest, plan: ResumePlan) -> AsyncGenerator[Delta, None]:
        """What follows the log, from the engine."""
        stream = plan.stream
        async with aclosing(self._new_ids(request, plan.method)) as batches:
            async for batch in batches:
                ids, engine_reason = batch.ids, batch.reason
                # The id that ended the answer is counted and logged, but is no text, whether special or not.
                ended = engine_reason is FinishReason.STOP and ids and ids[-1] in self._end_ids
                texts: list[str] = []
                used = 0
                stopped = False
                for token_id in ids[:-1] if ended else ids:
                    text, stopped = stream.feed((token_id,))
                    texts.append(text)
                    used += 1
                    if stopped:
                        break
                if stopped:
                    # Leaving the loop closes the engine's iterator, which aborts the rest.
                    yield Delta(
                        kind=DeltaKind.END,
                        text="".join(texts),
                        token_ids=tuple(ids[:used]),
                        finish_reason=FinishReason.STOP,
                        logprobs=tuple(batch.logprobs[:used]),
                    )
                    return
                if engine_reason is not None:
                    yield Delta(
                        kind=DeltaKind.END,
                        text="".join(texts) + stream.finish(),
                        token_ids=tuple(ids),
                        finish_reason=engine_reason,
                        logprobs=tuple(batch.logprobs[:used]),
                    )
                    return
                if ids:
                    yield Delta(text="".join(texts), token_ids=tuple(ids), logprobs=tuple(batch.logprobs))
        raise EngineError("the engine ended the request without a reason")

    async def _new_ids(self, request: TextRequest, method: ResumeMethod) -> AsyncGenerator[_Batch, None]:
        """Ids that are not logged yet."""
        logged = [] if method is ResumeMethod.RESTART else list(request.logged_token_ids)
        prefix = logged if method is ResumeMethod.PREFIX else []
        replayed = logged if method is ResumeMethod.REPLAY else []
        with _translated(request.sampling):
            params = _sampling_params(request.sampling, already=len(prefix), replayed=replayed)
            outputs: AsyncGenerator[RequestOutput, None] = self._running().generate(
                tokens_input([*request.prompt_token_ids, *prefix]), params, request.request_id
            )
            seen = 0
            async with aclosing(outputs):
                async for output in outputs:
                    completion = output.outputs[0]
                    ids = list(completion.token_ids)
                    echo = ids[: max(0, len(replayed) - seen)]
                    if echo != replayed[seen : seen + len(echo)]:
                        raise EngineError("the engine left the logged ids while replaying them")
                    seen += len(ids)
                    reason = completion.finish_reason
                    if reason is not None and reason not in _FINISH_REASONS:
                        raise EngineError(f"the engine ended the request: {reason}")
                    new = ids[len(echo) :]
                    yield _Batch(
                        ids=new,
                        logprobs=self._logprobs(new, completion.logprobs, len(echo), most=params.logprobs or 0),
                        reason=_FINISH_REASONS[reason] if reason is not None else None,
                    )

    def _logprobs(self, ids: list[int], rows: Any, skipped: int, *, most: int) -> list[TokenLogprob]:
        """Of ``ids``, which begin behind the first ``skipped`` rows, with the ``most`` likeliest. A row maps ids to their
        probabilities: those of the likeliest, and of the one that was generated."""
        if not rows:
            return []
        found = []
        for token_id, row in zip(ids, rows[skipped:], strict=True):
            others = sorted((one.rank, other, one.logprob) for other, one in row.items())
            found.append(
                TokenLogprob(
                    token=self._token(token_id),
                    logprob=max(row[token_id].logprob, _LEAST_LOGPROB),
                    top=tuple(
                        (self._token(other), max(logprob, _LEAST_LOGPROB)) for _, other, logprob in others[:most]
                    ),
                )
            )
        return found

    def _token(self, token_id: int) -> str:
        """A token alone, as text. SentencePiece decoders leave a leading space out."""
        token = self._tokenizer.decode([token_id], skip_special_tokens=False)
        piece = self._tokenizer.id_to_token(token_id) or ""
        return f" {token}" if piece.startswith("\u2581") and not token.startswith(" ") else token


def _engine_args(spec: ModelSpec, source: str) -> AsyncEngineArgs:
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)} - _RESERVED_ARGS
    wrong = sorted(set(spec.engine_args) - known)
    if wrong:
        raise InvalidSettings(
            f"models: {spec.id}: engine_args: got {', '.join(wrong)}, allowed are the fields of vLLM's AsyncEngineArgs "
            f"except {', '.join(sorted(_RESERVED_ARGS))} (set source, context_tokens, reasoning_parser instead)"
        )
    defaults: dict[str, Any] = {
        # One replica never runs more than its permits.
        "max_num_seqs": spec.permits,
        "disable_log_stats": True,
        "enable_log_requests": False,
    }
    if spec.context_tokens is not None:
        defaults["max_model_len"] = spec.context_tokens
    if spec.reasoning_parser is not None:
        # What an answer must look like holds behind its thoughts.
        defaults["reasoning_parser"] = spec.reasoning_parser
    return AsyncEngineArgs(model=source, **{**defaults, **spec.engine_args})


def _load(args: AsyncEngineArgs) -> tuple[AsyncLLM, bool]:
    """The engine, and whether it can replay."""
    config = args.create_engine_config(UsageContext.ENGINE_CONTEXT)
    processor = processor_name(config)
    if processor is not None:
        config.model_config.logits_processors = [processor]
    llm = AsyncLLM.from_vllm_config(
        config,
        usage_context=UsageContext.ENGINE_CONTEXT,
        enable_log_requests=args.enable_log_requests,
        disable_log_stats=args.disable_log_stats,
    )
    return llm, processor is not None


def _end_ids(llm: AsyncLLM) -> frozenset[int]:
    """Ids at which vLLM ends an answer by itself: the tokenizer's and the generation config's."""
    configured = llm.model_config.try_get_generation_config().get("eos_token_id", [])
    ids = {configured} if isinstance(configured, int) else set(configured)
    if (eos := llm.renderer.get_eos_token_id()) is not None:
        ids.add(eos)
    return frozenset(ids)


def _check_same_ids(renderer: PromptRenderer, llm: AsyncLLM) -> None:
    """Ingress replicas render without transformers; the engine has it at hand and compares once."""
    tokenizer: Any = llm.renderer.get_tokenizer()
    text = "Hello,  world! ¿Qué? 日本語 🦜\n\tEnd"
    if list(renderer.render_text(text)) != tokenizer.encode(text):
        raise EngineError("the model's tokenizer.json gives other ids for a text than transformers' tokenizer")
    if renderer.has_chat_template:
        messages = [{"role": "user", "content": text}]
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        if list(renderer.render_chat(messages)) != list(expected):
            raise EngineError("the model's chat template gives other ids than transformers' tokenizer")


def _sampling_params(sampling: SamplingParameters, *, already: int, replayed: list[int]) -> SamplingParams:
    structured = None
    if sampling.structural_tag is not None:
        structured = StructuredOutputsParams(structural_tag=sampling.structural_tag)
    elif sampling.json_schema is not None:
        structured = StructuredOutputsParams(json=dict(sampling.json_schema))
    return SamplingParams(
        max_tokens=sampling.max_tokens - already,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        structured_outputs=structured,
        logit_bias=dict(sampling.logit_bias) or None,
        logprobs=sampling.logprobs,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args={REPLAY_KEY: replayed} if replayed else None,
    )


@contextmanager
def _translated(sampling: SamplingParameters | None = None) -> Iterator[None]:
    """vLLM's errors as ours."""
    try:
        yield
    except EngineDeadError as error:
        raise EngineDead from error
    except GracefulHTTPError as error:
        raise EngineError(f"the engine takes no more requests ({type(error).__name__})") from error
    except (VLLMClientError, ValueError) as error:
        if sampling is not None and (sampling.json_schema is not None or sampling.structural_tag is not None):
            # vLLM quotes the schema, which is the client's text; the chain would carry it into logs.
            raise PermanentEngineError(
                f"the engine cannot follow this JSON schema with these parameters ({type(error).__name__})"
            ) from None
        raise PermanentEngineError(f"the engine refuses the request: {error}") from None
    except EngineGenerateError as error:
        raise EngineError("the engine failed while generating") from error
