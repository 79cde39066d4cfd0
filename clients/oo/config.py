"""Which services the user knows and the tokens for them: ``~/.1backend/cliConfig.yaml``, as the published command line keeps it
(contract §9.1). Only its owner may read it; passwords are never in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from clients.oo.errors import OoError

#: The environment that is there from the beginning.
LOCAL, LOCAL_URL = "local", "http://127.0.0.1:11337"
#: The only tenant of the service; tokens are kept by it.
APP_HOST = "unnamed"
#: Names another file.
PATH_VARIABLE = "OO_CONFIG"


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A service and who the user is there."""

    name: str
    #: Without a slash at its end.
    url: str
    description: str = ""
    #: Slug of the selected user, None before the first login.
    user: str | None = None
    #: That user's access token.
    token: str | None = None


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the file is: ``OO_CONFIG``, else in the home directory."""
    return Path(environ.get(PATH_VARIABLE) or Path.home() / ".1backend" / "cliConfig.yaml")


class Config:
    """The file's content. Changes are in memory until ``save``; keys it does not know stay as they are."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self._path = path
        self._data = data
        if not data.get("environments"):
            data["environments"] = {LOCAL: {"url": LOCAL_URL, "shortName": LOCAL}}

    @classmethod
    def load(cls, path: Path) -> Self:
        """The file, or what a new user begins with if there is none.

        Raises:
            OoError: it cannot be read, or is not such a file.
        """
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            data = {}
        except (OSError, UnicodeDecodeError) as error:
            raise OoError(f"{path}: cannot be read: {_reason(error)}") from None
        except yaml.YAMLError:
            # Not the parser's words: they quote the file, and there are tokens in it.
            raise OoError(f"{path}: is not YAML; repair it or move it away") from None
        if not isinstance(data, dict):
            raise OoError(f"{path}: is not a configuration; repair it or move it away")
        try:
            config = cls(path, data)
            config.environments()
        except _WrongShape as error:
            raise OoError(f"{path}: {error}; repair it or move it away") from None
        return config

    @property
    def selected(self) -> str:
        """Name of the selected environment."""
        selected = self._data.get("selectedEnvironment")
        names = self._environments()
        return selected if isinstance(selected, str) and selected in names else next(iter(names))

    def environments(self) -> list[Environment]:
        return [self.environment(name) for name in self._environments()]

    def environment(self, name: str | None = None) -> Environment:
        """The environment of that name, the selected one without.

        Raises:
            OoError: there is none of that name.
        """
        name = name or self.selected
        record = self._record(name)
        url = _text(record, "url")
        if url is None:
            raise _WrongShape(f"environment {name} has no url")
        user, token = _text(record, "selectedUser"), None
        if user is not None:
            of_user = _mapping(_mapping(record, "users"), user)
            token = _text(_mapping(of_user, "tokensByAppHost"), _text(of_user, "selectedAppHost") or APP_HOST)
        return Environment(
            name=name,
            url=url.rstrip("/"),
            description=_text(record, "description") or "",
            user=user,
            token=token,
        )

    def users(self, name: str) -> list[str]:
        """Slugs of the users who have logged in to an environment."""
        return list(_mapping(self._record(name), "users"))

    def add_environment(self, name: str, url: str, description: str = "") -> None:
        """Add an environment, or change one, and select it. A changed address forgets the tokens: they are not for it.

        Raises:
            OoError: the URL is not one of a service.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise OoError(f"url: got {url}, allowed is http://HOST[:PORT] or https://HOST[:PORT]")
        record = _mapping(self._environments(), name)
        if record.get("url", "").rstrip("/") != url.rstrip("/"):
            record.pop("users", None)
            record.pop("selectedUser", None)
        record.update({"url": url.rstrip("/"), "shortName": name})
        if description:
            record["description"] = description
        self._data["selectedEnvironment"] = name

    def select_environment(self, name: str) -> None:
        """Raises OoError: there is none of that name."""
        self._record(name)
        self._data["selectedEnvironment"] = name

    def remove_environment(self, name: str) -> None:
        """Forget an environment and its tokens.

        Raises:
            OoError: there is none of that name, or it is the only one.
        """
        self._record(name)
        if len(self._environments()) == 1:
            raise OoError(f"{name} is the only environment; add another one first: oo env add NAME URL")
        del self._environments()[name]
        self._data["selectedEnvironment"] = self.selected

    def store_token(self, name: str, slug: str, token: str) -> None:
        """Keep a user's token and select the user."""
        record = self._record(name)
        of_user = _mapping(_mapping(record, "users"), slug)
        of_user.update({"slug": slug, "selectedAppHost": APP_HOST})
        _mapping(of_user, "tokensByAppHost")[APP_HOST] = token
        record["selectedUser"] = slug

    def select_user(self, name: str, slug: str) -> None:
        """Raises OoError: that user has not logged in here."""
        known = self.users(name)
        if slug not in known:
            raise OoError(
                f"{slug} has not logged in to {name}: oo login {slug}"
                + (f" (known are {', '.join(known)})" if known else "")
            )
        self._record(name)["selectedUser"] = slug

    def save(self) -> None:
        """Write the file: all of it or nothing, readable for its owner alone.

        Raises:
            OoError: it cannot be written.
        """
        self._data.setdefault("selectedEnvironment", self.selected)
        partial = None
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes it 0600 from the beginning.
            handle, partial = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                yaml.safe_dump(self._data, file, sort_keys=False, allow_unicode=True)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(self._path)
        except OSError as error:
            if partial is not None:
                Path(partial).unlink(missing_ok=True)
            raise OoError(f"{self._path}: cannot be written: {_reason(error)}") from None

    def _environments(self) -> dict[str, Any]:
        return _mapping(self._data, "environments")

    def _record(self, name: str) -> dict[str, Any]:
        if name not in self._environments():
            raise OoError(f"no environment {name}; known are {', '.join(self._environments())} (oo env add NAME URL)")
        return _mapping(self._environments(), name)


class _WrongShape(Exception):
    """The file holds something else where a map belongs."""


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The map under ``key``, made if there is none."""
    if parent.get(key) is None:
        parent[key] = {}
    found = parent[key]
    if not isinstance(found, dict):
        raise _WrongShape(f"{key} is not a map")
    return found


def _text(parent: dict[str, Any], key: str) -> str | None:
    """The text under ``key``, None if there is none."""
    found = parent.get(key)
    if not isinstance(found, str | None):
        raise _WrongShape(f"{key} is not text")
    return found or None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "not UTF-8"
