"""From the settings to the pictures: what is learned from, what is held out, and their latents."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn
from tqdm import tqdm

from library.data.cache import LatentCache, prepare_latents
from library.data.dataset import DataOptions, Dataset, build_dataset
from library.data.folders import Subset, find_subsets
from library.data.validation import split_validation, validation_view
from library.device import Compute, free_memory
from library.models.family import Family
from library.settings import DatasetTable, ResolvedSubset, Settings, SubsetTable
from library.settings.tables import resolve_subset


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
    """The folders of `train_data_dir` and `reg_data_dir`, or those of the dataset tables."""
    if settings.datasets:
        return [_subset(resolved) for resolved in settings.subset_tables()]
    subsets = []
    for folder, is_reg in ((settings.train_data_dir, False), (settings.reg_data_dir, True)):
        if folder:
            table = SubsetTable(image_dir=folder, is_reg=is_reg)
            defaults = _subset(resolve_subset(settings, DatasetTable(), table))
            subsets += find_subsets(folder, is_reg, defaults)
    return subsets


def open_datasets(settings: Settings) -> Datasets:
    """Finds and checks all pictures and holds some out for the validation.

    Without a split, `validate_every_n_...` look at the training pictures; with one, but without these, the
    validation comes after each epoch.
    """
    options = DataOptions(cache_folder(settings), settings.skip_unreadable, settings.prior_loss_weight)
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


def encode_pictures(
    settings: Settings, datasets: Sequence[Dataset], family: Family, vae: nn.Module, compute: Compute
) -> LatentCache | None:
    """Encodes what the cache lacks, shared out among the processes; the VAE then leaves the device.

    With `cache_latents = false` it stays there, because each batch needs it, and there is no cache.
    """
    vae.to(compute.device)
    if not settings.cache_latents:
        return None
    folder = cache_folder(settings)
    # The number format changes the latents a little, so each has entries of its own.
    precision = str(next(vae.parameters()).dtype)
    cache = LatentCache(folder, f"{family.fingerprint('vae', folder)} {precision} {compute.device.type}")

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return family.encode_images(vae, pixels.to(compute.device))

    share = (compute.rank, compute.world_size)
    with tqdm(desc="encoding pictures", unit="picture", disable=not compute.is_main, leave=False, delay=1) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        for dataset in datasets:
            prepare_latents(dataset, encode, cache, settings.vae_batch_size, show, share)
    compute.wait()
    vae.to("cpu")
    free_memory(compute.device)
    return cache


def _subset(resolved: ResolvedSubset) -> Subset:
    """What the settings decided, as the data's own plain record."""
    return Subset(**{name: value for name, value in asdict(resolved).items() if value is not None})
