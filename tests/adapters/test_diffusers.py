"""Our files in diffusers: every key is taken, the models answer as with the adapter in training."""

import logging
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from library.adapters.metadata import TrainingFacts, save_adapter, training_metadata
from library.adapters.network import attach

BOTH = ("unet", "text_encoder")


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ("safetensors", BOTH),
        ("diffusers", BOTH),
        ("safetensors", ("unet",)),
        ("diffusers", ("text_encoder",)),
    ],
)
def test_diffusers_answers_the_same(
    folder: Path, modules, layers, make, run, tmp_path: Path, caplog, layout: str, parts: tuple[str, ...]
) -> None:
    base = run(modules)
    network = make(layers={part: layers[part] for part in parts})
    expected = run(modules)
    metadata = training_metadata(TrainingFacts("toy", "base", network_dim=4, network_alpha=2.0))
    save_adapter(tmp_path / "lora.safetensors", network.state_dict(), metadata, layout=layout)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
    with caplog.at_level(logging.WARNING):
        pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    assert not [each for each in caplog.messages if "unexpected keys" in each or "missing keys" in each]
    found = run({"unet": pipeline.unet.eval(), "text_encoder": pipeline.text_encoder.eval()})
    for part, values in found.items():
        effect = (expected[part] - base[part]).abs().max()
        assert (effect > 0.01) == (part in parts)
        assert (values - expected[part]).abs().max() <= 1e-4 * effect


def test_ranks_of_each_layer_are_read_too(folder: Path, modules, layers, run, make, tmp_path: Path) -> None:
    stems = list(layers["unet"].values())
    network = make(dim={stem: 2 + number % 3 for number, stem in enumerate(stems)}, alpha=1.5)
    expected = run(modules)["unet"]
    save_adapter(tmp_path / "lora.safetensors", network.state_dict(), {})
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    found = run({"unet": pipeline.unet.eval(), "text_encoder": pipeline.text_encoder.eval()})
    torch.testing.assert_close(found["unet"], expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_diffusers_wrote_is_read(modules, layers, run, make, tmp_path: Path) -> None:
    from peft.utils import get_peft_model_state_dict

    network = attach(kind="lora", modules=modules, layers=layers, dim=4, alpha=12.0, seed=1)
    for parameter in network.parameters("unet"):
        torch.nn.init.normal_(parameter, std=0.1)
    expected = run(modules)["unet"]
    config = modules["unet"].peft_config["default"]
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(modules["unet"]),
        unet_lora_adapter_metadata=config.to_dict() | {"target_modules": list(config.target_modules)},
    )
    network.detach()
    make(seed=2).start_from(tmp_path / "pytorch_lora_weights.safetensors")
    torch.testing.assert_close(run(modules)["unet"], expected, rtol=1e-4, atol=1e-4)
