"""Pixels and Python snippets are read as data: the documented shapes, and nothing else, whatever is thrown at them."""

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from deployments.ingress.doors.semoss import python_code
from deployments.ingress.doors.semoss.errors import WrongExpression, WrongSyntax
from deployments.ingress.doors.semoss.pixel import Pixel, parse_pixel
from deployments.ingress.doors.semoss.python_code import Ask, parse_python
from deployments.ingress.doors.semoss.questions import Question, question_of_code, question_of_pixel
from deployments.ingress.doors.semoss.statements import Asking, read_statement
from pipeline.errors import ClientError
from tests.service import ROOT

DOCUMENT = """from ai_server import ModelEngine
model = ModelEngine(engine_id = "b0d18f4b-ff2c-4563-8f9d-57efbff53d60")

# Text Generation
command = '\\''write me a paragraph about soccer'\\''
output = model.ask(command = command, param_dict={'\\''max_completion_tokens'\\'':20000,'\\''temperature'\\'':0.3})
output
"""
CANARY = "CANARY"


# -- pixels --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pixel"),
    [
        ("META | true", Pixel(name="META")),
        (" META|true ; ", Pixel(name="META")),
        ("MyOpenInsights();", Pixel(name="MyOpenInsights")),
        ('Py("x")', Pixel(name="Py", positional=("x",))),
        (
            'LLM(engine="x", command="<encode>a "b";\n<c> \\n</encode>", useHistory=true);',
            Pixel(name="LLM", named={"engine": "x", "command": 'a "b";\n<c> \\n', "useHistory": True}),
        ),
        ('A(a=["<encode>x</encode>", "y"],b=[])', Pixel(name="A", named={"a": ["x", "y"], "b": []})),
        ('A(a={"k": [1, -2.5, 1e3, null, true, {"é": "\\u00e9\\""}]})',
         Pixel(name="A", named={"a": {"k": [1, -2.5, 1000.0, None, True, {"é": 'é"'}]}})),
        ("A(a=['it\\'s', 'b', None, True])", Pixel(name="A", named={"a": ["it's", "b", None, True]})),
        ('A(a="<encode></encode>")', Pixel(name="A", named={"a": ""})),
    ],
)  # fmt: skip
def test_pixels_of_the_clients_are_read(text: str, pixel: Pixel):
    assert parse_pixel(text) == pixel


@pytest.mark.parametrize(
    "text",
    [
        "", ";", "1+1", "LLM", "LLM(", "LLM()x", "LLM();LLM();", "LLM(,)", "LLM(a=)", "LLM(a b)", 'LLM(a="x" b="y")', 'LLM("x)',
        'LLM("<encode>x")', "LLM('x)", 'LLM("\\q")', 'LLM("\\ud800")', 'LLM("\\u0000")', "LLM(a=1,a=2)", "LLM(a=[1)",
        "LLM(a={1:2})",
        "LLM(a=undefined)", "LLM(a=1.2.3)", "LLM(a=1x)", "LLM(a=" + "1" * 30 + ")", "META | false", "LLM(a=" + "[" * 100_000,
        "LLM(a=" + '{"a":' * 100_000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str):
    with pytest.raises(WrongSyntax, match=r"^expression: "):
        parse_pixel(text)


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_SCALARS = st.none() | st.booleans() | st.integers(-9999, 9999) | st.floats(-10, 10, allow_subnormal=False) | _TEXT
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@settings(max_examples=50)
@given(st.dictionaries(_TEXT, _VALUES, max_size=4))
def test_the_parameters_that_the_sdk_writes_are_read_back(parameters: dict[str, Any]):
    text = f"LLM(paramValues=[{json.dumps(parameters, ensure_ascii=False)}]);"
    assume("<encode>" not in text)
    assert parse_pixel(text).named["paramValues"] == [parameters]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@example("</encode")
@example('"')
def test_text_between_the_markers_stands_for_itself(text: str):
    if '</encode>"' not in text:
        assert parse_pixel(f'LLM(command="<encode>{text}</encode>", useHistory=true);').named["command"] == text


@given(st.text())
def test_no_text_breaks_the_reader(text: str):
    for expression in (text, f"LLM({text});", f'LLM(command="{text}", {text})'):
        with suppress(WrongSyntax):
            parse_pixel(expression)


# -- Python --------------------------------------------------------------------------------------------------------------------


def test_the_documents_snippet_is_read_as_it_stands_there():
    for code in (DOCUMENT, DOCUMENT.replace("'\\''", "'")):
        question = question_of_code(code)
        assert question.engine_id == "b0d18f4b-ff2c-4563-8f9d-57efbff53d60"
        assert question.text == "write me a paragraph about soccer"
        assert (question.sampling.max_tokens, question.sampling.temperature) == (20000, 0.3)
        assert question.streams


@pytest.mark.parametrize(
    "code",
    [
        'from ai_server import ModelEngine as M\nM("e").ask("x")',
        "from ai_server import ModelEngine\nm = ModelEngine('e')\na = m.ask(question='x')\na",
        'from ai_server import ModelEngine\np = {"a": [1, -2.0, (True,)]}\nModelEngine(engine_id="e").ask("x", param_dict=p)',
    ],
)
def test_its_variations_are_read(code: str):
    ask = parse_python(code)
    assert ask.engine_id == "e"
    assert "x" in ask.arguments.values()


HEAD = "from ai_server import ModelEngine\nm = ModelEngine('e')\n"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os", "line 1: Import is not run here"),
        ("from os import system", "line 1: ImportFrom is not run here"),
        ("from ai_server import ServerClient", "line 1: ImportFrom is not run here"),
        ("from .ai_server import ModelEngine", "line 1: ImportFrom is not run here"),
        ("from ai_server import *", "line 1: ImportFrom is not run here"),
        (f"{HEAD}open('/etc/passwd')", "line 3: Call is not run here"),
        (f"{HEAD}m.ask(command=open('x').read())", "line 3: Call is not run here"),
        (f"{HEAD}m.ask(command=f'{{m}}')", "line 3: JoinedStr is not run here"),
        (f"{HEAD}m.ask(command='a' + 'b')", "line 3: BinOp is not run here"),
        (f"{HEAD}m.ask(command='a' * 10**9)", "line 3: BinOp is not run here"),
        (f"{HEAD}m.ask(command=[x for x in 'a'])", "line 3: ListComp is not run here"),
        (f"{HEAD}m.ask(command=lambda: 0)", "line 3: Lambda is not run here"),
        (f"{HEAD}m.ask(**{{'command': 'x'}})", "line 3: an unknown or repeated argument"),
        (f"{HEAD}m.ask('x', command='x')", "line 3: an unknown or repeated argument"),
        (f"{HEAD}m.ask('x', frob=1)", "line 3: an unknown or repeated argument"),
        (f"{HEAD}m.ask(*['x'])", "line 3: Starred is not run here"),
        (f"{HEAD}m.ask(param_dict={{1: 2}})", "line 3: keys must be strings"),
        (f"{HEAD}m.ask(param_dict={{**{{}}}})", "line 3: keys must be strings"),
        (f"{HEAD}m.ask(b'x')", "line 3: Constant is not run here"),
        (f"{HEAD}m.ask('x').ask('y')", "line 3: Call is not run here"),
        (f"{HEAD}m.stream_ask('x')", "line 3: Call is not run here"),
        (f"{HEAD}m.__class__", "line 3: Attribute is not run here"),
        (f"{HEAD}a = m.ask('x')\nb = m.ask('x')\nb", "line 4: a second question"),
        (f"{HEAD}a = m.ask('x')", "the last line must be the answer's name"),
        (f"{HEAD}a = m.ask('x')\nm", "the last line must be the answer's name"),
        (f"{HEAD}a = m.ask('x')\nb", "line 4: Name is not run here"),
        (f"{HEAD}x.ask('x')", "Name is not run here"),
        (f"{HEAD}a = b = m.ask('x')\na", "line 3: Assign is not run here"),
        (f"{HEAD}while True: pass", "line 3: While is not run here"),
        (f"{HEAD}def f(): pass", "line 3: FunctionDef is not run here"),
        (f"{HEAD}'x'.ask('y')", "line 3: Call is not run here"),
        ("", "nothing is asked"),
        (HEAD, "nothing is asked"),
        ("from ai_server import ModelEngine\nModelEngine('e', x=1).ask('y')", "line 2: an unknown or repeated argument"),
        ("def (", "not a Python snippet, see line 1"),
        ("from ai_server import '\\''", "not a Python snippet"),
        ("x = '\\ud800'", "lone surrogates are not allowed"),
        ("x = '\\x00'", "NUL characters"),
        ("\0", "not a Python snippet"),
        ("x = " + "[" * 70 + "]" * 70, "nested deeper"),
        ("x = " + "(" * 10_000, "not a Python snippet"),
        ("x = " + "-" * 100_000 + "1", "python: "),
        ("x" + ".a" * 100_000, "python: "),
        ("x" + ".ask()" * 20_000, "python: "),
        ("x = " + "9" * 10_000, "not a Python snippet"),
        ("x = '" + "a" * python_code.MOST_CODE + "'", "characters, allowed are"),
    ],
)  # fmt: skip
def test_anything_but_the_documented_shape_is_refused(code: str, says: str):
    with pytest.raises(WrongExpression, match=re.escape(says)) as refused:
        parse_python(code)
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 400


def test_names_inside_of_literals_are_refused():
    """Lists of lists of lists … of one name would be exponentially long when they are written out."""
    bomb = "a = ['x']\n" + "\n".join(
        f"{b} = [{', '.join([a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(WrongExpression, match="line 2: Name is not run here"):
        parse_python(bomb)


def test_nothing_in_the_door_can_run_code():
    """Not even by accident later."""
    for path in (ROOT / "deployments/ingress/doors/semoss").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(
            r"\b(exec|eval|compile|literal_eval|__import__|getattr\(builtins)\s*\(", source.replace("re.compile(", "")
        )


@given(st.text())
def test_no_code_breaks_the_reader(code: str):
    for text in (code, HEAD + code, f"{HEAD}m.ask({code})", f"{HEAD}m.ask('''{code}''')"):
        with suppress(WrongExpression):
            parse_python(text)


# -- questions -----------------------------------------------------------------------------------------------------------------


def ask(**parameters: Any) -> Question:
    pixel = f'LLM(engine="e", command="<encode>x</encode>", paramValues=[{json.dumps(parameters)}]);'
    return question_of_pixel(parse_pixel(pixel))


def test_a_questions_parts_may_come_in_lists():
    pixel = parse_pixel(
        'LLM(engine=["e"], command=["<encode>x</encode>"], context=["c"], roomId=["r"], useHistory=false);'
    )
    assert question_of_pixel(pixel) == Question(engine_id="e", text="x", context="c", room_id="r", use_history=False)


def test_parameters_become_sampling():
    sampling = ask(
        max_new_tokens=7, temperature=0, top_p=0.5, top_k=-1, stop=["a"], seed=1, schema={"type": "object"}
    ).sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (7, 0, 0.5, 0)
    assert (sampling.stop, sampling.seed, sampling.json_schema) == (("a",), 1, {"type": "object"})
    assert ask(max_completion_tokens=3, max_new_tokens=7).sampling.max_tokens == 3
    assert not ask(stream=False).streams


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"frob": 1}, "frob: got an unknown key"),
        ({"tools": "x"}, "tools: got a string"),
        ({"tools": [1]}, "tools.0: got a number"),
        ({"temperature": 3}, "temperature: got 3, allowed is a number from 0 to 2"),
        ({"max_new_tokens": 0}, "max_new_tokens: got 0"),
        ({"stream": "maybe"}, "stream: got"),
        ({"schema": {"type": 1}}, "schema: got an object"),
        ({"schema": {"maximum": 99999999999999999999}}, "schema: got an object"),
        ({"full_prompt": []}, "full_prompt: got 0 of them"),
        ({"full_prompt": 1}, "full_prompt: got a number"),
        ({"full_prompt": ["x"]}, "full_prompt: got an array"),
        ({"full_prompt": [{"role": "robot", "content": "x"}]}, "full_prompt.0.role: got"),
        ({"full_prompt": [{"role": "user", "content": 1}]}, "full_prompt.0.content: got a number"),
        (
            {"full_prompt": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "full_prompt.0.content.0: the model",
        ),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], says: str):
    with pytest.raises(ClientError, match=re.escape(says)):
        ask(**parameters)


def test_a_full_prompt_goes_before_the_command():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    question = ask(full_prompt=[{"role": "system", "content": "s"}, {"role": "user", "content": parts}])
    assert question.chat == ({"role": "system", "content": "s"}, {"role": "user", "content": "a\nb"})
    assert question.text == "a\nb"
    assert ask(full_prompt="whole").chat == ({"role": "user", "content": "whole"},)


def test_a_full_prompt_may_end_with_what_a_tool_said():
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    chat = [
        {"role": "user", "content": "What is 1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
    ]
    question = ask(full_prompt=chat)
    assert question.text == "What is 1+1?"
    assert question.chat is not None
    assert question.chat[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('command="x"', "engine: got nothing"),
        ('engine="e"', "command: got nothing"),
        ('engine="e", command="  "', "command: got a string of 2 characters"),
        ('engine=1, command="x"', "engine: got a number"),
        ('engine="e", command=["x","y"]', "command: got an array"),
        ('engine="e", command="x", useHistory=1', "useHistory: got a number"),
        ('engine="e", command="x", context=1', "context: got a number"),
        ('engine="e", command="x", paramValues=["x"]', "paramValues: got a string"),
        ('engine="e", command="x", roomId="' + "r" * 300 + '"', "roomId: got a string of 300 characters"),
        ('engine="e", command="x", image=["data"]', "image: got an array, allowed is none"),
        ('engine="e", command="x", url=["https://example.org"]', "url: got an array, allowed is none"),
        ('engine="e", command="x", frob=1', "LLM: an unknown argument"),
        ('"e", command="x"', "LLM: an unknown argument"),
    ],
)
def test_wrong_arguments_are_named(arguments: str, says: str):
    with pytest.raises(ClientError, match=re.escape(says)):
        question_of_pixel(parse_pixel(f"LLM({arguments});"))


@pytest.mark.parametrize(
    "text",
    [f'Py("{CANARY}")', f'LLM(engine="e", command="{CANARY}", x=1)', f"from {CANARY} import x", f'A("{CANARY}', CANARY],
)
async def test_no_refusal_quotes_the_expression(text: str):
    with pytest.raises(ClientError) as refused:
        await read_statement(text)
    assert CANARY not in refused.value.message


async def test_long_expressions_are_read_as_well():
    statement = await read_statement(f'LLM(engine="e", command="<encode>{"x" * 100_000}</encode>");')
    assert isinstance(statement, Asking)
    assert len(statement.question.text) == 100_000


@pytest.mark.parametrize("text", ["Py()", 'Py("a", "b")', "Py(1)", 'Py(frob="x")', 'Py("a", code="b")'])
async def test_py_takes_its_code_and_nothing_else(text: str):
    with pytest.raises(WrongExpression, match="Py: allowed is one argument, the code"):
        await read_statement(text)


def test_an_ask_is_what_it_says():
    assert parse_python(f"{HEAD}m.ask('x')") == Ask(engine_id="e", arguments={"command": "x"})
