"""CLIPSeg: the same numbers as by transformers' own processor and model, and other models refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from library.errors import InputError
from library.prepare import clipseg
from library.prepare.clipseg import ClipSeg, choose_device, open_clipseg
from tests.prepare.segmenters import CLIPSEG_SIDE, noise, write_clipseg

PROMPTS = ["a dog", "something with a much longer name", "sky"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clipseg(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture(scope="module")
def model(folder: Path) -> ClipSeg:
    return open_clipseg(str(folder), PROMPTS, "cpu")


@pytest.fixture(scope="module")
def originals(folder: Path) -> tuple[CLIPSegProcessor, CLIPSegForImageSegmentation]:
    return CLIPSegProcessor.from_pretrained(folder), CLIPSegForImageSegmentation.from_pretrained(folder)


def by_transformers(originals: tuple, image: Image.Image, prompts: list[str]) -> np.ndarray:
    """How well each pixel fits each prompt, (prompts, height, width), as the model's card says to do it."""
    processor, model = originals
    inputs = processor(text=prompts, images=[image] * len(prompts), padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.sigmoid().numpy()


def test_it_equals_transformers_and_the_best_prompt_counts(originals: tuple, model: ClipSeg) -> None:
    images = [noise((90, 50), 1), noise((30, 200), 2)]
    found = model.run([model.prepare(image) for image in images])
    assert found.shape == (2, CLIPSEG_SIDE, CLIPSEG_SIDE)
    for image, shares in zip(images, found, strict=True):
        each = by_transformers(originals, image, PROMPTS)
        assert np.ptp(each) > 0.2 and all(np.abs(each[0] - other).max() > 0.05 for other in each[1:])
        np.testing.assert_allclose(shares, each.max(0), atol=1e-4)
        assert np.abs(model.mask_of(shares) - each.max(0) * 255).max() < 0.51


def test_one_prompt_and_one_picture(originals: tuple) -> None:
    image = noise((64, 64), 3)
    model = ClipSeg(originals[1], originals[0], ["a dog"])
    found = model.run([model.prepare(image)])
    np.testing.assert_allclose(found[0], by_transformers(originals, image, ["a dog", "sky"])[0], atol=1e-4)


@pytest.mark.parametrize("image", [Image.new("LA", (5, 5)), Image.new("1", (1, 1)), noise((3, 500)), noise((500, 3))])
def test_any_kind_of_picture_is_taken(model: ClipSeg, image: Image.Image) -> None:
    assert model.prepare(image).shape == (3, CLIPSEG_SIDE, CLIPSEG_SIDE)


def test_a_prompt_that_is_too_long_is_refused(originals: tuple) -> None:
    with pytest.raises(InputError, match="has 92 tokens; the model reads 77"):
        ClipSeg(originals[1], originals[0], ["a dog", "word " * 90])


def test_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(InputError, match="is a clip model; this method needs CLIPSeg"):
        open_clipseg(str(tmp_path), ["a dog"], "cpu")
    with pytest.raises(InputError, match="cannot be opened as a folder or from the hub"):
        open_clipseg(str(tmp_path / "gone"), ["a dog"], "cpu")


def test_a_model_without_all_its_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would fill the gap with random numbers."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(folder / "model.safetensors")
    del tensors["decoder.film_mul.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of its weights, such as decoder\.film_mul\.weight"):
        open_clipseg(str(tmp_path), ["a dog"], "cpu")


def test_full_memory_is_said_with_the_remedy(model: ClipSeg, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model._model, "forward", fill)
    with pytest.raises(InputError, match="lower --batch_size"):
        model.run([model.prepare(noise((8, 8)))])


def test_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(clipseg.torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA here; use --device cpu"):
        choose_device("cuda")
    monkeypatch.setattr(clipseg.torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    assert choose_device(None) == torch.device("mps")
    monkeypatch.setattr(clipseg.torch.accelerator, "current_accelerator", lambda: None)
    assert choose_device(None) == torch.device("cpu")
