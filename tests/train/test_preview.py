"""Which pictures are drawn, and what happens to those that cannot be."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from library.data.dataset import Dataset
from library.errors import InputError
from library.models.drawing import Painter
from library.models.prompts import Prompt
from library.train.captions import TextReader
from library.train.preview import Previews, preview_prompts
from library.train.rates import part_rates


def test_none_unless_asked(settings_of, dataset_of, tmp_path: Path, capsys) -> None:
    assert preview_prompts(settings_of(), dataset_of()) == []
    assert capsys.readouterr().err == ""
    (tmp_path / "prompts.txt").write_text("a dog\n")
    assert preview_prompts(settings_of(sample_prompts=tmp_path / "prompts.txt"), dataset_of()) == []
    assert "sample_every_n_epochs = 1" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["sample_every_n_steps", "sample_every_n_epochs"])
def test_prompts_of_a_file(settings_of, dataset_of, tmp_path: Path, moment: str) -> None:
    (tmp_path / "prompts.txt").write_text("a dog --w 128 --d 3\na cat --ss euler\n")
    settings = settings_of(sample_prompts=tmp_path / "prompts.txt", sample_sampler="ddim", **{moment: 1})
    dog, cat = preview_prompts(settings, dataset_of(resolution=(64, 64)))
    assert (dog.text, dog.width, dog.height, dog.seed, dog.sampler) == ("a dog", 128, 64, 3, "ddim")
    assert (cat.text, cat.width, cat.seed, cat.sampler) == ("a cat", 64, 7, "euler")


def test_first_captions_stand_in(settings_of, dataset_of) -> None:
    prompts = preview_prompts(settings_of(sample_at_first=True), dataset_of(6))
    assert [prompt.text for prompt in prompts] == [f"a, b, square{number}" for number in range(4)]
    assert {prompt.seed for prompt in prompts} == {7}


def test_the_size_is_the_largest_that_is_trained(settings_of, dataset_of) -> None:
    """What the dataset tables say goes before the flat setting."""
    both = [*dataset_of(1, resolution=(128, 192)).pictures, *dataset_of(1, resolution=(128, 128)).pictures]
    for prompt in preview_prompts(settings_of(resolution=64, sample_at_first=True), Dataset(both, seed=1)):
        assert (prompt.width, prompt.height) == (128, 192)


def test_no_words_to_draw(settings_of, dataset_of) -> None:
    wordless = [replace(picture, caption="") for picture in dataset_of(2).pictures]
    with pytest.raises(InputError, match="no captions to draw.*sample_prompts"):
        preview_prompts(settings_of(sample_at_first=True), Dataset(wordless, seed=1))


@pytest.fixture
def previews_of(settings_of, family, compute):
    """Previews by the toy's own models."""

    def _previews(*prompts: Prompt, **changes) -> Previews:
        dtype = torch.float32
        settings = settings_of(**changes)
        reader = TextReader(family, settings, compute, trained="text_encoder" in part_rates(settings))
        painter = Painter(family, family.load_vae(dtype), [], family.load_unet(dtype).train())
        return Previews(lambda: painter, prompts, reader, compute)

    return _previews


def test_pictures_are_drawn(previews_of) -> None:
    prompts = [Prompt("a dog", width=64, height=64, steps=2, seed=seed) for seed in (1, 2)]
    previews = previews_of(*prompts)
    one, two = previews.draw()
    assert (one.number, two.number) == (0, 1) and one.prompt == prompts[0]
    assert isinstance(one.image, Image.Image) and one.image.size == (64, 64)
    assert one.image.tobytes() != two.image.tobytes()
    assert next(previews.draw()).image.tobytes() == one.image.tobytes()
    assert previews.open_painter().unet.training


@pytest.mark.parametrize("frozen", [True, False])
def test_prompts_are_read_as_captions_are(previews_of, family, frozen: bool) -> None:
    """By the run's own encoders: frozen or learning, with its layer, and with weights if captions have them."""
    prompt = Prompt("a (dog:1.4)", "blurry", width=64, height=64, steps=2, guidance=3)
    changes = {"network_train_unet_only": frozen, "clip_skip": 2}
    previews = previews_of(prompt, **changes)
    encoders = previews.reader.load()
    encoders[0].train(not frozen)
    (drawn,) = previews.draw()
    assert encoders[0].training is not frozen
    opened = previews.open_painter()
    painter = Painter(family, opened.vae, encoders, opened.unet)
    assert drawn.image.tobytes() == painter.draw(prompt, clip_skip=2).tobytes()
    (weighted,) = previews_of(prompt, weighted_captions=True, **changes).draw()
    assert weighted.image.tobytes() != drawn.image.tobytes()


def test_captions_stand_in_as_they_are_shown(settings_of, dataset_of) -> None:
    dataset = dataset_of(2, caption_prefix="{best}", enable_wildcard=True, trigger_words="sks", shuffle_caption=True)
    prompts = preview_prompts(settings_of(sample_at_first=True), dataset)
    assert [prompt.text for prompt in prompts] == [f"sks, best a, b, square{number}" for number in range(2)]


def test_one_that_fails_is_left_out(previews_of, monkeypatch, capsys) -> None:
    """Training is worth more than a preview."""
    draw = Painter.draw

    def out_of_memory(self, prompt, *words, **more):
        if prompt.text == "too large":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(self, prompt, *words, **more)

    monkeypatch.setattr(Painter, "draw", out_of_memory)
    small = Prompt("a dog", width=64, height=64, steps=2)
    (drawn,) = previews_of(Prompt("too large", steps=2), small).draw()
    assert drawn.number == 1 and drawn.prompt == small
    assert "preview 0 ('too large') was not drawn: CUDA out of memory" in capsys.readouterr().err
