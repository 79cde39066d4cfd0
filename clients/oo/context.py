"""What every command starts from: the configuration and the environment that is meant."""

from __future__ import annotations

import os
from dataclasses import dataclass

import typer

from clients.oo.config import Config, Environment, config_path


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    config: Config
    #: As given with ``--env``; None for the selected one.
    environment_name: str | None

    @property
    def environment(self) -> Environment:
        """Raises OoError: there is none of that name."""
        return self.config.environment(self.environment_name)

    @classmethod
    def of(cls, context: typer.Context) -> Context:
        """Reads the configuration. Raises OoError."""
        return cls(config=Config.load(config_path(os.environ)), environment_name=context.find_root().params.get("env"))
