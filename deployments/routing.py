"""Which model runs what: weighted splits between models, fallbacks, the default. Changed without a restart.

It is the ``user_config`` of the deployments Ingress and Router, the same in both; Serve hands a new one to the replicas that run.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deployments.settings import InvalidSettings, Settings
from deployments.settings_problems import problems_of

logger = logging.getLogger("ray.serve")


class FallbackRule(BaseModel):
    """What runs prompts of a model that fails or has too many waiting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Id of the other model; it must be able to do all that the first one can.
    model: str
    #: Prompts that may wait for the first model; the newest of those beyond move. None: they move only when it has failed.
    over_waiting: int | None = Field(default=None, ge=0)


class Routing(BaseModel):
    """What operators choose about the models of the catalogue while they run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Id, alias or name of a split that runs prompts which name no model, until an admin makes a model the default; empty: as in
    #: the settings.
    default_model: str = ""
    #: Names that prompts may give as their model -> model id -> weight, relative to the others.
    splits: dict[str, dict[str, float]] = Field(default_factory=dict)
    #: By model id.
    fallbacks: dict[str, FallbackRule] = Field(default_factory=dict)

    @field_validator("splits")
    @classmethod
    def _weights_choose(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for name, weights in value.items():
            if not name:
                raise ValueError("got an empty name, allowed is any other text")
            for model_id, weight in weights.items():
                if not 0 <= weight <= 1e9:
                    raise ValueError(f"{name}: {model_id}: got {weight:g}, allowed is 0 to 1e9")
            if not sum(weights.values()):
                raise ValueError(f"{name}: got no weight above 0, allowed is at least one")
        return value

    @classmethod
    def parse(cls, user_config: Mapping[str, Any], settings: Settings) -> Routing:
        """
        Raises:
            InvalidSettings: names every wrong field, and models that are not in the catalogue.
        """
        try:
            routing = cls(**user_config)
        except ValidationError as error:
            raise InvalidSettings("; ".join(problems_of(error, cls))) from None
        problems = [*routing._unknown(settings), *routing._incapable(settings)]
        if problems:
            raise InvalidSettings("; ".join(problems))
        return routing

    def _unknown(self, settings: Settings) -> list[str]:
        ids = {model.id for model in settings.models}
        names = set(settings.model_names)
        problems = []
        for name, weights in self.splits.items():
            if name in names:
                problems.append(f"splits: the name {name!r} is that of a model; allowed is any other")
            problems += [_unknown(f"splits.{name}", model_id, ids) for model_id in weights if model_id not in ids]
        for model_id, rule in self.fallbacks.items():
            if model_id not in ids:
                problems.append(_unknown("fallbacks", model_id, ids))
            others = ids - {model_id}
            if rule.model not in others:
                problems.append(_unknown(f"fallbacks.{model_id}.model", rule.model, others))
        if self.default_model and self.default_model not in names | set(self.splits):
            problems.append(_unknown("default_model", self.default_model, names | set(self.splits)))
        return problems

    def _incapable(self, settings: Settings) -> list[str]:
        models = {model.id: model for model in settings.models}
        problems = []
        for model_id, rule in self.fallbacks.items():
            first, second = models.get(model_id), models.get(rule.model)
            missing = set(first.capabilities) - set(second.capabilities) if first and second else set()
            if missing:
                problems.append(
                    f"fallbacks.{model_id}.model: {rule.model} lacks the capabilities {sorted(item.value for item in missing)}"
                )
        return problems

    def heaviest(self, split: str) -> str:
        """The model that most prompts of a split run on."""
        weights = self.splits[split]
        return max(weights, key=lambda model_id: weights[model_id])


def pick(weights: Mapping[str, float], key: str) -> str:
    """A model by weight; always the same for a key, so that a conversation stays with its model, and when a weight changes only
    as many keys change their model as the weights say.

    Args:
        weights: model id -> weight, at least one above 0.
    """
    total = sum(weights.values())
    point = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64 * total
    chosen = ""
    for model_id, weight in weights.items():
        if weight > 0:
            chosen = model_id
            if point < weight:
                break
        point -= weight
    return chosen


class CurrentRouting:
    """The routing in force, for all who go by it in one replica."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._routing: Routing | None = None

    @property
    def now(self) -> Routing:
        return self._routing or Routing()

    def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Put another one in force. One that is wrong is logged and changes nothing: Serve would replace the replicas that refuse
        it, one after the other, by others that refuse it too.

        Raises:
            InvalidSettings: the first one is wrong; the deployment does not start with it.
        """
        try:
            self._routing = Routing.parse(user_config or {}, self._settings)
        except InvalidSettings as error:
            if self._routing is None:
                raise
            logger.error("user_config is wrong and the one before stays in force: %s", error)


def _unknown(path: str, got: str, allowed: set[str]) -> str:
    return f"{path}: got {got!r}, allowed is one of {sorted(allowed)}"
