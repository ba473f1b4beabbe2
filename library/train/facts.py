"""What is told of a run: in the files' metadata, on the screen, and to a run that goes on from a saved state."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from library.adapters.metadata import TrainingFacts
from library.data.dataset import Dataset
from library.data.folders import Subset
from library.data.views import is_varied
from library.models.family import Family
from library.optim.optimizers import describe
from library.seeds import derive_seed
from library.settings import DatasetTable, ResolvedSubset, Settings
from library.settings.tables import resolve_subset
from library.train.data import Datasets, cache_folder, subset_of
from library.train.identifier import with_prompts
from library.train.learner import Learner
from library.train.plan import Plan
from library.train.rates import warmup_steps
from library.train.retold import told_settings
from library.train.state import State

# Settings that may differ when a run goes on: how long it is, where files lie, how its samples are cut into
# batches and computed, and what is only looked at. What they stand for is compared by content instead.
FREE_WORDS = """
    v2 sdxl
    max_train_steps max_train_epochs max_steps_per_photo dry_run resume
    pretrained_model_name_or_path vae train_data_dir reg_data_dir in_json datasets network_weights
    train_batch_size gradient_accumulation_steps gradient_checkpointing selective_checkpointing
    cuda_graphs channels_last mixed_precision memory
    cache_latents cache_text_encoder_outputs vae_batch_size cache_dir max_data_loader_n_workers skip_unreadable
    cache_variants no_half_vae conditioning_data_dir fused_backward_pass ema_device
    num_class_images class_image_steps class_image_guidance
    training_comment no_metadata max_validation_steps skip_nonfinite_steps
"""
FREE_TO_CHANGE = frozenset(FREE_WORDS.split())
FREE_PREFIXES = ("output_", "save_", "sample_", "log", "metadata_", "validate_")

# What sd-scripts' metadata tell of each subset.
SUBSET_FACTS_WORDS = """
    num_repeats color_aug flip_aug random_crop shuffle_caption keep_tokens keep_tokens_separator
    secondary_separator enable_wildcard caption_prefix caption_suffix resize_interpolation
"""
SUBSET_FACTS = SUBSET_FACTS_WORDS.split()


def run_identity(settings: Settings, family: Family, dataset: Dataset, plan: Plan) -> dict[str, Any]:
    """Everything that decides what a run learns; a state is resumed only where all of it is the same."""
    return told_identity(settings, family) | {
        "effective_batch_size": plan.effective_batch,
        "pictures_and_captions": _content_of(dataset),
        "variants": dataset.variants if any(is_varied(picture.subset) for picture in dataset.pictures) else 0,
        "datasets": [_decisive(subset, plan) for subset in settings.subset_tables()],
    }


def told_identity(settings: Settings, family: Family) -> dict[str, Any]:
    """The part of it that is known before the pictures are."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    decisive = {
        name: value
        for name, value in values.items()
        if name not in FREE_TO_CHANGE and not name.startswith(FREE_PREFIXES)
    }
    folder, parts = cache_folder(settings), ("unet", *family.text_parts, "vae")
    return decisive | {"base_model": {part: family.fingerprint(part, folder) for part in parts}}


def _decisive(subset: ResolvedSubset, plan: Plan) -> dict[str, Any]:
    """What a dataset table decides, wherever its pictures lie and however its batches are cut."""
    values = asdict(subset) | {"resolution": list(subset.resolution), "batch_size": subset.batch_size * plan.times}
    del values["image_dir"], values["metadata_file"], values["conditioning_data_dir"]
    return values


def _content_of(dataset: Dataset) -> str:
    """A hash of all samples and their captions."""
    digest = hashlib.sha256()
    for sample in dataset.samples:
        picture = sample.picture
        digest.update(repr((picture.key, picture.placing, picture.caption, sample.repeat)).encode())
        digest.update(picture.mask.sha256.encode() if picture.mask else b"")
    return digest.hexdigest()


def training_facts(
    settings: Settings, family: Family, learner: Learner, plan: Plan, datasets: Datasets, state: State | None
) -> TrainingFacts:
    """What the metadata says of this run, but for what changes until a file is written.

    A run that goes on from `state` began when that one did.
    """
    dataset = datasets.train
    held_out = datasets.validation if settings.validation_split else None
    started_at = state.progress["started_at"] if state else time.time()
    return TrainingFacts(
        output_name=settings.output_name,
        base_name=family.base_name,
        base_model_version=family.base_model_version,
        architecture=family.architecture,
        prediction_type=family.prediction_type,
        zero_terminal_snr=family.zero_terminal_snr,
        resolution=dataset.resolution,
        base_hashes=family.base_hashes(cache_folder(settings)),
        started_at=started_at,
        session_id=derive_seed(0, settings.output_name, str(started_at)) % 2**32,
        epochs=plan.epochs,
        warmup_steps=warmup_steps(settings, plan.steps),
        optimizer=describe(learner.optimizer, settings.optimizer_args),
        pictures=dataset.sample_count_of(is_reg=False),
        reg_pictures=dataset.sample_count_of(is_reg=True),
        validation_pictures=held_out.sample_count if held_out else 0,
        batches_per_epoch=plan.steps_per_epoch * plan.accumulation,
        batch_size=max(plan.batch_sizes),
        total_batch_size=plan.effective_batch,
        dataset_dirs=dataset.dataset_dirs(),
        reg_dataset_dirs=dataset.dataset_dirs(is_reg=True),
        bucket_counts=dataset.bucket_counts(),
        tag_frequency=dataset.tag_frequency(),
        datasets=[_dataset_facts(settings, table, dataset) for table in settings.datasets],
        no_metadata=settings.no_metadata,
        settings=_as_written(settings),
        settings_text=told_settings(settings),
    )


def _dataset_facts(settings: Settings, table: DatasetTable, whole: Dataset) -> dict[str, Any]:
    """What sd-scripts writes of one [[datasets]] in its metadata."""
    resolved = (resolve_subset(settings, table, subset) for subset in table.subsets)
    subsets = [with_prompts(subset_of(each), settings) for each in resolved]
    dataset = whole.with_pictures(picture for picture in whole.pictures if picture.subset in subsets)
    pictures = Counter(picture.subset for picture in dataset.pictures)
    buckets = enumerate(dataset.bucket_counts().items())
    first = subsets[0]
    return {
        "is_dreambooth": not any(subset.metadata_file for subset in subsets),
        "batch_size_per_device": first.batch_size,
        "num_train_images": dataset.sample_count_of(is_reg=False),
        "num_reg_images": dataset.sample_count_of(is_reg=True),
        "resolution": list(first.resolution),
        **{name: getattr(first, name) for name in ("enable_bucket", "min_bucket_reso", "max_bucket_reso")},
        "tag_frequency": dataset.tag_frequency(),
        "bucket_info": {"buckets": {n: {"resolution": list(size), "count": count} for n, (size, count) in buckets}},
        "subsets": [_subset_facts(subset, pictures[subset]) for subset in subsets],
    }


def _subset_facts(subset: Subset, pictures: int) -> dict[str, Any]:
    """What sd-scripts writes of one subset; of folders and files the name alone."""
    facts = {"img_count": pictures, **{name: getattr(subset, name) for name in SUBSET_FACTS}}
    if subset.metadata_file:
        return {**facts, "metadata_file": subset.label}
    return {**facts, "image_dir": subset.label, "class_tokens": subset.class_tokens, "is_reg": subset.is_reg}


def _as_written(settings: Settings) -> Mapping[str, Any]:
    """The settings as sd-scripts words them in its metadata; paths are not told to whoever gets the file."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "datasets"}
    return {name: value for name, value in values.items() if not isinstance(value, Path)}
