"""Filling the caches: complete after preparing, each picture decoded once, the work shared, overflow found."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from library.data import encoding as module
from library.data.cache import LatentCache, MaskCache
from library.data.dataset import DataOptions, Dataset, build_dataset
from library.data.encoding import prepare_latents, prepare_masks, wanted_views
from library.data.folders import Subset
from library.data.images import load_masks, load_pixels
from library.data.pictures import Picture
from library.errors import InputError
from tests.data.samples import draw, draw_folder

SUBSET = Subset(
    image_dir=Path("in"), resolution=(64, 64), enable_bucket=True, min_bucket_reso=32, bucket_reso_steps=32
)
ALL_CHANCES = {"flip_aug": True, "random_crop": True, "color_aug": True, "face_crop_aug_range": (1.0, 4.0)}


class Encoder:
    """Stands for the VAE; counts what it is given."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(tuple(pixels.shape))
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        return small.half(), small * 0 - 5

    @property
    def pictures(self) -> int:
        return sum(shape[0] for shape in self.batches)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Seven pictures of two shapes, mirrored too."""
    folder = draw_folder(tmp_path / "in", 4)
    draw_folder(folder, 3, first=10, size=(80, 30))
    return build_dataset([replace(SUBSET, image_dir=folder, num_repeats=2, flip_aug=True)], DataOptions(), 0)


@pytest.fixture
def varied(tmp_path: Path) -> Dataset:
    """The same with all that can be left to chance."""
    folder = draw_folder(tmp_path / "in", 4)
    draw(folder / "x_40_15_8_8.png", (80, 30), seed=9, caption="face")
    subset = replace(SUBSET, image_dir=folder, num_repeats=2, enable_bucket=False, **ALL_CHANCES)
    return build_dataset([subset], DataOptions(variants=3), 0)


def shown_in(dataset: Dataset, epochs: int) -> list[tuple[Picture, object]]:
    """What the samples of some epochs show."""
    return [(s.picture, dataset.view_of(s, epoch)) for epoch in range(epochs) for s in dataset.samples]


def test_copies_with_faces_in_other_places_are_shown_otherwise(tmp_path: Path) -> None:
    """The place is in the name alone, so that one content has several."""
    for name in ("a_15_15_8_8.png", "a_60_15_8_8.png"):
        draw(tmp_path / name, (80, 30))
    subset = replace(SUBSET, image_dir=tmp_path, enable_bucket=False, face_crop_aug_range=(2.0, 2.0))
    dataset = build_dataset([subset], DataOptions(), 0)
    (wanted,) = wanted_views(dataset)
    assert set(wanted.views) == {view for _, view in shown_in(dataset, 2)} and len(wanted.views) == 2


def test_preparing_fills_the_cache_with_the_encoder_s_latents(tmp_path: Path, dataset: Dataset) -> None:
    cache, encoder = LatentCache(tmp_path / "cache", "vae"), Encoder()
    told: list[tuple[int, int]] = []
    assert prepare_latents(dataset, encoder, cache, 3, lambda *pair: told.append(pair)) == 14
    assert sorted(shape[0] for shape in encoder.batches) == [2, 3, 3, 3, 3]
    assert {shape[2:] for shape in encoder.batches} == {(64, 64), (32, 96)}
    assert told[-1] == (14, 14) and [total for _, total in told] == [14] * 5
    for picture, view in shown_in(dataset, 4):
        mean, logvar = cache.get(picture, view) or ()
        expected = Encoder()(load_pixels(picture, [view])[0][None])
        assert torch.allclose(mean, expected[0][0].float(), atol=1e-3)
        assert torch.equal(logvar, expected[1][0])
    assert prepare_latents(dataset, encoder, cache) == 0


def test_every_view_of_every_epoch_is_there(tmp_path: Path, varied: Dataset) -> None:
    cache, encoder = LatentCache(tmp_path / "cache", "vae"), Encoder()
    count = prepare_latents(varied, encoder, cache, 4)
    shown = {cache.path_of(*each) for each in shown_in(varied, 60)}
    assert all(path.exists() for path in shown)
    assert len(shown) == count == sum(len(views) for _, views in wanted_views(varied)) <= 5 * 3 * 2
    assert count > 15


def test_each_picture_is_decoded_once(tmp_path: Path, varied: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Counter[Path] = Counter()

    def spy(picture: Picture, views: list) -> list[Tensor]:
        decoded[picture.path] += 1
        return load_pixels(picture, views)

    monkeypatch.setattr(module, "load_pixels", spy)
    prepare_latents(varied, Encoder(), LatentCache(tmp_path / "cache", "vae"), 4)
    assert set(decoded.values()) == {1} and len(decoded) == 5


def test_two_runs_share_the_variants(tmp_path: Path, varied: Dataset) -> None:
    cache = LatentCache(tmp_path / "cache", "vae")
    prepare_latents(varied, Encoder(), cache)
    other = Dataset(varied.pictures, seed=99, variants=2)
    assert prepare_latents(other, Encoder(), cache) == 0
    assert {other.view_of(s, e) for s in other.samples for e in range(9)} != {
        varied.view_of(s, e) for s in varied.samples for e in range(9)
    }


def test_only_what_is_missing_is_encoded(tmp_path: Path, dataset: Dataset) -> None:
    cache = LatentCache(tmp_path / "cache", "vae")
    prepare_latents(dataset, Encoder(), cache)
    picture, views = next(wanted_views(dataset))
    cache.path_of(picture, views[1]).unlink()
    again = Encoder()
    assert prepare_latents(dataset, again, cache) == again.pictures == 1
    assert cache.get(picture, views[1])


def test_copies_are_encoded_once(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "in", 1)
    (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
    both = [replace(SUBSET, image_dir=folder), replace(SUBSET, image_dir=tmp_path / "more", flip_aug=True)]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.png").write_bytes((folder / "000.png").read_bytes())
    assert prepare_latents(build_dataset(both[:1], DataOptions(), 0), Encoder(), LatentCache(tmp_path, "a")) == 1
    dataset = build_dataset(both, DataOptions(), 0)
    assert [len(views) for _, views in wanted_views(dataset)] == [2]
    assert prepare_latents(dataset, Encoder(), LatentCache(tmp_path, "b")) == 2


def test_several_resolutions_of_one_folder(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "in", 2)
    subsets = [replace(SUBSET, image_dir=folder, resolution=(side, side)) for side in (64, 128, 32)]
    dataset = build_dataset(subsets, DataOptions(), 0)
    cache, encoder = LatentCache(tmp_path / "cache", "vae"), Encoder()
    assert prepare_latents(dataset, encoder, cache, 2) == 6
    assert encoder.batches == [(2, 3, 32, 32), (2, 3, 64, 64), (2, 3, 128, 128)]
    assert {(cache.get(*each) or ())[0].shape[1:] for each in shown_in(dataset, 1)} == {(4, 4), (8, 8), (16, 16)}
    assert dataset.bucket_counts() == {(32, 32): 2, (64, 64): 2, (128, 128): 2}
    assert len({dataset.draw_seed(sample, 0) for sample in dataset.samples}) == 6


def test_processes_share_the_work(tmp_path: Path, dataset: Dataset) -> None:
    cache, encoders = LatentCache(tmp_path / "cache", "vae"), [Encoder() for _ in range(3)]
    for rank, encoder in enumerate(encoders):
        prepare_latents(dataset, encoder, cache, share=(rank, 3))
    assert sorted(encoder.pictures for encoder in encoders) == [4, 4, 6]
    assert all(cache.get(picture, view) for picture, views in wanted_views(dataset) for view in views)


@pytest.mark.parametrize("waiting", [1, 1 << 28])
def test_little_memory_changes_nothing(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", waiting)
    encoder = Encoder()
    assert prepare_latents(dataset, encoder, LatentCache(tmp_path / "cache", "vae"), 4) == 14
    assert [shape[0] for shape in encoder.batches] == [4, 4, 4, 2]


def half(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """A VAE that overflows on the second picture of a batch."""
    mean = pixels.clone()
    mean[1:] *= float("inf")
    return mean, pixels


def test_an_overflow_is_found_and_remembered(tmp_path: Path, dataset: Dataset) -> None:
    cache = LatentCache(tmp_path / "cache", "vae torch.float16")
    with pytest.raises(FloatingPointError, match=r"not finite of .*\.png; give another vae"):
        prepare_latents(dataset, half, cache, 2)
    encoder = Encoder()
    with pytest.raises(FloatingPointError, match=r"\.png"):
        prepare_latents(dataset, encoder, cache, share=(1, 2))
    assert not encoder.batches, "it is not tried again, by no process"
    assert prepare_latents(dataset, encoder, LatentCache(tmp_path / "cache", "vae torch.float32")) == 14


@pytest.mark.parametrize("spoiled", [lambda p: (p * float("nan"), p), lambda p: (p, p - float("inf"))])
def test_numbers_that_are_not_finite_are_not_kept(
    tmp_path: Path, dataset: Dataset, spoiled: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> None:
    cache = LatentCache(tmp_path / "cache", "vae")
    with pytest.raises(FloatingPointError):
        prepare_latents(dataset, spoiled, cache)
    assert not any(cache.get(picture, view) for picture, views in wanted_views(dataset) for view in views)


def with_masks(folder: Path) -> Dataset:
    """Three pictures, two of which have masks."""
    draw_folder(folder, 3)
    for number in (0, 2):
        mask = np.random.default_rng(number).integers(0, 256, (40, 48), dtype=np.uint8)
        Image.fromarray(mask).save(folder / f"{number:03d}-masklabel.png")
    options = DataOptions(masked_loss=True, variants=2)
    return build_dataset([replace(SUBSET, image_dir=folder, enable_bucket=False, **ALL_CHANCES)], options, 0)


def test_masks_are_prepared(tmp_path: Path) -> None:
    dataset, cache = with_masks(tmp_path / "in"), MaskCache(tmp_path / "cache")
    for rank in (0, 1):
        prepare_masks(dataset, cache, (rank, 2))
    masked = [each for each in shown_in(dataset, 20) if each[0].mask]
    assert masked and all(cache.path_of(*each).exists() for each in masked)
    assert all(torch.equal(cache.get(*each), load_masks(each[0], [each[1]])[0]) for each in masked[:4])


def test_masks_that_went_bad_are_all_named(tmp_path: Path) -> None:
    dataset = with_masks(tmp_path / "in")
    for number in (0, 2):
        (tmp_path / "in" / f"{number:03d}-masklabel.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        prepare_masks(dataset, MaskCache(tmp_path / "cache"))
    assert len(caught.value.sentences) == 2 and all("-masklabel.png" in each for each in caught.value.sentences)


def test_pictures_with_two_masks_are_kept_apart(tmp_path: Path) -> None:
    one, two = draw(tmp_path / "a" / "x.png"), tmp_path / "b" / "y.png"
    two.parent.mkdir()
    two.write_bytes(one.read_bytes())
    Image.new("L", (48, 40), 255).save(two.with_name("y-masklabel.png"))
    subsets = [replace(SUBSET, image_dir=path.parent) for path in (one, two)]
    dataset = build_dataset(subsets, DataOptions(masked_loss=True), 0)
    assert [picture.mask is None for picture, _ in wanted_views(dataset)] == [True, False]
