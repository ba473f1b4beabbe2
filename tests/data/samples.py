"""Pictures on disk and in memory that the tests of library/data share."""

from pathlib import Path

import numpy as np
from PIL import Image

from library.data.buckets import place, subset_buckets
from library.data.folders import Subset
from library.data.pictures import Picture


def draw(path: Path, size: tuple[int, int] = (48, 40), seed: int = 0, caption: str | None = None) -> Path:
    """Writes a picture of coarse noise, and its caption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def draw_folder(folder: Path, count: int, first: int = 0, **options: object) -> Path:
    """Writes `count` different pictures, each with a caption."""
    for number in range(first, first + count):
        draw(folder / f"{number:03d}.png", seed=number, caption=f"thing, number {number}", **options)
    return folder


def imagined(content: str, subset: Subset, size: tuple[int, int] = (64, 64), copy: int = 0) -> Picture:
    """A picture that has no file."""
    return Picture(
        path=subset.image_dir / f"{content}.png",
        sha256=content,
        width=size[0],
        height=size[1],
        placing=place(size, subset_buckets(subset), subset),
        caption=f"a, b, {content}",
        has_caption=True,
        subset=subset,
        copy=copy,
    )
