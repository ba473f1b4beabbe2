"""How a picture is shown: how it is resized, which part is cut out, how it is recoloured and mirrored."""

import re
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from library.data.buckets import Size, cover
from library.data.folders import Subset
from library.data.pictures import Picture
from library.seeds import derive_seed

LANCZOS = "lanczos"
PLAIN_GAMMA = 100

# Colour augmentation of sd-scripts: every third time, and then either the hue or the gamma.
COLOUR_CHANCE = 0.33
HUE_STEPS = 11  # of 256 around the circle, about 16 degrees
GAMMA_STEPS = 5  # hundredths

# The last four numbers of a name, as in `name_512_300_128_160.png`.
FACE = re.compile(r"_(\d+)_(\d+)_(\d+)_(\d+)$")
TREMBLE = 20  # without random_crop a face is moved by up to this part of its size


class Colour(NamedTuple):
    """A change of colour: the hue turned by 256ths of the circle, and a gamma in hundredths."""

    hue: int = 0
    gamma: int = PLAIN_GAMMA


class View(NamedTuple):
    """One way to show a picture, told by nothing but what its pixels depend on.

    It is resized to `resized` by the filter `resampling`, the part of `size` is cut out whose left upper pixel is
    `corner`, that is recoloured, and mirrored left to right if `flip`. Sizes are (width, height) in pixels.
    """

    resized: Size
    size: Size
    corner: tuple[int, int]
    resampling: str = LANCZOS
    colour: Colour = Colour()
    flip: bool = False

    @property
    def is_centred(self) -> bool:
        """Whether the middle of the resized picture is cut out."""
        return self.corner == middle(self.resized, self.size)

    @property
    def geometry(self) -> "View":
        """The same part of the picture without its colours, for a mask depends on nothing else."""
        return self._replace(resampling=LANCZOS, colour=Colour())


class Face(NamedTuple):
    """Where a face is: its middle, width and height, in pixels of the upright picture."""

    x: int
    y: int
    width: int
    height: int


def is_varied(subset: Subset) -> bool:
    """Whether chance has a part in how pictures are cut and coloured; mirroring is apart from this."""
    return subset.color_aug or subset.random_crop or _varies_faces(subset)


def view_of(picture: Picture, seed: int, flip: bool = False) -> View:
    """How a picture is shown; everything that its subset leaves to chance follows from `seed`."""
    subset = picture.subset
    if not is_varied(subset) and not subset.face_crop_aug_range:
        resized, size = picture.placing
        return View(resized, size, middle(resized, size), _resampling(picture, resized), flip=flip)
    random = Random(seed)
    colour = _draw_colour(random) if subset.color_aug else Colour()
    face = face_of(picture)
    if subset.face_crop_aug_range and face:
        resized = _draw_size(picture, face, subset.face_crop_aug_range, random)
        corner = _draw_corner_at(picture, face, resized, random)
    else:
        resized = picture.placing.resized
        corner = _draw_corner(resized, picture.size, random) if subset.random_crop else middle(*picture.placing)
    return View(resized, picture.size, corner, _resampling(picture, resized), colour, flip)


def cached_views(picture: Picture, variants: int) -> Iterator[View]:
    """Every view that training with a cache can ask for, mirrored ones too; some may be the same."""
    for number in range(variants if is_varied(picture.subset) else 1):
        for flip in (False, True) if picture.subset.flip_aug else (False,):
            yield view_of(picture, variant_seed(picture, number), flip)


def variant_seed(picture: Picture, number: int) -> int:
    """The seed of a picture's cached view `number`: a function of the content, so that all runs share the cache."""
    return derive_seed(number, "view", picture.sha256)


def middle(whole: Size, part: Size) -> tuple[int, int]:
    """The left upper pixel of the part in the middle."""
    return (whole[0] - part[0]) // 2, (whole[1] - part[1]) // 2


def sizes_of(picture: Picture, view: View) -> tuple[int, int, int, int, int, int]:
    """What SDXL is told of a shown picture (Podell et al. 2023, arXiv 2307.01952, section 2.2), in pixels.

    Height and width of the picture as it was; top and left of the crop from the resized and mirrored picture;
    height and width of the result.
    """
    left, top = view.corner
    if view.flip:
        left = view.resized[0] - view.size[0] - left
    return picture.height, picture.width, top, left, view.size[1], view.size[0]


def averaging(size: Size, resized: Size) -> str:
    """The filter that shrinks by averaging over the area, as OpenCV's INTER_AREA does, and enlarges smoothly."""
    return "box" if resized[0] <= size[0] and resized[1] <= size[1] else "bilinear"


def face_of(picture: Picture) -> Face | None:
    """The face that sd-scripts' `detect_face_rotate` wrote into the file's name, if there is one inside the picture."""
    match = FACE.search(picture.path.stem)
    face = Face(*map(int, match.groups())) if match else None
    if not face or not face.width or not face.height:
        return None
    return face if face.x < picture.width and face.y < picture.height else None


def _varies_faces(subset: Subset) -> bool:
    span = subset.face_crop_aug_range
    return span is not None and span[0] != span[1]


def _resampling(picture: Picture, resized: Size) -> str:
    """The filter that is really used; where nothing is resized all are the same, and a box has nothing to average
    where a picture is enlarged.
    """
    name, size = picture.subset.resize_interpolation, (picture.width, picture.height)
    if size == resized:
        return LANCZOS
    if name == "box" and resized[0] >= size[0] and resized[1] >= size[1]:
        return "nearest"
    return averaging(size, resized) if name == "area" else name


def _draw_colour(random: Random) -> Colour:
    if random.random() >= COLOUR_CHANCE:
        return Colour()
    if random.random() < 0.5:
        return Colour(hue=random.randint(-HUE_STEPS, HUE_STEPS))
    return Colour(gamma=PLAIN_GAMMA + random.randint(-GAMMA_STEPS, GAMMA_STEPS))


def _draw_corner(resized: Size, size: Size, random: Random) -> tuple[int, int]:
    """Any place, each as likely as the others."""
    return random.randint(0, resized[0] - size[0]), random.randint(0, resized[1] - size[1])


def _draw_size(picture: Picture, face: Face, span: tuple[float, float], random: Random) -> Size:
    """A size of the picture at which its bucket's shorter side is between `span` times as long as the face.

    The picture covers its bucket at any rate, and is not enlarged more than that takes.
    """
    size, length = picture.size, max(face.width, face.height)
    covering = max(size[0] / picture.width, size[1] / picture.height)
    limits = [min(max(covering, 1.0), max(covering, min(size) / (length * times))) for times in span]
    scale = random.uniform(*sorted(limits))
    least = cover((picture.width, picture.height), size)
    return max(least[0], round(picture.width * scale)), max(least[1], round(picture.height * scale))


def _draw_corner_at(picture: Picture, face: Face, resized: Size, random: Random) -> tuple[int, int]:
    """The face in the middle, moved a little, or with `random_crop` anywhere and mostly near the middle."""
    scale = resized[0] / picture.width
    reach = round(max(face.width, face.height) * scale) // TREMBLE if _varies_faces(picture.subset) else 0
    corner = []
    for place, length, part in zip((face.x, face.y), resized, picture.size, strict=True):
        place = round(place * scale)
        if picture.subset.random_crop:
            far = max(place, length - place)
            moved = random.randint(0, far) + random.randint(0, far) - far
        else:
            moved = random.randint(-reach, reach)
        corner.append(max(0, min(place - part // 2 + moved, length - part)))
    return corner[0], corner[1]
