"""Logits processors that force a vLLM request through ids it has generated before, then let go (DESIGN §3, Resume).

Sampler, grammar and penalties see every replayed step, so their state behind the seam is that of the undisturbed
request. vLLM has two model runners with different processor interfaces; ``processor_name`` picks the one to load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as RunnerV2LogitsProcessor

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

#: Key in ``SamplingParams.extra_args`` of the ids to force.
REPLAY_KEY = "prompt_svc_replay_token_ids"


def processor_name(config: VllmConfig) -> str | None:
    """``module:class`` of the processor for the engine's model runner; None where vLLM allows no custom processor."""
    if config.speculative_config is not None:
        return None
    processor = RunnerV2Replay if config.use_v2_model_runner else Replay
    return f"{processor.__module__}:{processor.__qualname__}"


def forced_ids(params: SamplingParams) -> list[int]:
    return (params.extra_args or {}).get(REPLAY_KEY) or []


def force(logits: torch.Tensor, token_id: int) -> None:
    """Leave one token possible in a row of logits, shape (vocabulary,), in place."""
    logits.fill_(float("-inf"))
    logits[token_id] = 0.0


class Replay(AdapterLogitsProcessor):
    """For vLLM's first model runner (CPU)."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        forced = forced_ids(params)
        if not forced:
            return None

        def replay(output_ids: list[int], logits: torch.Tensor) -> torch.Tensor:
            # Under async scheduling the newest ids may still be placeholders; their number is right.
            if len(output_ids) < len(forced):
                force(logits, forced[len(output_ids)])
            return logits

        return replay


class RunnerV2Replay(RunnerV2LogitsProcessor):
    """For vLLM's second model runner (GPU)."""

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        super().__init__(vllm_config, req_states)
        self._prompt_len: Any = req_states.prompt_len.np
        self._forced: dict[int, list[int]] = {}

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        # Slots are reused: what the last request left must go.
        self._forced.pop(req_idx, None)
        forced = forced_ids(sampling_params)
        if forced:
            self._forced[req_idx] = forced
        return bool(forced)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        if self._forced:
            # Without speculative decoding a request has exactly one row, in batch order.
            for row, slot in enumerate(ctx.idx_mapping_np.tolist()):
                forced = self._forced.get(slot)
                if forced is None:
                    continue
                position = int(ctx.seq_lens_upper_bound_np[row]) - int(self._prompt_len[slot])
                if position < len(forced):
                    force(logits[row], forced[position])
        return logits
