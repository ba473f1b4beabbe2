"""All weights of a model of each family: they learn, resume exactly, and are opened again in both layouts."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

import train_dreambooth
from library.errors import InputError
from library.models.family import Family, open_family
from tests.runs import WHOLE, Bench, assert_same, largest
from tests.toy_families import write_toy
from tests.toys import aligned

KINDS = {"sd1": "epsilon", "sd2": "epsilon", "sd2-v": "v_prediction", "sdxl": "epsilon"}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A toy of each family, and one that predicts v."""
    folder = tmp_path_factory.mktemp("bases")
    return {name: write_toy(folder / name, name.removesuffix("-v"), kind) for name, kind in KINDS.items()}


@pytest.fixture
def bench_of(bases, bench: Bench):
    """A place to train one of them in."""
    return lambda name: Bench(bases[name], bench.pictures, bench.folder, bench.cache)


@torch.no_grad()
def predicted(family: Family) -> Tensor:
    """What a model says to one noisy picture and a caption."""
    encoders = family.load_text_encoders(torch.float32)
    condition = family.encode_text(encoders, family.tokenize(["sks thing, bright"], 75))
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return family.predict(family.load_unet(torch.float32), noisy, torch.tensor([300]), condition)


def drawn_by_diffusers(model: Path, folder: Path) -> np.ndarray:
    """The picture that diffusers' own pipeline makes with a model; `folder` says its sizes, which a file does not."""
    kind = StableDiffusionXLPipeline if "XL" in (folder / "model_index.json").read_text() else StableDiffusionPipeline
    if model.is_dir():
        pipeline = kind.from_pretrained(model)
    else:
        pipeline = kind.from_single_file(str(model), config=str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    for part in (each for each in pipeline.components.values() if isinstance(each, torch.nn.Module)):
        aligned(part)
    noise = torch.Generator().manual_seed(1)
    told = {"prompt": "sks thing, bright", "width": 64, "height": 64, "num_inference_steps": 2, "generator": noise}
    return np.asarray(pipeline(**told).images[0])


@pytest.mark.parametrize("name", KINDS)
def test_it_learns(bench_of, name: str) -> None:
    """The loss of the same pictures at fixed noise and timesteps falls by a fifth."""
    bench = bench_of(name)
    learning = {"learning_rate": 0.003, "max_train_steps": 25, "train_batch_size": 4, "mixed_precision": "no"}
    bench.train_all(**learning, validate_every_n_steps=25, train_text_encoder=True)
    losses = dict(bench.scalars()["loss/validation"])
    assert losses[25] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["sd1", "sd2-v", "sdxl"])
def test_both_layouts_say_the_same(bench_of, name: str) -> None:
    bench = bench_of(name)
    bench.train_all(save_model_as="both", max_train_steps=2, train_text_encoder=True, ema=True)
    assert bench.names() == {"toy", "toy.safetensors", "toy-ema", "toy-ema.safetensors", "toy.toml"}
    drawn = [drawn_by_diffusers(bench.output / place, bench.output / "toy") for place in ("toy", "toy.safetensors")]
    assert np.array_equal(*drawn) and drawn[0].std() > 1
    assert not np.array_equal(drawn[0], drawn_by_diffusers(bench.model, bench.model))
    answers = {}
    for place in ("toy", "toy.safetensors", "toy-ema", "toy-ema.safetensors"):
        family = open_family(str(bench.output / place))
        assert (family.name, family.prediction_type) == (name.removesuffix("-v"), KINDS[name])
        answers[place] = predicted(family)
    assert torch.equal(answers["toy"], answers["toy.safetensors"])
    assert torch.equal(answers["toy-ema"], answers["toy-ema.safetensors"])
    base = predicted(open_family(str(bench.model)))
    assert (answers["toy"] - base).abs().max() > (answers["toy-ema"] - base).abs().max() > 0
    again = bench.at("again")
    argv = again.argv(**WHOLE, pretrained_model_name_or_path=bench.output / "toy", max_train_steps=1)
    assert train_dreambooth.main(argv) == 0  # what was written is a base model like any other


RESUMED = {
    "text encoder that stops": {
        **{"train_text_encoder": True, "stop_text_encoder_training": 3, "ema": True},
        **{"prior_preservation": "self", "class_prompt": "a thing"},
    },
    "bf16": {"full_bf16": True, "mixed_precision": "bf16", "optimizer_type": "AdamW8bit"},
    "in the backward pass": {"fused_backward_pass": True, "max_grad_norm": 0, "optimizer_type": "Adafactor"},
}


@pytest.mark.parametrize("what", RESUMED)
def test_a_run_goes_on_exactly(bench_of, what: str) -> None:
    bench = bench_of("sd1")
    run = {"max_train_steps": 4, "lr_scheduler": "cosine", "save_model_as": "both", **RESUMED[what]}
    tensors = bench.train_all(**run, save_state=True, save_every_n_steps=2, save_last_n_steps=1)
    average = bench.tensors("toy-ema") if "ema" in run else None
    again = bench.at("again")
    state = bench.output / "toy-step00000002-state"
    assert_same(again.train_all(**run, resume=state), tensors)
    if average:
        assert_same(again.tensors("toy-ema"), average)


def test_the_text_encoder_stops(bench_of) -> None:
    bench = bench_of("sd1")
    run = {"train_text_encoder": True, "stop_text_encoder_training": 2, "save_every_n_steps": 1}
    bench.train_all(**run)
    parts = {}
    for step in ("-step00000001", "-step00000002", "-step00000003", ""):
        family = open_family(str(bench.output / f"toy{step}.safetensors"))
        parts[step] = family.part_tensors("text_encoder"), family.part_tensors("unet")
    texts, unets = ([each[number] for each in parts.values()] for number in (0, 1))
    moves = [any(not torch.equal(one[key], other[key]) for key in one) for one, other in pairwise(texts)]
    assert moves == [True, False, False]
    assert not torch.equal(unets[2]["conv_in.weight"], unets[3]["conv_in.weight"])


def test_each_text_encoder_has_its_own_rate(bench_of) -> None:
    """Of XL, by adapters and by all weights."""
    bench = bench_of("sdxl")
    rates = {"text_encoder_lr": 0.03, "learning_rate_te2": 0.02, "unet_lr": 0}
    tensors = bench.train(**rates, max_train_steps=1)
    told = {tag: curve[0][1] for tag, curve in bench.scalars().items() if tag.startswith("lr/")}
    assert told == pytest.approx({"lr/text_encoder": 0.03, "lr/text_encoder_2": 0.02})
    # AdamW's first step is the rate itself.
    assert [largest(tensors, part) for part in ("lora_te1", "lora_te2")] == pytest.approx([0.03, 0.02], rel=1e-3)
    assert bench.metadata()["ss_learning_rate_te2"] == "0.02"
    second = bench.at("second")
    second.train_all(train_text_encoder=True, unet_lr=0, learning_rate_te1=0, learning_rate_te2=1e-3, max_train_steps=1)
    assert [tag for tag in second.scalars() if tag.startswith("lr/")] == ["lr/text_encoder_2"]
    tuned, base = open_family(str(second.output / "toy.safetensors")), open_family(str(bench.model))
    moved = {part: not same(tuned.part_tensors(part), base.part_tensors(part)) for part in ("unet", *base.text_parts)}
    assert moved == {"unet": False, "text_encoder": False, "text_encoder_2": True}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all tensors are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_old_folders_are_removed(bench_of) -> None:
    bench = bench_of("sd1")
    keeping = {"save_every_n_epochs": 1, "save_last_n_epochs": 1, "max_train_epochs": 3}
    bench.train_all(save_model_as="diffusers", ema=True, **keeping)
    assert bench.names() == {"toy", "toy-ema", "toy-000002", "toy-000002-ema", "toy.toml"}
    assert (bench.output / "toy-000002" / "model_index.json").is_file()


def test_a_single_file_is_tuned(bench_of, tmp_path: Path) -> None:
    first = bench_of("sd2")
    first.train_all(max_train_steps=1)
    base = tmp_path / "base.safetensors"
    shutil.move(first.output / "toy.safetensors", base)
    second = Bench(base, first.pictures, tmp_path / "second", first.cache)
    tensors = second.train_all(max_train_steps=1, save_precision="fp16")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_dry_run(bench_of, capsys) -> None:
    bench = bench_of("sdxl")
    argv = bench.argv(**WHOLE, dry_run=True, train_text_encoder=True, ema=True)
    assert train_dreambooth.main(argv) == 0
    told = capsys.readouterr().out
    family = open_family(str(bench.model))
    for part in ("unet", "text_encoder", "text_encoder_2"):
        count = sum(tensor.numel() for tensor in family.part_tensors(part).values())
        assert f"{part}: {count:,} trained parameters in" in told
    assert "predicted peak memory while training" in told and not bench.output.exists()


def test_the_state_of_another_kind_of_run_is_refused(bench_of) -> None:
    bench = bench_of("sd1")
    bench.train_all(max_train_steps=1, save_state_on_train_end=True)
    changed = {"max_train_steps": 2, "resume": "auto", "full_bf16": True, "mixed_precision": "bf16"}
    with pytest.raises(InputError, match="full_bf16 was False and is True"):
        train_dreambooth.main(bench.argv(**{**WHOLE, **changed}))
    argv = bench.argv(max_train_steps=2, resume="auto", network_module="lora")
    with pytest.raises(InputError, match="network_module was None and is 'lora'"):
        train_dreambooth.main(argv)
