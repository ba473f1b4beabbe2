"""Stable Diffusion XL: recognised, conditioned as in diffusers, its layers under kohya's names."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from library.errors import InputError
from library.models.family import Family, open_family
from library.weights import load_tensors, read_header, save_tensors
from tests.toy_families import real_modules, real_unet, write_toy, write_toy_file
from tests.toys import aligned


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("sdxl") / "model", "sdxl")


@pytest.fixture(scope="module")
def family(folder: Path) -> Family:
    return open_family(str(folder))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2):
        aligned(part)
    return pipeline


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


def test_the_real_text_encoders_have_72_and_192_layers(family: Family) -> None:
    modules = real_modules("sdxl")
    leaves = [*(f"self_attn_{leaf}_proj" for leaf in ("q", "k", "v", "out")), "mlp_fc1", "mlp_fc2"]
    for part, prefix, count in (("text_encoder", "lora_te1", 12), ("text_encoder_2", "lora_te2", 32)):
        start = f"{prefix}_text_model_encoder_layers"
        layers = family.adapter_layers(modules[part], part)
        assert set(layers.values()) == {f"{start}_{number}_{leaf}" for number in range(count) for leaf in leaves}
        assert len(layers) == 6 * count


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


CLIP_L, CLIP_G = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_file(tmp_path_factory.mktemp("sdxl") / "model.safetensors", "sdxl")


def assert_same_weights(family: Family, path: Path) -> None:
    """Every part in the file is that of the model."""
    other = open_family(str(path))
    parts = ("unet", "vae", *family.text_parts)
    assert [other.fingerprint(part) for part in parts] == [family.fingerprint(part) for part in parts]


def test_what_else_files_hold_is_passed_over(family: Family, file: Path, tmp_path: Path) -> None:
    extra = {f"model_ema.diffusion_modelinput_blocks{number}": torch.zeros(1) for number in range(120)}
    extra |= {"denoiser.sigmas": torch.zeros(1000), "model_ema.num_updates": torch.tensor(7)}
    extra |= {CLIP_L + "text_model.embeddings.position_ids": torch.arange(77)[None]}
    extra |= {CLIP_L + "text_projection.weight": torch.zeros(24, 24), CLIP_L + "logit_scale": torch.zeros(())}
    extra |= {"first_stage_model.model_ema.decay": torch.zeros(()), "first_stage_model.loss.logvar": torch.zeros(())}
    save_tensors(tmp_path / "a.safetensors", load_tensors(file) | extra, read_header(file)[0])
    assert_same_weights(family, tmp_path / "a.safetensors")


def test_a_projection_in_the_other_direction_and_no_logit_scale(family: Family, file: Path, tmp_path: Path) -> None:
    tensors = load_tensors(file)
    tensors[CLIP_G + "text_projection.weight"] = tensors.pop(CLIP_G + "text_projection").t()
    del tensors[CLIP_G + "logit_scale"]
    save_tensors(tmp_path / "a.safetensors", tensors, read_header(file)[0])
    assert_same_weights(family, tmp_path / "a.safetensors")


def test_a_missing_projection_is_named(file: Path, tmp_path: Path) -> None:
    tensors = {key: each for key, each in load_tensors(file).items() if key != CLIP_G + "text_projection"}
    save_tensors(tmp_path / "a.safetensors", tensors, read_header(file)[0])
    with pytest.raises(InputError, match="text encoder 2 of .*1 tensors are missing, such as text_projection.weight"):
        open_family(str(tmp_path / "a.safetensors")).load_text_encoders(torch.float32)


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt"])
def test_half_precision_with_a_vae_in_float32(file: Path, tmp_path: Path, name: str) -> None:
    tensors = load_tensors(file)
    mixed = {key: each if key.startswith("first_stage_model.") else each.half() for key, each in tensors.items()}
    if name.endswith("ckpt"):
        torch.save({"state_dict": mixed, **read_header(file)[0]}, tmp_path / name)
    else:
        save_tensors(tmp_path / name, mixed, read_header(file)[0])
    exact, loaded = open_family(str(file)), open_family(str(tmp_path / name))
    assert loaded.fingerprint("vae") == exact.fingerprint("vae")
    key = "mid_block.attentions.0.proj_in.weight"
    expected = exact.load_unet(torch.float32).get_parameter(key).half()
    assert torch.equal(loaded.load_unet(torch.float32).get_parameter(key), expected.float())
    assert loaded.load_unet(torch.bfloat16).get_parameter(key).dtype == torch.bfloat16
