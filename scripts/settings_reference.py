"""Writes docs/settings.md from the settings classes, so that the two cannot differ.

python -m scripts.settings_reference          writes the file
python -m scripts.settings_reference --check  fails when it is out of date
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deployments.routing import FallbackRule, Routing
from deployments.settings import ImageSpec, ModelSpec, OpenAssistantSpec, RetentionSpec, Settings
from pipeline.prompt_type import Capability

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

_HEAD = """\
# Settings

Made from `deployments/settings.py` by `python -m scripts.settings_reference`; a test keeps it up to date.

Settings are the `args` of the application in `serve_config.yaml`. `PROMPT_SVC_<NAME>` in the environment of the Ray node
goes before the file, lists and mappings as JSON; an empty one counts as none. A wrong value stops the start with a line that
names the field, what it got (unless a secret may be in it) and what is allowed; an unknown key is named by `make check`.
"""

_LOCAL = """\
## `make serve` only

What the launcher on one machine takes from the environment beside the settings above.

| variable | default | |
|---|---|---|
| `PORT` | 11337 | Port of HTTP; replaces `http_options.port`. |
| `REDIS_URL` | *(none)* | A store of your own in place of the embedded Valkey. |
| `PROMPT_SVC_RAY_DASHBOARD_PORT` | *(none)* | Port on 127.0.0.1 of Ray's dashboard, for `ray job submit` ([batch](batch.md)). |
| `PROMPT_SVC_STORE_FSYNC` | `always` | When the embedded store syncs to disk; or `everysec` ([operations](operations.md)). |
| `PROMPT_SVC_DATA_DIR` | `./data` | The embedded store's file, keys, the converted model. |
| `PROMPT_SVC_MODELS_DIR` | `<data>/models` | The converted model, so that several data directories can share it. |
"""

_COMMENT = re.compile(r"^    #: ?(.*)$")
_FIELD = re.compile(r"^    (\w+):")


def comments(model: type[BaseModel]) -> dict[str, str]:
    """The ``#:`` comment above each field."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if comment := _COMMENT.match(line):
            waiting.append(comment[1])
        elif field := _FIELD.match(line):
            found[field[1]] = " ".join(waiting)
            waiting = []
        else:
            waiting = []
    return found


def rows(model: type[BaseModel]) -> Iterator[str]:
    """One line of a table per field."""
    said = comments(model)
    for name, field in model.model_fields.items():
        text = said.get(name, "").replace("``", "`").replace("|", "\\|")
        yield f"| `{name}` | {kind(field)} | {default(field)} | {text} |"


def kind(field: FieldInfo) -> str:
    """Type and bounds in words."""
    annotation: Any = field.annotation
    literal = re.findall(r"'([^']*)'", str(annotation)) if "Literal" in str(annotation) else []
    if literal:
        return " or ".join(f"`{value}`" for value in literal)
    words = {
        "str": "text",
        "bool": "true or false",
        "int": "integer",
        "float": "number",
        "SecretStr": "secret",
        "str | None": "text",
        "tuple[str, ...]": "list of texts",
        "int | None": "integer",
        "float | None": "number",
        "RetentionSpec": "mapping",
        "OpenAssistantSpec": "mapping",
        "tuple[pydantic.types.SecretStr, ...]": "list of secrets",
        "dict[str, dict[str, float]]": "mapping of mappings",
        "dict[str, deployments.routing.FallbackRule]": "mapping",
        "ImageSpec": "mapping",
        "dict[str, typing.Any]": "mapping",
        "tuple[deployments.settings.ModelSpec, ...]": "list of models",
        "tuple[pipeline.prompt_type.Capability, ...]": f"list of {', '.join(f'`{c}`' for c in Capability)}",
    }
    name = annotation.__name__ if isinstance(annotation, type) and "[" not in str(annotation) else str(annotation)
    return ", ".join([words[name], *_bounds(field)])


def _bounds(field: FieldInfo) -> Iterator[str]:
    for rule in field.metadata:
        match rule:
            case annotated_types.Ge(ge=limit):
                yield f"≥ {limit}"
            case annotated_types.Gt(gt=limit):
                yield f"> {limit}"
            case annotated_types.Le(le=limit):
                yield f"≤ {limit}"
            case annotated_types.MinLen(min_length=length):
                yield f"at least {length}"
            case _ if pattern := getattr(rule, "pattern", None):
                yield f"`{pattern}`"


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in ("", None, (), {}, RetentionSpec(), OpenAssistantSpec(), ImageSpec()) or value is PydanticUndefined:
        return "*(none)*"
    return ", ".join(f"`{item}`" for item in value) if isinstance(value, tuple) else f"`{value}`"


def page() -> str:
    """The whole document."""
    table = "| name | type | default | |\n|---|---|---|---|"
    return "\n".join(
        [
            _HEAD,
            table,
            *rows(Settings),
            "",
            "`redis_url` is read from `REDIS_URL`, without the prefix.",
            "",
            "## An entry of `models`",
            "",
            table,
            *rows(ModelSpec),
            "",
            "## `images` of an entry",
            "",
            table,
            *rows(ImageSpec),
            "",
            "## `retention`",
            "",
            table,
            *rows(RetentionSpec),
            "",
            "## `open_assistant`",
            "",
            table,
            *rows(OpenAssistantSpec),
            "",
            "## `user_config` of Ingress and Router",
            "",
            "Which model runs what, changed without a restart ([scaling](scaling.md#which-model-runs-a-prompt)); "
            "the same in both.",
            "",
            table,
            *rows(Routing),
            "",
            "An entry of `fallbacks`:",
            "",
            table,
            *rows(FallbackRule),
            "",
            _LOCAL,
        ]
    )


def main(arguments: Sequence[str]) -> int:
    text = page()
    if "--check" in arguments:
        if PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.name} is out of date: python -m scripts.settings_reference", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
