"""Modules of every kind: rank, shape and length as of the change itself, and files that are broken."""

import pytest
import torch

from library.adapters.anatomy import modules_of, split_key
from tests.adapters.foreign_files import ALPHA, KINDS, RANK, lora, named


@pytest.mark.parametrize("name", KINDS)
def test_shape_and_length_are_those_of_the_change(name: str) -> None:
    torch.manual_seed(0)
    kind, make = KINDS[name]
    leaves, change = make()
    [module] = modules_of(named("lora_unet_a", leaves))
    assert (module.stem, module.kind) == ("lora_unet_a", kind)
    assert module.shape == tuple(change.shape)
    assert module.norm == pytest.approx(float(change.norm()), rel=1e-5)
    assert module.is_finite and module.is_complete and set(module.leaves) == set(leaves)
    assert module.alpha == (ALPHA if "alpha" in leaves else None)
    assert module.rank == (None if name in ("full", "lokr of whole factors") else RANK)


@pytest.mark.parametrize(
    ("leaves", "kind"),
    [
        ({"weight": torch.ones(4), "on_input": torch.tensor(0)}, "ia3"),
        ({"w_norm": torch.ones(4), "b_norm": torch.zeros(4)}, "norm"),
        ({"oft_blocks": torch.ones(2, 2, 1)}, "oft"),
        ({"strange": torch.ones(4)}, "unknown"),
    ],
)
def test_other_kinds_have_the_length_of_their_numbers(leaves: dict, kind: str) -> None:
    [module] = modules_of(named("lora_unet_a", leaves))
    assert (module.kind, module.norm) == (kind, 2.0)


def test_a_negative_alpha_and_zeros() -> None:
    leaves, change = lora()
    [module] = modules_of(named("x", leaves | {"alpha": torch.tensor(-ALPHA)}))
    assert module.norm == pytest.approx(float(change.norm()), rel=1e-5)
    [module] = modules_of(named("x", leaves | {"lora_up.weight": torch.zeros(12, 4)}))
    assert module.norm == 0 and module.is_complete


def test_what_is_broken_is_named() -> None:
    leaves, _ = lora()
    poisoned = leaves | {"lora_up.weight": torch.full((12, 4), torch.nan)}
    [lame] = modules_of(named("x", {"lora_down.weight": leaves["lora_down.weight"]}))
    [other] = modules_of(named("x", leaves | {"lora_up.weight": torch.ones(12, 5)}))
    assert not modules_of(named("x", poisoned))[0].is_finite
    assert not lame.is_complete and not other.is_complete


def test_doras_magnitude() -> None:
    [module] = modules_of(named("x", lora()[0] | {"dora_scale": torch.ones(1, 8)}))
    assert module.magnitude == (1, 8) and module.kind == "lora"


@pytest.mark.parametrize(
    ("key", "stem", "leaf"),
    [
        ("lora_unet_x.lora_down.weight", "lora_unet_x", "lora_down.weight"),
        ("lora_unet_x.lora_mid.weight", "lora_unet_x", "lora_mid.weight"),
        ("lora_te_x.alpha", "lora_te_x", "alpha"),
        ("unet.a.attn1.to_q.lora_A.weight", "unet.a.attn1.to_q", "lora_down.weight"),
        ("unet.a.attn1.to_q.lora_B.default.weight", "unet.a.attn1.to_q", "lora_up.weight"),
        ("unet.a.attn1.processor.to_q_lora.up.weight", "unet.a.attn1.to_q", "lora_up.weight"),
        ("unet.a.attn1.processor.to_out_lora.down.weight", "unet.a.attn1.to_out.0", "lora_down.weight"),
        ("text_encoder.a.q_proj.lora_magnitude_vector", "text_encoder.a.q_proj", "dora_scale"),
        ("diffusion_model.in.1.proj_in.lora_A.weight", "diffusion_model.in.1.proj_in", "lora_down.weight"),
        ("unet.a.b.alpha", "unet.a.b", "alpha"),
    ],
)
def test_keys_of_all_layouts(key: str, stem: str, leaf: str) -> None:
    assert split_key(key) == (stem, leaf)
