"""The latent cache: named by content, complete after preparing, rebuilt when damaged, safe to share."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.data.buckets import Placing
from library.data.cache import LatentCache, needed_entries, prepare_latents
from library.data.dataset import DataOptions, Dataset, build_dataset
from library.data.folders import Subset
from library.data.images import load_pixels
from library.errors import InputError
from tests.data.samples import draw, draw_folder, imagined

SUBSET = Subset(
    image_dir=Path("in"), resolution=(64, 64), enable_bucket=True, min_bucket_reso=32, bucket_reso_steps=32
)
PICTURE = imagined("content", SUBSET)
MEAN, LOGVAR = torch.arange(48.0).view(3, 4, 4), -torch.ones(3, 4, 4)


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


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    assert cache.get(PICTURE, flip=False) is None
    cache.put(PICTURE, False, MEAN.requires_grad_(), LOGVAR.half())
    mean, logvar = cache.get(PICTURE, flip=False)
    assert torch.equal(mean, MEAN) and torch.equal(logvar, LOGVAR)
    assert mean.dtype == logvar.dtype == torch.float32
    assert cache.get(PICTURE, flip=True) is None


def test_every_part_of_the_name_counts(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    moved = replace(PICTURE, path=Path("elsewhere.png"), caption="other", copy=3)
    assert cache.path_of(moved, False) == cache.path_of(PICTURE, False)
    others = [
        cache.path_of(PICTURE, True),
        cache.path_of(replace(PICTURE, sha256="other"), False),
        cache.path_of(replace(PICTURE, placing=Placing((65, 64), (64, 64))), False),
        cache.path_of(replace(PICTURE, placing=Placing((64, 64), (64, 32))), False),
        LatentCache(tmp_path, "other vae").path_of(PICTURE, False),
    ]
    assert len({cache.path_of(PICTURE, False), *others}) == 6


def test_preparing_fills_the_cache_with_the_encoder_s_latents(tmp_path: Path, dataset: Dataset) -> None:
    cache, encoder = LatentCache(tmp_path / "cache", "vae"), Encoder()
    told: list[tuple[int, int]] = []
    assert prepare_latents(dataset, encoder, cache, 3, lambda *pair: told.append(pair)) == 14
    assert sorted(shape[0] for shape in encoder.batches) == [2, 3, 3, 3, 3]
    assert {shape[2:] for shape in encoder.batches} == {(64, 64), (32, 96)}
    assert told[-1] == (14, 14) and [total for _, total in told] == [14] * 5
    for sample in dataset.samples:
        for flip in (False, True):
            mean, logvar = cache.get(sample.picture, flip)
            expected = Encoder()(load_pixels(sample.picture, flip)[None])
            assert torch.allclose(mean, expected[0][0].float(), atol=1e-3)
            assert torch.equal(logvar, expected[1][0])
    assert prepare_latents(dataset, encoder, cache) == 0


def test_only_what_is_missing_is_encoded(tmp_path: Path, dataset: Dataset) -> None:
    cache = LatentCache(tmp_path / "cache", "vae")
    prepare_latents(dataset, Encoder(), cache)
    cache.path_of(dataset.pictures[3], True).unlink()
    again = Encoder()
    assert prepare_latents(dataset, again, cache) == again.pictures == 1


def test_copies_are_encoded_once(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "in", 1)
    (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
    dataset = build_dataset([replace(SUBSET, image_dir=folder)], DataOptions(), 0)
    assert prepare_latents(dataset, Encoder(), LatentCache(tmp_path, "vae")) == 1


def test_processes_share_the_work(tmp_path: Path, dataset: Dataset) -> None:
    cache, encoders = LatentCache(tmp_path / "cache", "vae"), [Encoder() for _ in range(3)]
    for rank, encoder in enumerate(encoders):
        prepare_latents(dataset, encoder, cache, share=(rank, 3))
    assert sorted(encoder.pictures for encoder in encoders) == [4, 5, 5]
    assert all(cache.get(*entry) for entry in needed_entries(dataset))


def cut(content: bytes) -> bytes:
    return content[:-7]


def cut_in_header(content: bytes) -> bytes:
    return content[:20]


def emptied(_: bytes) -> bytes:
    return b""


def flipped(content: bytes) -> bytes:
    return content[:-30] + bytes([content[-30] ^ 1]) + content[-29:]


def replaced(content: bytes) -> bytes:
    return b"<html>no such page</html>" * len(content)


@pytest.mark.parametrize("damage", [cut, cut_in_header, emptied, flipped, replaced])
def test_a_damaged_entry_is_rebuilt(
    tmp_path: Path, dataset: Dataset, damage: Callable[[bytes], bytes]
) -> None:
    cache, picture = LatentCache(tmp_path / "cache", "vae"), dataset.pictures[0]
    prepare_latents(dataset, Encoder(), cache)
    whole = cache.get(picture, flip=False)
    path = cache.path_of(picture, flip=False)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(picture, flip=False) is None
    assert prepare_latents(dataset, Encoder(), cache) == 1
    assert all(torch.equal(*pair) for pair in zip(whole, cache.get(picture, flip=False), strict=True))


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    cache.put(PICTURE, False, MEAN, LOGVAR)
    path = cache.path_of(PICTURE, False)
    content = path.read_bytes()
    for place in range(0, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :])
        found = cache.get(PICTURE, flip=False)
        assert found is None or (torch.equal(found[0], MEAN) and torch.equal(found[1], LOGVAR))


def test_a_failing_write_leaves_the_old_entry_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = LatentCache(tmp_path, "vae")
    cache.put(PICTURE, False, MEAN, LOGVAR)

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left on device.*choose another cache_dir"):
        cache.put(PICTURE, False, MEAN * 2, LOGVAR)
    monkeypatch.undo()
    assert torch.equal(cache.get(PICTURE, flip=False)[0], MEAN)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [cache.path_of(PICTURE, False)]


def write_often(folder: Path, value: float) -> None:
    """What each of two processes does to the same entry."""
    cache = LatentCache(folder, "vae")
    for _ in range(40):
        cache.put(PICTURE, False, torch.full((4, 32, 32), value), torch.zeros(4, 32, 32))


def test_two_processes_may_write_one_entry_while_a_third_reads(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    write_often(tmp_path, 0.0)
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_often, args=(tmp_path, value)) for value in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        mean, _ = cache.get(PICTURE, flip=False)
        assert len(mean.unique()) == 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert cache.get(PICTURE, flip=False)[0].unique().item() in (1.0, 2.0)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_numbers_that_are_not_finite_end_the_run_and_are_not_kept(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "dark.png")
    dataset = build_dataset([replace(SUBSET, image_dir=tmp_path / "in")], DataOptions(), 0)
    cache = LatentCache(tmp_path / "cache", "vae")
    with pytest.raises(FloatingPointError, match=r"dark\.png.*another vae"):
        prepare_latents(dataset, lambda pixels: (pixels * float("nan"), pixels), cache)
    assert cache.get(dataset.pictures[0], flip=False) is None
