"""Crops: pictures brought to one size with their masks and captions, written into a folder of their own."""

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from library.data.buckets import Size
from library.data.decoding import FORMATS, flatten, read_upright, reason_of
from library.data.masks import find_mask, mask_name, read_mask
from library.files import write_atomically
from library.log import say
from library.prepare.faces import face_finder, largest_face
from library.prepare.sidecars import caption_path
from library.prepare.stamps import is_current, remove_stamped, save_stamped
from library.prepare.targets import find_sources, place_targets, warn_of_others
from library.prepare.walk import Outcome, finish, work_through
from library.prepare.windows import Box, around, enlargement, in_the_middle, scaled, with_most_detail

VERSION = 1  # of the ways to choose a part; another number makes every crop anew
REDUCING_GAP = 2.0  # averaged to twice the size before Lanczos: much faster, no value changes by more than 3 of 255
OTHER_CAPTIONS = ".caption"  # copied along whatever the ending of the captions is
PER_PROCESS = 4  # pictures that a further process must get to be worth its start


@dataclass(frozen=True)
class Recipe:
    """How pictures are cropped.

    Attributes:
        size: (width, height) of every crop in pixels; None to leave pictures whole
        min_side: length in pixels of the shorter side of pictures that are left whole
        crop: which part is kept: "center", "smart" for the most detail, or "face"
        face_model: a YuNet file for "face"; None for the cascade
        max_upscale: pictures that would be enlarged more are left out; None for no limit
        ending: ".png" or ".jpg"
        quality: of JPEG, 1 to 100
    """

    size: Size | None = (512, 512)
    min_side: int = 0
    crop: str = "center"
    face_model: Path | None = None
    max_upscale: float | None = None
    ending: str = ".png"
    quality: int = 95

    def size_of(self, picture: Size) -> Size:
        """The (width, height) that a picture of this size gets."""
        return self.size or scaled(picture, self.min_side)

    @property
    def words(self) -> str:
        """Everything that the pixels of a crop depend on besides the picture, in a line."""
        shape = f"size {self.size[0]},{self.size[1]}, {self.crop}" if self.size else f"min_side {self.min_side}"
        model = f" by {_named(self.face_model)}" if self.face_model else ""
        limit = f", at most {self.max_upscale:g} times" if self.max_upscale else ""
        quality = f", quality {self.quality}" if self.ending == ".jpg" else ""
        return f"crop {VERSION}, {shape}{model}{limit}{quality}"


@dataclass(frozen=True)
class Handling:
    """What is done with the files, whatever they look like.

    Attributes:
        recursive: whether folders inside the folder are worked on too
        caption_extension: the ending of the captions that are copied along
        overwrite: whether crops that are there and current are made anew, and captions copied anew
    """

    recursive: bool = False
    caption_extension: str = ".txt"
    overwrite: bool = False


class Crop(NamedTuple):
    """What became of a picture, and what a person should know of it."""

    word: str  # "written", "kept" or "left out"
    factor: float = 0  # more than 1 where it was, or would have been, enlarged
    has_no_face: bool = False
    has_more: bool = False
    has_other_caption: bool = False

    @property
    def is_there(self) -> bool:
        """Whether the crop lies in its place."""
        return self.word != "left out"


def crop_folder(folder: Path, output: Path, recipe: Recipe, handling: Handling, processes: int = 0) -> int:
    """Crops the pictures of a folder, says what became of them, and returns the exit status 0.

    `processes` is 0 for all cores. Raises InputError where the folders or the face model are wrong, which is found
    before anything is written, and where no picture could be written.
    """
    sources = find_sources(folder, output, handling.recursive)
    if recipe.face_model:
        face_finder(recipe.face_model)  # a wrong file is refused here
    targets = place_targets(sources, folder, output, recipe.ending)
    outcome, crops = Outcome(), {}
    workers = min(processes or os.cpu_count() or 1, -(-len(sources) // PER_PROCESS))
    work = partial(crop_picture, recipe=recipe, handling=handling)
    for (source, _), crop in work_through(list(targets.items()), work, "cropping", workers):
        if isinstance(crop, Exception):
            outcome.fail(source, reason_of(crop))
        else:
            crops[source] = crop
    warn_of_others(targets.values(), [targets[source] for source, crop in crops.items() if crop.is_there])
    return _report(crops, outcome, recipe)


def crop_picture(pair: tuple[Path, Path], recipe: Recipe, handling: Handling) -> Crop:
    """Crops one picture, its mask and its captions: (what is read, what is written).

    Raises what decoders raise, and InputError where the mask does not fit or a file of somebody else's is in the
    way. The picture is written last, so that a crop that is there is complete.
    """
    source, target = pair
    mask, mask_target = find_mask(source), target.with_name(mask_name(target))
    stamp = f"{recipe.words}, of {_named(source)}"
    files = [(source, target)]
    if mask:
        stamp += f", with {_named(mask)}"
        files.append((mask, mask_target))
    are_current = [is_current(made, of, stamp) for of, made in files]
    if all(are_current) and not handling.overwrite:
        return Crop("kept", has_other_caption=_copy_captions(source, target, handling))
    content = source.read_bytes()
    image = flatten(read_upright(content))
    size = recipe.size_of(image.size)
    factor = enlargement(image.size, size)
    if recipe.max_upscale and factor > recipe.max_upscale:
        return Crop("left out", factor)
    box, has_no_face = choose(image, recipe)
    has_other_caption = _copy_captions(source, target, handling)
    if mask:
        save_stamped(_cut_mask(read_mask(mask, image.size), size, box), mask_target, stamp)
    else:
        remove_stamped(mask_target)  # of an earlier run, when the picture had a mask
    crop = image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)
    save_stamped(crop, target, stamp, recipe.quality)
    return Crop("written", factor, has_no_face, _has_more(content), has_other_caption)


def choose(image: Image.Image, recipe: Recipe) -> tuple[Box, bool]:
    """The part of a picture to keep, and whether a face was looked for in vain."""
    if not recipe.size:
        return (0, 0, *image.size), False
    if recipe.crop == "center":
        return in_the_middle(image.size, recipe.size), False
    face = largest_face(image, recipe.face_model) if recipe.crop == "face" else None
    if face:
        return around(image.size, recipe.size, face.middle), False
    return with_most_detail(image, recipe.size), recipe.crop == "face"


def _cut_mask(mask: Image.Image, size: Size, box: Box) -> Image.Image:
    """The same part of a mask as of its picture; one of two values keeps its hard edges."""
    values = sum(count > 0 for count in mask.histogram())
    way = Image.Resampling.NEAREST if values <= 2 else Image.Resampling.LANCZOS
    return mask.resize(size, way, box=box, reducing_gap=REDUCING_GAP)


def _copy_captions(source: Path, target: Path, handling: Handling) -> bool:
    """Copies the captions that are not there yet; whether one is there with other words, which then stays."""
    is_other = False
    for ending in dict.fromkeys((handling.caption_extension, OTHER_CAPTIONS)):
        words, copy = caption_path(source, ending), caption_path(target, ending)
        if not words.is_file():
            continue
        content = words.read_bytes()
        if copy.exists() and not handling.overwrite:
            is_other |= copy.read_bytes() != content
        else:
            _write(copy, content)
    return is_other


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda unfinished: unfinished.write_bytes(content))


def _has_more(content: bytes) -> bool:
    """Whether a file holds several pictures or pages; what a phone puts behind its own picture does not count."""
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    return image.format != "MPO" and getattr(image, "is_animated", False)


def _named(path: Path) -> str:
    name = path.name.encode(errors="backslashreplace").decode()  # names from other systems may be no text
    return f"{name} ({path.stat().st_size} bytes)"


def _report(crops: dict[Path, Crop], outcome: Outcome, recipe: Recipe) -> int:
    """Says everything that a person should look at, then the numbers; the exit status."""
    left_out = {source: crop.factor for source, crop in crops.items() if crop.word == "left out"}
    limit = f"--max_upscale is {recipe.max_upscale or 0:g}"
    if len(left_out) == len(crops):
        for source, factor in left_out.items():
            outcome.fail(source, f"it would be enlarged {factor:.2f} times, and {limit}")
        return finish(outcome, "crops")
    for crop in crops.values():
        outcome.count(crop.word)
    written = {source: crop for source, crop in crops.items() if crop.word == "written"}
    enlarged = {source: crop.factor for source, crop in written.items() if crop.factor > 1}
    _list("enlarged", (f"{source}: {factor:.2f} times" for source, factor in enlarged.items()))
    _list(f"left out, as {limit}", (f"{path}: {factor:.2f} times" for path, factor in left_out.items()))
    _list("without a face that was found, cropped where most detail is", _where("has_no_face", crops))
    _list("with several pictures or pages in one file, of which the first was taken", _where("has_more", crops))
    _list("whose caption was kept, though the original's is another (--overwrite)", _where("has_other_caption", crops))
    return finish(outcome, "crops")


def _where(fact: str, crops: dict[Path, Crop]) -> Iterable[str]:
    """The pictures of which something is to be said."""
    return (str(source) for source, crop in crops.items() if getattr(crop, fact))


def _list(title: str, lines: Iterable[str]) -> None:
    found = list(lines)
    if found:
        say(f"{len(found)} {title}:")
        for line in found:
            say(f"  {line}")
