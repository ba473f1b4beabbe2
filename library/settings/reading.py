"""Settings from the command line and files, with every mistake told at once."""

import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from library.errors import InputError
from library.files import expanded
from library.log import warn
from library.lookup import nearest
from library.settings import compat
from library.settings.checks import find_mistakes
from library.settings.convert import convert, is_unset, shown
from library.settings.datasets import DATASET_KEYS, DOCUMENT_KEYS, read_tables, share_run_keys
from library.settings.fields import FILE_OPTIONS, HINTS, RULES, Settings
from library.settings.loss_checks import idle_settings
from library.settings.network_args import adopt_lycoris, adopt_networks, adopt_preset, idle_network_settings
from library.settings.sources import Given, read_command_line, read_document, walk_sections
from library.settings.table import help_text
from library.settings.tables import FLAT_NAMES, DatasetTable, fit_bucket_range


def read_settings(argv: list[str] | None = None, program: str = "train_network") -> Settings:
    """The settings of a run: the command line beats the TOML file, which beats the defaults.

    `argv` are the words after the program's name, by default this process's own. Raises InputError with a
    sentence for every mistake; after --help ends with status 0.
    """
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        print(help_text(program))
        raise SystemExit(0)
    words, complaints = read_command_line(argv)
    config = _take_file(words, ("config", "config_file"))
    on_line = _understand(words, complaints)
    try:
        written, tables, source = _read_config(config)
        chosen = {**_understand(written, complaints), **on_line}
        tables, source = _read_dataset_config(chosen.pop("dataset_config", None), tables, source)
    except InputError as error:
        raise InputError(*complaints, *error.sentences) from error
    datasets = read_tables(tables, source, complaints)
    settings = Settings(**_values(chosen, complaints), datasets=datasets)
    settings = adopt_networks(adopt_lycoris(settings, complaints))
    settings = _finish(_fit_to(program, settings), complaints)
    _warn_of_overruled(on_line, datasets)
    complaints.extend(find_mistakes(settings, complaints))
    if complaints:
        raise InputError.of(dict.fromkeys(complaints))
    for sentence in (*idle_settings(settings), *idle_network_settings(settings)):
        warn(sentence)
    return settings


def _take_file(words: list[Given], names: tuple[str, ...]) -> Path | None:
    """The file that the last of the options `names` gives; takes these options out of `words`."""
    found = [given.raw for given in words if given.name in names and given.raw]
    words[:] = [given for given in words if given.name not in names]
    if not found:
        return None
    path = expanded(str(found[-1]))
    with_ending = Path(f"{path}.toml")
    return with_ending if not os.path.exists(path) and os.path.exists(with_ending) else path


def _read_config(path: Path | None) -> tuple[list[Given], dict[str, Any], str]:
    """What the TOML file says: plain settings, dataset tables, and the file's name."""
    if path is None:
        return [], {}, ""
    document = read_document(path)
    tables = {}
    if "datasets" in document:
        # [general] speaks of pictures only where there are [[datasets]]; else it is a section like any other.
        general = document.pop("general", {})
        general = general if isinstance(general, dict) else {"general": general}
        is_plain = {key: key in RULES and key not in DATASET_KEYS for key in general}
        document["general"] = {key: value for key, value in general.items() if is_plain[key]}
        tables = {
            "general": {key: value for key, value in general.items() if not is_plain[key]},
            "datasets": document.pop("datasets"),
        }
    return list(walk_sections(document, path)), tables, str(path)


def _understand(source: list[Given], complaints: list[str]) -> dict[str, Given]:
    """The known settings of one source by name; what is foreign, unknown or said twice is complained of."""
    known: dict[str, Given] = {}
    for given in source:
        if given.name in compat.SWITCHES and not compat.is_off(given.raw):
            name, raw = compat.SWITCHES[given.name]
            given = Given(name, raw, given.where)
        given = replace(given, name=compat.ALIASES.get(given.name, given.name))
        if given.name not in RULES and given.name not in FILE_OPTIONS.keys() - {"config"}:
            complaint = _foreign(given)
            if complaint:
                complaints.append(f"{given.where}: {complaint}")
            continue
        earlier = known.get(given.name)
        if earlier and earlier.raw != given.raw and given.where != "command line":
            complaints.append(
                f"{given.where}: {given.name} is {shown(given.raw)} here and {shown(earlier.raw)} in "
                f"{earlier.where}; keep one of them."
            )
        known[given.name] = given
    return known


def _foreign(given: Given) -> str | None:
    """What is wrong with an option that is not a setting here, if anything."""
    if given.name in compat.KNOWN:
        advice = compat.advice(given.name, given.raw)
        if advice:
            warn(f"{given.where}: {advice}")
        return compat.refusal(given.name, given.raw)
    tables = ("datasets",) if isinstance(given.raw, list) else ()
    meant = compat.OTHER_WORDS.get(given.name) or nearest(given.name, (*RULES, *FILE_OPTIONS, *tables))
    hint = f"; did you mean '{meant}'?" if meant else "; --help lists all of them."
    return f"'{given.name}' is not a setting{hint}"


def _read_dataset_config(given: Given | None, tables: dict[str, Any], source: str) -> tuple[dict[str, Any], str]:
    """The dataset tables and their file's name: those that `given` names, or else those of --config."""
    if given is None or given.raw == "":
        return tables, source
    if tables:
        raise InputError(f"{given.where}: dataset_config cannot be set, because {source} has [[datasets]] too.")
    source = str(given.raw)
    document = read_document(expanded(source))
    complaints = []
    for key in [key for key in document if key not in DOCUMENT_KEYS]:
        meant = nearest(key, DOCUMENT_KEYS)
        hint = f"did you mean '{meant}'?" if meant else "move it to the --config."
        complaints.append(f"{source}: '{key}' is not part of a dataset file; {hint}")
    if not document.get("datasets"):
        complaints.append(f"{source} has no [[datasets]]; add one with [[datasets.subsets]] in it.")
    if complaints:
        raise InputError.of(complaints)
    return document, source


def _values(chosen: dict[str, Given], complaints: list[str]) -> dict[str, Any]:
    values = {}
    for name, given in chosen.items():
        if is_unset(RULES[name], given.raw):
            continue
        try:
            values[name] = convert(name, HINTS[name], RULES[name], given.raw)
        except ValueError as error:
            complaints.append(f"{given.where}: {error}")
    return values


def _fit_to(program: str, settings: Settings) -> Settings:
    """What each program takes for granted; adapters are small, so that ways to save memory are left to whole models."""
    if program == "train_network" and settings.network_module is None:
        settings = replace(settings, network_module="lora")
    settings = adopt_preset(settings)
    for name in ("full_bf16", "fused_backward_pass"):
        if getattr(settings, name) and not settings.trains_whole:
            off: dict[str, Any] = {name: False}
            warn(f"'{name}' changes nothing: it is for the training of all weights, and an adapter's are few.")
            settings = replace(settings, **off)
    return settings


def _finish(settings: Settings, complaints: list[str]) -> Settings:
    """Values that follow from others."""
    if settings.datasets:
        if settings.train_data_dir or settings.reg_data_dir or settings.in_json:
            warn(
                "train_data_dir and reg_data_dir are not read, because [[datasets]] tables name the pictures, "
                "and neither is in_json."
            )
            settings = replace(settings, train_data_dir=None, reg_data_dir=None, in_json=None)
        settings = share_run_keys(settings, complaints)
    elif settings.bucket_reso_steps % 64 == 0:
        low, high = fit_bucket_range(
            settings.min_bucket_reso,
            settings.max_bucket_reso,
            settings.bucket_reso_steps,
            settings.resolution,
        )
        settings = replace(settings, min_bucket_reso=low, max_bucket_reso=high)
    for name in ("pretrained_model_name_or_path", "vae", "resume"):
        path = getattr(settings, name)
        if path and path.startswith("~"):
            home: dict[str, Any] = {name: str(expanded(path))}
            settings = replace(settings, **home)
    if settings.network_alpha == 0:
        settings = replace(settings, network_alpha=float(settings.network_dim))
    return settings


def _warn_of_overruled(on_line: dict[str, Given], datasets: tuple[DatasetTable, ...]) -> None:
    """In the dataset tables the nearest word counts, as in sd-scripts, even against the command line."""
    tables = [*datasets, *(subset for dataset in datasets for subset in dataset.subsets)]
    for table in tables:
        for key in (field.name for field in fields(table)):
            name = FLAT_NAMES.get(key, key)
            if name in on_line and getattr(table, key) is not None:
                warn(f"command line: {name} does not count where the dataset tables set {key} themselves.")
