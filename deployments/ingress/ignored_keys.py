"""What a request says that nobody reads. Unknown keys are no error, since clients of the original may send any (contract §0.2);
but who misspells a parameter should hear of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from deployments.ingress.fields import WireModel, by_alias, json_inside, model_of
from pipeline.json_text import printable

#: Warnings of one reply.
MOST_WARNINGS = 10

Path = tuple[str, ...]


def warnings_of(model: type[WireModel], body: Mapping[str, Any]) -> list[str]:
    """A line for each key of ``body``, and of the objects in it that the model knows, that is ignored; with the nearest key that
    is not."""
    ignored = list(_ignored(model, body, ()))
    lines = [_warning(model, path) for path in ignored[:MOST_WARNINGS]]
    more = len(ignored) - len(lines)
    return [*lines, f"and {more} more keys that are ignored"] if more else lines


def _ignored(model: type[WireModel], value: Mapping[str, Any], place: Path) -> Iterator[Path]:
    fields = by_alias(model)
    for key, item in model.canonical(value).items():
        if key not in fields:
            yield (*place, key)
            continue
        inner, inside = model_of(fields[key]), json_inside(item, "{")
        if inner is not None and issubclass(inner, WireModel) and isinstance(inside, dict):
            yield from _ignored(inner, inside, (*place, key))


def _warning(model: type[WireModel], path: Path) -> str:
    said = ".".join(map(printable, path))
    near = _nearest(model, path)
    return f"{said} is not a key of this request and is ignored" + (f"; did you mean {near}?" if near else "")


def _nearest(model: type[WireModel], path: Path) -> str | None:
    """The key that was probably meant: the same one spelt otherwise or in another place, or else one like it beside it."""
    known = _known(model)
    beside = [other for other in known if other[:-1] == path[:-1]]
    wanted = _plain(path[-1])
    for other in (*beside, *known):
        if _plain(other[-1]) == wanted:
            return ".".join(other)
    names = {_plain(other[-1]): other for other in beside}
    close = get_close_matches(wanted[:64], names, n=1)
    return ".".join(names[close[0]]) if close else None


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


@cache
def _known(model: type[WireModel]) -> tuple[Path, ...]:
    """Every key of a model, and of those in it, as a path."""
    found: list[Path] = []
    for key, field in by_alias(model).items():
        found.append((key,))
        inner = model_of(field)
        if inner is not None and issubclass(inner, WireModel):
            found += [(key, *path) for path in _known(inner)]
    return tuple(found)
