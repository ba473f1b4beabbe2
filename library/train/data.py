"""From the settings to the pictures: what is learned from, what is held out, and their latents."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from library.data.cache import Caches, LatentCache, MaskCache
from library.data.dataset import DataOptions, Dataset, build_dataset
from library.data.encoding import prepare_latents, prepare_masks
from library.data.folders import Subset, find_subsets
from library.data.validation import split_validation, validation_view
from library.device import Compute
from library.settings import DatasetTable, ResolvedSubset, Settings, SubsetTable
from library.settings.tables import resolve_subset
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
        return [subset_of(resolved) for resolved in settings.subset_tables()]
    subsets = []
    if settings.in_json:
        table = SubsetTable(image_dir=settings.train_data_dir, metadata_file=settings.in_json)
        subsets.append(subset_of(resolve_subset(settings, DatasetTable(), table)))
    train_folder = None if settings.in_json else settings.train_data_dir
    for folder, is_reg in ((train_folder, False), (settings.reg_data_dir, True)):
        if folder:
            table = SubsetTable(image_dir=folder, is_reg=is_reg)
            defaults = subset_of(resolve_subset(settings, DatasetTable(), table))
            subsets += find_subsets(folder, is_reg, defaults)
    return subsets


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
    if settings.validation_split > 0:
        seed = settings.seed if settings.validation_seed is None else settings.validation_seed
        return Datasets(*split_validation(dataset, settings.validation_split, seed))
    asked = settings.validate_every_n_steps or settings.validate_every_n_epochs
    return Datasets(dataset, validation_view(dataset) if asked else None)


def cache_folder(settings: Settings) -> Path:
    """Where latents and the picture index are kept from run to run."""
    if settings.cache_dir:
        return settings.cache_dir
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "easel"


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
        if not compute.any(_overflows(settings, datasets, vae, latents, compute)):
            break
        vae.use_float32()
    compute.wait()
    vae.leave_device()
    return Caches(latents, masks)


def _overflows(
    settings: Settings, datasets: Sequence[Dataset], vae: Vae, cache: LatentCache, compute: Compute
) -> bool:
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


def subset_of(resolved: ResolvedSubset) -> Subset:
    """What the settings decided, as the data's own plain record; metadata's pictures lie beside it, unless said."""
    values = {name: value for name, value in asdict(resolved).items() if value is not None}
    if resolved.image_dir is None and resolved.metadata_file:
        values["image_dir"] = resolved.metadata_file.parent
    return Subset(**values)
