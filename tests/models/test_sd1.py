"""Stable Diffusion 1.x: its LoRA layers by name, its parts as asked for, its latents and hashes."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from demo import structure
from library import weights
from library.errors import InputError
from library.models import layout
from library.models.family import open_family
from library.models.layout import FILES
from library.models.sd1 import SD1
from tests import toys

UNET_LEAVES = [
    "proj_in",
    *(
        f"transformer_blocks_0_attn{number}_to_{leaf}"
        for number in (1, 2)
        for leaf in ("q", "k", "v", "out_0")
    ),
    "transformer_blocks_0_ff_net_0_proj",
    "transformer_blocks_0_ff_net_2",
    "proj_out",
]
UNET_PLACES = [
    *(f"down_blocks_{block}_attentions_{number}" for block in (0, 1, 2) for number in (0, 1)),
    *(f"up_blocks_{block}_attentions_{number}" for block in (1, 2, 3) for number in (0, 1, 2)),
    "mid_block_attentions_0",
]
TEXT_LEAVES = [*(f"self_attn_{leaf}_proj" for leaf in ("q", "k", "v", "out")), "mlp_fc1", "mlp_fc2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_toy_sd1(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def family(folder: Path) -> SD1:
    return open_family(str(folder))


def real_config(part: str) -> dict:
    """SD 1.5's own configuration."""
    return json.loads((FILES / "sd1" / part / "config.json").read_text())


def unets():
    """The real UNet and the demo's, without weights."""
    with init_empty_weights():
        yield UNet2DConditionModel.from_config(real_config("unet"))
        yield structure.build_unet()


def text_encoders():
    """The real text encoder and the demo's, without weights."""
    with init_empty_weights():
        yield CLIPTextModel(CLIPTextConfig.from_dict(real_config("text_encoder")))
        yield structure.build_text_encoder()


@pytest.mark.parametrize("number", [0, 1])
def test_the_192_layers_of_the_unet(family: SD1, number: int) -> None:
    unet = list(unets())[number]
    layers = family.adapter_layers(unet, "unet")
    assert set(layers.values()) == {
        f"lora_unet_{place}_{leaf}" for place in UNET_PLACES for leaf in UNET_LEAVES
    }
    assert len(layers) == 192
    for path, stem in layers.items():
        shape = unet.get_submodule(path).weight.shape
        assert len(shape) == (4 if stem.endswith(("proj_in", "proj_out")) else 2)


@pytest.mark.parametrize("number", [0, 1])
def test_the_72_layers_of_the_text_encoder(family: SD1, number: int) -> None:
    layers = family.adapter_layers(list(text_encoders())[number], "text_encoder")
    prefix = "lora_te_text_model_encoder_layers"
    assert set(layers.values()) == {f"{prefix}_{layer}_{leaf}" for layer in range(12) for leaf in TEXT_LEAVES}
    assert len(layers) == 72


def test_our_configurations_are_sd_1_5_in_size() -> None:
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(real_config("unet"))
        vae = AutoencoderKL.from_config(real_config("vae"))
        encoder = CLIPTextModel(CLIPTextConfig.from_dict(real_config("text_encoder")))
    sizes = [sum(parameter.numel() for parameter in part.parameters()) for part in (unet, vae, encoder)]
    assert sizes == [859_520_964, 83_653_863, 123_060_480]
    assert len(unet.state_dict()) == 686


def test_names_in_diffusers_files(family: SD1) -> None:
    assert (
        family.diffusers_name("unet", "mid_block.attentions.0.proj_in")
        == "unet.mid_block.attentions.0.proj_in"
    )
    expected = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    assert family.diffusers_name("text_encoder", "encoder.layers.0.mlp.fc1") == expected
    assert family.diffusers_name("text_encoder", "text_model.encoder.layers.0.mlp.fc1") == expected


def test_facts_of_the_family(family: SD1) -> None:
    assert (family.name, family.base_model_version) == ("sd1", "sd_v1")
    assert family.architecture == "stable-diffusion-v1"
    assert family.betas == (0.00085, 0.012, 1000)
    assert (family.latent_scale, family.default_size) == (0.18215, 64)
    assert family.prediction_type == "epsilon"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_parts_come_frozen_in_the_format_asked_for(family: SD1, dtype: torch.dtype) -> None:
    parts = [family.load_unet(dtype), *family.load_text_encoders(dtype), family.load_vae(dtype)]
    for part in parts:
        assert {parameter.dtype for parameter in part.parameters()} == {dtype}
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in part.parameters())
        assert not part.training


def test_the_parts_compute_what_diffusers_and_transformers_compute(family: SD1, folder: Path) -> None:
    tokens = family.tokenize(["a red cat"], 75)
    [encoder] = family.load_text_encoders(torch.float32)
    condition = family.encode_text([encoder], tokens)
    assert condition.pooled is None
    theirs = CLIPTextModel.from_pretrained(folder / "text_encoder")
    torch.testing.assert_close(condition.hidden, theirs(tokens[0].ids[:, 0]).last_hidden_state)
    noisy, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([500])
    answer = family.predict(family.load_unet(torch.float32), noisy, timesteps, condition)
    unet = toys.aligned(UNet2DConditionModel.from_pretrained(folder / "unet"))
    assert torch.equal(answer, unet(noisy, timesteps, condition.hidden).sample)


def test_weighted_captions(family: SD1) -> None:
    encoders = family.load_text_encoders(torch.float32)

    def hidden(caption: str, weighted: bool) -> torch.Tensor:
        return family.encode_text(encoders, family.tokenize([caption], 75, weighted)).hidden

    [tokens] = family.tokenize(["a (red:1.5) cat"], 75, weighted=True)
    assert tokens.weights is not None and tokens.weights[0, 0, :5].tolist() == [1, 1, 1.5, 1, 1]
    assert torch.equal(tokens.ids, family.tokenize(["a red cat"], 75)[0].ids)
    assert torch.equal(hidden("a red cat", True), hidden("a red cat", False))
    difference = (hidden("a (red:1.5) cat", True) - hidden("a red cat", False)).abs().amax((0, 2))
    assert difference.argmax() == 2
    assert family.token_count("a (red:1.5) cat", weighted=True) == 3 < family.token_count("a (red:1.5) cat")


def test_the_tokenizer_has_a_hash(family: SD1) -> None:
    assert family.fingerprint("tokenizer") == open_family(family._source.name).fingerprint("tokenizer")
    assert len({family.fingerprint(part) for part in ("tokenizer", "text_encoder", "unet", "vae")}) == 4


def test_training_and_drawing_predict_the_same(family: SD1) -> None:
    unet = family.load_unet(torch.float32)
    [encoder] = family.load_text_encoders(torch.float32)
    condition = family.encode_text([encoder], family.tokenize(["x"], 75))
    noisy, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([1])
    drawn = family.predict(unet, noisy, timesteps, condition)
    assert torch.equal(family.predict(unet.train(), noisy, timesteps, condition), drawn)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_of_pictures_and_back(family: SD1, folder: Path, dtype: torch.dtype) -> None:
    vae = family.load_vae(dtype)
    theirs = toys.aligned(AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype))
    pixels = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):  # which must not touch the VAE
        mean, logvar = family.encode_images(vae, pixels)
        picture = family.decode_latents(vae, mean * family.latent_scale)
    with torch.no_grad():
        expected = theirs.encode(pixels.to(dtype)).latent_dist
        decoded = theirs.decode(mean.to(dtype)).sample
    assert mean.shape == (2, 4, 8, 6) and picture.shape == (2, 3, 64, 48)
    assert {mean.dtype, logvar.dtype, picture.dtype} == {torch.float32}
    assert torch.equal(mean, expected.mean.float()) and torch.equal(logvar, expected.logvar.float())
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(picture, decoded.float().clamp(-1, 1), atol=tolerance, rtol=tolerance)


def test_the_same_weights_have_the_same_fingerprint_in_any_file(
    family: SD1, folder: Path, tmp_path: Path
) -> None:
    single = open_family(str(toys.write_single_file(folder, tmp_path / "a.safetensors")))
    other = open_family(str(toys.write_toy_sd1(tmp_path / "other", seed=1)))
    prints = {part: family.fingerprint(part) for part in ("unet", "vae", "text_encoder")}
    assert len(set(prints.values())) == 3
    assert {part: single.fingerprint(part) for part in prints} == prints
    assert all(other.fingerprint(part) != prints[part] for part in prints)


def test_fingerprints_are_remembered_by_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_family(str(folder)).fingerprint("vae", tmp_path)
    reads = []
    monkeypatch.setattr(
        layout, "content_hash", lambda tensors, real=layout.content_hash: count(reads, real, tensors)
    )
    again = open_family(str(folder))
    assert again.fingerprint("vae", tmp_path) == first
    assert not any(reads)
    assert again.fingerprint("unet", tmp_path) == again.fingerprint("unet") != first
    assert sum(reads) == 1
    changed = folder / "vae" / "diffusion_pytorch_model.safetensors"
    changed.touch()
    assert open_family(str(folder)).fingerprint("vae", tmp_path) == first
    assert sum(reads) == 2  # it has another time, so it was looked into


def count(reads: list[bool], real, tensors) -> str:
    """Notes whether real tensors are hashed and not only the words that name a note."""
    tensors = list(tensors)
    reads.append(len(tensors) > 1)
    return real(tensors)


def test_hashes_of_a_folder_and_of_a_file(family: SD1, folder: Path, tmp_path: Path) -> None:
    unet_file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    expected = {
        "ss_sd_model_hash": weights.legacy_hash(unet_file),
        "ss_new_sd_model_hash": weights.file_sha256(unet_file),
    }
    assert family.base_hashes() == family.base_hashes(tmp_path) == family.base_hashes(tmp_path) == expected
    assert family.base_name == "model"
    path = toys.write_single_file(folder, tmp_path / "a.ckpt")
    single = open_family(str(path))
    assert single.base_hashes()["ss_new_sd_model_hash"] == weights.file_sha256(path)
    assert single.base_name == "a.ckpt"


def test_another_vae_is_used_and_named(folder: Path, tmp_path: Path) -> None:
    other = toys.write_toy_sd1(tmp_path / "other", seed=1)
    own, replaced = open_family(str(folder)), open_family(str(folder), vae=str(other / "vae"))
    assert replaced.fingerprint("vae") == open_family(str(other)).fingerprint("vae") != own.fingerprint("vae")
    assert replaced.fingerprint("unet") == own.fingerprint("unet")
    hashes = replaced.base_hashes()
    assert hashes["ss_vae_name"] == "vae"
    vae_file = other / "vae" / "diffusion_pytorch_model.safetensors"
    assert hashes["ss_new_vae_hash"] == weights.file_sha256(vae_file)
    assert hashes["ss_vae_hash"] == weights.legacy_hash(vae_file)


def test_the_latents_keep_the_scale_that_the_unet_learned(folder: Path, tmp_path: Path) -> None:
    other = toys.write_toy_sd1(tmp_path / "other")
    config = json.loads((other / "vae/config.json").read_text())
    (other / "vae/config.json").write_text(json.dumps(config | {"scaling_factor": 0.5}))
    assert open_family(str(other)).latent_scale == 0.5
    assert open_family(str(folder), vae=str(other)).latent_scale == 0.18215


def test_a_vae_of_another_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    toys.toy_vae(latent_channels=16).save_pretrained(tmp_path / "vae")
    with pytest.raises(InputError, match="16 latent channels; 4 are needed"):
        open_family(str(folder), vae=str(tmp_path / "vae"))
