"""Which pictures are drawn, and what happens to those that cannot be."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from library.data.dataset import Dataset
from library.errors import InputError
from library.models.drawing import Painter
from library.models.prompts import Prompt
from library.train.preview import Previews, preview_prompts


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
    dog, cat = preview_prompts(settings, dataset_of())
    assert (dog.text, dog.width, dog.height, dog.seed, dog.sampler) == ("a dog", 128, 64, 3, "ddim")
    assert (cat.text, cat.width, cat.seed, cat.sampler) == ("a cat", 64, 7, "euler")


def test_first_captions_stand_in(settings_of, dataset_of) -> None:
    prompts = preview_prompts(settings_of(sample_at_first=True), dataset_of(6))
    assert [prompt.text for prompt in prompts] == [f"a, b, square{number}" for number in range(4)]
    assert {prompt.seed for prompt in prompts} == {7}


def test_no_words_to_draw(settings_of) -> None:
    with pytest.raises(InputError, match="no captions to draw.*sample_prompts"):
        preview_prompts(settings_of(sample_at_first=True), Dataset([], seed=1))


@pytest.fixture
def previews_of(settings_of, family, compute):
    """Previews by the toy's own models."""

    def _previews(*prompts: Prompt) -> Previews:
        dtype = torch.float32
        encoders = family.load_text_encoders(dtype)
        painter = Painter(family, family.load_vae(dtype), encoders, family.load_unet(dtype).train())
        return Previews(painter, prompts, settings_of(), compute)

    return _previews


def test_pictures_are_drawn(previews_of) -> None:
    prompts = [Prompt("a dog", width=64, height=64, steps=2, seed=seed) for seed in (1, 2)]
    previews = previews_of(*prompts)
    one, two = previews.draw()
    assert (one.number, two.number) == (0, 1) and one.prompt == prompts[0]
    assert isinstance(one.image, Image.Image) and one.image.size == (64, 64)
    assert one.image.tobytes() != two.image.tobytes()
    assert next(previews.draw()).image.tobytes() == one.image.tobytes()
    assert previews.painter.unet.training


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
