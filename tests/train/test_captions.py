"""Captions are read once where nothing can change, and the encoders leave the device, or are not loaded at all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from library.data.dataset import Dataset
from library.data.validation import validation_view
from library.errors import InputError
from library.log import warn
from library.models.prompts import Prompt
from library.train import captions as captions_module
from library.train.batches import slices_of_epoch
from library.train.captions import TextReader, captions_of_run, warn_of_cut_captions
from library.train.data import Datasets
from library.train.plan import make_plan
from library.train.text_cache import open_text_cache


@pytest.fixture
def reader_of(family, settings_of, compute):
    """A reader of the frozen toy encoder, with some settings."""

    def _reader(cached: bool = False, trained: bool = False, **changes) -> TextReader:
        settings = settings_of(**changes)
        if cached:
            settings = replace(settings, cache_text_encoder_outputs=True)
        return TextReader(family, settings, compute, trained, open_text_cache(settings, family, compute))

    return _reader


@pytest.fixture
def reader(reader_of):
    """A reader of the frozen toy encoder."""
    return reader_of()


def counted(reader: TextReader) -> list[int]:
    """Grows by one at each pass through the encoder."""
    calls: list[int] = []
    reader.load()[0].register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_learned_by_heart(reader) -> None:
    before = reader.read(["a dog", ""]).hidden
    calls = counted(reader)
    reader.learn_by_heart(["a dog", "", "a cat", "a dog"])
    assert len(calls) == 1  # only the cat was new
    assert torch.equal(reader.read(["a dog", ""]).hidden, before)
    assert reader.read(["a cat"] * 3).hidden.shape == (3, 77, 32)
    assert len(calls) == 1 and not reader.stays
    assert not torch.equal(before[0], before[1])


def test_encoders_may_be_told_to_stay(reader) -> None:
    reader.learn_by_heart(["a dog"])
    assert not reader.stays
    reader.stay()
    assert reader.stays and reader.encoders[0].device == reader.compute.device


def test_a_batch_is_its_captions_one_by_one(reader, reader_of) -> None:
    """So frozen and learning encoders answer alike."""
    together = reader_of(trained=True).read(["a dog", "a cat"]).hidden
    torch.testing.assert_close(reader.read(["a dog", "a cat"]).hidden, together, atol=1e-5, rtol=1e-5)


def test_learning_encoders_are_read_each_time(reader_of) -> None:
    reader = reader_of(trained=True)
    calls = counted(reader)
    reader.learn_by_heart(["a dog"])
    assert reader.stays
    calls.clear()
    reader.read(["a dog"])
    reader.read(["a dog"])
    assert len(calls) == 2


@pytest.mark.parametrize("trained", [True, False])
def test_a_layer_that_is_not_there_is_found_at_once(reader_of, trained: bool) -> None:
    with pytest.raises(InputError, match="clip_skip 9 is not between 1 and 2"):
        reader_of(trained=trained, clip_skip=9).learn_by_heart(["a"])


def test_too_many_captions_are_not_kept(reader, monkeypatch) -> None:
    monkeypatch.setattr(captions_module, "REMEMBERED", 2)
    reader.learn_by_heart(["a", "b", "c"])
    assert reader.stays and len(reader._known) == 2
    assert reader.read(["c", "d"]).hidden.shape[0] == 2
    calls = counted(reader)
    reader.read(["a", "c"])  # the memory is emptied before it grows without end
    assert len(calls) == 2 and len(reader._known) == 2


def test_conditions_lie_on_the_runs_device(reader) -> None:
    """A caption that comes after the encoders left the device is answered where the UNet is."""
    reader.load()
    reader.compute = replace(reader.compute, device=torch.device("meta"))
    assert reader.read(["late"]).hidden.device.type == "meta"


def test_long_captions_and_clip_skip(reader_of) -> None:
    plain = reader_of().read(["a dog"]).hidden
    skipped = reader_of(clip_skip=2).read(["a dog"]).hidden
    longer = reader_of(max_token_length=150).read(["a dog"]).hidden
    assert plain.shape == skipped.shape and not torch.allclose(plain, skipped)
    assert longer.shape == (1, 152, 32)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("changes", [{}, {"clip_skip": 2}, {"max_token_length": 150}])
def test_weights_are_heard_and_nothing_else_changes(reader_of, trained: bool, changes: dict) -> None:
    plain = reader_of(trained=trained, **changes)
    weighted = reader_of(trained=trained, weighted_captions=True, **changes)
    with torch.no_grad():
        unmarked, marked = ["a dog", "", "a dög, sitting"], ["a (dog:1.5)"]
        assert torch.equal(plain.read(unmarked).hidden, weighted.read(unmarked).hidden)
        beside = weighted.read(["a dog", *marked]).hidden
        torch.testing.assert_close(beside[:1], plain.read(["a dog"]).hidden, atol=1e-6, rtol=1e-5)
        difference = (beside[1] - beside[0]).abs().amax(1)
        assert difference[2] == difference.max() > 0.1  # the first token is the marker


@pytest.fixture
def no_encoders(monkeypatch, family):
    """From now on a text encoder that is loaded is a mistake."""

    def forbid() -> None:
        def load(*_):
            raise AssertionError("a text encoder was loaded")

        monkeypatch.setattr(type(family), "load_text_encoders", load)

    return forbid


def test_a_second_start_loads_no_text_encoder(reader_of, no_encoders, tmp_path: Path) -> None:
    place = {"cache_dir": tmp_path}
    first = reader_of(cached=True, **place)
    first.learn_by_heart(["a", "b", "a"])
    said = first.read(["a", "b"]).hidden
    assert torch.equal(said, reader_of(**place).read(["a", "b"]).hidden)  # as without a cache, bit by bit
    no_encoders()
    second = reader_of(cached=True, **place)
    second.learn_by_heart(["b", "a"])
    assert torch.equal(second.read(["a", "b"]).hidden, said) and not second.encoders and not second.stays


@pytest.mark.parametrize("changes", [{"clip_skip": 2}, {"max_token_length": 150}, {"weighted_captions": True}])
def test_what_decides_on_a_condition_decides_on_its_entry(reader_of, tmp_path: Path, changes: dict) -> None:
    reader_of(cached=True, cache_dir=tmp_path).learn_by_heart(["a"])
    other = reader_of(cached=True, cache_dir=tmp_path, **changes)
    other.learn_by_heart(["a"])
    assert other.encoders and len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_more_captions_than_memory_come_from_the_disk(reader_of, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(captions_module, "REMEMBERED", 2)
    texts = list("abcde")
    expected = reader_of().read(texts).hidden
    reader = reader_of(cached=True, cache_dir=tmp_path)
    reader.learn_by_heart(texts)
    calls = counted(reader)
    for _ in range(2):
        for number, text in enumerate(texts):
            assert torch.equal(reader.read([text]).hidden[0], expected[number])
            assert len(reader._known) <= 3
    assert not calls and not reader.stays


@pytest.mark.parametrize("remembered", [9, 0])
def test_damaged_and_missing_entries_are_made_again(reader_of, monkeypatch, tmp_path: Path, remembered: int) -> None:
    """At the start where memory takes them in, else when they are used."""
    first = reader_of(cached=True, cache_dir=tmp_path)
    first.learn_by_heart(["a", "b"])
    paths = [first.cache.path_of(text) for text in "ab"]
    contents = [path.read_bytes() for path in paths]
    monkeypatch.setattr(captions_module, "REMEMBERED", remembered)
    for content in (contents[0][:-1], contents[0][:-40] + bytes(40), b"", None):
        paths[0].unlink()
        if content is not None:
            paths[0].write_bytes(content)
        again = reader_of(cached=True, cache_dir=tmp_path)
        again.learn_by_heart(["a", "b"])
        assert torch.equal(again.read(["a", "b"]).hidden, first.read(["a", "b"]).hidden)
        assert [path.read_bytes() for path in paths] == contents


def test_processes_share_the_work(reader_of, compute, tmp_path: Path) -> None:
    readers = [reader_of(cached=True, cache_dir=tmp_path) for _ in range(2)]
    for rank, reader in enumerate(readers):
        reader.compute = replace(compute, rank=rank, world_size=2)
        calls = counted(reader)
        reader.learn_by_heart(["a", "b", "c"])
        assert len(calls) == [3, 2][rank]  # one of them to see how large an entry is
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3


def test_a_dry_run_keeps_nothing(reader_of, tmp_path: Path) -> None:
    reader = reader_of(cached=True, dry_run=True, cache_dir=tmp_path)
    reader.learn_by_heart(["a"])
    assert reader.cache is None and not list(tmp_path.rglob("*.safetensors"))


VARIED = {"shuffle_caption": True, "caption_dropout_rate": 0.3, "token_warmup_step": 0.5}


@pytest.mark.parametrize("changes", [{"max_train_epochs": 4}, {"max_train_steps": 5}])
def test_every_text_of_a_run(dataset_of, settings_of, changes: dict) -> None:
    dataset = dataset_of(4, **VARIED)
    datasets = Datasets(dataset, validation_view(dataset))
    plan = make_plan(settings_of(**changes), dataset, world_size=1)
    shown = set()
    for epoch in range(plan.epochs):
        for parts in slices_of_epoch(dataset, plan, 0, epoch):
            for part in parts:
                if part.step < plan.steps:
                    shown |= {dataset.caption_of(s, epoch, part.step, plan.steps) for s in part.samples}
    validated = {f"a, b, square{number}" for number in range(4)}
    prompts = [Prompt("drawn", "not that"), Prompt("plain", "unused", guidance=1)]
    known = set(captions_of_run(datasets, plan, prompts))
    assert known == shown | validated | {"drawn", "not that", "plain"}
    assert len(shown) > 4


def test_constant_captions_are_gone_through_once(dataset_of, settings_of) -> None:
    dataset = dataset_of(3, num_repeats=2)
    plan = make_plan(settings_of(max_train_epochs=50), dataset, 1)
    assert len(list(captions_of_run(Datasets(dataset, None), plan))) == 6


@pytest.fixture
def cut_words(family, settings_of, dataset_of, capsys):
    """What is said of captions that are too long."""

    def _words(captions: list[str], subset: dict | None = None, **changes) -> str:
        warn.cache_clear()
        pictures = dataset_of(len(captions), **(subset or {})).pictures
        told = [replace(picture, caption=text) for picture, text in zip(pictures, captions, strict=True)]
        warn_of_cut_captions(settings_of(**changes), family, Dataset(told, 0))
        return capsys.readouterr().err

    return _words


def test_captions_that_are_cut_off_are_said(cut_words) -> None:
    long, longer = " ".join(["cat"] * 75), " ".join(["cat"] * 100)
    assert cut_words([long, "a"]) == ""
    assert "1 of 2 captions are cut off after 75 tokens; the longest has 76" in cut_words([long + ",", "a"])
    said = cut_words([long, longer, long + "?", longer + "!"])
    assert "3 of 4 captions" in said and "longest has 101" in said
    assert "set max_token_length = 150, or shorten them" in said
    assert "set max_token_length = 225, or" in cut_words([longer * 2]), "150 would cut it too"
    assert cut_words([longer], max_token_length=150) == ""
    assert "To have all of it read, shorten them." in cut_words([longer * 3], max_token_length=225)


def test_lengths_are_those_of_what_is_read(cut_words) -> None:
    """With prefix and trigger words, the longest of all choices and lines, and without brackets and weights."""
    words = " ".join(["cat"] * 74)
    assert "the longest has 77" in cut_words([words], {"caption_prefix": "a", "trigger_words": "b"})
    assert "the longest has 77" in cut_words([f"{words} {{a|b c d}}\na"], {"enable_wildcard": True})
    assert cut_words([f"({words}:1.3)"], weighted_captions=True) == ""
    assert "cut off" in cut_words([f"({words}:1.3)"])
