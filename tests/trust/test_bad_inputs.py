"""Everything wrong that a person or a stranger may give: status 2, sentences, no traceback, and nothing written."""

import os
import sys
from pathlib import Path

import pytest

import train_network
from library.log import warn
from tests.preprocess.bad_files import BAD, write_bad
from tests.program.test_refusals import refuse
from tests.runs import BASICS, Bench, draw_pictures, run_to_the_end
from tests.trust import bad_files
from tests.trust.bad_settings import MISSPELT, bad_settings, bad_tables
from tools import inspect_lora

SETTINGS = bad_settings()
ADAPTERS = bad_files.no_adapters()
BROKEN = bad_files.no_safetensors()
MODELS = BROKEN | {"a lone tensor": bad_files.no_adapters()["a base model's tensor"]}
PLACES = ("pretrained_model_name_or_path", "train_data_dir", "output_dir", "logging_dir", "cache_dir")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the programs are started; code in a pickle would leave a file there."""
    monkeypatch.chdir(tmp_path)


def assert_refused(bench: Bench, capsys: pytest.CaptureFixture[str], argv: list[str], *words: str) -> None:
    """The complaint has the words, in few and whole sentences."""
    warn.cache_clear()
    try:
        errors = refuse(bench, capsys, argv)
    except BaseException as error:
        raise AssertionError(f"{argv}: {type(error).__name__}: {error}") from error
    assert any(all(word in sentence for word in words) for sentence in errors), (words, errors)
    assert all(len(sentence) < 2000 for sentence in errors)
    assert not Path("harm").exists() and not Path("../../harm").exists()


def test_there_are_hundreds() -> None:
    """Distinct ones of those in this file; others are tried in the files of what they belong to."""
    folder = Path("pictures")
    counts = {
        "settings": len(set(SETTINGS)),
        "data-set files": len(set(bad_tables(folder))),
        "adapter files": len(ADAPTERS) + len(BROKEN),
        "base models": len(MODELS) + len(bad_files.no_pickles()),
        "prompts": sum(map(len, bad_files.PROMPTS.values())),
        "metadata of pictures": sum(map(len, bad_files.METADATA.values())),
        "captions": len(bad_files.CAPTIONS),
        "pictures": BAD,
    }
    print(counts, sum(counts.values()))
    assert sum(counts.values()) >= 300 and min(counts.values()) >= 8


@pytest.mark.parametrize("part", range(4))
def test_settings(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, part: int) -> None:
    usual = {*BASICS, *PLACES}
    for number, (name, line) in enumerate(SETTINGS[part::4]):
        config = tmp_path / f"{number}.toml"
        config.write_text(line, encoding="utf-8")
        argv = bench.argv(**({name: None} if name in usual and MISSPELT not in line else {}))
        assert_refused(bench, capsys, [*argv, "--config", str(config)], name)


def test_data_set_files(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number, (word, text) in enumerate(bad_tables(bench.pictures)):
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        assert_refused(bench, capsys, bench.argv(train_data_dir=None, dataset_config=file), word)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(ADAPTERS[kind])
    assert_refused(bench, capsys, bench.argv(network_weights=file, max_train_steps=1), "mine.safetensors")


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_adapters(capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path, kind: str) -> None:
    """As every program says it that reads one."""
    file = tmp_path / "mine.safetensors"
    file.write_bytes(BROKEN[kind])
    monkeypatch.setattr(sys, "argv", ["inspect_lora.py", str(file)])
    assert run_to_the_end([], lambda _: inspect_lora.main()) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith(f"error: {file}: ") and error[-1] in ".?)"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize("kind", MODELS)
def test_base_models(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    file = tmp_path / "base.safetensors"
    file.write_bytes(MODELS[kind])
    assert_refused(bench, capsys, bench.argv(pretrained_model_name_or_path=file), "base.safetensors")


@pytest.mark.parametrize("kind", bad_files.no_pickles())
def test_pickles(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    file = tmp_path / "base.ckpt"
    file.write_bytes(bad_files.no_pickles()[kind])
    assert_refused(bench, capsys, bench.argv(pretrained_model_name_or_path=file), "base.ckpt")


@pytest.mark.parametrize("ending", bad_files.PROMPTS)
def test_prompts(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str) -> None:
    for number, content in enumerate(bad_files.PROMPTS[ending]):
        file = tmp_path / f"prompts{number}.{ending}"
        file.write_bytes(content)
        assert_refused(bench, capsys, bench.argv(sample_prompts=file, sample_every_n_epochs=1), file.name)


@pytest.mark.parametrize("ending", bad_files.METADATA)
def test_metadata(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str) -> None:
    for number, content in enumerate(bad_files.METADATA[ending]):
        file = tmp_path / f"meta{number}.{ending}"
        file.write_bytes(content)
        assert_refused(bench, capsys, bench.argv(in_json=file), file.name)


@pytest.mark.parametrize("kind", bad_files.CAPTIONS)
def test_captions(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    folder = draw_pictures(tmp_path / "some", 1)
    (folder / "000.txt").write_bytes(bad_files.CAPTIONS[kind])
    assert_refused(bench, capsys, bench.argv(train_data_dir=folder), "000.txt", "UTF-8")


def test_a_caption_that_is_a_pipe_or_a_circle(bench: Bench, capsys, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "some", 1)
    (folder / "000.txt").unlink()
    os.mkfifo(folder / "000.txt")
    assert_refused(bench, capsys, bench.argv(train_data_dir=folder), "000.txt", "pipe")
    (folder / "000.txt").unlink()
    (folder / "000.txt").symlink_to(folder / "000.txt")
    assert_refused(bench, capsys, bench.argv(train_data_dir=folder), "000.txt")


def test_pipes_are_not_waited_for(bench: Bench, capsys, tmp_path: Path) -> None:
    pipe = tmp_path / "a.safetensors"
    os.mkfifo(pipe)
    for name in ("pretrained_model_name_or_path", "network_weights", "vae", "in_json", "sample_prompts"):
        assert_refused(bench, capsys, bench.argv(**{name: pipe}), "a.safetensors")


def test_folders(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for folder in bad_files.bad_folders(tmp_path / "folders").values():
        for name in ("train_data_dir", "reg_data_dir"):
            assert_refused(bench, capsys, bench.argv(**{name: folder}))


def test_places_to_write_into(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("output_dir", "logging_dir", "cache_dir"):
        for folder in ("/proc/out", "/proc/self/out", "/dev/null/out", tmp_path / "file" / "a", "a" * 300, "a\udcff"):
            assert_refused(bench, capsys, bench.argv(**{name: folder}), name)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
    assert_refused(bench, capsys, bench.argv(cache_dir=None), "cache_dir", "XDG_CACHE_HOME")


def test_pictures_alone(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each of them is named, and the person can ask to go on without them."""
    bad = write_bad(tmp_path / "bad")
    errors = refuse(bench, capsys, bench.argv(train_data_dir=tmp_path / "bad"), train_network.main)
    assert any("skip_unreadable" in sentence for sentence in errors)
    text = "\n".join(errors)
    lacking = [path.name for path in bad if path.name.encode("utf-8", "replace").decode() not in text]
    assert len(bad) == BAD and not lacking
