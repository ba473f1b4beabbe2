"""A picture's transparency as its mask."""

import numpy as np
import pytest
from PIL import Image

from library.prepare.segmenters import Transparency


def test_what_is_opaque_is_white() -> None:
    image = Image.new("RGBA", (6, 4), (9, 9, 9, 255))
    image.paste((0, 0, 0, 70), (0, 0, 2, 4))
    segmenter = Transparency()
    alpha = segmenter.prepare(image)
    assert alpha is not None
    mask = segmenter.mask_of(segmenter.run([alpha])[0])
    assert mask.dtype == np.uint8 and mask.tolist() == [[70, 70, 255, 255, 255, 255]] * 4


@pytest.mark.parametrize("image", [Image.new("RGB", (3, 3)), Image.new("RGBA", (3, 3), (0, 0, 0, 255))])
def test_a_picture_without_transparency_can_have_no_mask(image: Image.Image) -> None:
    assert Transparency().prepare(image) is None
