import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidField
from pipeline.template import (
    MOST_FILLED,
    MissingVariable,
    fill,
    fill_all,
    has_placeholder,
    is_variable_name,
    unescape_newlines,
    variables_of,
)

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


def test_every_placeholder_is_replaced():
    assert fill("[INST] {prompt} [/INST] {prompt}", "Hi") == "[INST] Hi [/INST] Hi"


def test_a_placeholder_in_the_prompt_stays():
    assert fill("<{prompt}>", "write {prompt}") == "<write {prompt}>"


def test_other_braces_stay():
    assert fill("{system} {} {prompt} {0} {{x}}", "Hi") == "{system} {} Hi {0} {{x}}"


def test_backslash_n_from_the_command_line_becomes_a_newline():
    typed = r"### HUMAN:\n{prompt}\n\n### RESPONSE:\n"
    assert unescape_newlines(typed) == "### HUMAN:\n{prompt}\n\n### RESPONSE:\n"


def test_no_other_escape_is_read():
    assert unescape_newlines(r"C:\temp\\x {prompt}") == r"C:\temp\\x {prompt}"


def test_backslashes_of_an_author_who_can_write_newlines_stay():
    assert unescape_newlines("Explain \\n:\n{prompt}") == "Explain \\n:\n{prompt}"


@given(st.text(), st.text())
def test_filling_keeps_prompt_and_surroundings(prompt: str, around: str):
    around = around.replace("{prompt}", "")
    template = f"{around} {{prompt}} {around}"
    assert has_placeholder(template)
    assert fill(template, prompt) == f"{around} {prompt} {around}"


def test_the_documents_template_of_two_variables():
    template = unescape_newlines(r"Context: {context}\nQuestion: {prompt}\nAnswer:")
    assert fill_all(template, "Why?", {"context": "Because."}) == "Context: Because.\nQuestion: Why?\nAnswer:"


def test_values_are_not_expanded_again():
    values = {"a": "{b}{prompt}{a}", "b": "{a}"}
    assert fill_all("{a}|{b}|{prompt}", "{a}", values) == "{b}{prompt}{a}|{a}|{a}"


def test_braces_that_name_nothing_are_text():
    template = '{"answer": {prompt}, "n": {}, "x": {0}, "y": { name }, "deep": {"a": {"b": 1}}}'
    assert fill_all(template, "7", {}) == template.replace("{prompt}", "7")
    assert variables_of(template) == ("prompt",)


def test_doubled_braces_are_a_name_as_text():
    assert fill_all("{{context}} is {context}, {{prompt}}", "p", {"context": "c"}) == "{context} is c, {prompt}"
    assert variables_of("{{context}} {prompt}") == ("prompt",)


def test_a_variable_without_a_value_is_named():
    with pytest.raises(
        MissingVariable, match=r"^variables.question: got nothing, allowed is a string: the template has"
    ):
        fill_all("{context} {question} {other}", "p", {"context": "c"})


def test_values_that_nothing_asks_for_are_left_out():
    assert fill_all("{prompt}", "p", {"spare": "x"}) == "p"


def test_the_prompt_is_always_the_prompt():
    assert fill_all("{prompt}", "p", {"prompt": "another"}) == "p"


def test_names_in_the_order_of_use():
    assert variables_of("{b} {a} {b} {prompt}") == ("b", "a", "prompt")


@pytest.mark.parametrize("name", ["a", "_", "context_2", "A" * 64])
def test_variable_names(name: str):
    assert is_variable_name(name)
    assert variables_of(f"{{{name}}}") == (name,)


@pytest.mark.parametrize("name", ["", "2a", "a b", "a-b", "a.b", "ä", "A" * 65, "a\n"])
def test_what_is_no_variable_name(name: str):
    assert not is_variable_name(name)
    assert variables_of(f"{{{name}}}") == ()


def test_a_small_request_makes_no_huge_text():
    value = "x" * 100_000
    for filling in (lambda: fill("{prompt}" * 100_000, value), lambda: fill_all("{a}" * 100_000, "p", {"a": value})):
        with pytest.raises(InvalidField, match=f"allowed is at most {MOST_FILLED} characters") as refused:
            filling()
        assert "xx" not in refused.value.message


def test_the_longest_text_there_may_be():
    assert len(fill("{prompt}", "x" * MOST_FILLED)) == MOST_FILLED
    assert len(fill_all("{{a}}{prompt}", "x" * (MOST_FILLED - 3), {})) == MOST_FILLED


@given(st.dictionaries(names, st.text(), max_size=5), st.text(), st.data())
def test_filling_replaces_each_variable_once_and_nothing_else(values: dict[str, str], prompt: str, data: st.DataObject):
    values.pop("prompt", None)
    pieces = data.draw(st.lists(st.sampled_from(["prompt", *values])))
    texts = data.draw(st.lists(st.text().filter(lambda t: "{" not in t and "}" not in t), min_size=len(pieces) + 1))
    template = texts[0] + "".join(f"{{{name}}}{text}" for name, text in zip(pieces, texts[1:], strict=False))
    right = texts[0] + "".join(
        {**values, "prompt": prompt}[name] + text for name, text in zip(pieces, texts[1:], strict=False)
    )
    assert fill_all(template, prompt, values) == right
