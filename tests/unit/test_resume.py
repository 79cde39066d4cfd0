"""The decision how an attempt goes on behind its log."""

from __future__ import annotations

import pytest

from deployments.engines.scripted import ScriptedRenderer
from pipeline.delta import FinishReason
from pipeline.engine import SamplingParameters, TextRequest
from pipeline.resume import ResumeMethod, ResumePlan, plan_resume

END = 256
TOKENIZER = ScriptedRenderer().tokenizer


def plan(
    logged: bytes | list[int] = b"",
    text: str = "",
    sampling: SamplingParameters | None = None,
    *,
    context_tokens: int = 1000,
    always_replay: bool = False,
    can_replay: bool = True,
) -> ResumePlan:
    request = TextRequest(
        request_id="r",
        prompt_token_ids=(1, 2, 3),
        sampling=sampling or SamplingParameters(),
        logged_token_ids=tuple(logged),
        logged_text=text,
    )
    return plan_resume(
        request,
        tokenizer=TOKENIZER,
        end_ids={END},
        context_tokens=context_tokens,
        always_replay=always_replay,
        can_replay=can_replay,
    )


def test_without_a_log_the_answer_starts_fresh() -> None:
    decided = plan()
    assert (decided.method, decided.owed_text, decided.finish_reason) == (ResumeMethod.FRESH, "", None)


def test_plain_sampling_goes_on_from_the_prefix() -> None:
    decided = plan(b"abc", "abc")
    assert (decided.method, decided.owed_text, decided.finish_reason) == (ResumeMethod.PREFIX, "", None)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParameters(json_schema={"type": "object"}),
        SamplingParameters(seed=1, temperature=1),
        SamplingParameters(presence_penalty=0.5),
        SamplingParameters(frequency_penalty=0.5),
    ],
)
def test_state_beside_the_prefix_is_replayed(sampling: SamplingParameters) -> None:
    assert plan(b"abc", "abc", sampling).method is ResumeMethod.REPLAY
    assert plan(b"abc", "abc", sampling, can_replay=False).method is ResumeMethod.RESTART


def test_a_seed_does_not_matter_to_greedy_decoding() -> None:
    assert plan(b"abc", "abc", SamplingParameters(seed=1, temperature=0)).method is ResumeMethod.PREFIX


def test_replay_can_be_made_the_rule() -> None:
    assert plan(b"abc", "abc", always_replay=True).method is ResumeMethod.REPLAY
    assert plan(b"abc", "abc", always_replay=True, can_replay=False).method is ResumeMethod.PREFIX


def test_a_cut_inside_a_character_owes_nothing_until_the_character_is_whole() -> None:
    decided = plan("a🎉".encode()[:-1], "a")
    assert decided.owed_text == ""
    assert decided.stream.feed("🎉".encode()[-1:]) == ("🎉", False)


def test_text_that_was_logged_as_ids_only_is_owed() -> None:
    assert plan(b"abc", "a").owed_text == "bc"


def test_a_log_that_does_not_fit_itself_is_started_again() -> None:
    decided = plan(b"abc", "xyz")
    assert decided.method is ResumeMethod.RESTART
    assert decided.stream.feed(b"new") == ("new", False)


def test_a_log_of_text_without_ids_is_started_again() -> None:
    assert plan(b"", "text").method is ResumeMethod.RESTART


def test_a_logged_end_token_ends_the_answer() -> None:
    decided = plan([*b"abc", END], "ab")
    assert (decided.finish_reason, decided.owed_text) == (FinishReason.STOP, "c")


def test_a_stop_string_complete_in_the_log_ends_the_answer() -> None:
    decided = plan(b"one END", "one", SamplingParameters(stop=("END",)))
    assert (decided.finish_reason, decided.owed_text) == (FinishReason.STOP, " ")


def test_the_beginning_of_a_stop_string_in_the_log_is_remembered() -> None:
    decided = plan(b"one EN", "one ", SamplingParameters(stop=("END",)))
    assert decided.finish_reason is None
    assert decided.stream.feed(b"D") == ("", True)


def test_all_tokens_used_up_ends_the_answer_with_what_was_held_back() -> None:
    decided = plan(b"one E", "one ", SamplingParameters(stop=("END",), max_tokens=5))
    assert (decided.finish_reason, decided.owed_text) == (FinishReason.LENGTH, "E")


def test_a_full_context_ends_the_answer() -> None:
    assert plan(b"abc", "abc", context_tokens=6).finish_reason is FinishReason.LENGTH
    assert plan(b"abc", "abc", context_tokens=7).finish_reason is None


def test_the_end_token_as_last_allowed_token_is_a_stop() -> None:
    assert plan([*b"ab", END], "ab", SamplingParameters(max_tokens=3)).finish_reason is FinishReason.STOP


def test_an_ended_log_that_does_not_fit_itself_is_started_again() -> None:
    assert plan([*b"ab", END], "xyz").method is ResumeMethod.RESTART
