"""The caches: named by content and by what changes the pixels, rebuilt when damaged, safe to share."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from library.data import cache as module
from library.data.buckets import Placing, place, subset_buckets
from library.data.cache import LatentCache, MaskCache
from library.data.folders import Subset
from library.data.images import load_masks, show
from library.data.pictures import Mask, Picture
from library.data.views import Colour, View, view_of
from tests.data.samples import draw, imagined

SUBSET = Subset(
    image_dir=Path("in"), resolution=(64, 64), enable_bucket=True, min_bucket_reso=32, bucket_reso_steps=32
)
PICTURE = imagined("content", SUBSET)
PLAIN = view_of(PICTURE, 0)
MEAN, LOGVAR = torch.arange(48.0).view(3, 4, 4), -torch.ones(3, 4, 4)


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    assert cache.get(PICTURE, PLAIN) is None
    cache.put(PICTURE, PLAIN, MEAN, LOGVAR.half())
    mean, logvar = cache.get(PICTURE, PLAIN) or ()
    assert torch.equal(mean, MEAN) and torch.equal(logvar, LOGVAR)
    assert cache.get(PICTURE, PLAIN._replace(flip=True)) is None


def test_every_part_of_the_name_counts(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    moved = replace(PICTURE, path=Path("elsewhere.png"), caption="other", copy=3, mask=Mask(Path("m"), "mask"))
    assert cache.path_of(moved, PLAIN) == cache.path_of(PICTURE, PLAIN)
    others = [
        cache.path_of(PICTURE, PLAIN._replace(flip=True)),
        cache.path_of(PICTURE, PLAIN._replace(resized=(66, 64), corner=(1, 0))),
        cache.path_of(PICTURE, PLAIN._replace(resized=(64, 64), size=(64, 32), corner=(0, 16))),
        cache.path_of(PICTURE, PLAIN._replace(corner=(0, 1))),
        cache.path_of(PICTURE, PLAIN._replace(resampling="area")),
        cache.path_of(PICTURE, PLAIN._replace(colour=Colour(hue=1))),
        cache.path_of(PICTURE, PLAIN._replace(colour=Colour(gamma=101))),
        cache.path_of(replace(PICTURE, sha256="other"), PLAIN),
        LatentCache(tmp_path, "other vae").path_of(PICTURE, PLAIN),
    ]
    assert len({cache.path_of(PICTURE, PLAIN), *others}) == 10


def test_plain_views_are_named_as_they_always_were() -> None:
    """The caches of users are found again."""
    picture, cache = imagined("content", SUBSET, (200, 100)), LatentCache(Path(), "vae")
    assert picture.placing == Placing((128, 64), (64, 64))
    names = [cache.path_of(picture, view_of(picture, 5, flip)).name[:12] for flip in (False, True)]
    assert names == ["e580e917de98", "55632f31adc2"]


# Pictures of noise, in which nothing that matters goes unseen.
CONTENTS = {
    (name, size): np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for number, (name, size) in enumerate([("a", (64, 48)), ("b", (64, 48)), ("a ", (50, 70)), ("b ", (96, 32))])
}


@st.composite
def shown(draw: st.DrawFn) -> tuple[Picture, View]:
    """A picture and one of its views, with any mixture of settings."""
    (name, size), flip = draw(st.sampled_from(list(CONTENTS))), draw(st.booleans())
    subset = replace(
        SUBSET,
        image_dir=draw(st.sampled_from([Path("in"), Path("out")])),
        enable_bucket=draw(st.booleans()),
        resolution=draw(st.sampled_from([(64, 64), (32, 64)])),
        color_aug=draw(st.booleans()),
        random_crop=draw(st.booleans()),
        resize_interpolation=draw(st.sampled_from(["lanczos", "area", "bicubic", "nearest", "box", "bilinear"])),
        shuffle_caption=draw(st.booleans()),
        num_repeats=draw(st.integers(1, 3)),
    )
    path = subset.image_dir / draw(st.sampled_from(["x.png", "y_20_20_9_9.png"]))
    placing = place(size, subset_buckets(subset), subset)
    picture = Picture(path, name, *size, placing, draw(st.text(max_size=3)), True, subset)
    return picture, view_of(picture, draw(st.integers(0, 30)), flip)


@given(st.lists(shown(), min_size=2, max_size=6))
def test_names_differ_when_and_only_when_the_pixels_do(cases: list[tuple[Picture, View]]) -> None:
    cache = LatentCache(Path(), "vae")
    named = {}
    for picture, view in cases:
        content = CONTENTS[picture.sha256, (picture.width, picture.height)]
        pixels = np.array(show(Image.fromarray(content), view))
        named.setdefault(cache.path_of(picture, view), set()).add((pixels.shape, pixels.tobytes()))
    assert all(len(pixels) == 1 for pixels in named.values()), "one name for two"
    assert len(set.union(*named.values())) == len(named), "two names for one"


def test_an_overflow_is_remembered(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae torch.float16")
    assert not cache.overflows(PICTURE, PLAIN)
    cache.note_overflow(PICTURE, PLAIN)
    assert cache.overflows(PICTURE, PLAIN) and cache.get(PICTURE, PLAIN) is None
    assert not cache.overflows(PICTURE, PLAIN._replace(flip=True))
    assert not LatentCache(tmp_path, "vae torch.float32").overflows(PICTURE, PLAIN)


def write_often(folder: Path, value: float) -> None:
    """What each of two processes does to the same entry."""
    cache = LatentCache(folder, "vae")
    for _ in range(40):
        cache.put(PICTURE, PLAIN, torch.full((4, 32, 32), value), torch.zeros(4, 32, 32))


def test_two_processes_may_write_one_entry_while_a_third_reads(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    write_often(tmp_path, 0.0)
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_often, args=(tmp_path, value)) for value in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        mean, _ = cache.get(PICTURE, PLAIN) or ()
        assert len(mean.unique()) == 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    mean, _ = cache.get(PICTURE, PLAIN) or ()
    assert mean.unique().item() in (1.0, 2.0)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.fixture
def masked(tmp_path: Path) -> Picture:
    """A picture with a mask on disk."""
    file = draw(tmp_path / "a-masklabel.png", (64, 64), seed=4)
    return replace(PICTURE, path=tmp_path / "a.png", mask=Mask(file, "mask's content"))


def test_masks_are_made_once(tmp_path: Path, masked: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def spy(picture: Picture, views: list[View]) -> list[torch.Tensor]:
        calls.append(len(views))
        return load_masks(picture, views)

    monkeypatch.setattr(module, "load_masks", spy)
    cache, views = MaskCache(tmp_path / "cache"), [PLAIN, PLAIN._replace(flip=True), PLAIN._replace(colour=Colour(3))]
    cache.fill(masked, views)
    cache.fill(masked, views)
    assert calls == [2], "colours do not change a mask"
    expected = load_masks(masked, views)
    assert all(torch.equal(cache.get(masked, view), mask) for view, mask in zip(views, expected, strict=True))
    assert calls == [2]
    cache.path_of(masked, PLAIN).write_bytes(b"damaged")
    assert torch.equal(cache.get(masked, PLAIN), expected[0])
    assert calls == [2, 1]


def test_what_a_mask_is_named_by(tmp_path: Path, masked: Picture) -> None:
    cache = MaskCache(tmp_path)
    same = replace(masked, sha256="other", path=Path("b.png"), mask=Mask(Path("c"), "mask's content"))
    assert cache.path_of(same, PLAIN._replace(resampling="nearest")) == cache.path_of(masked, PLAIN)
    others = [
        cache.path_of(replace(masked, mask=Mask(Path("c"), "other")), PLAIN),
        cache.path_of(replace(masked, mask=Mask(Path("c"), "mask's content", is_alpha=True)), PLAIN),
        cache.path_of(replace(masked, width=65), PLAIN),
        cache.path_of(masked, PLAIN._replace(flip=True)),
        cache.path_of(masked, PLAIN._replace(corner=(0, 1))),
        cache.path_of(masked, PLAIN._replace(resized=(66, 64), corner=(1, 0))),
    ]
    assert len({cache.path_of(masked, PLAIN), *others}) == 7


def test_a_picture_without_a_mask_counts_fully(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path)
    cache.fill(PICTURE, [PLAIN])
    assert torch.equal(cache.get(PICTURE, PLAIN), torch.ones(1, 8, 8))
    assert list(tmp_path.iterdir()) == []
