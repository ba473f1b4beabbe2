"""The dataset of a run: checked pictures with captions and buckets, and what each epoch shows of them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from library.data.buckets import Placing, Size, place, subset_buckets
from library.data.captions import caption_variant, read_caption, split_tags
from library.data.decoding import Facts
from library.data.epochs import EffectiveBatch, Sample, Shape, by_shape, list_samples, plan_epoch
from library.data.folders import Captioned, Subset, collect_pictures
from library.data.index import PictureIndex, examine_all
from library.data.masked import find_masks, say_what_is_masked
from library.data.pictures import Mask, Picture
from library.data.views import View, is_varied, variant_seed, view_of
from library.errors import InputError
from library.log import warn


@dataclass(frozen=True)
class DataOptions:
    """What holds for all subsets.

    `cache_dir` keeps the picture index (None: every start checks every picture); `skip_unreadable` leaves
    broken pictures out instead of ending the run; `prior_loss_weight` is that of regularisation pictures.
    With `masked_loss` pictures have the masks that are found for them. `variants` is the number of crops and
    colours of a picture that a cache holds; None draws new ones for each showing.
    """

    cache_dir: Path | None = None
    skip_unreadable: bool = False
    prior_loss_weight: float = 1.0
    masked_loss: bool = False
    variants: int | None = None


class Dataset:
    """Pictures and the order they come in; every random choice is a function of (seed, epoch, sample)."""

    def __init__(
        self,
        pictures: Iterable[Picture],
        seed: int,
        prior_loss_weight: float = 1.0,
        skipped: Mapping[Path, str] | None = None,
        variants: int | None = None,
    ) -> None:
        self.pictures = tuple(pictures)
        self.seed = seed
        self.prior_loss_weight = prior_loss_weight
        self.skipped = dict(skipped or {})  # unreadable pictures that were left out, and why
        self.variants = variants  # see DataOptions
        self.samples = list_samples(self.pictures, prior_loss_weight)

    @property
    def sample_count(self) -> int:
        """Samples in an epoch: pictures times repeats, regularisation included."""
        return len(self.samples)

    def sample_count_of(self, is_reg: bool) -> int:
        """Samples in an epoch that are regularisation, or those that are not."""
        return sum(sample.is_reg == is_reg for sample in self.samples)

    def picture_count(self, is_reg: bool) -> int:
        """Pictures that are shown in an epoch, each counted once."""
        return len({sample.picture.key for sample in self.samples if sample.is_reg == is_reg})

    def steps_per_epoch(self, times: int) -> int:
        """Effective batches in an epoch, the same in every epoch; each is of `times` batches of a device."""
        return sum(math.ceil(count / (shape.batch_size * times)) for shape, count in self.shapes.items())

    def plan(self, epoch: int, times: int) -> list[EffectiveBatch]:
        """The effective batches of one epoch (from 0), in order. Every sample is in exactly one of them."""
        return plan_epoch(self.samples, self.seed, epoch, times)

    def caption_of(self, sample: Sample, epoch: int, step: int = 0, steps: int = 0) -> str:
        """The caption as it is shown in this epoch; `step` of `steps` in the run decides on token warmup alone."""
        picture, seed = sample.picture, sample.seed(self.seed, "caption", epoch)
        return caption_variant(picture.caption, picture.subset, seed, epoch, step, steps)

    def flip_of(self, sample: Sample, epoch: int) -> bool:
        """Whether the sample is mirrored left to right in this epoch."""
        return sample.picture.subset.flip_aug and bool(sample.seed(self.seed, "flip", epoch) & 1)

    def view_of(self, sample: Sample, epoch: int) -> View:
        """How the sample is cut, coloured and mirrored in this epoch."""
        picture, flip = sample.picture, self.flip_of(sample, epoch)
        if not is_varied(picture.subset):
            return view_of(picture, variant_seed(picture, 0), flip)
        if self.variants is None:
            return view_of(picture, sample.seed(self.seed, "view", epoch), flip)
        number = sample.seed(self.seed, "variant", epoch) % self.variants
        return view_of(picture, variant_seed(picture, number), flip)

    @cached_property
    def has_masks(self) -> bool:
        """Whether any sample has a mask."""
        return any(sample.picture.mask for sample in self.samples)

    def draw_seed(self, sample: Sample, epoch: int) -> int:
        """The 63-bit seed of the sample's noise, timestep and latent in this epoch."""
        return sample.seed(self.seed, "draw", epoch)

    def with_pictures(self, pictures: Iterable[Picture]) -> "Dataset":
        """The same settings with other pictures."""
        return Dataset(pictures, self.seed, self.prior_loss_weight, self.skipped, self.variants)

    @property
    def resolution(self) -> Size:
        """What is trained at, (width, height) in pixels; of several resolutions the largest."""
        return max((picture.subset.resolution for picture in self.pictures), key=math.prod)

    def bucket_counts(self) -> dict[Size, int]:
        """Samples in an epoch by (width, height) of the bucket."""
        counts: Counter[Size] = Counter()
        for shape, count in self.shapes.items():
            counts[shape.size] += count
        return dict(counts)

    def tag_frequency(self) -> dict[str, dict[str, int]]:
        """How many pictures of each folder have each tag, in lower case, for the metadata of the result."""
        counts: dict[str, Counter[str]] = {}
        for picture in self.pictures:
            tags = split_tags(picture.caption.lower().replace("\n", ","), ",")
            counts.setdefault(picture.subset.label, Counter()).update(tags)
        return {folder: dict(tags) for folder, tags in counts.items()}

    def dataset_dirs(self, is_reg: bool = False) -> dict[str, dict[str, int]]:
        """Repeats and number of pictures of each folder, for the metadata of the result."""
        folders: dict[str, dict[str, int]] = {}
        for picture in self.pictures:
            if picture.subset.is_reg == is_reg:
                entry = {"n_repeats": picture.subset.num_repeats, "img_count": 0}
                folders.setdefault(picture.subset.label, entry)["img_count"] += 1
        return folders

    @cached_property
    def shapes(self) -> dict[Shape, int]:
        """Samples in an epoch by what they share in a batch, the smallest first."""
        return {shape: len(samples) for shape, samples in sorted(by_shape(self.samples).items())}


def build_dataset(subsets: list[Subset], options: DataOptions, seed: int) -> Dataset:
    """Finds, checks and describes all pictures; nothing in their folders is written.

    Raises InputError with all complaints at once: folders without pictures, unreadable pictures (unless
    `skip_unreadable`), captions that are not text, sizes that do not fit.
    """
    found, complaints = collect_pictures(subsets)
    if not complaints and not any(not subset.is_reg for subset, _ in found):
        complaints.append("there are no pictures to train on; name their folder with train_data_dir.")
    index = PictureIndex(options.cache_dir)
    facts, broken = examine_all(dict.fromkeys(path for _, paths in found for path in paths), index)
    if broken and not options.skip_unreadable:
        complaints += [f"the picture {path} cannot be read: {reason}." for path, reason in broken.items()]
        complaints.append(f"replace or remove unreadable pictures ({len(broken)}), or set skip_unreadable = true.")
    pictures: list[Picture] = []
    for subset, paths in found:
        try:
            readable = {path: lines for path, lines in paths.items() if path in facts}
            masks, wrong = find_masks(subset, readable, facts, options.masked_loss, index)
            complaints += wrong
            pictures += _describe(subset, readable, facts, masks)
        except InputError as error:
            complaints += error.sentences
    if not complaints and all(picture.subset.is_reg for picture in pictures):
        complaints += [f"none of the {len(broken)} pictures can be read."]
    if complaints:
        raise InputError.of(dict.fromkeys(complaints))
    _say_what_is_odd(pictures, broken)
    say_what_is_masked(pictures, options.masked_loss)
    numbered = _number_copies(pictures)
    return Dataset(numbered, seed, options.prior_loss_weight, broken, options.variants)


def _describe(
    subset: Subset, paths: Captioned, facts: Mapping[Path, Facts], masks: Mapping[Path, Mask]
) -> list[Picture]:
    """The readable pictures of one subset, or every complaint about its sizes and captions."""
    buckets = subset_buckets(subset)
    placings: dict[Size, Placing] = {}  # many pictures share a size
    pictures: list[Picture] = []
    complaints: list[str] = []
    longer = 0
    for path, given in paths.items():
        try:
            lines = read_caption(path, subset.caption_extension) if given is None else given
        except InputError as error:
            complaints += error.sentences
            continue
        if not subset.enable_wildcard:
            longer += len(lines) > 1
            lines = lines[:1]
        content, width, height = facts[path]
        if (width, height) not in placings:
            placings[width, height] = place((width, height), buckets, subset)
        pictures.append(
            Picture(
                path=path,
                sha256=content,
                width=width,
                height=height,
                placing=placings[width, height],
                caption="\n".join(lines) or subset.class_tokens or "",
                has_caption=bool(lines),
                subset=subset,
                mask=masks.get(path),
            )
        )
    if complaints:
        raise InputError.of(complaints)
    if longer:
        warn(
            f"{longer} captions in {subset.source} have several lines; only the first is used. "
            "With enable_wildcard = true each showing has one of them by chance."
        )
    return pictures


def _number_copies(pictures: list[Picture]) -> list[Picture]:
    """Tells pictures of the same content apart."""
    seen: Counter[str] = Counter()
    numbered: list[Picture] = []
    for picture in pictures:
        earlier = seen[picture.sha256]
        numbered.append(replace(picture, copy=earlier) if earlier else picture)
        seen[picture.sha256] += 1
    return numbered


def _say_what_is_odd(pictures: list[Picture], broken: Mapping[Path, str]) -> None:
    files = Counter({picture.path: picture.sha256 for picture in pictures}.values())
    twins = sum(count - 1 for count in files.values())
    if twins:
        warn(f"{twins} pictures are exact copies of others; they count as often as they are there.")
    wordless = {picture.path: picture.subset.source for picture in pictures if not picture.caption}
    if wordless:
        folders = ", ".join(map(str, dict.fromkeys(wordless.values())))
        warn(
            f"{len(wordless)} pictures in {folders} have neither a caption nor class words; they train "
            "without words. Write captions, set instance_prompt, or name the folder `10_class words` (in dataset "
            "tables: set class_tokens)."
        )
    for path, reason in broken.items():
        warn(f"{path} is left out: {reason}.")
