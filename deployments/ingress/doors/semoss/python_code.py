"""Reads the documented Python snippet as data: one call of ``ModelEngine(...).ask(...)`` with literals around it.

The code is parsed with ``ast`` and never executed, compiled or evaluated: only the shapes below are understood, and names stand
only for values that the snippet itself assigned (contract B.3).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.ingress.doors.semoss.errors import WrongExpression, WrongSyntax, check_characters

MODULE, CLASS, METHOD = "ai_server", "ModelEngine", "ask"
#: Characters of a snippet. Its parser takes about 100 bytes for each.
MOST_CODE = 256 * 1024
#: Nesting of a literal.
MOST_DEPTH = 64
_SHAPE = f"from {MODULE} import {CLASS}; {CLASS}(engine_id=…); one call of .{METHOD}(…); literals; its result as the last line"
#: Parameters of ``ask`` in their order.
_PARAMETERS = (
    "command", "question", "room_id", "context", "image", "url", "use_history", "param_dict", "insight_id",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What a snippet asks for."""

    engine_id: object
    #: Arguments of ``ask`` by name.
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Engine:
    """What a name stands for that ``ModelEngine(...)`` was assigned to."""

    engine_id: object


class _Answer:
    """What a name stands for that the answer was assigned to."""


def looks_like_python(text: str) -> bool:
    """Whether an expression is a snippet as it stands, without ``Py("…")`` around it: the document shows it so."""
    return text.lstrip().startswith(("from ", "import "))


def parse_python(code: str) -> Ask:
    """The question in a snippet.

    Raises:
        WrongSyntax: it is no Python.
        WrongExpression: it does anything but what is documented; says in which line.
    """
    if len(code) > MOST_CODE:
        raise WrongExpression(f"python: got {len(code)} characters, allowed are {MOST_CODE}")
    return _Snippet().read(_tree(code))


def _tree(code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        unescaped = code.replace("'\\''", "'")
        if isinstance(error, SyntaxError) and unescaped != code:
            # Copied out of a shell command, where '\'' is how a quote is written (the document shows it so).
            return _tree(unescaped)
        line = getattr(error, "lineno", None)
        # ``from None``: the error object quotes the code.
        raise WrongSyntax(f"python: not a Python snippet{f', see line {line}' if line else ''}") from None


class _Snippet:
    def __init__(self) -> None:
        self._classes: set[str] = set()
        self._names: dict[str, Any] = {}
        self._ask: Ask | None = None

    def read(self, tree: ast.Module) -> Ask:
        returned = None
        for statement in tree.body:
            returned = self._statement(statement)
        if self._ask is None:
            raise WrongExpression(f"python: nothing is asked, allowed is {_SHAPE}")
        if not isinstance(returned, _Answer):
            raise WrongExpression("python: the last line must be the answer's name, or the call itself")
        return self._ask

    def _statement(self, statement: ast.stmt) -> Any:
        """Take note of a statement; the value, if it is an expression."""
        match statement:
            case ast.ImportFrom(module="ai_server", level=0):
                self._import(statement)
                return None
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._names[name] = self._value(value)
                return None
            case ast.Expr(value=value):
                return self._value(value)
        raise _refused(statement)

    def _import(self, statement: ast.ImportFrom) -> None:
        for alias in statement.names:
            if alias.name != CLASS:
                raise _refused(statement)
            self._classes.add(alias.asname or alias.name)

    def _value(self, node: ast.expr) -> Any:
        """What an expression stands for. Names stand for what was assigned to them, but not inside of literals: a few of those
        that hold each other would grow beyond all bounds."""
        match node:
            case ast.Call():
                return self._call(node)
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
        return _literal(node, 0)

    def _call(self, call: ast.Call) -> Any:
        match call.func:
            case ast.Name(id=name) if name in self._classes:
                return _Engine(self._arguments(call, ("engine_id", "insight_id")).get("engine_id"))
            case ast.Attribute(value=ast.Name() | ast.Call(func=ast.Name()) as target, attr="ask"):
                engine = self._value(target)
                if not isinstance(engine, _Engine):
                    raise _refused(call)
                if self._ask is not None:
                    raise WrongExpression(f"python: line {call.lineno}: a second question, allowed is one")
                self._ask = Ask(engine_id=engine.engine_id, arguments=self._arguments(call, _PARAMETERS))
                return _Answer()
        raise _refused(call)

    def _arguments(self, call: ast.Call, parameters: tuple[str, ...]) -> dict[str, Any]:
        if len(call.args) > len(parameters):
            raise _refused(call)
        given = dict(zip(parameters, call.args, strict=False))
        for keyword in call.keywords:
            if keyword.arg not in parameters or keyword.arg in given:
                raise WrongExpression(
                    f"python: line {call.lineno}: an unknown or repeated argument, allowed are {', '.join(parameters)}"
                )
            given[keyword.arg] = keyword.value
        return {name: self._value(node) for name, node in given.items()}


def _literal(node: ast.expr, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise WrongExpression(f"python: line {node.lineno}: nested deeper than {MOST_DEPTH} levels")
    match node:
        case ast.Constant(value=str() as value):
            return check_characters(value, f"python: line {node.lineno}")
        case ast.Constant(value=bool() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item, depth + 1) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(node, key): _literal(item, depth + 1) for key, item in zip(keys, values, strict=True)}
    raise _refused(node)


def _key(node: ast.Dict, key: ast.expr | None) -> str:
    match key:
        case ast.Constant(value=str() as value):
            return check_characters(value, f"python: line {node.lineno}")
    raise WrongExpression(f"python: line {node.lineno}: keys must be strings")


def _refused(node: ast.stmt | ast.expr) -> WrongExpression:
    return WrongExpression(f"python: line {node.lineno}: {type(node).__name__} is not run here, allowed is {_SHAPE}")
