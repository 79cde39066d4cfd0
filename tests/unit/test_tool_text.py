"""Tools for chat templates that know of none, and for those that do."""

import json
from pathlib import Path

import pytest

from deployments.engines.rendering import PromptRenderer
from deployments.engines.scripted import ScriptedRenderer
from deployments.engines.tool_text import tools_as_text

TOOL = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "paint", "arguments": {"colour": "bläu"}}}
USER = {"role": "user", "content": "hi"}


def test_the_system_message_tells_of_the_tools():
    told, user = tools_as_text([USER], (TOOL,))
    assert told["role"] == "system"
    assert json.dumps(TOOL) in told["content"]
    assert '{"name": <function-name>, "arguments": <args-json-object>}' in told["content"]
    assert user == USER


def test_a_system_message_that_is_there_comes_first():
    told, user = tools_as_text([{"role": "system", "content": "Be brief."}, USER], (TOOL,))
    assert told["content"].startswith("Be brief.\n\n")
    assert "<tools>" in told["content"]
    assert user == USER


def test_calls_are_what_the_model_would_have_said():
    (message,) = tools_as_text([{"role": "assistant", "content": "Sure", "tool_calls": [CALL]}], ())
    assert message == {
        "role": "assistant",
        "content": 'Sure\n<tool_call>\n{"name": "paint", "arguments": {"colour": "bläu"}}\n</tool_call>',
    }


def test_without_tools_nothing_changes():
    assert tools_as_text([USER], ()) == [USER]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    ScriptedRenderer().tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def rendered(directory: Path, template: str, **more: object) -> str:
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    renderer = PromptRenderer(directory)
    return renderer.tokenizer.decode(renderer.render_chat([USER], **more))  # type: ignore[arg-type]


def test_a_template_that_knows_tools_gets_them(directory: Path):
    template = "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}{{ messages[0].content }}"
    assert rendered(directory, template, tools=(TOOL,)) == "paint;hi"
    assert rendered(directory, template) == "hi"


def test_one_that_does_not_is_told_in_words(directory: Path):
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    text = rendered(directory, template, tools=(TOOL,))
    assert text.startswith("system: You may call one or more functions")
    assert '"name": "paint"' in text
    assert rendered(directory, template) == "user: hi\n"


def test_a_template_is_told_what_it_asks_for_and_keeps_its_special_tokens(directory: Path):
    (directory / "tokenizer_config.json").write_text('{"eos_token": "<end>"}', encoding="utf-8")
    template = "{{ enable_thinking }}{{ eos_token }}"
    assert rendered(directory, template, variables={"enable_thinking": False, "eos_token": "x"}) == "False<end>"
