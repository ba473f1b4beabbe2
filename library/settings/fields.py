"""Every setting of the trainer, flat and frozen, each with the sentence that --help and the docs show."""

from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from library.settings.data_fields import (
    BucketFields,
    CaptionFields,
    ModelFields,
    PictureFields,
    ValidationFields,
)
from library.settings.dreambooth_fields import DreamboothFields
from library.settings.embedding_fields import EmbeddingFields
from library.settings.loss_fields import LossFields, NoiseFields
from library.settings.prior_fields import PriorFields
from library.settings.rules import Rule
from library.settings.run_fields import (
    LearningFields,
    LoggingFields,
    NetworkFields,
    PreviewFields,
    SavingFields,
    TrainingFields,
)
from library.settings.schedule_fields import ScheduleFields
from library.settings.tables import DatasetTable, ResolvedSubset, resolve_subset

# Options that name files of settings. What they say ends up in Settings; they themselves do not.
FILE_OPTIONS = {
    "config": "A TOML file of settings, in any sections; --config_file is the same.",
    "dataset_config": "A TOML or JSON file of dataset tables: [general] and [[datasets]].",
}

# Section in a written TOML file -> the fields of that group, whose docstring is the group's title.
GROUPS: dict[str, type] = {
    "model": ModelFields,
    "pictures": PictureFields,
    "captions": CaptionFields,
    "buckets": BucketFields,
    "prior": PriorFields,
    "network": NetworkFields,
    "embedding": EmbeddingFields,
    "dreambooth": DreamboothFields,
    "learning": LearningFields,
    "schedule": ScheduleFields,
    "training": TrainingFields,
    "loss": LossFields,
    "noise": NoiseFields,
    "validation": ValidationFields,
    "saving": SavingFields,
    "previews": PreviewFields,
    "logging": LoggingFields,
}


@dataclass(frozen=True)
class Settings(
    ModelFields,
    PictureFields,
    CaptionFields,
    BucketFields,
    PriorFields,
    NetworkFields,
    EmbeddingFields,
    DreamboothFields,
    LearningFields,
    ScheduleFields,
    TrainingFields,
    LossFields,
    NoiseFields,
    ValidationFields,
    SavingFields,
    PreviewFields,
    LoggingFields,
):
    """All settings of one run. None means unset; `datasets` are the [[datasets]] of the TOML file."""

    datasets: tuple[DatasetTable, ...] = field(default=())

    @property
    def trains_whole(self) -> bool:
        """Whether all weights of the model learn, because no network is named."""
        return self.network_module is None

    def subset_tables(self) -> list[ResolvedSubset]:
        """Every subset of `datasets`, complete: subset beats dataset beats these settings."""
        return [resolve_subset(self, dataset, subset) for dataset in self.datasets for subset in dataset.subsets]


RULES: dict[str, Rule] = {f.name: f.metadata["rule"] for f in fields(Settings) if "rule" in f.metadata}
HINTS: dict[str, Any] = get_type_hints(Settings)
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Settings)}
