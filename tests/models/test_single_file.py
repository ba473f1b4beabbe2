"""Single-file models: every form of the same weights gives the same parts, and other files are named."""

import json
import os
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo import structure
from library.errors import InputError
from library.models.family import open_family
from library.models.layout import usual_config
from library.models.single_file import LAYOUTS, STRUCTURE, WIDE_BIAS, open_file
from tests import toys
from tests.original_layout import Shapes, checkpoint

TEXT = "cond_stage_model.transformer."
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_toy_sd1(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, Tensor]:
    return toys.original_tensors(folder)


def save(folder: Path, tensors: dict[str, Tensor], path: Path) -> str:
    """Changed tensors of a toy, with its structure, as a file of either kind."""
    words = toys.structure_metadata(folder)
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata=words)
    else:
        torch.save(tensors | words, path)
    return str(path)


def loaded(path: object, dtype: torch.dtype = torch.float32, vae: str | None = None) -> dict[str, Tensor]:
    """All weights of a model as the modules have them after loading."""
    family = open_family(str(path), vae)
    modules = [family.load_unet(dtype), family.load_vae(dtype), *family.load_text_encoders(dtype)]
    return {
        f"{index}.{key}": t for index, module in enumerate(modules) for key, t in module.state_dict().items()
    }


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """The same names and values."""
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt", "a.pt"])
def test_a_file_gives_the_parts_of_its_folder(folder: Path, tmp_path: Path, name: str) -> None:
    assert_same(loaded(toys.write_single_file(folder, tmp_path / name)), loaded(folder))


def test_the_demo_model_as_one_file(tmp_path: Path) -> None:
    parts = structure.build_vae(), structure.build_unet(), structure.build_text_encoder()
    parts[0].register_to_config(scaling_factor=0.7)
    structure.write_model(tmp_path / "demo", *parts, toys.TOKENIZER)
    path = toys.write_single_file(tmp_path / "demo", tmp_path / "demo.safetensors")
    ours, theirs = open_family(str(path)), open_family(str(tmp_path / "demo"))
    assert_same(loaded(path, torch.float16), loaded(tmp_path / "demo", torch.float16))
    assert (ours.latent_scale, ours.default_size) == (theirs.latent_scale, theirs.default_size) == (0.7, 128)
    noisy, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([9])
    answers = []
    for family in (ours, theirs):
        condition = family.encode_text(family.load_text_encoders(torch.float32), family.tokenize(["cat"], 75))
        vae = family.load_vae(torch.float32)
        answers.append(family.predict(family.load_unet(torch.float32), noisy, timesteps, condition))
        answers.append(family.decode_latents(vae, noisy))
    assert torch.equal(answers[0], answers[2]) and torch.equal(answers[1], answers[3])


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(folder: Path, tensors, tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    path = save(folder, {key: tensor.to(dtype) for key, tensor in tensors.items()}, tmp_path / name)
    expected = {key: tensor.to(dtype).float() for key, tensor in loaded(folder).items()}
    assert_same(loaded(path), expected)


def test_other_things_in_the_file_are_passed_over(folder: Path, tensors, tmp_path: Path) -> None:
    extra = {f"model_ema.{number}": torch.zeros(1) for number in range(200)}
    extra |= {"alphas_cumprod": torch.zeros(1000), "model_ema.decay": torch.tensor(0.9)}
    extra |= {"model_ema.diffusion_modelinput_blocks00weight": torch.zeros(16, 4, 3, 3)}
    extra |= {TEXT + "text_model.embeddings.position_ids": torch.zeros(1, 77, dtype=torch.int64)}
    extra |= {"first_stage_model.loss.logvar": torch.zeros(()), TEXT + "logit_scale": torch.zeros(())}
    path = save(folder, tensors | extra, tmp_path / "a.safetensors")
    assert_same(loaded(path), loaded(folder))


def test_text_names_without_their_prefix(folder: Path, tensors, tmp_path: Path) -> None:
    renamed = {key.replace("transformer.text_model.", "transformer."): t for key, t in tensors.items()}
    assert renamed.keys() != tensors.keys()
    assert_same(loaded(save(folder, renamed, tmp_path / "a.safetensors")), loaded(folder))


def vae_alone(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The VAE's tensors, by another prefix."""
    start = "first_stage_model."
    return {
        prefix + key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)
    }


@pytest.mark.parametrize(
    "form", ["bare", "vae.", "first_stage_model.", "ckpt", "diffusers", "whole", "folder"]
)
def test_a_vae_in_every_form(folder: Path, tmp_path: Path, form: str) -> None:
    other = toys.write_toy_sd1(tmp_path / "other", seed=1)
    originals, path = toys.original_tensors(other), str(tmp_path / "vae.safetensors")
    diffusers = other / "vae" / "diffusion_pytorch_model.safetensors"
    words = {STRUCTURE: json.dumps({"vae_groups": 4})}
    if form == "ckpt":
        path = str(tmp_path / "vae.pt")
        torch.save({"state_dict": vae_alone(originals) | {"loss.logvar": torch.zeros(())}, **words}, path)
    elif form == "whole":
        path = str(toys.write_single_file(other, Path(path)))
    elif form == "folder":
        path = str(other)
    elif form == "diffusers":
        save_file(load_file(diffusers), path, metadata=words)
    else:
        save_file(vae_alone(originals, "" if form == "bare" else form), path, metadata=words)
    expected = open_family(str(other)).load_vae(torch.float32).state_dict()
    assert_same(open_family(str(folder), vae=path).load_vae(torch.float32).state_dict(), expected)


def test_a_file_without_a_vae_needs_one(folder: Path, tensors, tmp_path: Path) -> None:
    rest = {key: tensor for key, tensor in tensors.items() if not key.startswith("first_stage_model.")}
    path = save(folder, rest, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="a.safetensors has no vae. Name a VAE's file"):
        open_family(path)
    assert_same(loaded(path, vae=str(folder)), loaded(folder))


def test_the_prediction_type_of_the_metadata(folder: Path, tmp_path: Path) -> None:
    for word, expected in (("v", "v_prediction"), ("epsilon", "epsilon")):
        words = {"modelspec.prediction_type": word}
        path = toys.write_single_file(folder, tmp_path / "a.safetensors", words)
        assert open_family(str(path)).prediction_type == expected


@pytest.mark.parametrize(
    ("name", "scale", "size"), [("sd1", 0.18215, 512), ("sd2", 0.18215, 512), ("sdxl", 0.13025, 1024)]
)
def test_sizes_of_the_real_models_are_read_from_the_header(tmp_path: Path, name: str, scale: float, size: int) -> None:
    """A file as large as the real one in fp16, of which only the header is really there."""
    path = tmp_path / "real.safetensors"
    write_hollow(path, checkpoint(name))
    source = open_file("real", path)
    parts = ("unet", "vae", *LAYOUTS[name])
    assert {part: source.configs[part] for part in parts} == {part: usual_config(name, part) for part in parts}
    family = open_family(str(path))
    assert family.name == name
    assert (family.default_size, family.latent_scale, family.prediction_type) == (size, scale, "epsilon")


def test_real_files_of_xl_say_with_empty_tensors_that_they_predict_v(tmp_path: Path) -> None:
    write_hollow(tmp_path / "a.safetensors", {**checkpoint("sdxl"), "v_pred": (0,), "ztsnr": (0,)})
    family = open_family(str(tmp_path / "a.safetensors"))
    assert (family.prediction_type, family.zero_terminal_snr) == ("v_prediction", True)
    assert family.default_size == 1024


@pytest.mark.parametrize(("spread", "prediction", "size"), [(0.12, "v_prediction", 768), (0.07, "epsilon", 512)])
@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt"])
def test_real_files_of_sd2_predict_v_where_one_bias_is_wide(
    tmp_path: Path, name: str, spread: float, prediction: str, size: int
) -> None:
    path, shapes = tmp_path / name, checkpoint("sd2")
    filled = {WIDE_BIAS: torch.linspace(-1, 1, 320) * spread * 3**0.5}
    if name.endswith("ckpt"):
        torch.save({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()} | filled, path)
    else:
        write_hollow(path, shapes, filled)
    family = open_family(str(path))
    assert (family.name, family.prediction_type, family.default_size) == ("sd2", prediction, size)
    assert family.architecture == f"stable-diffusion-v2-{'768-v' if size == 768 else '512'}"


def write_hollow(path: Path, shapes: Shapes, filled: dict[str, Tensor] | None = None) -> None:
    """A safetensors file in fp16 whose tensors, but for those `filled`, are a hole on the disk."""
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    content = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end)
        for key, tensor in (filled or {}).items():
            file.seek(8 + len(content) + header[key]["data_offsets"][0])
            file.write(tensor.half().numpy().tobytes())


def test_an_unusual_size_without_its_structure_is_refused(tensors, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(vae_alone(tensors), tmp_path / "vae.safetensors")
    for name in ("a", "vae"):
        with pytest.raises(InputError, match="does not say how many attention heads and groups"):
            open_file(name, tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("words", ["[1", "[1]", '{"unknown": 1}'])
def test_a_broken_structure_is_refused(tensors, tmp_path: Path, words: str) -> None:
    save_file(tensors, tmp_path / "a.safetensors", metadata={STRUCTURE: words})
    with pytest.raises(InputError, match=f"{STRUCTURE} is broken"):
        open_file("a", tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "a LoRA"),
        ("unet.mid_block.attentions.0.proj_in.lora_A.weight", "a LoRA"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w1_a", "a LoRA"),
        ("emb_params", "a textual inversion embedding"),
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("down_blocks.0.resnets.0.conv1.weight", "a UNet of diffusers' layout alone"),
        ("input_blocks.0.0.weight", "a UNet alone"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "a text encoder alone"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "a model with a transformer"),
        ("something", "no model that is known here (1 tensors: something)"),
    ],
)
@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_files_that_are_no_base_model(tmp_path: Path, key: str, words: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "ckpt":
        torch.save({key: torch.zeros(1)}, path)
    else:
        save_file({key: torch.zeros(1)}, path)
    with pytest.raises(InputError) as caught:
        open_family(str(path))
    assert f"{path} is {words}" in str(caught.value)


class Code:
    """What runs code where a pickle is loaded without care."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


def test_a_pickle_with_code_in_it_is_refused(folder, tensors, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": tensors, "more": Code()}, "a.ckpt")
    for name, vae in (("a.ckpt", None), (str(folder), "a.ckpt")):
        with pytest.raises(InputError, match="a.ckpt: .*holds more than weights.*could run code, so it is not loaded"):
            open_family(name, vae)
    assert not (tmp_path / "ran").exists()


def test_damaged_parts_are_named(folder: Path, tensors, tmp_path: Path) -> None:
    for lost, words in (
        (
            UNET + "input_blocks.5.1.proj_in.weight",
            "The unet of .*1 tensors are missing, such as down_blocks.1",
        ),
        ("first_stage_model.decoder.mid.attn_1.q.weight", "The vae of .*1 tensors are missing"),
        ("first_stage_model.encoder.down.0.downsample.conv.bias", "1 tensors are missing"),
        (TEXT + "text_model.encoder.layers.1.mlp.fc2.bias", "The text encoder of .*1 tensors are missing"),
        (UNET + "out.2.weight", "the unet in it is incomplete"),
        (TEXT + "text_model.embeddings.position_embedding.weight", "the text encoder in it is incomplete"),
    ):
        rest = {key: tensor for key, tensor in tensors.items() if key != lost}
        assert len(rest) < len(tensors)
        path = save(folder, rest, tmp_path / "a.safetensors")
        with pytest.raises(InputError, match=words):
            loaded(path)


def test_unknown_tensors_and_other_shapes_are_refused(folder: Path, tensors, tmp_path: Path) -> None:
    extra = UNET + "input_blocks.1.0.something.weight"
    with pytest.raises(InputError, match="1 tensors are unknown"):
        loaded(save(folder, tensors | {extra: torch.zeros(1)}, tmp_path / "a.safetensors"))
    changed = UNET + "time_embed.0.bias"
    with pytest.raises(InputError, match="1 tensors have another shape"):
        loaded(save(folder, tensors | {changed: torch.zeros(1)}, tmp_path / "b.safetensors"))
