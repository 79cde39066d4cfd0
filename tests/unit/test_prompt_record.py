from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import SamplingParameters
from pipeline.prompt import NewPrompt, Prompt, make_ref, pack_token_ids, sampling_from_record, unpack_token_ids
from pipeline.states import Status


def stored(new: NewPrompt, **by_the_store: str) -> Prompt:
    """What comes back from the store: its client sends every value as bytes, and returns bytes."""
    values = {"place": "1", "status": "scheduled", "created": "1", "updated": "1", **by_the_store}
    record = {**new.to_record(), **values}
    return Prompt.from_record(
        {name.encode(): value if isinstance(value, bytes) else str(value).encode() for name, value in record.items()}
    )


def new_prompt(**changes: Any) -> NewPrompt:
    fields = {
        "id": "prom_1",
        "user_id": "usr-1",
        "thread_id": "t",
        "model_id": "m/x",
        "prompt": "Grüße 👩‍👩‍👧\n",
        "prompt_token_ids": (1, 2, 2**32 - 1),
    }
    return NewPrompt(**{**fields, **changes})


def test_a_prompt_comes_back_as_it_was_stored():
    new = new_prompt(
        sync=True,
        priority=3,
        max_retries=0,
        type="Text-to-Text",
        parameters={"textToText": {"template": "[INST] {prompt} [/INST]"}},
        engine_parameters={"vllm": {"seed": 7}},
    )
    prompt = stored(new)
    assert prompt == Prompt(
        id="prom_1",
        user_id="usr-1",
        thread_id="t",
        place=1,
        model_id="m/x",
        prompt="Grüße 👩‍👩‍👧\n",
        status=Status.SCHEDULED,
        sync=True,
        priority=3,
        type="Text-to-Text",
        max_retries=0,
        runs=0,
        failures=0,
        crashes=0,
        fence=0,
        error="",
        created_us=1,
        updated_us=1,
        last_run_us=0,
        message_id="",
        parameters={"textToText": {"template": "[INST] {prompt} [/INST]"}},
        engine_parameters={"vllm": {"seed": 7}},
    )
    assert prompt.ref == new.ref == "usr-1/prom_1"


def test_what_the_client_left_out_stays_left_out():
    new = new_prompt()
    assert not {"type", "parameters", "engine_parameters"} & new.to_record().keys()
    prompt = stored(new)
    assert (prompt.parameters, prompt.engine_parameters, prompt.type) == (None, None, "")


def test_empty_parameters_are_not_absent_ones():
    assert stored(new_prompt(parameters={}, engine_parameters={})).parameters == {}


def test_an_unknown_status_is_an_error_and_no_guess():
    with pytest.raises(ValueError, match="lost"):
        stored(new_prompt(), status="lost")


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_token_ids_are_four_little_endian_bytes_each(token_ids: list[int]):
    packed = pack_token_ids(token_ids)
    assert packed == b"".join(token_id.to_bytes(4, "little") for token_id in token_ids)
    assert unpack_token_ids(packed) == tuple(token_ids)


@given(
    st.builds(
        SamplingParameters,
        max_tokens=st.integers(1, 10**6),
        temperature=st.floats(0, 2),
        top_p=st.floats(0.01, 1),
        top_k=st.integers(0, 100),
        stop=st.lists(st.text(min_size=1)).map(tuple),
        seed=st.none() | st.integers(-(2**63), 2**63 - 1),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        json_schema=st.none() | st.just({"type": "object", "properties": {"a": {"enum": ["é"]}}}),
    )
)
def test_sampling_comes_back_as_it_was_stored(sampling: SamplingParameters):
    raw = new_prompt(sampling=sampling).to_record()["sampling"]
    assert isinstance(raw, bytes)
    assert sampling_from_record(raw) == sampling


def test_ids_are_unique_per_user():
    assert make_ref("usr-1", "batch_item_0") != make_ref("usr-2", "batch_item_0")
