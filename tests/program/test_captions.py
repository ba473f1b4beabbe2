"""Captions in whole runs: files that name the pictures, weights, and text outputs that are kept from run to run."""

import json
import tomllib
from pathlib import Path

import pytest

import train_network
from library.errors import InputError
from library.models.sd1 import SD1
from tests.runs import Bench, assert_same, largest_difference, listing, run_to_the_end

FROZEN = {"network_train_unet_only": True, "max_train_steps": 2}
VARIED = {"shuffle_caption": True, "caption_dropout_rate": 0.2, "token_warmup_step": 1}


def metadata_of(pictures: Path, file: Path, **more: str) -> Path:
    """The captions of a folder as one file of metadata, their tags apart from their first words."""
    entries = {}
    for path in sorted(pictures.glob("*.png")):
        words, _, tags = path.with_suffix(".txt").read_text(encoding="utf-8").partition(", ")
        entries[path.name] = {"caption": words, "tags": tags, **more}
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


def test_a_file_of_captions_trains_as_the_folder_does(bench: Bench, tmp_path: Path) -> None:
    file = metadata_of(bench.pictures, tmp_path / "meta.json")
    plain = bench.train(**FROZEN, **VARIED)
    again = bench.at("file")
    assert_same(again.train(**FROZEN, **VARIED, in_json=file), plain)
    told = again.metadata()
    assert json.loads(told["ss_dataset_dirs"]) == {"meta.json": {"n_repeats": 1, "img_count": 4}}
    assert json.loads(told["ss_tag_frequency"])["meta.json"]["bright"] == 4


def test_missing_pictures_are_named_and_nothing_is_written(bench: Bench, tmp_path: Path, capsys) -> None:
    file = tmp_path / "meta.jsonl"
    file.write_text('{"image_path": "000.png"}\n{"image_path": "gone.png"}\n', encoding="utf-8")
    assert run_to_the_end(bench.argv(in_json=file)) == 2
    complaint = capsys.readouterr().err
    assert "names 1 pictures that are not in" in complaint and "gone.png" in complaint
    assert not bench.output.exists()


def test_tables_reach_the_trainer_and_are_told_and_written(bench: Bench, tmp_path: Path) -> None:
    file = metadata_of(bench.pictures, tmp_path / "meta.json")
    (tmp_path / "data.toml").write_text(f"""
        [general]
        secondary_separator = ';;;'
        [[datasets]]
        enable_wildcard = true
        [[datasets.subsets]]
        metadata_file = '{file}'
        image_dir = '{bench.pictures}'
        token_warmup_min = 2
        token_warmup_step = 0.5
        trigger_words = 'sks'
    """)
    bench.train(**FROZEN, train_data_dir=None, dataset_config=tmp_path / "data.toml")
    (dataset,) = json.loads(bench.metadata()["ss_datasets"])
    (subset,) = dataset["subsets"]
    assert (dataset["is_dreambooth"], subset["metadata_file"]) == (False, "meta.json")
    assert (subset["secondary_separator"], subset["enable_wildcard"]) == (";;;", True)
    written = tomllib.loads((bench.output / "toy.toml").read_text(encoding="utf-8"))["datasets"][0]
    assert written["secondary_separator"] == ";;;" and written["enable_wildcard"] is True
    (own,) = written["subsets"]
    assert (own["token_warmup_min"], own["token_warmup_step"], own["trigger_words"]) == (2, 0.5, "sks")


@pytest.mark.parametrize("part", ["network_train_unet_only", "network_train_text_encoder_only"])
def test_weights_are_learned_with(bench: Bench, part: str) -> None:
    run = {part: True, "max_train_steps": 2, "caption_suffix": ", (bright:1.5)"}
    plain = bench.train(**run)
    weighted = bench.at("weighted").train(**run, weighted_captions=True)
    assert largest_difference(weighted, plain) > 1e-4


def test_a_second_start_loads_no_text_encoder(bench: Bench, tmp_path: Path, monkeypatch) -> None:
    """Not for shuffled and dropped captions, for the validation or for previews either."""
    (tmp_path / "prompts.txt").write_text("a dog --s 2\nbright --n plain --s 2 --l 3\n", encoding="utf-8")
    looking = {"sample_prompts": tmp_path / "prompts.txt", "sample_every_n_epochs": 1, "validate_every_n_steps": 2}
    run = {**FROZEN, **VARIED, **looking, "cache_dir": tmp_path / "cache"}
    plain = bench.train(**run)
    assert not (tmp_path / "cache" / "texts").exists()
    kept = bench.at("kept")
    assert_same(kept.train(**run, cache_text_encoder_outputs=True), plain)
    before = listing(tmp_path / "cache" / "texts")
    assert len(before) > 4

    def load(*_: object) -> None:
        raise AssertionError("a text encoder was loaded")

    monkeypatch.setattr(SD1, "load_text_encoders", load)
    again = bench.at("again")
    assert_same(again.train(**run, cache_text_encoder_outputs=True), plain)
    assert listing(tmp_path / "cache" / "texts") == before
    pictures = [sorted(path.read_bytes() for path in (b.output / "sample").iterdir()) for b in (bench, kept, again)]
    assert pictures[0] == pictures[1] == pictures[2] and len(pictures[0]) == 2


def test_text_outputs_of_a_learning_encoder_are_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="cannot be set while the text encoder learns.*text_encoder_lr = 0"):
        train_network.main(bench.argv(cache_text_encoder_outputs=True))


def test_captions_that_are_cut_off_are_said(bench: Bench, capsys) -> None:
    bench.train(**FROZEN, caption_suffix=", and so on" * 30)
    told = capsys.readouterr().err
    assert "4 of 4 captions are cut off after 75 tokens; the longest has" in told
    assert "set max_token_length = 150, or" in told
