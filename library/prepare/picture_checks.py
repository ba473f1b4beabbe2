"""What the data-set doctor finds wrong with pictures, one by one and among each other, and with files beside them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from library.data.decoding import examine
from library.data.folders import EXTENSIONS, MASK_ENDING, UNREAD_EXTENSIONS
from library.data.masks import find_mask, misfit
from library.prepare.duplicates import exact_groups, near_groups
from library.prepare.examined import Examined, Wish
from library.prepare.findings import Finding, counted, finding, them
from library.prepare.looks import Looks

# Sharp photographs and drawings measure 0.2 to 1.0; one that a Gaussian has blurred measures the Gaussian's sigma.
BLURRED = 1.4  # pixels, where the shorter side is 512
DARK, BRIGHT = 0.27, 0.8  # luminance that hardly any pixel of a dark picture is above, or of a bright one below
GREY = 0.05  # distance of the channels; JPEG makes some of its own
PLAIN = 0.04  # the part of a picture that shows something in one that is nearly empty
LONG = 2.5  # times as long as wide, or the other way round
SMALL, LEAST = 2.0, 1.005  # times that a picture is enlarged: by far too small, and at all
CUT = 0.2  # the part of a picture that its bucket may cut off

Pictures = Sequence[Examined]


def unreadable(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Pictures that cannot be decoded; training refuses them."""
    broken = {each.path: each.reason for each in pictures if each.looks is None}
    if broken:
        yield finding(
            "unreadable",
            broken,
            f"{counted(len(broken), 'unreadable picture')}: a training run would stop; replace or remove "
            f"{them(len(broken))}, or set skip_unreadable = true.",
        )


def sizes(pictures: Pictures, wish: Wish) -> Iterator[Finding]:
    """Pictures that are too small for the resolution."""
    tiny = {each.path: _times(_lack(each)) for each in pictures if _lack(each) > SMALL}
    if tiny:
        width, height = wish.subset.resolution
        why = "base models know little of such sizes" if wish.subset.bucket_no_upscale else "enlarging teaches blur"
        yield finding(
            "tiny",
            tiny,
            f"{counted(len(tiny))} below half of the resolution {width}x{height}: {why}; find larger ones, leave "
            f"{them(len(tiny))} out, or train at a lower resolution.",
        )
    small = [each for each in pictures if each.path not in tiny and each.enlargement >= LEAST]
    if small:
        most = max(each.enlargement for each in small)
        yield finding(
            "enlarged",
            {each.path: _times(each.enlargement) for each in small},
            f"{counted(len(small))} would be enlarged, up to {most:.2f} times: find larger ones, train at a lower "
            "resolution, or set bucket_no_upscale = true.",
        )


def shapes(pictures: Pictures, wish: Wish) -> Iterator[Finding]:
    """Pictures that are far from square, or whose shape costs them much of what they show."""
    cut = {each.path: f"{each.loss:.0%} cut off" for each in pictures if each.loss > CUT}
    if cut:
        remedy = "raise max_bucket_reso" if wish.subset.enable_bucket else "set enable_bucket = true"
        yield finding(
            "cropped",
            cut,
            f"{counted(len(cut))} would lose more than {CUT:.0%} to the crop: {remedy}, or crop to the part that "
            "matters (preprocess/crop_images.py).",
        )
    odd = {each.path: _times(_length(looks)) for each, looks in _readable(pictures) if _length(looks) >= LONG}
    if odd:
        yield finding(
            "odd_shape",
            odd,
            f"{counted(len(odd))} at least {LONG} times as long one way as the other: crop {them(len(odd))} to the "
            "part that matters.",
        )


def light(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Pictures that are blurred, dark or washed out."""
    shown = [(each.path, looks) for each, looks in _readable(pictures) if looks.detail >= PLAIN]
    soft = {path: f"{looks.softness:.1f} px" for path, looks in shown if (looks.softness or 0) >= BLURRED}
    dark = [path for path, looks in shown if looks.brightest < DARK]
    bright = [path for path, looks in shown if looks.darkest > BRIGHT]
    cases = (
        ("blurred", soft, "blurred picture", "blur is learned like everything else; take sharper ones or leave"),
        ("dark", dark, "dark picture", "little can be seen there; take lighter ones or leave"),
        ("bright", bright, "washed-out picture", "nothing is dark there; take darker ones or leave"),
    )
    for kind, paths, noun, words in cases:
        if paths:
            sentence = f"{counted(len(paths), noun)}: {words} {them(len(paths))} out."
            yield finding(kind, paths, sentence, len(pictures))


def content(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Pictures with hardly anything on them, and greyscale ones among coloured ones."""
    readable = _readable(pictures)
    empty = [each.path for each, looks in readable if looks.detail < PLAIN]
    if empty:
        yield finding(
            "low_information",
            empty,
            f"{counted(len(empty))} nearly empty: only a plain ground can be learned there; leave "
            f"{them(len(empty))} out.",
            len(pictures),
        )
    shown = [(each.path, looks) for each, looks in readable if looks.detail >= PLAIN]
    grey = [path for path, looks in shown if looks.colour <= GREY]
    if grey and 2 * len(grey) < len(shown):
        yield finding(
            "greyscale",
            grey,
            f"{counted(len(grey), 'greyscale picture')} among {len(shown) - len(grey)} in colour: say so in the "
            f"caption (greyscale), or leave {them(len(grey))} out.",
        )


def duplicates(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Copies of the same bytes, and pictures that show nearly the same."""
    # "dog.jpg" before "dog (1).jpg": the original has the shorter name.
    known = sorted(_readable(pictures), key=lambda pair: len(pair[0].path.name))
    exact = [[known[place] for place in group] for group in exact_groups([looks.sha256 for _, looks in known])]
    if exact:
        surplus = sum(map(len, exact)) - len(exact)
        yield _copies(
            "exact_duplicates",
            exact,
            f"{counted(surplus, 'exact copy', 'exact copies')} of other pictures: keep one of each, and raise "
            "num_repeats for what shall count more.",
            len(pictures),
        )
    later = {each.path for group in exact for each, _ in group[1:]}
    single = [(each, looks) for each, looks in known if each.path not in later]
    near = [[single[place] for place in group] for group in near_groups([looks.fingerprint for _, looks in single])]
    if near:
        yield _copies(
            "near_duplicates",
            [sorted(group, key=lambda pair: -pair[1].width * pair[1].height) for group in near],
            f"{counted(len(near), 'group')} of pictures that show nearly the same, such as resized or mirrored copies "
            "and bursts: keep the best of each, or what they share is learned too well.",
            len(pictures),
        )


def masks(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Masks (`name-masklabel.png`) that do not fit their picture."""
    unfit: dict[Path, str] = {}
    scaled: dict[Path, str] = {}
    for each, looks in _readable(pictures):
        mask, own = find_mask(each.path), (looks.width, looks.height)
        if mask is None:
            continue
        try:
            size = examine(mask)[1:]
        except ValueError as error:
            unfit[mask] = str(error)
            continue
        if size != own:
            wrong = unfit if misfit(mask, size, own) else scaled
            wrong[mask] = f"{size[0]}x{size[1]}, its picture {own[0]}x{own[1]}"
    if unfit:
        sentence = f"broken or of another shape: masked loss would stop; make {them(len(unfit))} anew."
        yield finding("mask_unfit", unfit, f"{counted(len(unfit), 'mask')} {sentence}")
    if scaled:
        sentence = f"of another size: training scales {them(len(scaled))}; make new ones where edges matter."
        yield finding("mask_scaled", scaled, f"{counted(len(scaled), 'mask')} {sentence}")


def files(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Files that training passes over, and pictures of one name, which share their caption and mask."""
    stems: dict[Path, list[Path]] = {}
    for each in pictures:
        stems.setdefault(each.path.with_suffix(""), []).append(each.path)
    shared = [group for group in stems.values() if len(group) > 1]
    if shared:
        sentence = "of several pictures, which share one caption and one mask: rename all but one."
        members = [path for group in shared for path in group]
        yield finding("same_stem", members, f"{counted(len(shared), 'name')} {sentence}", groups=shared)
    folders = dict.fromkeys(each.subset.image_dir for each in pictures)
    entries = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    passed = [path for path in entries if path.suffix.lower() in UNREAD_EXTENSIONS]
    if passed:
        sentence = f"in a format that training does not read: convert {them(len(passed))} to .png or .jpg."
        yield finding("other_format", passed, f"{counted(len(passed))} {sentence}")
    named = [path for path in entries if path.suffix.lower() in EXTENSIONS and path.stem.endswith(MASK_ENDING)]
    alone = [path for path in named if path.with_name(path.stem.removesuffix(MASK_ENDING)) not in stems]
    if alone:
        sentence = f"without a picture: give {them(len(alone))} a picture's name, or remove {them(len(alone))}."
        yield finding("mask_alone", alone, f"{counted(len(alone), 'mask')} {sentence}")


CHECKS: tuple[Callable[[Pictures, Wish], Iterator[Finding]], ...] = (
    unreadable,
    sizes,
    shapes,
    light,
    content,
    duplicates,
    masks,
    files,
)


def _readable(pictures: Pictures) -> list[tuple[Examined, Looks]]:
    return [(each, each.looks) for each in pictures if each.looks is not None]


def _lack(picture: Examined) -> float:
    """How many times a picture is too small: enlarged by its bucket, or left small."""
    return picture.smallness if picture.subset.bucket_no_upscale else picture.enlargement


def _length(looks: Looks) -> float:
    return max(looks.width, looks.height) / min(looks.width, looks.height)


def _times(factor: float) -> str:
    return f"{factor:.2f} times" if factor < SMALL else f"{factor:.1f} times"


def _copies(kind: str, groups: Sequence[Sequence[tuple[Examined, Looks]]], sentence: str, total: int) -> Finding:
    """A finding about groups of pictures that show the same."""
    sets = [[each.path for each, _ in group] for group in groups]
    return finding(kind, [path for group in sets for path in group], sentence, total, sets)
