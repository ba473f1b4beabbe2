"""The page holds every picture itself in its place, and lets no word break it."""

import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from library.grid.axes import Axis
from library.grid.page import Shown, page
from tests.prepare.test_page import Reader

COLOURS = [(20 * number, 0, 255 - 20 * number) for number in range(12)]
SHOWN = [Shown(Image.new("RGB", (32, 32), colour), number / 4, f"<n{number}>") for number, colour in enumerate(COLOURS)]
AXES = [Axis("seed", ("1", "2", "3")), Axis("prompt", ("<red>", "a & b")), Axis("steps", ("5", "9"))]


@pytest.mark.parametrize("count", [2, 3])
def test_it_shows_what_was_drawn(count: int) -> None:
    text = page("a <cat>", [("model", "m & n"), ("LoRA", "")], AXES[:count], SHOWN[: 6 * (count - 1)])
    assert "<script" not in text and "http" not in text and "<red>" not in text
    reader = Reader(text)
    assert not reader.open
    images = reader.images()
    assert len(images) == 6 * (count - 1)
    for image, shown in zip(images, SHOWN, strict=False):
        kind, _, data = image["src"].partition(",")
        picture = np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("RGB")).astype(int)
        assert kind == "data:image/webp;base64" and image["title"] == shown.words
        assert np.abs(picture - np.asarray(shown.picture)).max() <= 8
    words = reader.words
    assert all(each in words for each in ("a <cat>", "m & n", "seed 3", "<red>", "a & b", "1.25 s"))
    assert ("steps 9" in words) == (count == 3) and "LoRA" not in words
    assert words.index("0.00 s") < words.index("0.50 s") < words.index("a & b") < words.index("0.75 s")
