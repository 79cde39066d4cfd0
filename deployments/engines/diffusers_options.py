"""``engine_args`` of a diffusers model: how its pipeline is loaded and run. What prompts may ask of it is in ``images``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deployments.settings import InvalidSettings, ModelSpec
from pipeline.image_parameters import Sampler
from pipeline.prompt_type import Capability


class LoraOptions(BaseModel):
    """Weights that are laid over the model's. Needs the package ``peft``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Hugging Face id or a directory.
    source: str = Field(min_length=1)
    #: Name of the safetensors file, where there are several.
    weight_name: str | None = None
    #: How much they count.
    scale: float = 1.0


class DiffusersOptions(BaseModel):
    """A wrong one stops the replica's start with a line that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Where it runs: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` …
    device: str = Field(default="auto", pattern=r"^(auto|cpu|(cuda|xpu|mps)(:\d+)?)$")
    #: Of the weights. ``auto``: float32 on a CPU, bfloat16 on a GPU that has it, else float16.
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    #: Of the weight files, such as ``fp16``.
    variant: str | None = None
    #: In place of the scheduler that the model comes with; names as prompts may use them.
    scheduler: Sampler | None = None
    #: Sides are painted as a multiple of so many pixels and cropped. None: what the pipeline says.
    size_multiple: int | None = Field(default=None, ge=1, le=256)
    #: Attention in slices takes less memory and more time. Any other name is one of diffusers' attention backends.
    attention: str = "auto"
    #: Pictures of a call are decoded one after another.
    vae_slicing: bool = False
    #: Large pictures are decoded in tiles.
    vae_tiling: bool = False
    #: What does not compute waits in the main memory: whole models, or single layers (slow). Previews are off then.
    offload: Literal["none", "model", "sequential"] = "none"
    #: Compile the denoiser; the first call of each size takes minutes.
    compile: bool = False
    #: Weights laid out as GPUs like convolutions to be.
    channels_last: bool = False
    #: Cores the model computes on. None: what OMP_NUM_THREADS says.
    threads: int | None = Field(default=None, ge=1)
    lora: tuple[LoraOptions, ...] = ()

    @field_validator("scheduler", mode="before")
    @classmethod
    def _any_spelling(cls, value: object) -> object:
        return Sampler.parse(value) if isinstance(value, str) else value

    @classmethod
    def of(cls, spec: ModelSpec) -> DiffusersOptions:
        """Raises InvalidSettings."""
        try:
            options = cls(**spec.engine_args)
        except ValidationError as error:
            issues = "; ".join(f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in error.errors())
            raise InvalidSettings(f"models: {spec.id}: engine_args: {issues}") from None
        if options.offload != "none" and Capability.IMAGE_TO_IMAGE in spec.capabilities:
            # Two pipelines on the same weights would each move them about.
            raise InvalidSettings(
                f"models: {spec.id}: engine_args: offload: got {options.offload!r}, allowed with image-to-image is 'none'"
            )
        return options
