"""What all families of Stable Diffusion share: captions of any length and weight, scales, hashes and refusals."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from library.errors import InputError
from library.models.family import Family, Tokens, open_family
from library.models.layout import open_folder
from library.models.stable import reads_one_text
from library.weights import load_tensors, read_header, save_tensors
from tests.toy_families import write_toy, write_toy_file

FAMILIES = ("sd1", "sd2", "sdxl")
END = 49407
PADDING = {"sd1": [END], "sd2": [0], "sdxl": [END, 0]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A toy of each family."""
    base = tmp_path_factory.mktemp("folders")
    return {name: write_toy(base / name, name) for name in FAMILIES}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same as single files."""
    base = tmp_path_factory.mktemp("files")
    return {name: write_toy_file(base / f"{name}.safetensors", name) for name in FAMILIES}


@pytest.fixture(scope="module")
def families(folders: dict[str, Path]) -> dict[str, Family]:
    return {name: open_family(str(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def encoders(families: dict[str, Family]) -> dict[str, list[nn.Module]]:
    return {name: family.load_text_encoders(torch.float32) for name, family in families.items()}


def states(family: Family, encoders: list[nn.Module], tokens: list[Tokens]) -> list[Tensor]:
    """The hidden states of each text encoder by itself (batch, tokens, width)."""
    widths = [encoder.config.hidden_size for encoder in encoders]
    return list(family.encode_text(encoders, tokens).hidden.split(widths, dim=-1))


@pytest.mark.parametrize("name", FAMILIES)
def test_long_captions_end_and_pad_in_each_familys_way(families, name: str) -> None:
    tokens = families[name].tokenize([" ".join(["cat"] * 100), " ".join(["cat"] * 400), "cat"], 150)
    assert len(tokens) == len(PADDING[name])
    for (ids, weights), padding in zip(tokens, PADDING[name], strict=True):
        assert ids.shape == (3, 2, 77) and weights is None
        cat = int(ids[2, 0, 1])
        assert ids[0, 0].tolist() == [49406, *[cat] * 75, END]
        assert ids[0, 1].tolist() == [49406, *[cat] * 25, END, *[padding] * 50]
        assert ids[1].tolist() == [[49406, *[cat] * 75, END]] * 2
        assert ids[2, 0].tolist() == [49406, cat, END, *[padding] * 74]
        assert ids[2, 1].tolist() == [49406, END, *[padding] * 75]


@pytest.mark.parametrize("caption", ["a dog!", "wow!!! a dog, (so big) !", "!", "it's 5 o'clock"])
def test_captions_are_cut_into_words_as_open_clip_does_it(families, files, caption: str) -> None:
    expected = open_clip.tokenize(caption)
    for name in ("sd2", "sdxl"):
        for family in (families[name], open_family(str(files[name]))):
            assert torch.equal(family.tokenize([caption], 75)[-1].ids[:, 0], expected)
    plain = families["sd1"].tokenize([caption], 75)[0].ids[:, 0]
    assert torch.equal(plain[plain != END], expected[(expected != END) & (expected != 0)])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("length", [75, 150, 225])
def test_windows_are_read_one_by_one(families, encoders, name: str, length: int) -> None:
    family, chunks = families[name], length // 75
    tokens = family.tokenize([" ".join(["cat dog"] * 60), "a dog"], length)
    whole = states(family, encoders[name], tokens)
    for number, encoder in enumerate(encoders[name]):
        ids = tokens[number].ids
        assert whole[number].shape == (2, length + 2, encoder.config.hidden_size)
        for chunk in range(chunks):
            alone = [Tokens(each.ids[:, chunk : chunk + 1]) for each in tokens]
            expected = states(family, encoders[name], alone)[number][:, 1:-1]
            found = whole[number][:, 1 + 75 * chunk : 76 + 75 * chunk]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert ids.shape == (2, chunks, 77)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("length", [75, 150])
def test_each_encoders_states_are_weighed(families, encoders, name: str, length: int) -> None:
    family, before = families[name], " ".join(["cat"] * (length - 3))
    weighed = family.tokenize([f"{before} (red:1.5) dog", "a dog"], length, weighted=True)
    plain = family.tokenize([f"{before} red dog", "a dog"], length)
    place = length - 2  # of the weighed token among the hidden states, the first of which is the marker's
    assert all(torch.equal(one.ids, other.ids) for one, other in zip(weighed, plain, strict=True))
    total = 77 * length // 75
    assert all(each.weights.flatten(1).sum(1).tolist() == [total + 0.5, total] for each in weighed)
    pairs = zip(states(family, encoders[name], weighed), states(family, encoders[name], plain), strict=True)
    for with_weights, without in pairs:
        assert torch.equal(with_weights[1], without[1])
        if length > 75:
            assert torch.equal(with_weights[0, :76], without[0, :76])  # the first window has no weights
        ratio = with_weights[0, length - 74 :] / without[0, length - 74 :]
        factor = ratio[0].median()
        expected = torch.full_like(ratio, float(factor))
        expected[place - (length - 74)] *= 1.5
        torch.testing.assert_close(ratio, expected, atol=1e-3, rtol=1e-3)


def test_the_pooled_vector_knows_no_weights(families, encoders) -> None:
    family = families["sdxl"]
    weighed = family.encode_text(encoders["sdxl"], family.tokenize(["a (red:1.5) dog"], 75, weighted=True))
    plain = family.encode_text(encoders["sdxl"], family.tokenize(["a red dog"], 75))
    assert torch.equal(weighed.pooled, plain.pooled) and not torch.equal(weighed.hidden, plain.hidden)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_one_change_nothing(families, encoders, name: str) -> None:
    weighed, plain = (families[name].tokenize(["a red dog"], 150, weighted) for weighted in (True, False))
    assert all(each.weights is not None for each in weighed)
    conditions = [families[name].encode_text(encoders[name], tokens) for tokens in (weighed, plain)]
    assert torch.equal(conditions[0].hidden, conditions[1].hidden)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_part_has_a_hash_of_its_own(families, files, name: str, tmp_path: Path) -> None:
    parts = ("unet", "vae", "tokenizer", *families[name].text_parts)
    prints = [families[name].fingerprint(part, tmp_path) for part in parts]
    assert len(set(prints)) == len(parts)
    assert [open_family(str(files[name])).fingerprint(part) for part in parts] == prints
    other = open_family(str(write_toy(tmp_path / "other", name, seed=1)))
    same = [other.fingerprint(part) == before for part, before in zip(parts, prints, strict=True)]
    assert same == [part == "tokenizer" for part in parts]


def test_tokenizers_that_pad_otherwise_have_another_hash(families) -> None:
    prints = {name: family.fingerprint("tokenizer").split() for name, family in families.items()}
    assert prints["sdxl"] == [*prints["sd1"], *prints["sd2"]]
    assert prints["sd1"] != prints["sd2"]


def test_another_vocabulary_has_another_hash(families, folders, tmp_path: Path) -> None:
    shutil.copytree(folders["sdxl"], tmp_path / "other")
    path = tmp_path / "other" / "tokenizer_2" / "merges.txt"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    first, second = open_family(str(tmp_path / "other")).fingerprint("tokenizer").split()
    before = families["sdxl"].fingerprint("tokenizer").split()
    assert first == before[0] and second != before[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_are_frozen_and_in_the_format_asked_for(families, name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        modules = [families[name].load_unet(dtype), *families[name].load_text_encoders(dtype)]
        for module in [*modules, families[name].load_vae(dtype)]:
            assert {parameter.dtype for parameter in module.parameters()} == {dtype}
            assert not any(parameter.requires_grad or parameter.is_meta for parameter in module.parameters())
            assert not module.training


@pytest.mark.parametrize("name", FAMILIES)
def test_a_part_that_lacks_a_tensor_is_named(folders, name: str, tmp_path: Path) -> None:
    shutil.copytree(folders[name], tmp_path / "other")
    for part, lost in (("text_encoder", "final_layer_norm.bias"), ("text_encoder_2", "text_projection.weight")):
        if name != "sdxl" and part == "text_encoder_2":
            continue
        file = tmp_path / "other" / part / "model.safetensors"
        tensors = load_tensors(file)
        kept = {key: tensor for key, tensor in tensors.items() if not key.endswith(lost)}
        assert len(kept) == len(tensors) - 1
        save_tensors(file, kept)
        with pytest.raises(InputError, match=f"1 tensors are missing, such as .*{lost}"):
            open_family(str(tmp_path / "other")).load_text_encoders(torch.float32)
        save_tensors(file, tensors)


def without_vae(source: Path, path: Path) -> Path:
    """A copy of a single file that has no VAE."""
    tensors = {key: each for key, each in load_tensors(source).items() if not key.startswith("first_stage_model.")}
    save_tensors(path, tensors, read_header(source)[0])
    return path


@pytest.mark.parametrize(("name", "scale"), [("sd1", 0.18215), ("sd2", 0.18215), ("sdxl", 0.13025)])
def test_the_scale_of_latents_is_the_familys_where_nothing_says_another(
    files, folders, name: str, scale: float, tmp_path: Path
) -> None:
    lone = {key: t for key, t in load_tensors(files[name]).items() if key.startswith("first_stage_model.")}
    save_tensors(tmp_path / "vae.safetensors", lone, {"easel.structure": '{"vae_groups": 4}'})
    model = without_vae(files[name], tmp_path / "model.safetensors")
    assert open_family(str(model), vae=str(tmp_path / "vae.safetensors")).latent_scale == scale
    shutil.copytree(folders[name] / "vae", tmp_path / "vae")
    config = json.loads((tmp_path / "vae/config.json").read_text())
    (tmp_path / "vae/config.json").write_text(json.dumps(config | {"scaling_factor": 0.5}))
    assert open_family(str(model), vae=str(tmp_path / "vae")).latent_scale == 0.5
    assert open_family(str(folders[name]), vae=str(tmp_path / "vae")).latent_scale == config["scaling_factor"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_schedule_is_that_of_diffusers(families, folders, name: str) -> None:
    start, end, steps = families[name].betas
    scheduler = DDPMScheduler.from_pretrained(folders[name] / "scheduler")
    betas = torch.linspace(start**0.5, end**0.5, steps) ** 2
    torch.testing.assert_close(scheduler.betas, betas)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_schedule_that_ends_in_noise_is_noticed(folders, name: str, tmp_path: Path) -> None:
    assert not open_family(str(folders[name])).zero_terminal_snr
    shutil.copytree(folders[name], tmp_path / "other")
    path = tmp_path / "other/scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rescale_betas_zero_snr": True}))
    assert open_family(str(tmp_path / "other")).zero_terminal_snr


def test_a_unet_that_is_told_more_than_the_text_is_another_model(folders, tmp_path: Path) -> None:
    assert [reads_one_text(open_folder(name, folders[name])) for name in FAMILIES] == [True, True, False]
    for word, value in (("class_embed_type", "projection"), ("num_class_embeds", 1000), ("in_channels", 9)):
        shutil.copytree(folders["sd2"], tmp_path / word)
        path = tmp_path / word / "unet/config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {word: value}))
        assert not reads_one_text(open_folder(word, tmp_path / word))


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_layer_of_the_unets_adapters(families, name: str) -> None:
    family = families[name]
    unet = family.load_unet(torch.float32)
    layers = {path: unet.get_submodule(path) for path in family.adapter_layers(unet, "unet")}
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    condition = family.encode_text(family.load_text_encoders(torch.float32), family.tokenize(["a dog"], 75))
    family.predict(unet, torch.randn(1, 4, 16, 16), torch.tensor([500]), condition).square().sum().backward()
    assert all(layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0 for layer in layers.values())
