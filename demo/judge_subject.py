"""The marks of the striped subject: the stripes of each colour and the antennae, each found by itself."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from demo.draw_subject import STRIPES
from demo.sight import Mask, Sight, biggest, drop_specks, look

MOSTLY, HARDLY = (
    0.6,
    0.35,
)  # part of a row's skin that a stripe's colour holds in the stripe, and between stripes
STRIPE_HEIGHT = 5  # pixels at least, of stripes and of what is between them
SOFT_EDGE = 3  # pixels from a stripe into the mixed colours between it and the next
ROW_WIDTH = 6  # pixels of skin that make a row worth judging
KNOB_AREA = (50, 500)  # pixels; antennae's knobs are discs of about 180 to 280
KNOB_FILL = 0.55  # part of its bounding box that a knob fills; a disc fills 0.79
KNOB_DISTANCE = 0.3  # of the body's width; sideways between a knob and the body's middle, at least


@dataclass(frozen=True)
class Marks:
    """Which marks of the subject a picture shows."""

    turquoise_stripes: bool
    brown_stripes: bool
    antennae: bool

    @property
    def all(self) -> bool:
        """Whether no mark is missing."""
        return self.turquoise_stripes and self.brown_stripes and self.antennae

    def by_name(self) -> dict[str, bool]:
        """The marks by words for a table."""
        return {name.replace("_", " "): found for name, found in asdict(self).items()}


def judge_marks(picture: Image.Image) -> Marks:
    """Find every mark by itself."""
    sight = look(picture)
    if not sight.skin.any():
        return Marks(False, False, False)
    stripes = [has_stripes(sight, color) for color in STRIPES]
    return Marks(stripes[0], stripes[1], has_antennae(sight))


def has_stripes(sight: Sight, color: str) -> bool:
    """Whether a colour lies on the body as at least two level bands, with a band of something else between them."""
    body = body_of(sight)
    wide = body.sum(axis=1)
    share = (body & sight.having(color)).sum(axis=1) / np.maximum(wide, 1)
    judged = wide >= ROW_WIDTH
    bands = _runs(np.where(share >= MOSTLY, 1, np.where(share <= HARDLY, 0, -1))[judged])
    return bands.count(1) >= 2


def body_of(sight: Sight) -> Mask:
    """The largest piece of skin: stripes meet but for a soft edge, while the knobs stand well apart."""
    return biggest(ndimage.binary_dilation(sight.skin, iterations=SOFT_EDGE)) & sight.skin


def _runs(kinds: NDArray[np.intp]) -> list[int]:
    """The kinds (1, 0) of the runs that are STRIPE_HEIGHT or longer, equal neighbours taken together."""
    edges = np.flatnonzero(np.diff(kinds)) + 1
    long = [int(run[0]) for run in np.split(kinds, edges) if len(run) >= STRIPE_HEIGHT and run[0] >= 0]
    return [kind for index, kind in enumerate(long) if index == 0 or kind != long[index - 1]]


def has_antennae(sight: Sight) -> bool:
    """Whether a round knob stands over the body's left and one over its right, each on an ink stalk."""
    body = body_of(sight)
    rows, columns = np.nonzero(body)
    middle, width = (columns.min() + columns.max()) / 2, np.ptp(columns)
    sides = set()
    for row, column in knobs(sight, body):
        aside = column - middle
        if row < rows.min() and KNOB_DISTANCE * width / 2 <= abs(aside) <= width:
            sides.add(aside > 0)
    return sides == {True, False}


def knobs(sight: Sight, body: Mask) -> list[tuple[float, float]]:
    """The middles (row, column) of round coloured spots that dark lines join to the body's figure."""
    spots = drop_specks(sight.skin & ~body)
    joined = _joined(sight, body)
    found = []
    parts, _ = ndimage.label(spots)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        spot = parts[box] == number
        height, width = spot.shape
        area, round_enough = spot.sum(), 0.6 <= height / width <= 1.7 and spot.mean() >= KNOB_FILL
        if KNOB_AREA[0] <= area <= KNOB_AREA[1] and round_enough and joined[box][spot].any():
            found.append((box[0].start + height / 2, box[1].start + width / 2))
    return found


def _joined(sight: Sight, body: Mask) -> Mask:
    """What hangs together with the body through figure or ink; thin stalks of a soft picture may miss a pixel."""
    near = ndimage.binary_dilation(sight.figure | (sight.ink > 0.5), iterations=1)
    parts, _ = ndimage.label(near)
    return np.isin(parts, np.unique(parts[body])) & (parts > 0)
