import pytest

from pipeline.errors import InvalidTransition
from pipeline.states import TERMINAL, TRANSITIONS, Status, advance

MOVES = [(name, before, after) for name, moves in TRANSITIONS.items() for before, after in moves.items()]


def test_the_words_on_the_wire():
    assert [status.value for status in Status] == [
        "scheduled",
        "running",
        "completed",
        "errored",
        "abandoned",
        "canceled",
    ]


@pytest.mark.parametrize(("transition", "before", "after"), MOVES)
def test_a_transition_leads_where_the_table_says(transition: str, before: Status, after: Status):
    assert advance(before, transition) is after


@pytest.mark.parametrize(
    ("transition", "before"),
    [(name, status) for name in TRANSITIONS for status in Status if status not in TRANSITIONS[name]],
)
def test_every_other_transition_is_refused(transition: str, before: Status):
    with pytest.raises(InvalidTransition, match=f"a prompt that is {before} cannot {transition.replace('_', ' ')}"):
        advance(before, transition)


def test_nothing_leads_out_of_a_terminal_state():
    assert {status for status in Status if status.is_terminal} == TERMINAL
    assert not TERMINAL & {before for _, before, _ in MOVES}


def test_every_state_is_reached_and_leads_to_an_end():
    reached = {Status.SCHEDULED}
    while more := {after for _, before, after in MOVES if before in reached} - reached:
        reached |= more
    assert reached == set(Status)
    ending = set(TERMINAL)
    while more := {before for _, before, after in MOVES if after in ending} - ending:
        ending |= more
    assert ending == set(Status)
