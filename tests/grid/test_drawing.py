"""The pictures of a grid are those that are drawn one by one; models are loaded and LoRAs put on once each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from library.adapters.merged import load_adapters
from library.errors import InputError
from library.grid.axes import Spec, with_tagged
from library.grid.drawing import Manner, draw_all
from library.models import studio
from library.models.drawing import Painter
from library.models.family import open_family
from library.models.prompts import Prompt
from tests.tools.lora_files import write_lora
from tests.toy_families import write_toy

PROMPT = Prompt("a cat", width=64, height=64, steps=2)


def test_pictures_are_those_drawn_one_by_one(tmp_path: Path, monkeypatch) -> None:
    models = [str(write_toy(tmp_path / name, "sd1", seed=seed)) for seed, name in enumerate("ab")]
    lora = write_lora(tmp_path / "lora.safetensors", Path(models[0]))
    families = {model: open_family(model) for model in models}
    specs = [
        Spec(model, ((lora, strength),), replace(PROMPT, seed=seed))
        for seed in (1, 2)
        for model in models
        for strength in (0.5, 0.0)
    ]
    events = []
    monkeypatch.setattr(
        studio, "load_adapters", lambda files, *rest: events.append(files) or load_adapters(files, *rest)
    )
    found = {each.number: each for each in draw_all(specs, families, Manner("no"))}
    assert sorted(found) == list(range(8)) and all(each.seconds > 0 for each in found.values())
    assert [[strength for _, strength in files] for files in events] == 2 * [[0.0], [0.5], [0.0]]  # a check, and each
    pictures = [np.asarray(found[number].picture) for number in range(8)]
    assert len({picture.tobytes() for picture in pictures}) == 8
    for number in (0, 3):
        family = families[specs[number].model]
        encoders, unet = family.load_text_encoders(torch.float32), family.load_unet(torch.float32)
        modules = {"unet": unet, "text_encoder": encoders[0]}
        layers = {part: family.adapter_layers(module, part) for part, module in modules.items()}
        load_adapters(list(specs[number].loras), modules, layers)
        alone = Painter(family, family.load_vae(torch.float32), encoders, unet).draw(specs[number].prompt)
        assert np.array_equal(np.asarray(alone), pictures[number])


def test_prompts_are_in_the_grammar_of_the_web_ui(tmp_path: Path) -> None:
    """Weights count, and a LoRA that a prompt names is put on, as in tools/generate.py."""
    model = str(write_toy(tmp_path / "a", "sd1"))
    lora = write_lora(tmp_path / "mine.safetensors", Path(model))
    texts = ("a cat", "a (cat:1.5)", "a cat <lora:mine:0.7>")
    specs = with_tagged([Spec(model, (), replace(PROMPT, text=text)) for text in texts], tmp_path)
    specs.append(Spec(model, ((lora, 0.7),), PROMPT))
    drawn = {each.number: each.picture for each in draw_all(specs, {model: open_family(model)}, Manner("no"))}
    pictures = [np.asarray(drawn[number]) for number in range(4)]
    assert np.array_equal(pictures[2], pictures[3])
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_a_lora_of_another_model_is_refused_before_the_first_picture(tmp_path: Path) -> None:
    model, other = write_toy(tmp_path / "a", "sd1"), write_toy(tmp_path / "b", "sd2")
    lora = write_lora(tmp_path / "lora.safetensors", other)
    specs = [Spec(str(model), (), PROMPT), Spec(str(model), ((lora, 1.0),), PROMPT)]
    with pytest.raises(InputError, match="does not fit|another base model"):
        next(draw_all(specs, {str(model): open_family(str(model))}, Manner("no")))
