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
STRIPE_HEIGHT = 3  # rows at least, of stripes and of what is between them; rows of eyes may have no skin to judge
STALK_WIDTH = 5  # pixels, more than a stalk's and less than the radius of anything else
ROW_WIDTH = 5  # pixels of skin that make a row worth judging
KNOB_AREA = (80, 500)  # pixels; antennae's knobs are discs of about 180 to 280
KNOB_SPREAD = 1.15  # its pixels' mean square distance from their middle, in that of a disc of the same area
STALK_HEIGHT = 4  # pixels at least, up from the body to a knob
KNOB_DISTANCE = 0.3  # of half the body's width; sideways between a knob and the body's middle, at least


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
    """The skin of the figure's largest part, once all that is as thin as a stalk is taken away."""
    reach = np.arange(-STALK_WIDTH, STALK_WIDTH + 1)
    disc = reach[:, None] ** 2 + reach**2 <= STALK_WIDTH**2
    solid = ndimage.binary_opening(ndimage.binary_fill_holes(sight.figure), disc)
    return biggest(solid) & sight.skin


def _runs(kinds: NDArray[np.intp]) -> list[int]:
    """The kinds (1, 0) of the runs that are STRIPE_HEIGHT or longer, equal neighbours taken together."""
    edges = np.flatnonzero(np.diff(kinds)) + 1
    long = [int(run[0]) for run in np.split(kinds, edges) if len(run) >= STRIPE_HEIGHT and run[0] >= 0]
    return [kind for index, kind in enumerate(long) if index == 0 or kind != long[index - 1]]


def has_antennae(sight: Sight) -> bool:
    """Whether a round knob stands over the body's left and one over its right, each on an ink stalk."""
    body = body_of(sight)
    rows, columns = np.nonzero(body)
    middle, half_width = (columns.min() + columns.max()) / 2, np.ptp(columns) / 2
    sides = set()
    for knob in knobs(sight, body):
        aside = knob.column - middle
        if knob.row + knob.radius + STALK_HEIGHT <= rows.min() and KNOB_DISTANCE <= abs(aside) / half_width <= 2.0:
            sides.add(aside > 0)
    return sides == {True, False}


@dataclass(frozen=True)
class Knob:
    """A disc; its middle and radius in pixels."""

    row: float
    column: float
    radius: float


def knobs(sight: Sight, body: Mask) -> list[Knob]:
    """The round coloured spots that dark lines join to the body's figure."""
    joined = _joined(sight, body)
    parts, count = ndimage.label(drop_specks(sight.skin & ~body))
    found = []
    for number in range(1, count + 1):
        spot = parts == number
        rows, columns = np.nonzero(spot)
        spread = (rows.var() + columns.var()) * 2 * np.pi / len(rows)  # 1 for a disc, 1.21 for an even triangle
        if KNOB_AREA[0] <= len(rows) <= KNOB_AREA[1] and spread <= KNOB_SPREAD and joined[spot].any():
            found.append(Knob(rows.mean(), columns.mean(), np.sqrt(len(rows) / np.pi)))
    return found


def _joined(sight: Sight, body: Mask) -> Mask:
    """What hangs together with the body through figure or ink; thin stalks of a soft picture may miss a pixel."""
    near = ndimage.binary_dilation(sight.figure | (sight.ink > 0.5), iterations=1)
    parts, _ = ndimage.label(near)
    return np.isin(parts, np.unique(parts[body])) & (parts > 0)
