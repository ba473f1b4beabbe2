"""What a run needs to go on after it was stopped: written whole or not at all, and refused where it does not fit."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from library.errors import InputError
from library.log import warn
from library.weights import file_sha256

MANIFEST = "state.json"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.pt"
FILES = (WEIGHTS, OPTIMIZER)

UNFINISHED = ".partial"  # behind a folder's name while it is written
REPLACED = ".old"  # while another takes its place
GONE = ".gone"  # while it is deleted


class DamagedState(InputError):
    """A state folder in which something is missing or not as it was written."""


@dataclass(frozen=True)
class State:
    """A run between two steps.

    `weights` are the trained tensors in float32, `optimizer` the states of optimizer and learning-rate schedule,
    `progress` where the run stands (`step`, averages, log folder), `identity` what must not change on the way.
    """

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    progress: Mapping[str, Any]
    identity: Mapping[str, Any]


def save_state(folder: Path, state: State) -> None:
    """Writes into a staging folder, the manifest last, then renames it to `folder`.

    A process that is killed at any moment leaves either the old folder, or the new one, never half of one; one that
    fails leaves nothing of the new one.
    """
    staging = _beside(folder, UNFINISHED)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _write(staging, state)
        # Renamed and not deleted, for that takes time; where only this one is left, `own_states` knows it.
        replaced = _beside(folder, REPLACED)
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _flush(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _write(staging: Path, state: State) -> None:
    staging.mkdir(parents=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.weights.items()}
    save_file(weights, staging / WEIGHTS)
    torch.save(dict(state.optimizer), staging / OPTIMIZER)
    files = {}
    for name in FILES:
        _flush(staging / name)
        files[name] = file_sha256(staging / name)
    manifest = {"progress": dict(state.progress), "identity": dict(state.identity), "files": files}
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    _flush(staging / MANIFEST)
    _flush(staging)


def remove_folder(folder: Path) -> None:
    """Deletes a folder that nobody is to find half deleted: it loses its name first."""
    gone = _beside(folder, GONE)
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(output_dir: Path, output_name: str) -> None:
    """Deletes what killed runs of this output name left of states that they were writing or deleting."""
    left = re.compile(rf"\.({_own_names(output_name)})(\{UNFINISHED}|\{REPLACED}|\{GONE})")
    for folder in output_dir.iterdir() if output_dir.is_dir() else ():
        found = left.fullmatch(folder.name)
        # A replaced one stays while it is the only one.
        if found and (found[3] != REPLACED or (output_dir / found[1]).exists()):
            shutil.rmtree(folder, ignore_errors=True)


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _own_names(output_name: str) -> str:
    """The names of this run's states, as a pattern."""
    return rf"{re.escape(output_name)}(-\d{{6,}}|-step\d{{8,}})?-state"


def load_state(folder: Path, identity: Mapping[str, Any]) -> State:
    """Reads a state and checks that it is whole and belongs to this run.

    Raises DamagedState if a file is missing or damaged, and InputError if a setting that decides the result has
    changed since.
    """
    manifest = _read_manifest(folder)
    for name in FILES:
        path = folder / name
        if not path.is_file() or file_sha256(path) != manifest["files"].get(name):
            raise DamagedState(f"resume: {path} is missing or damaged; resume from an earlier state folder.")
    before = manifest["identity"]
    now = json.loads(json.dumps(dict(identity)))
    changes = "; ".join(change for key in now for change in _changes(key, before.get(key), now[key]))
    if changes:
        raise InputError(f"resume: {folder} was made by a run with other settings: {changes}.")
    return State(
        weights=load_file(folder / WEIGHTS),
        optimizer=torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True),
        progress=manifest["progress"],
        identity=before,
    )


def _changes(name: str, before: Any, now: Any) -> Iterator[str]:
    """What differs between two values, in tables and lists of tables the parts that do."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _changes(f"{name} {key}", before.get(key), now.get(key))
    elif _are_tables(before) and _are_tables(now) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True), 1):
            yield from _changes(f"{name} {number}", one, other)
    elif before != now:
        yield f"{name} was {before!r} and is {now!r}"


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def state_folders(output_dir: Path, output_name: str) -> list[Path]:
    """The folders that are named as states of this output name."""
    found = []
    own = re.compile(rf"({_own_names(output_name)})|\.({_own_names(output_name)})\{REPLACED}")
    for folder in output_dir.iterdir() if output_dir.is_dir() else ():
        name = own.fullmatch(folder.name)
        # A run that was killed while one state took another's place may have left this one alone.
        if name and not (name[3] and (output_dir / name[3]).exists()):
            found.append(folder)
    return found


def own_states(output_dir: Path, output_name: str) -> Iterator[Path]:
    """The states of this output name, the furthest on first; those of which nothing can be told are warned of."""
    found = []
    for folder in state_folders(output_dir, output_name):
        try:
            found.append((_read_manifest(folder)["progress"]["step"], folder.name, folder))
        except DamagedState as damage:
            warn(f"{damage} It is passed over.")
    return (folder for _, _, folder in sorted(found, reverse=True))


def identity_of(folder: Path) -> Mapping[str, Any]:
    """What must not change when a run goes on from this state; empty where it cannot be told."""
    try:
        identity: Mapping[str, Any] = _read_manifest(folder)["identity"]
    except DamagedState:
        return {}
    return identity


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        parts = [manifest[name] for name in ("progress", "identity", "files")]
        if not all(isinstance(part, dict) for part in parts) or not isinstance(parts[0]["step"], int):
            raise ValueError("no state")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DamagedState(
            f"resume: {folder} is no state folder of this program (there is no whole {MANIFEST} in it)."
        ) from None
    return manifest


def _flush(path: Path) -> None:
    """Makes the system write `path` to the disk now; folders cannot be opened for that on Windows."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
