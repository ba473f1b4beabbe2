"""From the settings to the pictures: what is learned from, what is held out, and their latents."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from library.data.buckets import place, subset_buckets
from library.data.cache import Caches, LatentCache, MaskCache
from library.data.dataset import DataOptions, Dataset, build_dataset
from library.data.encoding import prepare_latents, prepare_masks
from library.data.folders import Subset, find_subsets
from library.data.pictures import Picture
from library.data.validation import split_validation, validation_view
from library.device import Compute
from library.files import default_cache
from library.settings import DatasetTable, ResolvedSubset, Settings, SubsetTable
from library.settings.tables import resolve_subset
from library.train.embedding import check_word
from library.train.identifier import check_identifier, with_prompts
from library.train.room import check_cache_room
from library.train.vae import Vae


@dataclass(frozen=True)
class Datasets:
    """What is trained on, and what a validation looks at if one is asked for."""

    train: Dataset
    validation: Dataset | None

    @property
    def all(self) -> list[Dataset]:
        """Both of them, or the one."""
        return [self.train] if self.validation is None else [self.train, self.validation]


def find_pictures(settings: Settings) -> list[Subset]:
    """The pictures of `in_json`, the folders of `train_data_dir` and `reg_data_dir`, or those of the dataset tables."""
    if settings.datasets:
        return [with_prompts(subset_of(resolved), settings) for resolved in settings.subset_tables()]
    subsets = []
    if settings.in_json:
        subsets.append(_flat_subset(settings, settings.train_data_dir, metadata_file=settings.in_json))
    train_folder = None if settings.in_json else settings.train_data_dir
    for folder, is_reg in ((train_folder, False), (settings.reg_data_dir, True)):
        if folder:
            subsets += find_subsets(folder, is_reg, _flat_subset(settings, folder, is_reg=is_reg))
    return [with_prompts(subset, settings) for subset in subsets]


def open_datasets(settings: Settings) -> Datasets:
    """Finds and checks all pictures and holds some out for the validation.

    Without a split, `validate_every_n_...` look at the training pictures; with one, but without these, the
    validation comes after each epoch.
    """
    options = DataOptions(
        cache_dir=cache_folder(settings),
        skip_unreadable=settings.skip_unreadable,
        prior_loss_weight=settings.prior_loss_weight,
        masked_loss=settings.masked_loss,
        variants=settings.cache_variants if settings.cache_latents else None,
    )
    dataset = build_dataset(find_pictures(settings), options, settings.seed)
    check_identifier(settings, dataset.pictures)
    check_word(settings, dataset.pictures)
    if settings.dry_run and settings.num_class_images:
        dataset = dataset.with_pictures([*dataset.pictures, *_class_pictures_to_come(settings, dataset)])
    if settings.validation_split > 0:
        seed = settings.seed if settings.validation_seed is None else settings.validation_seed
        return Datasets(*split_validation(dataset, settings.validation_split, seed))
    asked = settings.validate_every_n_steps or settings.validate_every_n_epochs
    return Datasets(dataset, validation_view(dataset) if asked else None)


def cache_folder(settings: Settings) -> Path:
    """Where latents and the picture index are kept from run to run."""
    if settings.cache_dir:
        return settings.cache_dir
    return default_cache()


def encode_pictures(settings: Settings, datasets: Sequence[Dataset], vae: Vae, compute: Compute) -> Caches | None:
    """Fills the caches with what they lack, shared out among the processes; the VAE then leaves the device.

    With `cache_latents = false` there are none, and each batch is encoded when it comes. If the VAE overflows in
    half precision, all pictures are encoded in float32.
    """
    if not settings.cache_latents:
        return None
    folder = cache_folder(settings)
    masks = MaskCache(folder)
    for dataset in datasets:
        prepare_masks(dataset, masks, (compute.rank, compute.world_size))
    fingerprint = vae.family.fingerprint("vae", folder)
    while True:
        # The number format changes the latents a little, so each has entries of its own.
        latents = LatentCache(folder, f"{fingerprint} {vae.dtype} {compute.device.type}")
        if compute.is_main:
            check_cache_room(datasets, latents)
        if not compute.any(_overflows(settings, datasets, vae, latents, compute)):
            break
        vae.use_float32()
    compute.wait()
    vae.leave_device()
    return Caches(latents, masks)


def _overflows(settings: Settings, datasets: Sequence[Dataset], vae: Vae, cache: LatentCache, compute: Compute) -> bool:
    """Encodes what is missing; true if that cannot be done in half precision."""
    share = (compute.rank, compute.world_size)
    with tqdm(desc="encoding pictures", unit="view", disable=not compute.is_main, leave=False, delay=1) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            for dataset in datasets:
                prepare_latents(dataset, vae.encode, cache, settings.vae_batch_size, show, share)
        except FloatingPointError:
            if vae.dtype == torch.float32:
                raise
            return True
    return False


def _flat_subset(settings: Settings, folder: Path | None, **table: Any) -> Subset:
    """A folder that no dataset table names, with what the flat settings say."""
    return subset_of(resolve_subset(settings, DatasetTable(), SubsetTable(image_dir=folder, **table)))


def _class_pictures_to_come(settings: Settings, dataset: Dataset) -> list[Picture]:
    """The class pictures that a dry run does not draw, so that its plan counts them all the same."""
    folder = settings.reg_data_dir or Path("class pictures")
    subset = with_prompts(_flat_subset(settings, folder, is_reg=True), settings)
    placing = place(settings.resolution, subset_buckets(subset), subset)
    held = sum(picture.subset.is_reg for picture in dataset.pictures)
    missing = (settings.num_class_images or 0) - held
    names = [f"class picture {number}" for number in range(missing)]
    caption = subset.class_tokens or ""
    return [Picture(folder / name, name, *settings.resolution, placing, caption, False, subset) for name in names]


def subset_of(resolved: ResolvedSubset) -> Subset:
    """What the settings decided, as the data's own plain record; metadata's pictures lie beside it, unless said."""
    values = {name: value for name, value in asdict(resolved).items() if value is not None}
    if resolved.image_dir is None and resolved.metadata_file:
        values["image_dir"] = resolved.metadata_file.parent
    return Subset(**values)
