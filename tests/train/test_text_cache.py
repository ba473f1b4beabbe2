"""Conditions on disk: they come back as they were, under a name that says what they are made from."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from library.errors import InputError
from library.models.family import Condition
from library.train import text_cache
from library.train.text_cache import TextCache, open_text_cache


@pytest.fixture
def cache(tmp_path: Path) -> TextCache:
    """A cache of one maker."""
    return TextCache(tmp_path, ("model", 1))


@pytest.mark.parametrize("pooled", [None, torch.randn(1, 8)])
def test_what_is_put_in_comes_out(cache: TextCache, pooled: torch.Tensor | None) -> None:
    hidden = torch.randn(1, 77, 8)
    assert cache.get("a dög") is None
    cache.put("a dög", Condition(hidden, pooled))
    found = cache.get("a dög")
    assert found is not None and torch.equal(found.hidden, hidden)
    assert (found.pooled is None) == (pooled is None)
    assert pooled is None or torch.equal(found.pooled, pooled)
    assert cache.get("a dog") is None


@effort(deadline=None)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=6, unique=True))
def test_other_captions_and_makers_have_other_names(pairs: list[tuple[str, str]]) -> None:
    """A maker's own last part cannot run over into the caption: it is a hash or a number, never free text."""
    names = {TextCache(Path("x"), (f"[{maker}]".replace("\x1f", ""),)).path_of(caption) for maker, caption in pairs}
    assert len(names) == len({(maker.replace("\x1f", ""), caption) for maker, caption in pairs})


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written.*choose another cache_dir"):
        TextCache(tmp_path / "file", ()).put("a", Condition(torch.zeros(1, 77, 8)))


def test_too_little_room_is_told_first(cache: TextCache, monkeypatch: pytest.MonkeyPatch) -> None:
    example = Condition(torch.zeros(1, 1000, 1000))  # 4 MB
    monkeypatch.setattr(text_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    cache.check_room(250, example)
    with pytest.raises(InputError, match=r"needs 1\.2 GB for 300 different captions, and 1\.0 GB are free"):
        cache.check_room(300, example)


def test_only_where_it_is_asked_for(settings_of, family, compute) -> None:
    settings = settings_of(network_train_unet_only=True, cache_text_encoder_outputs=True)
    assert open_text_cache(settings, family, compute) is not None
    assert open_text_cache(replace(settings, dry_run=True), family, compute) is None
    assert open_text_cache(settings_of(), family, compute) is None


def test_what_decides_on_an_entry(settings_of, family, compute) -> None:
    settings = settings_of(network_train_unet_only=True, cache_text_encoder_outputs=True)

    def name(computing=compute, **changes) -> Path:
        opened = open_text_cache(replace(settings, **changes), family, computing)
        assert opened is not None
        return opened.path_of("a")

    decisive = [{"clip_skip": 2}, {"max_token_length": 150}, {"weighted_captions": True}]
    half, other = replace(compute, dtype=torch.bfloat16), replace(compute, device=torch.device("cuda"))
    names = [name(), name(half), name(other), *(name(**changes) for changes in decisive)]
    assert len(set(names)) == len(names)
    assert name() == name(clip_skip=1) == name(seed=99, output_name="other", shuffle_caption=True)


def test_another_tokenizer_or_encoder_has_entries_of_its_own(settings_of, family, compute, monkeypatch) -> None:
    settings = settings_of(network_train_unet_only=True, cache_text_encoder_outputs=True)
    before = open_text_cache(settings, family, compute).path_of("a")
    hashes = family.fingerprint
    for part in ("tokenizer", "text_encoder"):
        monkeypatch.setattr(family, "fingerprint", lambda name, *rest, p=part: name == p or hashes(name, *rest))
        assert open_text_cache(settings, family, compute).path_of("a") != before
