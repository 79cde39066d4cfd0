"""Loads a diffusers pipeline with all of its uses on the same weights, and calls it. Everything here blocks."""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Diffusers logs the end of long prompts; whatever it has to say of a prompt is said without its text here.
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

import diffusers
import torch
from PIL import Image, ImageOps
from transformers.utils import logging as transformers_logging

from deployments.engines.diffusers_options import DiffusersOptions
from deployments.engines.paint_queue import Likeness
from deployments.engines.previews import Previewer
from deployments.settings import InvalidSettings, ModelSpec
from pipeline.errors import EngineDead, EngineError, PermanentEngineError
from pipeline.image_parameters import ImageTask, Sampler
from pipeline.prompt_type import Capability

logger = logging.getLogger("ray.serve")

#: Characters of a prompt that are tokenized; no text encoder reads near as many.
MOST_CHARACTERS = 20_000
#: Latents are halved this often by default, which makes 8.
_DEFAULT_MULTIPLE = 8

_SCHEDULERS: dict[Sampler, tuple[str, dict[str, Any]]] = {
    Sampler.DDIM: ("DDIMScheduler", {}),
    Sampler.DDPM: ("DDPMScheduler", {}),
    Sampler.PNDM: ("PNDMScheduler", {"skip_prk_steps": True}),
    Sampler.EULER: ("EulerDiscreteScheduler", {}),
    Sampler.EULER_A: ("EulerAncestralDiscreteScheduler", {}),
    Sampler.HEUN: ("HeunDiscreteScheduler", {}),
    Sampler.DPMPP_2M: ("DPMSolverMultistepScheduler", {}),
    Sampler.DPMPP_2M_KARRAS: ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    Sampler.DPMPP_2M_SDE: ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    Sampler.DPMPP_2S: ("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
    Sampler.UNIPC: ("UniPCMultistepScheduler", {}),
    Sampler.DEIS: ("DEISMultistepScheduler", {}),
    Sampler.LCM: ("LCMScheduler", {}),
}
_SAMPLERS = {
    name: sampler for sampler, (name, options) in _SCHEDULERS.items() if not options or sampler is Sampler.PNDM
}


class OutOfMemory(EngineError):
    """The model ran out of memory."""


class Stopped(Exception):
    """Nobody waits for the pictures of this call any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureOrder:
    """What of a picture is its own."""

    prompt: str
    negative_prompt: str
    seed: int
    source: Image.Image | None = None


#: Told after every step: which, of how many, and a function that makes a preview. May raise Stopped.
OnStep = Callable[[int, int, Callable[[], bytes]], None]


class Pipelines:
    """One model."""

    def __init__(self, spec: ModelSpec, source: str) -> None:
        """Load it; takes seconds to minutes.

        Raises:
            InvalidSettings: an engine argument is wrong, or the pipeline cannot do what the catalogue says.
            OSError: there is no such model.
        """
        options = DiffusersOptions.of(spec)
        diffusers.utils.logging.set_verbosity_error()
        diffusers.utils.logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        if options.threads:
            torch.set_num_threads(options.threads)
        self._device = _device(options)
        dtype = _dtype(options, self._device)
        base = _load(source, options, dtype)
        _configure(base, options, self._device, spec)
        if options.scheduler is not None:
            base.scheduler = _scheduler(base.scheduler, options.scheduler)
        self._uses = {ImageTask(c): _use(base, c, spec) for c in spec.capabilities}
        self._own_scheduler = base.scheduler
        self._previewer = Previewer(base) if options.offload == "none" else None
        self._base = base
        #: Sides are painted as a multiple of it.
        self.multiple = options.size_multiple or _multiple(base)
        self.fingerprint = _fingerprint(base, source, options, dtype)

    def scheduler_name(self, sampler: Sampler | None) -> str:
        """Of a call with this wish."""
        own = type(self._own_scheduler).__name__
        return str(sampler or _SAMPLERS.get(own, own))

    def cuts_short(self, prompt: str) -> bool:
        """Whether no text encoder reads the whole prompt."""
        tokenizers = [getattr(self._base, name, None) for name in ("tokenizer", "tokenizer_2", "tokenizer_3")]
        known = [tokenizer for tokenizer in tokenizers if tokenizer is not None]
        if not known or not prompt:
            return False
        text = prompt[:MOST_CHARACTERS]
        return len(text) < len(prompt) or all(
            len(tokenizer(text, truncation=False).input_ids) > tokenizer.model_max_length for tokenizer in known
        )

    def paint(self, likeness: Likeness, orders: Sequence[PictureOrder], on_step: OnStep) -> list[Image.Image]:
        """One call: a picture for each order, of the size that ``likeness`` says.

        Raises:
            Stopped: ``on_step`` said so.
            OutOfMemory, EngineDead, PermanentEngineError: as their names say.
        """
        pipe = self._uses[likeness.task]
        takes = inspect.signature(pipe.__call__).parameters
        arguments = self._arguments(pipe, takes, likeness, orders)
        previewer = self._previewer

        def step_ended(pipe: Any, index: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents = tensors.get("latents")
            on_step(
                index + 1,
                getattr(pipe, "num_timesteps", likeness.steps),
                lambda: b"" if previewer is None or latents is None else previewer.preview(latents),
            )
            return {}

        if "callback_on_step_end" in takes:
            arguments["callback_on_step_end"] = step_ended
        try:
            pipe.scheduler = self._scheduler(likeness.scheduler)
            images: list[Image.Image] = pipe(**arguments).images
        except Exception as error:
            # Whatever was offloaded for the call goes back.
            pipe.maybe_free_model_hooks()
            raise self._translated(error, likeness) from error
        if len(images) != len(orders):
            raise EngineError(f"the pipeline made {len(images)} pictures in place of {len(orders)}")
        size = (likeness.width, likeness.height)
        # An unconditional model has one size, its own.
        return [image if image.size == size else ImageOps.fit(image, size) for image in images]

    def _arguments(self, pipe: Any, takes: Any, likeness: Likeness, orders: Sequence[PictureOrder]) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "num_inference_steps": likeness.steps,
            # On the CPU, so that a seed means the same picture on every device.
            "generator": [torch.Generator("cpu").manual_seed(order.seed) for order in orders],
            "output_type": "pil",
        }
        if "prompt" not in takes:
            return {**arguments, "batch_size": len(orders)}
        arguments |= {
            "prompt": [order.prompt[:MOST_CHARACTERS] for order in orders],
            "guidance_scale": likeness.guidance_scale,
        }
        if likeness.negative:
            if "negative_prompt" not in takes:
                raise PermanentEngineError("this model takes no negative prompt")
            arguments["negative_prompt"] = [order.negative_prompt[:MOST_CHARACTERS] for order in orders]
        if likeness.task is ImageTask.IMAGE:
            assert likeness.strength is not None
            size = (likeness.width, likeness.height)
            sources = [order.source for order in orders]
            arguments["image"] = [ImageOps.fit(source, size) for source in sources if source is not None]
            arguments["strength"] = likeness.strength
            arguments["num_inference_steps"] = _steps(likeness.steps, likeness.strength)
        return arguments | {name: getattr(likeness, name) for name in ("width", "height") if name in takes}

    def _scheduler(self, sampler: Sampler | None) -> Any:
        """A fresh one for each call: they hold its state."""
        if sampler is None:
            return type(self._own_scheduler).from_config(self._own_scheduler.config)
        return _scheduler(self._own_scheduler, sampler)

    def _translated(self, error: Exception, likeness: Likeness) -> Exception:
        """In our words. The message of any other error is kept from clients and logs by the attempt."""
        if _is_out_of_memory(error):
            # The traceback holds the tensors.
            error.__traceback__ = None
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            return OutOfMemory(f"the model ran out of memory painting {likeness.width} x {likeness.height} pixels")
        if isinstance(error, getattr(torch, "AcceleratorError", ())):
            # Nothing can be computed on the device by this process any more.
            return EngineDead()
        return error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator has no class of its own.
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in ("not enough memory", "can't allocate memory", "out of memory")
    )


def _device(options: DiffusersOptions) -> torch.device:
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(options.device)


def _dtype(options: DiffusersOptions, device: torch.device) -> torch.dtype:
    if options.dtype != "auto":
        dtype: torch.dtype = getattr(torch, options.dtype)
        return dtype
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float16


def _load(source: str, options: DiffusersOptions, dtype: torch.dtype) -> Any:
    # Never pickles: they run what they like.
    arguments: dict[str, Any] = {"dtype": dtype, "variant": options.variant, "use_safetensors": True}
    kind = getattr(diffusers, str(diffusers.DiffusionPipeline.load_config(source).get("_class_name")), None)
    if kind is not None and "image" not in inspect.signature(kind.__call__).parameters:
        return diffusers.DiffusionPipeline.from_pretrained(source, **arguments)
    # It was saved for another use. Not for all: this class imports every pipeline that there is, for seconds.
    return diffusers.AutoPipelineForText2Image.from_pretrained(source, **arguments)


def _configure(pipe: Any, options: DiffusersOptions, device: torch.device, spec: ModelSpec) -> None:
    pipe.set_progress_bar_config(disable=True)
    for index, lora in enumerate(options.lora):
        try:
            pipe.load_lora_weights(lora.source, weight_name=lora.weight_name, adapter_name=f"lora-{index}")
        except (ValueError, ImportError) as error:
            raise InvalidSettings(f"models: {spec.id}: engine_args: lora.{index}: {error}") from None
    if options.lora:
        pipe.set_adapters(
            [f"lora-{index}" for index in range(len(options.lora))], [lora.scale for lora in options.lora]
        )
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    if options.channels_last:
        denoiser.to(memory_format=torch.channels_last)
    if options.attention == "slicing":
        pipe.enable_attention_slicing()
    elif options.attention != "auto":
        denoiser.set_attention_backend(options.attention)
    if options.vae_slicing:
        pipe.vae.enable_slicing()
    if options.vae_tiling:
        pipe.vae.enable_tiling()
    if options.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif options.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    if options.compile:
        denoiser.compile()


def _use(base: Any, capability: Capability, spec: ModelSpec) -> Any:
    """The pipeline for a task, on the weights of ``base``. Raises InvalidSettings if it cannot be."""
    has_words = "prompt" in inspect.signature(base.__call__).parameters
    if capability is Capability.IMAGE_TO_IMAGE and has_words:
        try:
            other = diffusers.AutoPipelineForImage2Image.from_pipe(base)
        except ValueError:
            other = None
        if other is not None:
            other.set_progress_bar_config(disable=True)
            return other
    elif capability is Capability.UNCONDITIONAL_IMAGE_GENERATION or has_words:
        return base
    raise InvalidSettings(
        f"models: {spec.id}: capabilities: got {capability.value!r}, which the pipeline {type(base).__name__} has not"
    )


def _scheduler(own: Any, sampler: Sampler) -> Any:
    """Raises PermanentEngineError for one that does not fit how the model was trained."""
    name, options = _SCHEDULERS[sampler]
    kind = getattr(diffusers, name)
    fits = {found.__name__ for found in own.compatibles} | {type(own).__name__}
    if "DDIMScheduler" in fits:
        fits.add("LCMScheduler")  # of the same family; its own list knows it, theirs do not
    if name not in fits:
        fitting = [known.value for known, (known_name, _) in _SCHEDULERS.items() if known_name in fits]
        raise PermanentEngineError(
            f"scheduler: got {sampler.value}, allowed for this model is {', '.join(fitting) or 'its own'}"
        )
    return kind.from_config(own.config, **options)


def _steps(steps: int, strength: float) -> int:
    """As many as leave at least one to be taken: of another picture's only the last ``strength`` of them are."""
    while int(steps * strength) < 1:
        steps += 1
    return steps


def _multiple(pipe: Any) -> int:
    """What sides must be a multiple of: of the decoder's factor, and of what the denoiser halves."""
    processor = getattr(pipe, "image_processor", None)
    factor = getattr(pipe, "vae_scale_factor", None) or getattr(
        getattr(processor, "config", None), "vae_scale_factor", 0
    )
    return max(
        _DEFAULT_MULTIPLE, int(factor or 0), int(getattr(getattr(processor, "config", None), "vae_scale_factor", 0))
    )


def _fingerprint(pipe: Any, source: str, options: DiffusersOptions, dtype: torch.dtype) -> str:
    """Changes with the model, its precision and what is laid over it; 32 hex digits."""
    parts = {name: part.num_parameters() for name, part in pipe.components.items() if hasattr(part, "num_parameters")}
    text = json.dumps(
        [source, type(pipe).__name__, parts, str(dtype), dict(pipe.scheduler.config), options.model_dump(mode="json")],
        default=str,
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]
