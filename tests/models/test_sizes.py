"""Shapes tell sizes: those of the real checkpoints give the usual configurations back."""

import pytest

from library.models.layout import usual_config
from library.models.single_file import LAYOUTS
from library.models.sizes import SIZES, sd2_text_sizes, text_sizes, unet_sizes, vae_sizes
from tests import original_layout
from tests.original_layout import Shapes, checkpoint
from tests.toy_families import real_modules

OTHERS = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}


def inside(family: str, part: str) -> Shapes:
    """One part's tensors in a real checkpoint, by what follows its prefix."""
    prefix = {**LAYOUTS[family], **OTHERS}[part]
    return {key.removeprefix(prefix): shape for key, shape in checkpoint(family).items() if key.startswith(prefix)}


@pytest.mark.parametrize(("family", "part"), [(name, part) for name in LAYOUTS for part in (*OTHERS, *LAYOUTS[name])])
def test_the_real_models_have_their_usual_sizes(family: str, part: str) -> None:
    measure = sd2_text_sizes if (family, part) == ("sd2", "text_encoder") else SIZES[part]
    sizes, usual = measure(inside(family, part)), usual_config(family, part)
    assert sizes == {key: usual[key] for key in sizes} and len(sizes) >= 2


@pytest.mark.parametrize("layers", [23, 24])
def test_sd2_has_23_layers_of_text_in_either_kind_of_file(layers: int) -> None:
    shapes = original_layout.open_clip(1024, layers)
    assert text_sizes(shapes)["num_hidden_layers"] == layers
    assert sd2_text_sizes(shapes)["num_hidden_layers"] == 23


def test_a_projection_in_either_direction() -> None:
    shapes = original_layout.open_clip(1280, 2) | {"text_projection": (1280, 99)}
    assert text_sizes(shapes)["projection_dim"] == 99
    del shapes["text_projection"]
    assert text_sizes(shapes)["projection_dim"] == 1280
    assert text_sizes(shapes | {"text_projection.weight": (98, 1280)})["projection_dim"] == 98


def test_text_models_with_and_without_their_prefix() -> None:
    shapes = original_layout.clip(768, 12)
    named = {f"text_model.{key}": shape for key, shape in shapes.items()}
    assert text_sizes(named) == text_sizes(shapes)


def test_a_vae_in_diffusers_naming() -> None:
    shapes = {key: tuple(each.shape) for key, each in real_modules("sdxl")["vae"].state_dict().items()}
    assert vae_sizes(shapes) == vae_sizes(original_layout.vae()) == {
        "block_out_channels": [128, 256, 512, 512],
        "latent_channels": 4,
    }


def test_a_unet_for_inpainting() -> None:
    shapes = original_layout.unet(**original_layout.UNETS["sd1"]) | {"input_blocks.0.0.weight": (320, 9, 3, 3)}
    assert unet_sizes(shapes)["in_channels"] == 9


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        ("unet", "out.2.weight"),
        ("unet", "attn2.to_k.weight"),
        ("vae", "encoder.down.3.block.0.conv1.weight"),
        ("text_encoder", "embeddings.position_embedding.weight"),
    ],
)
def test_what_is_missing_raises(part: str, lost: str) -> None:
    shapes = {key: shape for key, shape in inside("sd1", part).items() if not key.endswith(lost)}
    with pytest.raises(KeyError):
        SIZES[part](shapes)
