"""The resolved settings as a TOML file that gives the same settings again."""

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import toml

from library.settings.fields import DEFAULTS, GROUPS, Settings
from library.settings.tables import FLAT_NAMES, DatasetTable, SubsetTable

# Written even where they are the default, so that the file tells by itself what was trained.
ESSENTIALS = (
    "pretrained_model_name_or_path",
    "resolution",
    "train_batch_size",
    "network_module",
    "network_dim",
    "network_alpha",
    "learning_rate",
    "optimizer_type",
    "lr_scheduler",
    "max_train_steps",
    "mixed_precision",
    "seed",
    "output_dir",
    "output_name",
)


def write_settings(settings: Settings, path: Path | str) -> None:
    """Writes `settings` as TOML to `path`, whole or not at all; `--config path` then gives equal settings."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(settings_text(settings))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def settings_text(settings: Settings) -> str:
    """The TOML text: a section for each group, with the essentials and what differs from the defaults."""
    document: dict[str, Any] = {}
    needless = _said_by_tables(settings)
    if settings.trains_whole:
        needless |= {name for name in ESSENTIALS if name.startswith("network_")}
    for section, group in GROUPS.items():
        values = {field.name: getattr(settings, field.name) for field in fields(group)}
        kept = {
            name: _plain(value)
            for name, value in values.items()
            if value is not None and (value != DEFAULTS[name] or name in ESSENTIALS and name not in needless)
        }
        if kept:
            document[section] = kept
    if settings.datasets:
        document["datasets"] = [_table(dataset) for dataset in settings.datasets]
    return str(toml.dumps(document, encoder=_encoder()))


def _said_by_tables(settings: Settings) -> set[str]:
    """The settings that every dataset table says for itself, so that the flat ones tell nothing of the run."""
    tables = settings.datasets
    keys = (field.name for field in fields(DatasetTable) if tables)
    return {FLAT_NAMES.get(key, key) for key in keys if all(getattr(table, key) is not None for table in tables)}


def _table(table: DatasetTable | SubsetTable) -> dict[str, Any]:
    """A dataset table without what it inherits; its folders come last, as TOML wants it."""
    values = {field.name: getattr(table, field.name) for field in fields(table) if field.name != "subsets"}
    plain = {name: _plain(value) for name, value in values.items() if value is not None}
    if isinstance(table, DatasetTable):
        plain["subsets"] = [_table(subset) for subset in table.subsets]
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _encoder() -> Any:
    """The toml package's writer with strings as JSON has them, because its own escapes have holes."""
    encoder = toml.TomlEncoder()
    encoder.dump_funcs[str] = lambda text: json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return encoder
