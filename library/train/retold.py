"""The settings of a run as the file that it wrote tells them, as TOML that runs it again."""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import toml

from library.settings import Settings
from library.settings.convert import convert
from library.settings.fields import HINTS, RULES
from library.settings.tables import DatasetTable, SubsetTable
from library.settings.writing import settings_text

ENTRY = "easel_settings"  # where our own files have the settings themselves
ELSEWHERE = "# it lay in another folder of the machine that trained this"
PATHS = ("pretrained_model_name_or_path", "vae", "resume")  # settings that are paths or something else

# Entries of sd-scripts whose name is not that of the setting.
RENAMED = {
    "ss_sd_model_name": "pretrained_model_name_or_path",
    "ss_batch_size_per_device": "train_batch_size",
    "ss_num_epochs": "max_train_epochs",
    "ss_vae_name": "vae",
    "ss_debiased_estimation": "debiased_estimation_loss",
}
SHORTENED = re.compile(r'"<([^<>"]*)>"$', re.MULTILINE)
OPTIMIZER = re.compile(r"([\w.]+?)(?:\((.*)\))?$")


def told_settings(settings: Settings) -> str:
    """The settings for a file's metadata, as TOML; of paths outside the working folder the last part alone."""
    values = {name: getattr(settings, name) for name in HINTS if name != "datasets"}
    changed: dict[str, Any] = {name: _untold(name, value) for name, value in values.items()}
    tables = tuple(_table(table) for table in settings.datasets)
    return settings_text(replace(settings, datasets=tables, **changed))


def retold_settings(metadata: Mapping[str, str]) -> str:
    """TOML that `--config` reads, from a file's metadata: our own settings, or what sd-scripts' entries tell.

    What has to be checked by hand is said in comments. Empty if the metadata tell nothing of a run.
    """
    if ENTRY in metadata:
        return SHORTENED.sub(rf'"\1"  {ELSEWHERE}', metadata[ENTRY])
    values, notes = _from_entries(metadata)
    if not values:
        return ""
    lines = ["# Put together from what sd-scripts notes of a run, which is not all of it."]
    lines += [f"# {note}" for note in notes]
    return "\n".join([*lines, "", toml.dumps(values)])


def _table(table: DatasetTable | SubsetTable) -> Any:
    """A dataset table with its paths shortened."""
    changed: dict[str, Any] = {key: _untold(key, value) for key, value in vars(table).items() if key != "subsets"}
    if isinstance(table, DatasetTable):
        changed["subsets"] = tuple(_table(subset) for subset in table.subsets)
    return replace(table, **changed)


def _untold(name: str, value: Any) -> Any:
    """A path as anyone may know it: as it is inside the working folder, else <the last part>."""
    if not isinstance(value, Path) and (name not in PATHS or not value):
        return value
    path = Path(value)
    if path.is_absolute() or ".." in path.parts or str(value).startswith("~"):
        return type(value)(f"<{path.name}>")
    return value


def _from_entries(metadata: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Settings from the entries of sd-scripts, and notes about what cannot be taken over."""
    values: dict[str, Any] = {}
    notes = []
    for key, text in sorted(metadata.items()):
        name = RENAMED.get(key, key.removeprefix("ss_"))
        if not key.startswith("ss_") or text in ("None", "") or name not in RULES:
            continue
        value = _value(text)
        try:
            convert(name, HINTS[name], RULES[name], list(value) if isinstance(value, tuple) else value)
        except ValueError as error:
            notes.append(str(error))
            continue
        values[name] = list(value) if isinstance(value, tuple) else value
    values |= _optimizer(metadata.get("ss_optimizer", ""))
    arguments = _table_of(metadata.get("ss_network_args"))
    if arguments:
        values["network_args"] = [f"{key}={value}" for key, value in arguments.items()]
    folders = _table_of(metadata.get("ss_dataset_dirs"))
    if folders and "max_train_steps" in values:
        values.pop("max_train_epochs", None)  # the steps decide
    for folder, facts in folders.items():
        words = ", ".join(f"{key} {value}" for key, value in dict(facts).items())
        notes.append(f"The pictures lay in a folder {json.dumps(folder)} ({words}); set train_data_dir.")
    return values, notes


def _optimizer(text: str) -> dict[str, Any]:
    """optimizer_type and optimizer_args from "module.Class(key=value,...)"."""
    found = OPTIMIZER.match(text)
    if not found or not found[1]:
        return {}
    name = found[1].rpartition(".")[2]
    arguments = [word for word in re.split(r",(?=\s*\w+=)", found[2] or "") if "=" in word]
    return {"optimizer_type": name} | ({"optimizer_args": arguments} if arguments else {})


def _value(text: str) -> Any:
    """What Python's words mean; anything else is a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _table_of(text: str | None) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
