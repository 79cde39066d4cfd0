"""Loads a diffusers pipeline with all of its uses on the same weights, and calls it. Everything here blocks."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import inspect
import itertools
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Diffusers logs the end of long prompts; whatever it has to say of a prompt is said without its text here.
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

import diffusers
import numpy as np
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
    #: Pixels of the middle that is wanted of the picture: the rest is there because the model paints multiples of something.
    width: int
    height: int


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
        vae = getattr(base, "vae", None)
        #: None where there is no decoder, or where its weights are nowhere between calls.
        self._decoder_dtype = None if vae is None or options.offload == "sequential" else vae.dtype
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
        scheduler = self._scheduler(likeness.scheduler)
        arguments = self._arguments(takes, likeness, orders, most_steps=_most_steps(scheduler))
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
        else:
            _require_own(scheduler, self._own_scheduler, likeness.scheduler)
            _call_after_each_step(scheduler, lambda step: on_step(step, likeness.steps, lambda: b""))
        try:
            pipe.scheduler = scheduler
            images: list[Image.Image] = pipe(**arguments).images
        except Exception as error:
            translated = self._translated(error, likeness)
            # A device that is lost says so again.
            with contextlib.suppress(Exception):
                self._restore(pipe)
            raise translated from error
        if len(images) != len(orders):
            raise EngineError(f"the pipeline made {len(images)} pictures in place of {len(orders)}")
        size = (likeness.width, likeness.height)
        # An unconditional model has one size, its own.
        return [image if image.size == size else ImageOps.fit(image, size) for image in images]

    def _arguments(
        self, takes: Any, likeness: Likeness, orders: Sequence[PictureOrder], *, most_steps: int | None
    ) -> dict[str, Any]:
        if most_steps is not None and likeness.steps > most_steps:
            raise PermanentEngineError(f"steps: got {likeness.steps}, allowed with this scheduler is 1 to {most_steps}")
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
            if "true_cfg_scale" in takes:
                # Models that have their guidance distilled into them know a negative prompt by the classic one only.
                arguments["true_cfg_scale"] = likeness.guidance_scale
        if likeness.task is ImageTask.IMAGE:
            assert likeness.strength is not None
            size = (likeness.width, likeness.height)
            arguments["image"] = [
                _amid(order.source, (order.width, order.height), size) for order in orders if order.source is not None
            ]
            arguments["strength"] = max(likeness.strength, 1 / most_steps) if most_steps else likeness.strength
            arguments["num_inference_steps"] = _steps(likeness.steps, arguments["strength"])
        return arguments | {name: getattr(likeness, name) for name in ("width", "height") if name in takes}

    def _scheduler(self, sampler: Sampler | None) -> Any:
        """A fresh one for each call: they hold its state."""
        if sampler is None:
            return type(self._own_scheduler).from_config(self._own_scheduler.config)
        return _scheduler(self._own_scheduler, sampler)

    def _restore(self, pipe: Any) -> None:
        """After a call that broke off: whatever was offloaded for it goes back, and a decoder that was lifted to another
        precision gets its own again, without which no other call would work."""
        pipe.maybe_free_model_hooks()
        if self._decoder_dtype is not None and self._base.vae.dtype != self._decoder_dtype:
            self._base.vae.to(self._decoder_dtype)

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
    has_bfloat16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float16


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


def _amid(source: Image.Image, wanted: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """``source`` in the wanted size in the middle of one of ``size``, its edges continued to the borders."""
    fitted = source if source.size == wanted else ImageOps.fit(source, wanted)
    if wanted == size:
        return fitted
    (left, right), (above, below) = (
        ((whole - part) // 2, whole - part - (whole - part) // 2) for whole, part in zip(size, wanted, strict=True)
    )
    return Image.fromarray(np.pad(np.asarray(fitted), ((above, below), (left, right), (0, 0)), mode="edge"))


def _most_steps(scheduler: Any) -> int | None:
    """That a scheduler can take: those of distilled models choose among a few. None: as many as there are."""
    name = "original_inference_steps"
    # Not only its configuration: that may have come with a model from another scheduler.
    return scheduler.config[name] if name in inspect.signature(type(scheduler)).parameters else None


def _require_own(scheduler: Any, own: Any, sampler: Sampler | None) -> None:
    """The loop of a pipeline that nobody can look into is written for one scheduler: with others it fails, or paints nonsense."""
    if type(scheduler) is not type(own):
        raise PermanentEngineError(f"scheduler: got {sampler}, allowed for this model is its own, {type(own).__name__}")


def _call_after_each_step(scheduler: Any, on_step: Callable[[int], None]) -> None:
    """For pipelines that tell nobody how far they are."""
    step, done = scheduler.step, itertools.count(1)

    @functools.wraps(step)
    def stepped(*args: Any, **kwargs: Any) -> Any:
        found = step(*args, **kwargs)
        on_step(next(done))
        return found

    scheduler.step = stepped


def _steps(steps: int, strength: float) -> int:
    """As many as leave at least one to be taken: of another picture's only the last ``strength`` of them are."""
    while int(steps * strength) < 1:
        steps += 1
    return steps


def _multiple(pipe: Any) -> int:
    """What sides must be a multiple of: of the decoder's factor and the denoiser's patches, and of what the denoiser halves."""
    processor = getattr(pipe, "image_processor", None)
    factor = getattr(pipe, "vae_scale_factor", None) or getattr(
        getattr(processor, "config", None), "vae_scale_factor", 0
    )
    patch = getattr(getattr(getattr(pipe, "transformer", None), "config", None), "patch_size", None)
    return max(
        _DEFAULT_MULTIPLE,
        int(factor or 0) * (patch if isinstance(patch, int) else 1),
        int(getattr(getattr(processor, "config", None), "vae_scale_factor", 0)),
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
