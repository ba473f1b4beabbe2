"""Where pictures come from: a plain folder, or kohya's `N_class words` folders."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from PIL import features

from library.data.metadata import read_metadata
from library.documents import is_whole
from library.errors import InputError
from library.log import warn

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".heic", ".heif") + (
    (".avif",) if features.check("avif") else ()
)
UNREAD_EXTENSIONS = {".gif", ".tif", ".tiff", ".jxl", ".avif", ".jfif", ".psd"}.difference(EXTENSIONS)
MASK_ENDING = "-masklabel"  # `photo-masklabel.png` is the mask of `photo.jpg`, and no picture
MOST_REPEATS = 100_000
COUNTED_FOLDER = re.compile(r"(\d+)_(.*)")


@dataclass(frozen=True)
class Subset:
    """One folder of pictures and how it is used; the fields are those of sd-scripts' dataset tables.

    `batch_size` is that of one device. `resolution` is (width, height) in pixels; `min_bucket_reso`,
    `max_bucket_reso` and `bucket_reso_steps` are pixels too. Without `enable_bucket` every picture is cropped to
    `resolution`. With a `metadata_file` its pictures are those that the file names, and `image_dir` is where their
    names begin.
    """

    image_dir: Path
    metadata_file: Path | None = None
    class_tokens: str | None = None
    is_reg: bool = False
    num_repeats: int = 1
    caption_extension: str = ".txt"
    caption_separator: str = ","
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    trigger_words: str | None = None
    secondary_separator: str | None = None
    enable_wildcard: bool = False
    shuffle_caption: bool = False
    keep_tokens: int = 0
    keep_tokens_separator: str | None = None
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    token_warmup_min: int = 1
    token_warmup_step: int | float = 0
    flip_aug: bool = False
    color_aug: bool = False
    random_crop: bool = False
    face_crop_aug_range: tuple[float, float] | None = None
    resize_interpolation: str = "lanczos"
    alpha_mask: bool = False
    conditioning_data_dir: Path | None = None
    batch_size: int = 1
    resolution: tuple[int, int] = (512, 512)
    enable_bucket: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False

    @property
    def source(self) -> Path:
        """What names its pictures: the file of metadata, or else the folder."""
        return self.metadata_file or self.image_dir

    @cached_property
    def label(self) -> str:
        """The name alone, of the file or the folder, for the metadata of the result."""
        return self.source.resolve().name

    @property
    def joint(self) -> str:
        """What tags are joined with: the separator and a blank, unless it brings its own."""
        return self.caption_separator + ("" if self.caption_separator[-1:].isspace() else " ")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie directly in a folder, by name. Hidden files and masks are left out."""
    return _pictures_of(folder, _entries(folder))


def is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture to train on; masks are not."""
    return _is_picture(path.name)


def has_masks(folder: Path) -> bool:
    """Whether masks lie directly in a folder."""
    return any(os.path.splitext(entry.name)[0].endswith(MASK_ENDING) for entry in _entries(folder))


def _has_pictures(folder: Path) -> bool:
    return any(_is_picture(entry.name) and _is_file(entry) for entry in _entries(folder))


def _pictures_of(folder: Path, entries: Iterable[os.DirEntry[str]]) -> list[Path]:
    return [folder / entry.name for entry in entries if _is_picture(entry.name) and _is_file(entry)]


def _is_picture(name: str) -> bool:
    stem, ending = os.path.splitext(name)
    return ending.lower() in EXTENSIONS and not stem.endswith(MASK_ENDING)


def find_subsets(folder: Path, is_reg: bool, defaults: Subset) -> list[Subset]:
    """The subsets in a folder: one for each `N_class words` folder in it, or else the folder itself.

    N is the number of repeats and the rest of the name the class words, as in kohya sd-scripts; unlike there,
    a plain folder of pictures is enough. Folders are not searched deeper; whatever is passed over is said.

    Args:
        folder: what `train_data_dir` or `reg_data_dir` names
        is_reg: whether these are regularisation pictures
        defaults: everything that the folders' names do not say
    """
    folder = Path(folder)
    _check_folder(folder)
    inner = [folder / entry.name for entry in _entries(folder) if _is_folder(entry)]
    full = [path for path in inner if _has_pictures(path)]
    counted = [path for path in full if COUNTED_FOLDER.fullmatch(path.name)]
    loose = pictures_in(folder)
    if not counted and not loose:
        remedy = " Set num_class_images and class_prompt to have some drawn into it." if is_reg else ""
        raise InputError(_nothing_found(folder, full) + remedy)
    if counted:
        _say_skipped(folder, [path for path in inner if path not in counted], full)
        if loose:
            warn(f"{len(loose)} pictures directly in {folder} are not used, because it has N_class folders.")
        subsets = [_counted_subset(path, is_reg, defaults) for path in counted]
    else:
        _say_skipped(folder, full, full)
        subsets = [_plain_subset(folder, is_reg, defaults)]
    return subsets


# Pictures with the lines of their captions; None where these lie in a file beside the picture.
Captioned = Mapping[Path, list[str] | None]


def collect_pictures(subsets: Iterable[Subset]) -> tuple[list[tuple[Subset, Captioned]], list[str]]:
    """Every subset that is used, with its pictures, and a sentence for each that cannot be."""
    found: list[tuple[Subset, Captioned]] = []
    complaints: list[str] = []
    known: set[Subset] = set()
    for subset in subsets:
        # Other captions or sizes of the same pictures are something else to learn; being their own class is not.
        source = subset.source.resolve()
        twin = replace(subset, image_dir=source, metadata_file=None, num_repeats=1, is_reg=False, trigger_words=None)
        if subset.num_repeats < 1:
            warn(f"{subset.source} is left out, because its number of repeats is {subset.num_repeats}.")
        elif twin in known:
            warn(f"{subset.source} is given twice with the same settings; the second is left out.")
        else:
            try:
                found.append((subset, _all_pictures(subset)))
            except InputError as error:
                complaints += error.sentences
        known.add(twin)
    return found, complaints


def _all_pictures(subset: Subset) -> Captioned:
    """The pictures of one subset; those in formats that are not read are said."""
    folder = subset.image_dir
    if subset.metadata_file:
        named = read_metadata(subset.metadata_file, folder, EXTENSIONS, subset.joint)
        masks = {path for path in named if path.stem.endswith(MASK_ENDING)}
        if masks:
            warn(f"{subset.metadata_file} names {len(masks)} masks, which are not trained on.")
        return {path: lines for path, lines in named.items() if path not in masks}
    _check_folder(folder)
    entries = _entries(folder)
    pictures = _pictures_of(folder, entries)
    suffixes = Counter(os.path.splitext(entry.name)[1].lower() for entry in entries)
    unread = [f"{suffixes[suffix]} {suffix}" for suffix in sorted(UNREAD_EXTENSIONS & {*suffixes})]
    if unread:
        warn(f"{folder} holds pictures that are not read ({', '.join(unread)}); convert them to .png.")
    if not pictures:
        raise InputError(_nothing_found(folder, []))
    return dict.fromkeys(pictures)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; entries know what they are without another look at the disk."""
    try:
        with os.scandir(folder) as entries:
            return sorted((each for each in entries if not each.name.startswith(".")), key=attrgetter("name"))
    except OSError as error:
        raise InputError(f"the picture folder {folder} cannot be read: {error.strerror}.") from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file; a link that leads nowhere is one too, so that it is named as unreadable."""
    if entry.is_symlink():  # where an entry itself fails on circles
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _check_folder(folder: Path) -> None:
    if not os.path.exists(folder):
        raise InputError(f"the picture folder {folder} does not exist.")
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is a file; a folder of pictures is needed.")


def _counted_subset(folder: Path, is_reg: bool, defaults: Subset) -> Subset:
    match = COUNTED_FOLDER.fullmatch(folder.name)
    assert match is not None
    repeats = int(match[1])
    if repeats > MOST_REPEATS:
        raise InputError(f"{folder} asks for {repeats} repeats of each picture; {MOST_REPEATS} are the most.")
    if not is_whole(folder.name):
        raise InputError(f"the name of the folder {folder} is not UTF-8; rename it.")
    words = match[2].strip() or defaults.class_tokens
    return replace(defaults, image_dir=folder, is_reg=is_reg, num_repeats=repeats, class_tokens=words)


def _plain_subset(folder: Path, is_reg: bool, defaults: Subset) -> Subset:
    # People point at the `10_sks dog` folder itself as often as at the one around it, and mean its name.
    if COUNTED_FOLDER.fullmatch(folder.resolve().name):
        return replace(_counted_subset(folder.resolve(), is_reg, defaults), image_dir=folder)
    return replace(defaults, image_dir=folder, is_reg=is_reg)


def _say_skipped(folder: Path, skipped: list[Path], full: list[Path]) -> None:
    for path in skipped:
        if path not in full:
            why = "there is no picture directly in it"
        elif COUNTED_FOLDER.fullmatch(path.name):
            why = "pictures lie beside it"
        else:
            why = "only the pictures directly in a folder or in folders named `N_class words` are used"
        warn(f"the folder {path.name} in {folder} is skipped: {why}.")


def _nothing_found(folder: Path, full: list[Path]) -> str:
    sentence = f"no pictures found in {folder}; looked for {', '.join(EXTENSIONS)}"
    if not full:
        return sentence + "."
    names = ", ".join(path.name for path in full)
    return f"{sentence}. Its folders {names} hold some: name them like `10_class words`, or give one of them."
