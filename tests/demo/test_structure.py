"""The demo's model has SD 1.5's structure: tensor names, LoRA layers, tokenizer, folder, and stays small."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from demo import structure
from demo.structure import (
    SCHEDULER,
    VOCABULARY_SIZE,
    build_text_encoder,
    build_unet,
    build_vae,
    count_parameters,
    write_model,
    write_tokenizer,
)

TOKENIZER = Path(structure.__file__).parent / "model" / "tokenizer"
SD15_UNET = {  # the real one's settings, from its config.json
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "norm_num_groups": 32,
}
LORA_CONVS_AND_LINEARS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return build_unet()


@pytest.fixture(scope="module")
def folder(unet: UNet2DConditionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder with fresh weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("demo") / "model"
    vae = build_vae()
    vae.register_to_config(scaling_factor=0.25)
    write_model(path, vae, unet, build_text_encoder(), TOKENIZER)
    return path


def test_the_unet_has_the_tensors_of_sd15(unet: UNet2DConditionModel) -> None:
    with torch.device("meta"):
        real = UNet2DConditionModel(**SD15_UNET)
    ours = {name: tensor.ndim for name, tensor in unet.state_dict().items()}
    assert len(ours) == 686
    assert ours == {name: tensor.ndim for name, tensor in real.state_dict().items()}


def test_lora_finds_192_layers_in_the_unet_and_72_in_the_text_encoder(unet: UNet2DConditionModel) -> None:
    in_transformers = [name for name, _ in unet.named_modules() if ".attentions." in name]
    assert sum(name.endswith(LORA_CONVS_AND_LINEARS) for name in in_transformers) == 192
    names = [name for name, part in build_text_encoder().named_modules() if isinstance(part, torch.nn.Linear)]
    assert sum(".layers." in name for name in names) == 72


def test_the_text_encoder_has_12_layers_and_the_vae_factor_8_and_4_channels() -> None:
    text_encoder, vae = build_text_encoder(), build_vae()
    assert text_encoder.config.num_hidden_layers == 12
    with torch.no_grad():
        latent = vae.encode(torch.zeros(1, 3, 32, 40)).latent_dist.mean
        assert latent.shape == (1, 4, 4, 5)
        assert vae.decode(latent).sample.shape == (1, 3, 32, 40)


def test_the_folder_is_small_and_fp16_and_whole(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 42e6
    for part in ("unet", "vae", "text_encoder"):
        [file] = (folder / part).glob("*.safetensors")
        assert {tensor.dtype for tensor in load_file(file).values()} <= {torch.float16, torch.int64}
    index = json.loads((folder / "model_index.json").read_text())
    assert {name for name, kind in index.items() if name[0] != "_" and isinstance(kind, list) and kind[0]} == {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    assert not folder.with_name("model.new").exists() and not folder.with_name("model.old").exists()


def test_text_encoder_files_keep_the_prefix_of_old(folder: Path) -> None:
    with safe_open(folder / "text_encoder" / "model.safetensors", "pt") as tensors:
        assert all(name.startswith("text_model.") for name in tensors.keys())  # noqa: SIM118


def test_diffusers_opens_the_folder_with_all_weights_and_draws(folder: Path, unet: UNet2DConditionModel) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for name, tensor in unet.state_dict().items():
        assert torch.equal(pipeline.unet.state_dict()[name], tensor.half().float()), name
    written = load_file(folder / "text_encoder" / "model.safetensors")
    for name, tensor in pipeline.text_encoder.state_dict().items():
        stored = written["text_model." + name.removeprefix("text_model.")]
        assert torch.equal(tensor, stored.float()), name
    assert pipeline.vae.config.scaling_factor == 0.25
    assert {key: pipeline.scheduler.config[key] for key in SCHEDULER} == SCHEDULER
    assert pipeline("a creature", num_inference_steps=1).images[0].size == (128, 128)


def test_writing_again_replaces_the_weights_and_keeps_the_card(folder: Path, unet: UNet2DConditionModel) -> None:
    (folder / "README.md").write_text("the card")
    before = (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    write_model(folder, build_vae(), unet, build_text_encoder(), TOKENIZER)
    assert (folder / "README.md").read_text() == "the card"
    assert (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() != before


def test_the_tokenizer_is_clips_own(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert (len(tokenizer), tokenizer.model_max_length) == (VOCABULARY_SIZE, 77)
    words = "a photo of a sks creature, 2 cats: it's été!"
    numbers = tokenizer(words).input_ids
    # What openai/clip-vit-large-patch14 makes of the beginning and the end.
    assert numbers[:5] == [49406, 320, 1125, 539, 320] and numbers[-1] == 49407
    assert tokenizer.decode(numbers, skip_special_tokens=True).replace(" ", "") == words.replace(" ", "")
    padded = tokenizer("creature", padding="max_length").input_ids
    assert len(padded) == 77 and set(padded[2:]) == {49407}
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (TOKENIZER / name).read_bytes()


def test_parameters_are_counted() -> None:
    assert count_parameters(torch.nn.Linear(3, 4)) == 16
    assert 8e6 < count_parameters(build_unet()) < 10e6
