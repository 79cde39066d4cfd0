from hypothesis import given
from hypothesis import strategies as st

from pipeline.template import fill, has_placeholder, unescape_newlines


def test_every_placeholder_is_replaced():
    assert fill("[INST] {prompt} [/INST] {prompt}", "Hi") == "[INST] Hi [/INST] Hi"


def test_a_placeholder_in_the_prompt_stays():
    assert fill("<{prompt}>", "write {prompt}") == "<write {prompt}>"


def test_other_braces_stay():
    assert fill("{system} {} {prompt} {0}", "Hi") == "{system} {} Hi {0}"


def test_backslash_n_from_the_command_line_becomes_a_newline():
    typed = r"### HUMAN:\n{prompt}\n\n### RESPONSE:\n"
    assert unescape_newlines(typed) == "### HUMAN:\n{prompt}\n\n### RESPONSE:\n"


def test_backslashes_of_an_author_who_can_write_newlines_stay():
    assert unescape_newlines("Explain \\n:\n{prompt}") == "Explain \\n:\n{prompt}"


@given(st.text(), st.text())
def test_filling_keeps_prompt_and_surroundings(prompt: str, around: str):
    around = around.replace("{prompt}", "")
    template = f"{around} {{prompt}} {around}"
    assert has_placeholder(template)
    assert fill(template, prompt) == f"{around} {prompt} {around}"
