"""The parts of the pipeline, untrained: tokenizer, text encoder, autoencoder, denoiser and noise schedule.

All are of standard classes, so that diffusers loads the result without code of ours. Sizes are chosen for two CPU
cores: 8 x 8 latents for 256 pixels, 16 x 16 for 512.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scripts.painter.scenes import MAKERS

#: Pixels per latent in each direction.
DOWNSAMPLING = 32
LATENT_CHANNELS = 16
#: Tokens of a caption, with start and end; longer ones are cut.
CAPTION_TOKENS = 32
_TEXT_WIDTH = 128
_START, _END = "<|startoftext|>", "<|endoftext|>"


def tokenizer(kept: Path) -> Any:
    """CLIP's tokenizer with a vocabulary of its own: one token for each word of the captions, pieces for all others.

    Kept in that folder from the first time on: the trainer breaks ties by chance, so that no two vocabularies are alike,
    and a painter understands only the one that it has learnt with.
    """
    if not kept.exists():
        partial = kept.with_name(f".{kept.name}.partial")
        _new_tokenizer().save_pretrained(partial)
        partial.rename(kept)
    return CLIPTokenizer.from_pretrained(kept)


def _new_tokenizer() -> Any:
    bytewise = Tokenizer(BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    bytewise.normalizer = normalizers.Lowercase()
    bytewise.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    trainer = BpeTrainer(vocab_size=8000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bytewise.train_from_iterator(sorted(_words()), trainer)
    merges = _merges(bytewise)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += dict.fromkeys("".join(merge) for merge in merges)
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, _START, _END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CAPTION_TOKENS)


def _words() -> set[str]:
    """Every word of the captions."""
    rng = random.Random(0)
    return {
        word for make in MAKERS.values() for _ in range(4000) for word in make(rng).caption.replace(",", " ").split()
    }


def _merges(trained: Any) -> list[tuple[str, str]]:
    found = json.loads(trained.to_str())["model"]["merges"]
    return [(first, second) for first, second in found]


def text_encoder(vocabulary: Any) -> Any:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=4 * _TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=CAPTION_TOKENS,
            projection_dim=_TEXT_WIDTH,
            bos_token_id=vocabulary.bos_token_id,
            eos_token_id=vocabulary.eos_token_id,
            pad_token_id=vocabulary.pad_token_id,
        )
    )


def autoencoder() -> Any:
    width = (32,) * 6
    return AutoencoderTiny(
        encoder_block_out_channels=width,
        decoder_block_out_channels=width,
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(0, 0, 1, 1, 2, 3),
        num_decoder_blocks=(4, 3, 3, 2, 1, 0),
    )


def denoiser() -> Any:
    """The caption reaches it twice: word by word through cross-attention, and as a whole beside the time step."""
    return UNet2DConditionModel(
        sample_size=256 // DOWNSAMPLING,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def scheduler() -> Any:
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )
