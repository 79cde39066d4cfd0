"""Tokenizers of the two families that language models use: byte-level BPE and SentencePiece with byte fallback."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from deployments.local.embedded_model import ensure


@cache
def smollm2(models_dir: Path) -> Tokenizer:
    """The embedded model's own: GPT-2's byte-level BPE."""
    return Tokenizer.from_file(str(ensure(models_dir) / "tokenizer.json"))


@cache
def byte_fallback() -> Tokenizer:
    """Like Llama 2's: a space is "▁", the text's first one is not shown, unknown characters become their bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdefghijklmnopqrstuvwxyzEND.,!é日", "▁t", "he", "▁the", "in", "st", "▁st", "op", "▁日"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("s", "t"), ("▁", "st"), ("o", "p"), ("▁", "日")]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    return tokenizer
