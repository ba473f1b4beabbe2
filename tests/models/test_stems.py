"""Names of layers told from tensors alone: those that the modules themselves give, in every family."""

from functools import cache
from pathlib import Path

import pytest
import torch

from library.models.checkpoints import part_tensors
from library.models.family import Family, open_family
from library.models.stems import parts_of, usual_stems, weight_stems
from tests.toy_families import real_modules, write_toy


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    base = tmp_path_factory.mktemp("toys")
    return {name: open_family(str(write_toy(base / name, name))) for name in ("sd1", "sd2", "sdxl")}


modules = cache(real_modules)


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_the_usual_layers_are_those_that_are_trained(families, name: str) -> None:
    """In the sizes of the real models."""
    family = families[name]
    for part in parts_of(family):
        module = modules(name)[part]
        found = usual_stems(family, part, part_tensors(module), convolutions=False)
        trained = {stem: path for path, stem in family.adapter_layers(module, part).items()}
        assert found.keys() == trained.keys()
        paths = {stem: name.removesuffix(".weight") for stem, name in found.items()}
        assert all(trained[stem].removeprefix("text_model.") == path for stem, path in paths.items())


@pytest.mark.parametrize(("name", "count"), [("sd1", 278), ("sd2", 278), ("sdxl", 788)])
def test_with_convolutions_as_many_as_sd_scripts_has(families, name: str, count: int) -> None:
    tensors = part_tensors(modules(name)["unet"])
    assert len(usual_stems(families[name], "unet", tensors, convolutions=True)) == count


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_every_weight_has_a_name_of_its_own(families, name: str) -> None:
    family = families[name]
    for part in parts_of(family):
        tensors = part_tensors(modules(name)[part])
        stems = weight_stems(family, part, tensors)
        kinds = (torch.nn.Linear, torch.nn.Conv2d)
        paths = [path for path, module in modules(name)[part].named_modules() if isinstance(module, kinds)]
        assert len(stems) == len(paths) == len(set(stems.values()))


def test_no_embedding_is_a_layer(families, tmp_path: Path) -> None:
    family = families["sdxl"]
    stems = weight_stems(family, "text_encoder_2", family.part_tensors("text_encoder_2"))
    assert "lora_te2_text_projection" in stems and not any("embedding" in stem for stem in stems)
