"""Whole runs with a new word: alone, beside a LoRA, and before it; their files, states, previews and refusals."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_network
from library.errors import InputError
from library.models.embeddings import read_embedding
from library.weights import read_header
from tests.runs import Bench, assert_same, draw_pictures, run_to_the_end
from tests.toy_families import write_toy

WORD = {"token_string": "<toy>", "init_word": "thing", "embedding_lr": 0.05}
ALONE = {**WORD, "embedding_only": True, "network_dim": None, "network_alpha": None}
FAST = {**WORD, "network_train_text_encoder_only": True}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures whose captions have the word."""
    return draw_pictures(tmp_path_factory.mktemp("named"), words="a <toy>")


@pytest.fixture
def bench(bench: Bench, named: Path) -> Bench:
    """The toy model with these pictures."""
    return Bench(bench.model, named, bench.folder, bench.cache)


def test_alone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = bench.train(**ALONE, num_vectors_per_token=2)
    assert bench.names() == {"toy.safetensors", "toy.pt", "toy.toml"}
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"emb_params": (2, 32)}
    pickled = read_embedding(bench.output / "toy.pt")
    assert pickled.word == "<toy>" and torch.equal(pickled.vectors["text_encoder"], tensors["emb_params"])
    assert bench.metadata()["modelspec.trigger_phrase"] == "<toy>" and bench.metadata()["ss_steps"] == "4"
    said = capsys.readouterr().out
    assert "The embedding is " in said and "In prompts the new word is <toy>" in said
    assert set(bench.scalars()) >= {"lr/embedding", "loss/current"} and "lr/unet" not in bench.scalars()


def test_it_learns(bench: Bench) -> None:
    """The loss of fixed noise and timesteps falls, though nothing but the word moves."""
    watched = {"validate_every_n_steps": 10, "max_train_steps": 30, "log_every_n_steps": 10}
    bench.train(**ALONE, **watched, train_batch_size=4, num_vectors_per_token=8)
    losses = [value for _, value in bench.scalars()["loss/validation"]]
    assert len(losses) == 4 and losses[-1] < 0.99 * losses[0]


def test_beside_a_lora(bench: Bench) -> None:
    tensors = bench.train(**WORD)
    assert bench.names() == {"toy.safetensors", "toy-embedding.safetensors", "toy.toml"}
    parts = {name.split("_")[1] for name in tensors}
    assert parts == {"unet", "te"} and bench.metadata()["modelspec.trigger_phrase"] == "<toy>"
    told = read_header(bench.output / "toy-embedding.safetensors")[0]
    assert told["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert read_embedding(bench.output / "toy-embedding.safetensors").vectors["text_encoder"].shape == (1, 32)
    assert {"lr/embedding", "lr/unet", "lr/text_encoder"} <= set(bench.scalars())


def test_xl(tmp_path: Path, named: Path, toy_cache: Path) -> None:
    bench = Bench(write_toy(tmp_path / "model", "sdxl"), named, tmp_path, toy_cache)
    bench.train(**ALONE, max_train_steps=2, num_vectors_per_token=2)
    found = load_file(bench.output / "toy.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()} == {"clip_l": (2, 24), "clip_g": (2, 40)}
    assert all((tensor[0] != tensor[1]).any() for tensor in found.values())  # both encoders' rows have moved
    pickled = read_embedding(bench.output / "toy.pt").vectors
    assert torch.equal(pickled["text_encoder"], found["clip_l"])
    assert torch.equal(pickled["text_encoder_2"], found["clip_g"])


def files_of(bench: Bench) -> dict[str, torch.Tensor]:
    """The tensors of network and word."""
    word = load_file(bench.output / "toy-embedding.safetensors")
    return {**bench.tensors(), **{f"embedding.{name}": tensor for name, tensor in word.items()}}


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_stopped_run_goes_on_exactly(bench: Bench, at: int) -> None:
    """Before, at, and after the change of turns."""
    run = {**FAST, "ti_steps": 2, "lr_scheduler": "cosine", "save_state": True, "save_every_n_steps": 1}
    bench.train(**run)
    states = bench.output
    again = bench.at("again")
    again.train(**run, resume=states / f"toy-step{at:08d}-state")
    assert_same(files_of(again), files_of(bench))
    first = load_file(states / "toy-step00000001-embedding.safetensors")
    assert not torch.equal(first["emb_params"], files_of(bench)["embedding.emb_params"])
    second = load_file(states / "toy-step00000002-embedding.safetensors")
    assert torch.equal(second["emb_params"], files_of(bench)["embedding.emb_params"])


def test_only_the_networks_turn_moves_it(bench: Bench) -> None:
    """Step by step what `ti_steps` says, in the files that are written on the way."""
    bench.train(**FAST, ti_steps=0.5, save_every_n_steps=1)
    networks = [load_file(bench.output / f"toy-step{step:08d}.safetensors") for step in (1, 2, 3)]
    assert_same(networks[0], networks[1])
    ups = [name for name in networks[0] if "lora_up" in name]
    assert all(not networks[1][name].any() for name in ups) and any(networks[2][name].any() for name in ups)


def test_old_files_go_together(bench: Bench) -> None:
    bench.train(**FAST, save_every_n_steps=1, save_last_n_steps=1)
    kept = {name for name in bench.names() if "step" in name}
    assert kept == {f"toy-step0000000{step}{end}.safetensors" for step in (2, 3) for end in ("", "-embedding")}
    alone = bench.at("alone")
    alone.train(**ALONE, save_every_n_epochs=1, max_train_steps=6, save_last_n_epochs=1)
    assert alone.names() == {"toy.safetensors", "toy.pt", "toy.toml", "toy-000002.safetensors", "toy-000002.pt"}


def test_another_word_does_not_go_on(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.train(**ALONE, max_train_steps=2, save_state_on_train_end=True)
    other = {**ALONE, "init_word": "dog"}
    assert run_to_the_end(bench.argv(**other, max_train_steps=4, resume="auto")) == 2
    assert "init_word was 'thing' and is 'dog'" in capsys.readouterr().err


def test_previews_know_the_word(bench: Bench) -> None:
    (bench.folder / "prompts.txt").write_text("a <toy> --d 1 --s 2\na thing --d 1 --s 2\n", encoding="utf-8")
    drawn = {"sample_prompts": bench.folder / "prompts.txt", "sample_at_first": True, "sample_every_n_steps": 4}
    bench.train(**{**ALONE, "embedding_lr": 1.0}, **drawn)
    pictures = {path.name: Image.open(path).tobytes() for path in sorted((bench.output / "sample").iterdir())}
    assert len(pictures) == 4
    # At first the word is a copy of what it begins as; then it alone changes.
    assert pictures["toy_000000_00_1.png"] == pictures["toy_000000_01_1.png"]
    assert pictures["toy_000004_00_1.png"] != pictures["toy_000000_00_1.png"]
    assert pictures["toy_000004_01_1.png"] == pictures["toy_000000_01_1.png"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(bench: Bench, precision: str) -> None:
    plain = bench.train(**ALONE, max_train_steps=2)["emb_params"]
    half = bench.at("half").train(**ALONE, max_train_steps=2, mixed_precision=precision)["emb_params"]
    assert half.dtype == torch.float32 and torch.isfinite(half).all()
    torch.testing.assert_close(half, plain, atol=0.02, rtol=0)  # of steps of 0.05 each


def test_a_batch_may_come_in_pieces(bench: Bench) -> None:
    whole = bench.train(**ALONE, train_batch_size=4)
    pieces = bench.at("pieces").train(**ALONE, train_batch_size=1, gradient_accumulation_steps=4)
    torch.testing.assert_close(pieces["emb_params"], whole["emb_params"], atol=1e-4, rtol=1e-4)


def test_weighted_captions(bench: Bench, tmp_path: Path) -> None:
    weighted = draw_pictures(tmp_path / "weighted", words="a (<toy>:1.5)")
    run = {**ALONE, "max_train_steps": 1, "weighted_captions": True}
    heavy = Bench(bench.model, weighted, bench.folder / "heavy", bench.cache).train(**run)
    assert heavy["emb_params"].shape == (1, 32)


def test_dry_run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_network.main(bench.argv(**WORD, num_vectors_per_token=3, dry_run=True)) == 0
    said = capsys.readouterr().out
    assert "embedding: 96 trained parameters in 1 layers." in said and "predicted peak memory" in said
    assert not bench.output.exists()


def test_its_settings_are_a_config(bench: Bench) -> None:
    bench.train(**ALONE, max_train_steps=1)
    argv = [f"--config={bench.output / 'toy.toml'}", f"--output_dir={bench.folder / 'b'}", "--output_name=toy"]
    assert train_network.main(argv) == 0
    again = Bench(bench.model, bench.pictures, bench.folder / "x", bench.cache)
    assert not again.output.exists()
    assert_same(load_file(bench.folder / "b" / "toy.safetensors"), bench.tensors())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"token_string": "sks"}, "'sks' cannot be a new word, because the model's vocabulary has it"),
        ({"token_string": "my dog"}, "'my dog' cannot be a new word: leave out blanks"),
        ({"token_string": "<cat>"}, "token_string '<cat>' is in none of the 4 captions"),
        ({"ti_steps": 3, "max_train_epochs": 1}, "ti_steps = 3 leaves the network no step of the run's 2"),
    ],
)
def test_refusals(bench: Bench, changes: dict, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_to_the_end(bench.argv(**{**WORD, **changes})) == 2
    complaint = capsys.readouterr().err
    assert told in complaint and "Traceback" not in complaint
    assert not bench.names()


def test_trigger_words_bring_it(bench: Bench, toy_pictures: Path) -> None:
    plain = Bench(bench.model, toy_pictures, bench.folder / "plain", bench.cache)
    with pytest.raises(InputError, match="set trigger_words = '<toy>'"):
        train_network.main(plain.argv(**ALONE))
    plain.train(**ALONE, trigger_words="<toy>", max_train_steps=1)
    assert "<toy>" in json.dumps(plain.metadata())
