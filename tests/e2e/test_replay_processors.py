"""The processors that force logged ids, each against the interface of its vLLM model runner. (That the whole works is
shown by test_vllm_resume; the second runner needs a GPU, so that here is all there is of it.)"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def replay() -> Any:
    from deployments.engines import replay

    return replay


def params(replay: Any, forced: list[int]) -> Any:
    from vllm.sampling_params import SamplingParams

    return SamplingParams(extra_args={replay.REPLAY_KEY: forced})


def possible(row: Any) -> list[int]:
    return torch.nonzero(torch.isfinite(row)).flatten().tolist()


def test_the_first_runner_forces_logged_ids_and_lets_go(replay: Any) -> None:
    from vllm.sampling_params import SamplingParams

    processor = replay.Replay(None, torch.device("cpu"), False)
    assert processor.new_req_logits_processor(SamplingParams()) is None
    forced = processor.new_req_logits_processor(params(replay, [4, 2]))
    assert possible(forced([], torch.zeros(5))) == [4]
    assert possible(forced([4], torch.zeros(5))) == [2]
    assert possible(forced([4, 2], torch.zeros(5))) == [0, 1, 2, 3, 4]


def test_the_second_runner_forces_logged_ids_by_slot_and_lets_go(replay: Any) -> None:
    from vllm.sampling_params import SamplingParams

    states = SimpleNamespace(prompt_len=SimpleNamespace(np=np.array([0, 10, 0, 7], dtype=np.int32)))
    processor = replay.RunnerV2Replay(None, states)
    assert processor.add_request(3, params(replay, [4, 2]))
    assert not processor.add_request(1, SamplingParams())

    def step(lengths: list[int]) -> list[list[int]]:
        context = SimpleNamespace(idx_mapping_np=np.array([1, 3]), seq_lens_upper_bound_np=np.array(lengths))
        return [possible(row) for row in processor.apply(torch.zeros(2, 5), context)]

    everything = [0, 1, 2, 3, 4]
    assert step([10, 7]) == [everything, [4]]
    assert step([11, 8]) == [everything, [2]]
    assert step([12, 9]) == [everything, everything]

    assert not processor.add_request(3, SamplingParams()), "a reused slot"
    assert step([10, 7]) == [everything, everything]


def test_no_processor_is_loaded_where_vllm_allows_none(replay: Any) -> None:
    def config(**fields: Any) -> Any:
        return SimpleNamespace(**fields)

    name = replay.processor_name
    assert name(config(speculative_config=object(), use_v2_model_runner=True)) is None
    assert name(config(speculative_config=None, use_v2_model_runner=False)).endswith(":Replay")
    assert name(config(speculative_config=None, use_v2_model_runner=True)).endswith(":RunnerV2Replay")
