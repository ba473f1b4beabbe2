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
from library.weights import file_sha256

MANIFEST = "state.json"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.pt"


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

    A process that is killed at any moment leaves either the old folder, or the new one, never half of one.
    """
    staging = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.weights.items()}
    save_file(weights, staging / WEIGHTS)
    torch.save(dict(state.optimizer), staging / OPTIMIZER)
    files = {}
    for name in (WEIGHTS, OPTIMIZER):
        _flush(staging / name)
        files[name] = file_sha256(staging / name)
    manifest = {"progress": dict(state.progress), "identity": dict(state.identity), "files": files}
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    _flush(staging / MANIFEST)
    _flush(staging)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    _flush(folder.parent)


def load_state(folder: Path, identity: Mapping[str, Any]) -> State:
    """Reads a state and checks that it is whole and belongs to this run.

    Raises InputError if a file is missing or damaged, or if a setting that decides the result has changed since.
    """
    manifest = _read_manifest(folder)
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != digest:
            raise InputError(f"resume: {path} is missing or damaged; resume from an earlier state folder.")
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


def newest_state(output_dir: Path, output_name: str) -> Path | None:
    """The whole state folder of this output name that is furthest on, for `resume = "auto"`."""
    found = []
    own = re.compile(rf"{re.escape(output_name)}(-\d{{6,}}|-step\d{{8,}})?-state")
    for folder in output_dir.iterdir() if output_dir.is_dir() else ():
        if not own.fullmatch(folder.name):
            continue
        try:
            found.append((_read_manifest(folder)["progress"]["step"], folder.name, folder))
        except InputError:
            continue
    return max(found)[2] if found else None


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or not {"progress", "identity", "files"} <= manifest.keys():
            raise ValueError("no state")
    except (OSError, ValueError):
        raise InputError(
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
