"""The tables of a dataset file: folders of pictures and how each is read."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

# Keys of the tables that are named otherwise among the flat settings.
FLAT_NAMES = {"num_repeats": "dataset_repeats", "batch_size": "train_batch_size"}


@dataclass(frozen=True)
class InheritedKeys:
    """What a folder, a dataset or [general] may say; None means that the table above decides."""

    class_tokens: str | None = None
    num_repeats: int | None = None
    caption_extension: str | None = None
    caption_separator: str | None = None
    secondary_separator: str | None = None
    enable_wildcard: bool | None = None
    shuffle_caption: bool | None = None
    keep_tokens: int | None = None
    keep_tokens_separator: str | None = None
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    trigger_words: str | None = None
    caption_dropout_rate: float | None = None
    caption_dropout_every_n_epochs: int | None = None
    caption_tag_dropout_rate: float | None = None
    token_warmup_min: int | None = None
    token_warmup_step: int | float | None = None
    flip_aug: bool | None = None
    color_aug: bool | None = None
    random_crop: bool | None = None
    face_crop_aug_range: tuple[float, float] | None = None
    resize_interpolation: str | None = None
    alpha_mask: bool | None = None
    conditioning_data_dir: Path | None = None


@dataclass(frozen=True)
class SubsetTable(InheritedKeys):
    """One [[datasets.subsets]]: a folder of pictures, or a file that names them; then the folder may be unset."""

    image_dir: Path | None = None
    metadata_file: Path | None = None
    is_reg: bool = False


@dataclass(frozen=True)
class DatasetTable(InheritedKeys):
    """One [[datasets]], with what [general] says filled in: folders that share a size and its buckets.

    `validation_split` and `validation_seed` are one for the whole run; reading the settings copies them to the
    flat ones.
    """

    resolution: tuple[int, int] | None = None
    batch_size: int | None = None
    enable_bucket: bool | None = None
    min_bucket_reso: int | None = None
    max_bucket_reso: int | None = None
    bucket_reso_steps: int | None = None
    bucket_no_upscale: bool | None = None
    validation_split: float | None = None
    validation_seed: int | None = None
    subsets: tuple[SubsetTable, ...] = ()


@dataclass(frozen=True)
class ResolvedSubset:
    """A folder of pictures with everything decided; only what may be absent altogether can be None."""

    image_dir: Path | None
    metadata_file: Path | None
    is_reg: bool
    class_tokens: str | None
    num_repeats: int
    caption_extension: str
    caption_separator: str
    secondary_separator: str | None
    enable_wildcard: bool
    shuffle_caption: bool
    keep_tokens: int
    keep_tokens_separator: str | None
    caption_prefix: str | None
    caption_suffix: str | None
    trigger_words: str | None
    caption_dropout_rate: float
    caption_dropout_every_n_epochs: int
    caption_tag_dropout_rate: float
    token_warmup_min: int
    token_warmup_step: int | float
    flip_aug: bool
    color_aug: bool
    random_crop: bool
    face_crop_aug_range: tuple[float, float] | None
    resize_interpolation: str
    alpha_mask: bool
    conditioning_data_dir: Path | None
    batch_size: int
    resolution: tuple[int, int]
    enable_bucket: bool
    min_bucket_reso: int
    max_bucket_reso: int
    bucket_reso_steps: int
    bucket_no_upscale: bool


def resolve_subset(settings: object, dataset: DatasetTable, subset: SubsetTable) -> ResolvedSubset:
    """`subset` with what it leaves open taken from `dataset`, and then from the flat `settings`."""
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(ResolvedSubset)):
        flat = getattr(settings, FLAT_NAMES.get(name, name), None)
        found = (getattr(table, name, None) for table in (subset, dataset))
        values[name] = next((value for value in found if value is not None), flat)
    if subset.is_reg:  # the class must not learn the subject's name, unless its own table says so
        values["trigger_words"] = subset.trigger_words
    values["min_bucket_reso"], values["max_bucket_reso"] = fit_bucket_range(
        values["min_bucket_reso"],
        values["max_bucket_reso"],
        values["bucket_reso_steps"],
        values["resolution"],
    )
    return ResolvedSubset(**values)


def fit_bucket_range(low: int, high: int, step: int, resolution: tuple[int, int]) -> tuple[int, int]:
    """The range of bucket sides in pixels: whole steps, and the lower end never above the resolution."""
    low = min(low, *resolution)
    return max(step, low // step * step), -(-high // step) * step
