"""Stable Diffusion XL: recognised, conditioned as in diffusers, its layers under kohya's names."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from library.models.family import Family, open_family
from tests.toy_families import real_unet, write_toy, write_toy_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("sdxl") / "model", "sdxl")


@pytest.fixture(scope="module")
def family(folder: Path) -> Family:
    return open_family(str(folder))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(folder)


def test_facts_of_the_family(family: Family) -> None:
    assert (family.name, family.base_model_version) == ("sdxl", "sdxl_base_v1-0")
    assert family.architecture == "stable-diffusion-xl-v1-base"
    assert family.text_parts == ("text_encoder", "text_encoder_2") and family.takes_sizes


def test_the_722_layers_of_the_unet_have_the_original_names(family: Family) -> None:
    layers = family.adapter_layers(real_unet("sdxl"), "unet")
    assert len(layers) == len(set(layers.values())) == 722
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert layers[path] == "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    assert layers["mid_block.attentions.0.proj_in"] == "lora_unet_middle_block_1_proj_in"
    assert layers["up_blocks.1.attentions.2.transformer_blocks.1.ff.net.2"] == (
        "lora_unet_output_blocks_5_1_transformer_blocks_1_ff_net_2"
    )


def test_the_layers_of_both_text_encoders(family: Family) -> None:
    encoders = family.load_text_encoders(torch.float32)
    for encoder, part, prefix in zip(encoders, family.text_parts, ("lora_te1_", "lora_te2_"), strict=True):
        layers = family.adapter_layers(encoder, part)
        assert len(layers) == 18
        assert f"{prefix}text_model_encoder_layers_2_mlp_fc1" in layers.values()


def test_captions_are_read_as_diffusers_reads_them(family: Family, pipeline: StableDiffusionXLPipeline) -> None:
    tokens = family.tokenize(["a dog"], 75)
    assert [int(each.ids[0, 0, -1]) for each in tokens] == [49407, 0]
    condition = family.encode_text(family.load_text_encoders(torch.float32), tokens)
    expected, _, pooled, _ = pipeline.encode_prompt("a dog", do_classifier_free_guidance=False)
    assert torch.equal(condition.hidden, expected)
    assert torch.equal(condition.pooled, pooled)


def test_of_long_captions_the_first_window_is_pooled(family: Family) -> None:
    encoders = family.load_text_encoders(torch.float32)
    long = " ".join(["cat"] * 100)
    condition = family.encode_text(encoders, family.tokenize([long, "a dog"], 150))
    assert condition.hidden.shape == (2, 152, 64)
    short = family.encode_text(encoders, family.tokenize([long, "a dog"], 75))
    assert torch.allclose(condition.pooled, short.pooled, atol=1e-6)


def test_sizes_reach_the_unet(family: Family) -> None:
    unet = family.load_unet(torch.float32)
    encoders = family.load_text_encoders(torch.float32)
    condition = family.encode_text(encoders, family.tokenize(["a dog", "a dog"], 75))
    noisy, timesteps = torch.randn(1, 4, 8, 6).expand(2, -1, -1, -1), torch.tensor([100, 100])
    with torch.no_grad():
        plain = family.predict(unet, noisy, timesteps, condition)
        same = condition._replace(sizes=torch.tensor([[64, 48, 0, 0, 64, 48]]).expand(2, -1))
        assert torch.equal(plain, family.predict(unet, noisy, timesteps, same))
        other = condition._replace(sizes=torch.tensor([[64, 48, 0, 0, 64, 48], [640, 480, 9, 7, 64, 48]]))
        answer = family.predict(unet, noisy, timesteps, other)
    assert torch.allclose(answer[0], plain[0], atol=1e-6) and not torch.allclose(answer[1], plain[1], atol=1e-4)


def test_the_answer_is_that_of_diffusers(family: Family, pipeline: StableDiffusionXLPipeline) -> None:
    condition = family.encode_text(family.load_text_encoders(torch.float32), family.tokenize(["a dog"], 75))
    noisy, timestep = torch.randn(1, 4, 8, 8), torch.tensor([300])
    width = pipeline.text_encoder_2.config.projection_dim
    ids = pipeline._get_add_time_ids((64, 64), (0, 0), (64, 64), torch.float32, text_encoder_projection_dim=width)
    added = {"text_embeds": condition.pooled, "time_ids": ids}
    with torch.no_grad():
        ours = family.predict(family.load_unet(torch.float32), noisy, timestep, condition)
        theirs = pipeline.unet(noisy, timestep, condition.hidden, added_cond_kwargs=added).sample
    assert torch.equal(ours, theirs)


def test_file_and_folder_are_the_same_model(folder: Path, family: Family, tmp_path: Path) -> None:
    other = open_family(str(write_toy_file(tmp_path / "model.safetensors", "sdxl")))
    assert other.name == "sdxl" and other.default_size == family.default_size
    parts = ("unet", "vae", *family.text_parts)
    assert [family.fingerprint(part) for part in parts] == [other.fingerprint(part) for part in parts]


def test_a_file_that_predicts_v_says_so(tmp_path: Path) -> None:
    assert open_family(str(write_toy_file(tmp_path / "v.safetensors", "sdxl", "v_prediction"))).prediction_type == (
        "v_prediction"
    )
