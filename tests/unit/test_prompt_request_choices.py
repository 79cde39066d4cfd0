"""POST /prompt-svc/prompt beyond the original: type, priority, templates of several variables."""

from typing import Any

import pytest

from deployments.ingress.prompt_request import parse_prompt_request
from pipeline.errors import InvalidField
from pipeline.prompt_type import PromptType
from pipeline.submission import PromptSubmission
from pipeline.template import MissingVariable

CANARY = "canary-7f3a"
TWO = r"Context: {context}\nQuestion: {prompt}\nAnswer:"


def submit(**body: Any) -> PromptSubmission:
    return parse_prompt_request({"prompt": "Hi", **body})


def templated(template: str, **body: Any) -> PromptSubmission:
    return submit(parameters={"textToText": {"template": template}}, **body)


@pytest.mark.parametrize("kind", PromptType)
def test_every_type_is_read(kind: PromptType):
    assert submit(type=kind.value).type is kind


@pytest.mark.parametrize("absent", [{}, {"type": None}, {"type": ""}])
def test_without_a_type_the_parameters_tell(absent: dict):
    assert submit(**absent).type is PromptType.TEXT_TO_TEXT
    assert submit(parameters={"textToImage": {"width": 8}}, **absent).type is PromptType.TEXT_TO_IMAGE
    assert submit(engineParameters={"stableDiffusion": {}}, **absent).type is PromptType.TEXT_TO_IMAGE


def test_the_type_that_is_given_counts():
    assert submit(type="Image-to-Image", parameters={"textToImage": {}}).type is PromptType.IMAGE_TO_IMAGE


@pytest.mark.parametrize("prompt", [{}, {"prompt": None}, {"prompt": ""}, {"prompt": " "}])
def test_random_images_need_no_prompt_and_everything_else_does(prompt: dict):
    body = {"type": "Unconditional Image Generation", **prompt}
    assert parse_prompt_request(body).prompt == (prompt.get("prompt") or "")
    with pytest.raises(InvalidField, match="prompt: got "):
        parse_prompt_request({**body, "type": "Text-to-Image"})


@pytest.mark.parametrize(("sent", "read"), [(-10, -10), (10, 10), ("3", 3), (0, 0), (None, 0)])
def test_priority(sent: object, read: int):
    assert submit(priority=sent).priority == read


def test_two_variables():
    submission = templated(TWO, variables={"context": "Sky is blue."})
    assert submission.text == "Context: Sky is blue.\nQuestion: Hi\nAnswer:"


def test_the_command_lines_numbers_and_words_are_values_too():
    template = "{prompt} {a} {b} {c} {d}"
    assert templated(template, variables={"a": 42, "b": True, "c": 7.5, "d": None, "e": "x"}).variables == {
        "a": "42",
        "b": "true",
        "c": "7.5",
        "e": "x",
    }
    assert templated(template, variables='{"a": 1, "b": 2, "c": 3, "d": "{a}"}').text == "Hi 1 2 3 {a}"


def test_without_variables_other_braces_are_text():
    assert templated('{"example": {x}} {prompt}').text == '{"example": {x}} Hi'


def test_with_variables_a_template_may_do_without_the_prompt():
    assert templated("{question}", variables={"question": "Why?"}).text == "Why?"


def test_a_missing_variable_is_named():
    with pytest.raises(MissingVariable) as refused:
        _ = templated(TWO, variables={"other": CANARY}).text
    assert refused.value.status == 400
    assert refused.value.message == ("variables.context: got nothing, allowed is a string: the template has {context}")


def test_a_saved_template_by_name():
    submission = submit(templateName="qa", variables={"context": "c"})
    assert (submission.template_name, submission.template, submission.variables) == ("qa", None, {"context": "c"})
    assert submit(templateName="", variables={}).template_name is None
    assert submit(templateName=7).template_name == "7"


TEMPLATE = "parameters.textToText.template"
VARIABLES = "an object with a string for each variable of the template, at most 64"
NAMES = "a name of 1 to 64 letters (a to z), digits and _, not beginning with a digit"
TYPES = "one of Text-to-Text, Question Answering, "


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("text-to-text", "Text-to-Text"),
        ("Sumarization", "Summarization"),
        ("TEXT-TO-IMAGE", "Text-to-Image"),
        ("Poetry", ""),
    ],
)
def test_a_type_that_is_nearly_one_is_told_which_was_meant(given: str, meant: str):
    with pytest.raises(InvalidField) as refused:
        submit(type=given)
    assert refused.value.message.partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "Poetry"}, f'type: got "Poetry", allowed is {TYPES}'),
        ({"type": "text-to-text"}, f'type: got "text-to-text", allowed is {TYPES}'),
        ({"type": 5}, f"type: got 5, allowed is {TYPES}"),
        ({"type": ["Translation"]}, f"type: got an array, allowed is {TYPES}"),
        ({"priority": 11}, "priority: got 11, allowed is an integer from -10 to 10"),
        ({"priority": -11}, "priority: got -11, allowed is an integer from -10 to 10"),
        ({"priority": "high"}, 'priority: got "high", allowed is an integer from -10 to 10'),
        ({"priority": 1.5}, "priority: got 1.5, allowed is an integer from -10 to 10"),
        ({"priority": True}, "priority: got true, allowed is an integer from -10 to 10"),
        ({"priority": [1]}, "priority: got an array, allowed is an integer from -10 to 10"),
        ({"templateName": ["qa"]}, "templateName: got an array, allowed is a string of 1 to 256 characters"),
        ({"templateName": "x" * 257}, "templateName: got a string of 257 characters, allowed is "),
        (
            {"templateName": "qa", "parameters": {"textToText": {"template": CANARY + "{prompt}"}}},
            f"templateName: got 'qa', allowed is none beside {TEMPLATE}",
        ),
        ({"variables": {"a": CANARY}}, "variables: got an object, allowed is none without a template"),
        ({"variables": 5, "templateName": "qa"}, f"variables: got a number, allowed is {VARIABLES}"),
        ({"variables": [CANARY], "templateName": "qa"}, f"variables: got an array, allowed is {VARIABLES}"),
        ({"variables": {"a": [CANARY]}, "templateName": "qa"}, f"variables.a: got an array, allowed is {VARIABLES}"),
        (
            {"variables": {"a": {"b": CANARY}}, "templateName": "q"},
            f"variables.a: got an object, allowed is {VARIABLES}",
        ),
        (
            {"variables": {f"v{n}": "x" for n in range(65)}, "templateName": "qa"},
            f"variables: got an object, allowed is {VARIABLES}",
        ),
        ({"variables": {"a-b": CANARY}, "templateName": "qa"}, f"variables.a-b: got another name, allowed is {NAMES}"),
        ({"variables": {"": CANARY}, "templateName": "qa"}, f"variables.: got another name, allowed is {NAMES}"),
        (
            {"variables": {"a\n": CANARY}, "templateName": "qa"},
            f"variables.a\ufffd: got another name, allowed is {NAMES}",
        ),
        (
            {"variables": {"prompt": CANARY}, "templateName": "qa"},
            "variables.prompt: got a string, allowed is none: {prompt} is always the prompt",
        ),
        (
            {"parameters": {"textToText": {"template": CANARY}}, "variables": {}},
            f"{TEMPLATE}: got a string of 11 characters without one, allowed is a string that contains {{prompt}} or another "
            "variable",
        ),
    ],
)
def test_what_is_wrong_is_named_and_no_text_is_shown(body: dict, message: str):
    with pytest.raises(InvalidField) as refused:
        submit(**body)
    assert refused.value.message.startswith(message)
    assert CANARY not in refused.value.message
