"""The studio: which pictures are drawn together, adapters on and off, compiling that fails."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import library.frozen
from library.errors import InputError
from library.frozen import FrozenLayer
from library.models.family import Condition, Family, open_family
from library.models.guidance import Guidance
from library.models.prompts import Prompt
from library.models.studio import Studio, Ways, batches
from tests.toy_families import write_toy

PROMPTS = [Prompt("a dog", width=64, height=64, steps=2, seed=seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("studio") / request.param, request.param)


def guidance(chunks: int = 1) -> Guidance:
    return Guidance(Condition(torch.zeros(2, 75 * chunks + 2, 8)), (5.0,))


def write_lora(family: Family, path: Path) -> None:
    """A LoRA of rank 2 on every adaptable layer of the UNet, with random matrices."""
    torch.manual_seed(0)
    unet, tensors = family.load_unet(torch.float32), {}
    for name, stem in family.adapter_layers(unet, "unet").items():
        outputs, inputs, *kernel = unet.get_submodule(name).weight.shape
        tensors[f"{stem}.lora_down.weight"] = torch.randn(2, inputs, *kernel) / 10
        tensors[f"{stem}.lora_up.weight"] = torch.randn(outputs, 2, *(1 for _ in kernel)) / 10
        tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)


def test_neighbours_that_are_alike_are_drawn_together() -> None:
    wide = Prompt("x", width=72, height=64, steps=2)
    prompts = [*PROMPTS, wide, wide, PROMPTS[0], PROMPTS[1]]
    read = [guidance()] * 6 + [guidance(2)]
    assert batches(prompts, read, 2) == [[0, 1], [2], [3, 4], [5], [6]]
    assert batches(prompts, read, 1) == [[number] for number in range(7)]


def test_batches_and_low_memory_change_no_picture(model: Path) -> None:
    family = open_family(str(model))
    prompts = [*PROMPTS, Prompt("a AND (b:1.2) BREAK c", "d", 64, 64, 4, 2)]
    plain = dict(Studio(family, Ways("no")).draw(prompts))
    small = Studio(family, Ways("no", low_memory=True, batch_size=3))
    together = dict(small.draw(prompts))
    assert small.painter.vae.use_tiling and small.painter.vae.tile_latent_min_size == 96
    assert sorted(plain) == sorted(together) == [0, 1, 2, 3]
    for number, picture in plain.items():
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(together[number])).max() <= 2
    assert len({picture.tobytes() for picture in plain.values()}) == 4


def test_packed_weights_follow_the_adapters(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = open_family(str(model))
    lora = tmp_path / "lora.safetensors"
    write_lora(family, lora)
    plain = Studio(family, Ways("no"))
    monkeypatch.setattr(library.frozen, "WIDE", 8)
    packed = Studio(family, Ways("no"))
    assert any(isinstance(each.forward, FrozenLayer) for each in packed.painter.unet.modules())
    pictures = [
        [np.asarray(dict(studio.draw(PROMPTS[:1], worn))[0]).astype(int) for studio in (plain, packed)]
        for worn in ([], [(lora, 1.0)], [])
    ]
    assert max(np.abs(right - found).max() for right, found in pictures) <= 2
    assert np.abs(pictures[1][0] - pictures[0][0]).max() > 5


def test_a_unet_that_cannot_be_compiled_draws_uncompiled(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"no compiler for {model.name}\nand much more")

    def compile_badly(self: torch.nn.Module) -> None:
        self._compiled_call_impl = fail

    monkeypatch.setattr(torch.nn.Module, "compile", compile_badly)
    family = open_family(str(model))
    pictures = dict(Studio(family, Ways("no", compiled=True)).draw(PROMPTS[:2]))
    told = capsys.readouterr().err
    assert told.count(f"the UNet cannot be compiled here (no compiler for {model.name}); it draws uncompiled.") == 1
    assert pictures == dict(Studio(family, Ways("no")).draw(PROMPTS[:2]))


def test_other_failures_are_not_taken_for_the_compilers(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Studio(open_family(str(model)), Ways("no"))

    def fail(*_: object) -> list[Image.Image]:
        raise RuntimeError("broken")

    monkeypatch.setattr(type(studio.painter), "draw_batch", fail)
    with pytest.raises(RuntimeError, match="broken"):
        list(studio.draw(PROMPTS))


def test_tags_are_no_words_and_wrong_files_are_refused(model: Path, tmp_path: Path) -> None:
    studio = Studio(open_family(str(model)), Ways("no"))
    tagged = Prompt("<lora:x:1>a dog", width=64, height=64, steps=2, seed=1)
    assert dict(studio.draw([tagged])) == dict(studio.draw(PROMPTS[:1]))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad.safetensors"):
        studio.check([tmp_path / "bad.safetensors"])
