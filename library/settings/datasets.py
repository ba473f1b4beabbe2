"""The dataset tables [general], [[datasets]] and [[datasets.subsets]], as sd-scripts has them."""

from dataclasses import replace
from typing import Any, get_type_hints

from library.log import warn
from library.lookup import nearest
from library.settings import compat
from library.settings.convert import NO_LIMITS, convert, is_unset
from library.settings.fields import RULES, Settings
from library.settings.tables import FLAT_NAMES, DatasetTable, SubsetTable

DATASET_KEYS = {name: hint for name, hint in get_type_hints(DatasetTable).items() if name != "subsets"}
SUBSET_KEYS = get_type_hints(SubsetTable)
DOCUMENT_KEYS = ("general", "datasets")  # what a file of dataset tables may hold
# One run has one of each, so every table must say the same.
RUN_KEYS = ("validation_split", "validation_seed")


def read_tables(document: dict[str, Any], file: str, complaints: list[str]) -> tuple[DatasetTable, ...]:
    """The datasets of a document, with what [general] says filled in; mistakes go into `complaints`."""
    general = read_keys(document.get("general", {}), DATASET_KEYS, f"{file}, section [general]", complaints)
    tables = document.get("datasets", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        complaints.append(f"{file}: datasets must be written as [[datasets]], with two brackets.")
        return ()
    datasets = []
    for number, table in enumerate(tables, 1):
        where = f"{file}, [[datasets]] {number}"
        subsets = read_subsets(table.get("subsets", []), where, complaints)
        own = {key: raw for key, raw in table.items() if key != "subsets"}
        keys = {**general, **read_keys(own, DATASET_KEYS, where, complaints)}
        datasets.append(DatasetTable(**keys, subsets=subsets))
    return tuple(datasets)


def read_subsets(tables: Any, where: str, complaints: list[str]) -> tuple[SubsetTable, ...]:
    """The folders of one dataset."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        complaints.append(f"{where}: subsets must be written as [[datasets.subsets]], with two brackets.")
        return ()
    if not tables:
        complaints.append(f"{where}: no pictures; add a [[datasets.subsets]] with an image_dir.")
    subsets: dict[Any, SubsetTable] = {}
    for number, table in enumerate(tables, 1):
        place = f"{where}, [[datasets.subsets]] {number}"
        before = len(complaints)
        subset = SubsetTable(**read_keys(table, SUBSET_KEYS, place, complaints))
        key = "metadata_file" if subset.metadata_file else "image_dir"
        source = getattr(subset, key)
        if source is None and len(complaints) == before:
            complaints.append(f"{place}: image_dir is missing; name the folder of the pictures.")
        elif source in subsets and len(complaints) == before:
            complaints.append(f"{place}: {key} '{source}' is there twice; raise num_repeats instead.")
        subsets[source] = subset
    return tuple(subsets.values())


def read_keys(table: Any, allowed: dict[str, Any], where: str, complaints: list[str]) -> dict[str, Any]:
    """The values of one table; `allowed` maps its keys to their types."""
    if not isinstance(table, dict):
        complaints.append(f"{where}: this must be a table, not {table!r}.")
        return {}
    values: dict[str, Any] = {}
    for key, raw in table.items():
        flat = FLAT_NAMES.get(str(key), str(key))
        rule = RULES.get(flat, NO_LIMITS)
        if key not in allowed:
            complaint = _foreign_key(key, raw, allowed, where)
            if complaint:
                complaints.append(f"{where}: {complaint}")
        elif not is_unset(rule, raw):
            try:
                values[key] = convert(key, allowed[key], rule, raw)
            except ValueError as error:
                complaints.append(f"{where}: {error}")
    return values


def _foreign_key(key: str, raw: Any, allowed: dict[str, Any], where: str) -> str | None:
    """What is wrong with a key that this table does not have, if anything."""
    if key in compat.KNOWN:
        advice = compat.advice(key, raw)
        if advice:
            warn(f"{where}: {advice}")
        return compat.refusal(key, raw)
    if key in SUBSET_KEYS:
        return f"'{key}' belongs into [[datasets.subsets]]; move it there."
    if key in DATASET_KEYS:
        return f"'{key}' belongs into [[datasets]] or [general]; move it there."
    if key in RULES:
        return f"'{key}' is a setting of the whole run; move it to another section."
    meant = nearest(key, allowed)
    hint = f"; did you mean '{meant}'?" if meant else f"; it may have {', '.join(sorted(allowed))}."
    return f"'{key}' is unknown in this table{hint}"


def share_run_keys(settings: Settings, complaints: list[str]) -> Settings:
    """`settings` with what the tables say for the whole run made flat."""
    for key in RUN_KEYS:
        own = [getattr(dataset, key) for dataset in settings.datasets]
        if all(value is None for value in own):
            continue
        values = {getattr(settings, key) if value is None else value for value in own}
        if len(values) > 1:
            words = " and ".join(sorted(str(value) for value in values))
            complaints.append(f"{key} must be one for all [[datasets]], not {words}; move it to [general].")
        settings = replace(settings, **{key: min(values, key=str)})
    return settings
