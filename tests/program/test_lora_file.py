"""The finished file: its keys, its metadata, and what diffusers draws with it."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from library.models.family import open_family
from library.settings import read_settings
from library.train.model import build_network
from library.train.retold import retold_settings
from library.weights import load_tensors, read_header
from tests.runs import Bench

RUN = {"network_dim": 4, "network_alpha": 2, "max_train_steps": 3, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_model: Path, toy_pictures: Path, toy_cache: Path) -> Bench:
    """Three runs of the same settings, in kohya's layout and in diffusers', and in half precision."""
    bench = Bench(toy_model, toy_pictures, tmp_path_factory.mktemp("trained"), toy_cache)
    about = {"metadata_author": "Me", "metadata_tags": "a, b", "training_comment": "ein Würfel", "clip_skip": 2}
    bench.train(**RUN, **about)
    bench.train(**RUN, **about, output_name="peft", save_model_as="diffusers")
    return bench


def test_keys(trained: Bench) -> None:
    tensors = trained.tensors()
    kinds = (".alpha", ".lora_down.weight", ".lora_up.weight")
    stems = {name.rpartition(".alpha")[0] for name in tensors if name.endswith(".alpha")}
    assert set(tensors) == {stem + kind for stem in stems for kind in kinds}
    assert len([stem for stem in stems if stem.startswith("lora_unet_")]) == 192
    assert len([stem for stem in stems if stem.startswith("lora_te_text_model_encoder_layers_")]) == 12
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q" in stems
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj" in stems
    assert "lora_te_text_model_encoder_layers_1_self_attn_q_proj" in stems
    assert {float(tensors[f"{stem}.alpha"]) for stem in stems} == {2.0}
    assert {tensors[f"{stem}.lora_down.weight"].shape[0] for stem in stems} == {4}
    assert tensors["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"].shape == (4, 32, 1, 1)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_metadata(trained: Bench) -> None:
    told = trained.metadata()
    expected = {
        "ss_output_name": "toy",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_base_model_version": "sd_v1",
        "ss_learning_rate": "0.02",
        "ss_num_train_images": "4",
        "ss_num_reg_images": "0",
        "ss_steps": "3",
        "ss_num_epochs": "2",
        "ss_batch_size_per_device": "2",
        "ss_resolution": "(64, 64)",
        "ss_seed": "7",
        "ss_clip_skip": "2",
        "ss_training_comment": "ein Würfel",
        "ss_mixed_precision": "no",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "toy",
        "modelspec.author": "Me",
        "modelspec.tags": "a, b",
        "modelspec.resolution": "64x64",
    }
    assert {key: told.get(key) for key in expected} == expected
    assert told["ss_optimizer"].startswith("torch.optim.adamw.AdamW(")
    assert float(told["ss_training_finished_at"]) >= float(told["ss_training_started_at"]) > 1.6e9
    assert json.loads(told["ss_bucket_info"])["buckets"]["0"] == {"resolution": [64, 64], "count": 4}
    assert json.loads(told["ss_tag_frequency"])[trained.pictures.name]["bright"] == 4
    assert json.loads(told["ss_dataset_dirs"]) == {trained.pictures.name: {"n_repeats": 1, "img_count": 4}}
    assert len(told["ss_new_sd_model_hash"]) == len(told["sshs_model_hash"]) == 64
    assert str(trained.folder) not in json.dumps(told) and str(trained.model.parent) not in json.dumps(told)


def own_answer(bench: Bench, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Hidden states of a caption and the UNet's answer, by the library's own network."""
    family = open_family(str(bench.model))
    modules = {"unet": family.load_unet(torch.float32), "text_encoder": family.load_text_encoders(torch.float32)[0]}
    network = build_network(read_settings(bench.argv(**RUN)), family, modules)
    network.load(tensors)
    for module in modules.values():
        module.eval()
    with torch.no_grad():
        tokens = family.tokenize(["sks thing"], 75)
        condition = family.encode_text([modules["text_encoder"]], tokens)
        return condition.hidden, family.predict(modules["unet"], LATENTS, torch.tensor([500]), condition)


LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def pipeline_of(bench: Bench) -> StableDiffusionPipeline:
    """The base model as diffusers opens it."""
    pipeline = StableDiffusionPipeline.from_pretrained(bench.model, safety_checker=None, local_files_only=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("name", ["toy", "peft"])
def test_diffusers_answers_as_the_trainer_does(trained: Bench, name: str, caplog: pytest.LogCaptureFixture) -> None:
    hidden, expected = own_answer(trained, trained.tensors())
    pipeline = pipeline_of(trained)
    with torch.no_grad():
        base = pipeline.unet(LATENTS, 500, pipeline.encode_prompt("sks thing", "cpu", 1, False)[0]).sample
        pipeline.load_lora_weights(trained.output, weight_name=f"{name}.safetensors")
        told = pipeline.encode_prompt("sks thing", "cpu", 1, False)[0]
        found = pipeline.unet(LATENTS, 500, told).sample
    assert not [message for message in caplog.messages if "unexpected keys" in message or "missing keys" in message]
    assert (found - base).abs().max() > 0.01
    assert (told - hidden).abs().max() <= 1e-4 and (found - expected).abs().max() <= 1e-4


def test_diffusers_draws_the_preview(trained: Bench, tmp_path: Path) -> None:
    """The whole way to a picture, in latents, with guidance: both layouts, and against the base."""
    drawn = {}
    for name in (None, "toy", "peft"):
        pipeline = pipeline_of(trained)
        if name:
            pipeline.load_lora_weights(trained.output, weight_name=f"{name}.safetensors")
        noise = {"latents": LATENTS.clone(), "output_type": "latent", "num_inference_steps": 3}
        drawn[name] = pipeline("sks thing", height=64, width=64, **noise).images
    assert (drawn["toy"] - drawn["peft"]).abs().max() <= 1e-4
    assert (drawn["toy"] - drawn[None]).abs().max() > 0.01


def test_the_diffusers_layout(trained: Bench) -> None:
    tensors = trained.tensors("peft")
    # One entry more than pairs, where alpha is kept.
    pairs = [name for name in tensors if ".lora_A." in name or ".lora_B." in name or ".lora." in name]
    assert len(pairs) == 2 * (192 + 12)
    assert all(name.startswith(("unet.", "text_encoder.")) for name in tensors)


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_precision_of_the_file(bench: Bench, precision: str, dtype: torch.dtype) -> None:
    small = {"network_train_text_encoder_only": True, "max_train_steps": 2, "save_state": True}
    bench.train(**small, save_precision=precision)
    tensors = load_tensors(bench.output / "toy.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    exact = load_tensors(bench.output / "toy-state" / "weights.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(tensor, exact[name].to(dtype)), name


def test_no_metadata(bench: Bench) -> None:
    bench.train(network_train_text_encoder_only=True, max_train_steps=1, no_metadata=True)
    told = read_header(bench.output / "toy.safetensors")[0]
    assert {key for key in told if key.startswith("ss_")} >= {"ss_network_dim", "ss_network_alpha"}
    assert not {"ss_seed", "ss_tag_frequency", "ss_dataset_dirs", "ss_learning_rate"} & told.keys()


def test_the_file_tells_how_to_run_it_again(trained: Bench) -> None:
    """All settings as the run wrote them down beside it, but of paths elsewhere the last part alone."""
    told = tomllib.loads(retold_settings(trained.metadata()))
    ran = tomllib.loads((trained.output / "toy.toml").read_text(encoding="utf-8"))
    assert told.keys() == ran.keys()
    for section, values in ran.items():
        for name, value in values.items():
            is_path = isinstance(value, str) and value.startswith("/")
            assert told[section][name] == (Path(value).name if is_path else value), name
    assert told["network"]["network_dim"] == 4 and told["model"]["pretrained_model_name_or_path"]
