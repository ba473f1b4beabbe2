"""Which UI loads which file: each sentence of the table of contracts, on a file that breaks it alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.adapters.inspection import inspect
from library.adapters.uis import NOT, PARTLY, WHOLE, verdicts
from library.weights import save_tensors
from tests.adapters.foreign_files import named

A1111, FORGE, COMFY = "AUTOMATIC1111", "Forge", "ComfyUI"
INVOKE, DIFFUSERS, FOOOCUS = "InvokeAI", "diffusers", "Fooocus"
MID, XL_MID = "lora_unet_mid_block_attentions_0_", "lora_unet_middle_block_1_"
READER, XL_READER = f"{MID}transformer_blocks_0_attn2_to_k", f"{XL_MID}transformer_blocks_3_attn2_to_k"
RESNET = "lora_unet_down_blocks_0_resnets_0_"


def pair(outputs: int, inputs: int, *kernel: int, alpha: float = 2.0) -> dict[str, Tensor]:
    ones = [1 for _ in kernel]
    return {
        "lora_down.weight": torch.ones(2, inputs, *kernel),
        "lora_up.weight": torch.ones(outputs, 2, *ones),
        "alpha": torch.tensor(alpha),
    }


SD1 = named(READER, pair(8, 768)) | named(f"{MID}proj_in", pair(8, 8, 1, 1))
XL = named(XL_READER, pair(8, 2048)) | named(f"{XL_MID}proj_in", pair(8, 8))
LOKR = {"lokr_w1": torch.ones(2, 2), "lokr_w2_a": torch.ones(4, 2), "lokr_w2_b": torch.ones(2, 4)}
TUCKER = {"lokr_w1": torch.ones(2, 2), "lokr_w2_a": torch.ones(2, 4), "lokr_w2_b": torch.ones(2, 4)}
LOHA = {f"hada_w{n}_{side}": torch.ones(4, 4) for n in (1, 2) for side in "ab"}
IA3 = {"weight": torch.ones(8), "on_input": torch.tensor(0)}
PEFT_READER = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
PEFT = {f"{PEFT_READER}.lora_{side}.weight": torch.ones(768, 768) for side in "AB"}
Q_ONLY = {"lora_te2_text_model_encoder_layers_0_self_attn_q_proj": pair(8, 1280)}
STRANGERS = {key: each for n in range(5) for key, each in named(f"lora_unet_other_{n}", pair(4, 4)).items()}

CASES: dict[str, tuple[dict[str, Tensor], dict[str, str]]] = {
    "plain SD 1": (SD1, {FOOOCUS: NOT}),
    "plain XL": (XL, {}),
    "PEFT's names": (PEFT, dict.fromkeys((A1111, FORGE, COMFY, INVOKE, FOOOCUS), NOT)),
    "original names of SD 1": (
        named("lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k", pair(8, 768)),
        {INVOKE: NOT, DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "alphas that differ": (SD1 | named(f"{MID}proj_out", pair(8, 8, 1, 1, alpha=1)), {DIFFUSERS: PARTLY, FOOOCUS: NOT}),
    "a linear pair on a convolution": (SD1 | named(f"{MID}proj_in", pair(8, 8)), {DIFFUSERS: NOT, FOOOCUS: NOT}),
    "a convolution's pair on a matrix": (XL | named(f"{XL_MID}proj_in", pair(8, 8, 1, 1)), {DIFFUSERS: NOT}),
    "LoHa": (XL | named(f"{XL_MID}proj_out", LOHA), {DIFFUSERS: NOT}),
    "LoKr on SD 1": (SD1 | named(f"{MID}proj_out", LOKR), {INVOKE: NOT, DIFFUSERS: NOT, FOOOCUS: NOT}),
    "LoKr on XL": (XL | named(f"{XL_MID}proj_out", LOKR), {DIFFUSERS: NOT}),
    "LoKr with a core": (
        XL | named("lora_unet_input_blocks_1_0_in_layers_2", TUCKER | {"lokr_t2": torch.ones(2, 2, 3, 3)}),
        {FORGE: NOT, COMFY: PARTLY, DIFFUSERS: NOT, FOOOCUS: PARTLY},
    ),
    "DoRA of inputs": (
        XL | named(f"{XL_MID}proj_out", pair(8, 8) | {"dora_scale": torch.ones(1, 8)}),
        {DIFFUSERS: PARTLY, FOOOCUS: NOT},
    ),
    "DoRA of outputs": (
        XL | named(f"{XL_MID}proj_out", pair(8, 8) | {"dora_scale": torch.ones(8, 1)}),
        {A1111: PARTLY, FORGE: PARTLY, COMFY: PARTLY, INVOKE: PARTLY, DIFFUSERS: PARTLY, FOOOCUS: NOT},
    ),
    "DoRA on LoHa": (
        XL | named(f"{XL_MID}proj_out", LOHA | {"dora_scale": torch.ones(1, 4)}),
        {INVOKE: NOT, DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "(IA)^3 beside a LoRA": (
        XL | named(f"{XL_MID}proj_out", IA3),
        {FORGE: PARTLY, COMFY: PARTLY, DIFFUSERS: NOT, FOOOCUS: PARTLY},
    ),
    "(IA)^3 alone": (
        {key: each for n in range(8) for key, each in named(XL_READER.replace("_3_", f"_{n}_"), IA3).items()},
        {FORGE: NOT, COMFY: NOT, DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "norms": (
        SD1 | named(f"{RESNET}norm1", {"w_norm": torch.ones(8), "b_norm": torch.ones(8)}),
        {DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "half a norm": (
        SD1 | named(f"{RESNET}norm1", {"w_norm": torch.ones(8)}),
        {A1111: NOT, DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "a bias alone": (
        SD1 | named(f"{RESNET}conv1", {"diff_b": torch.ones(8)}),
        {A1111: NOT, DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "a middle": (
        SD1 | named(f"{RESNET}conv1", pair(8, 8, 1, 1) | {"lora_mid.weight": torch.ones(2, 2, 3, 3)}),
        {DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "some of q, k, v, out of OpenCLIP": (
        XL | {key: each for stem, leaves in Q_ONLY.items() for key, each in named(stem, leaves).items()},
        {A1111: PARTLY},
    ),
    "a name that InvokeAI ignores": (
        SD1 | named("lora_te1_text_model_encoder_layers_0_mlp_fc1", pair(8, 768)),
        {INVOKE: PARTLY, FOOOCUS: NOT},
    ),
    "few strangers": (
        XL | named("lora_unet_other", pair(4, 4)),
        {A1111: PARTLY, FORGE: PARTLY, COMFY: PARTLY, INVOKE: PARTLY, DIFFUSERS: NOT, FOOOCUS: PARTLY},
    ),
    "many strangers": (
        XL | STRANGERS,
        {A1111: PARTLY, FORGE: NOT, COMFY: PARTLY, INVOKE: PARTLY, DIFFUSERS: NOT, FOOOCUS: NOT},
    ),
    "another family": (
        named("lora_unet_double_blocks_0_img_attn_qkv", pair(8, 8)),
        dict.fromkeys((A1111, FORGE, COMFY, INVOKE, DIFFUSERS, FOOOCUS), NOT),
    ),
    "an unusual width": (named(READER, pair(8, 128)), {INVOKE: NOT}),
    "XL by diffusers' names": (
        named(f"{MID}transformer_blocks_3_attn2_to_k", pair(8, 2048))
        | named("lora_unet_down_blocks_0_resnets_0_conv1", pair(8, 8, 3, 3))
        | named("lora_unet_add_embedding_linear_1", pair(8, 8)),
        {A1111: PARTLY, DIFFUSERS: PARTLY},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_who_loads_it(tmp_path: Path, name: str) -> None:
    tensors, told = CASES[name]
    save_tensors(tmp_path / "x.safetensors", tensors)
    found = verdicts(inspect(tmp_path / "x.safetensors"))
    assert {each.ui: each.state for each in found} == {each.ui: told.get(each.ui, WHOLE) for each in found}
    assert len(found) == 6
    for verdict in found:
        assert bool(verdict.reasons) == (verdict.state != WHOLE)
