"""The training of the image model from end to end, with so few steps that nothing is learnt: it runs, goes on after an
interruption, and what it writes can be loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from scripts.painter import autoencoder, denoiser, models
from scripts.painter.drawing import Scene, Thing, draw
from scripts.painter.export import export
from scripts.painter.latents import Album
from scripts.painter.muon import Muon
from scripts.painter.palette import nearest
from scripts.painter.run import Average, Run, schedule
from scripts.painter.sheet import load, paint

#: Of smaller pictures hardly a latent pixel is left, and torch's kernels have given NaN for such, now and then.
SIDE = 128
STAGES = tuple(
    denoiser.Stage(
        until=until,
        albums=((Album(width=SIDE, height=height, count=6, weights={"single": 1.0}, seed=seed), 1.0),),
        batch=4 * 4 * 4,
    )
    for until, height, seed in ((0.5, SIDE, 1), (1.0, 192, 2))
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(folder=tmp_path_factory.mktemp("painter"))


@pytest.fixture(scope="module")
def compressor(run: Run):
    return autoencoder.train(run, steps=2, minutes=5)


@pytest.fixture(scope="module")
def painter(run: Run, compressor: object) -> denoiser.Painter:
    return denoiser.train(run, compressor, steps=2, minutes=5, stages=STAGES)


@pytest.fixture(scope="module")
def folder(run: Run, compressor: object, painter: denoiser.Painter) -> Path:
    export(painter, compressor, models.tokenizer(run.folder / denoiser.TOKENIZER), run.folder / "model")
    return run.folder / "model"


def test_a_trained_autoencoder_is_taken_from_its_checkpoint(run: Run, compressor: object):
    again = autoencoder.train(run, steps=2, minutes=5)
    assert again.config.scaling_factor == compressor.config.scaling_factor
    assert again.config.scaling_factor != 1
    assert run.load(autoencoder.CHECKPOINT)["step"] == 2


def test_sharpening_leaves_the_encoder_as_it_was(run: Run, compressor: object):
    before = run.load(autoencoder.CHECKPOINT)["model"]
    sharpened = autoencoder.sharpen(run, autoencoder.train(run, steps=2, minutes=5), steps=1, minutes=5).state_dict()
    changed = {name for name, weight in sharpened.items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)


def test_colours_survive_an_untrained_autoencoder():
    model = models.autoencoder()
    autoencoder._begin_with_colours(model)
    scene = Scene(seed=1, things=(Thing(shape="square", colour="orange", radius=0.4),), ground="blue")
    picture = np.asarray(draw(scene, 256, 256))
    with torch.no_grad():
        latents = model.encode(autoencoder.as_tensor(picture[None])).latents
        again = model.decode(latents).sample[0].permute(1, 2, 0).add(1).mul(127.5).numpy()
    assert nearest(again[128, 128])[0] == "orange"
    assert nearest(again[10, 10])[0] == "blue"


def test_training_goes_on_where_it_was(run: Run, compressor: object, folder: Path):
    before = run.load(denoiser.CHECKPOINT)
    denoiser.train(run, compressor, steps=3, minutes=5, stages=STAGES)
    after = run.load(denoiser.CHECKPOINT)
    assert (before["step"], after["step"]) == (2, 3)
    assert after["examples"] > before["examples"]


def test_albums_are_drawn_once(run: Run, painter: denoiser.Painter):
    drawn = {path.name: path.stat().st_mtime_ns for path in run.folder.glob("latents-*.pt")}
    assert set(drawn) == {stage.albums[0][0].name for stage in STAGES}
    saved = run.load(STAGES[1].albums[0][0].name)
    assert saved["latents"].shape == (6, models.LATENT_CHANNELS, 6, 4)
    assert saved["tokens"].shape == (6, models.CAPTION_TOKENS)


def test_what_is_written_paints_and_is_small(folder: Path):
    pipeline = load(folder)
    assert pipeline.unet.dtype == pipeline.text_encoder.dtype == pipeline.vae.dtype == torch.float32
    picture = paint(pipeline, "a red circle", 1, side=SIDE, steps=2)
    assert picture.size == (SIDE, SIDE)
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert weights <= 30_000_000


def test_what_is_written_names_no_folder_of_this_machine(folder: Path):
    for path in folder.rglob("*.json"):
        assert str(folder.parent) not in json.dumps(json.loads(path.read_text(encoding="utf-8")))


def test_a_stopped_training_ends_at_once(run: Run, compressor: object, painter: denoiser.Painter):
    stopped = Run(folder=run.folder)
    stopped.stopping = True
    step = run.load(denoiser.CHECKPOINT)["step"]
    denoiser.train(stopped, compressor, steps=1000, minutes=5, stages=STAGES)
    assert run.load(denoiser.CHECKPOINT)["step"] == step


def test_the_vocabulary_stays_what_it_was_when_the_captions_were_read(tmp_path: Path):
    first = models.tokenizer(tmp_path / "tokenizer")
    assert models.tokenizer(tmp_path / "tokenizer").get_vocab() == first.get_vocab()
    assert first("a red star").input_ids == models.tokenizer(tmp_path / "tokenizer")("a red star").input_ids


def test_the_painter_comes_with_the_vocabulary_that_it_has_learnt_with(run: Run, folder: Path):
    kept = models.tokenizer(run.folder / denoiser.TOKENIZER)
    assert CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab() == kept.get_vocab()


def test_words_of_captions_are_one_token_each_and_others_are_spelt(tmp_path: Path):
    tokenizer = models.tokenizer(tmp_path / "tokenizer")
    assert tokenizer("a striped purple diamond on a gray background").input_ids[1:-1] == [
        tokenizer.convert_tokens_to_ids(f"{word}</w>")
        for word in ["a", "striped", "purple", "diamond", "on", "a", "gray", "background"]
    ]
    spelt = tokenizer("Żółw zebra 7!").input_ids
    assert tokenizer.decode(spelt, skip_special_tokens=True) == "żółw zebra 7 !"


def test_the_rate_rises_stays_and_ends_at_nothing():
    assert schedule(0) < 0.2
    assert schedule(0.5) == 1
    assert schedule(0.85) == pytest.approx(0.5)
    assert schedule(1) == 0


def test_muon_steps_are_as_long_in_every_direction():
    weight = torch.nn.Parameter(torch.zeros(6, 2, 2, 2))
    optimiser = Muon([weight], lr=1.0, weight_decay=0)
    torch.manual_seed(0)
    weight.grad = torch.randn(6, 8).mul(torch.tensor([0.3, 1, 1, 1, 1, 3]).unsqueeze(1)).reshape(6, 2, 2, 2)
    optimiser.step()
    lengths = torch.linalg.svdvals(weight.detach().reshape(6, 8)) / (0.2 * 8**0.5)
    assert lengths.min() > 0.3
    assert lengths.max() < 1.5


def test_an_average_is_lent_to_the_module_and_taken_back():
    module = torch.nn.Linear(2, 1, bias=False)
    average = Average(module, longest=0.5)
    start = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    average.update(module, step=100)
    with average.inside(module):
        assert torch.allclose(module.weight, start + 0.5)
    assert torch.allclose(module.weight, start + 1)


def test_what_was_learnt_in_a_vocabulary_that_is_gone_is_not_gone_on_with(tmp_path: Path, compressor: object):
    alone = Run(folder=tmp_path)
    alone.save("latents-64x64-1.pt", {})
    with pytest.raises(FileNotFoundError, match=r"tokenizer is missing, the vocabulary of .*latents-64x64-1.pt"):
        denoiser.train(alone, compressor, steps=2, minutes=5, stages=STAGES)
