"""A state is written whole, read back exactly, and refused where it does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from library.errors import InputError
from library.train import state as state_module
from library.train.state import (
    DamagedState,
    State,
    identity_of,
    load_state,
    own_states,
    remove_folder,
    save_state,
    sweep,
)

IDENTITY = {"seed": 7, "resolution": (64, 64), "learning_rate": 0.01}


def newest_state(folder: Path, name: str) -> Path | None:
    """The furthest one, if there is any."""
    return next(iter(own_states(folder, name)), None)


def a_state(step: int = 3) -> State:
    """A small state."""
    optimizer = {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}}
    return State({"a": torch.arange(6.0).reshape(2, 3)}, optimizer, {"step": step}, IDENTITY)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save_state(tmp_path / "run-000001-state", a_state())
    read = load_state(tmp_path / "run-000001-state", IDENTITY)
    assert torch.equal(read.weights["a"], a_state().weights["a"])
    assert read.optimizer["optimizer"]["param_groups"] == [{"lr": 0.1}]
    assert read.optimizer["optimizer"]["state"][0]["step"] == 3
    assert read.progress == {"step": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["run-000001-state"]


def test_a_new_state_replaces_an_old_one(tmp_path: Path) -> None:
    for step in (3, 4):
        save_state(tmp_path / "s-state", a_state(step))
    assert load_state(tmp_path / "s-state", IDENTITY).progress["step"] == 4


def test_a_killed_writer_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "s-000001-state", a_state(3))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(state_module, "file_sha256", killed)
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path / "s-000001-state", a_state(4))
    assert load_state(tmp_path / "s-000001-state", IDENTITY).progress["step"] == 3
    assert newest_state(tmp_path, "s") == tmp_path / "s-000001-state"
    save_state(tmp_path / "s-000001-state", a_state(5))  # what was left behind is in nobody's way
    assert load_state(tmp_path / "s-000001-state", IDENTITY).progress["step"] == 5


def test_changed_settings_are_named(tmp_path: Path) -> None:
    save_state(tmp_path / "s-state", a_state())
    with pytest.raises(InputError) as refusal:
        load_state(tmp_path / "s-state", IDENTITY | {"seed": 8, "learning_rate": 0.5})
    (sentence,) = refusal.value.sentences
    assert "seed was 7 and is 8" in sentence and "learning_rate was 0.01 and is 0.5" in sentence
    assert "resolution" not in sentence


def test_of_tables_only_what_changed_is_named(tmp_path: Path) -> None:
    """The dataset tables hold dozens of settings, and a person looks for the one."""
    tables = [{"resolution": [64, 64], "flip_aug": True}, {"resolution": [128, 128], "flip_aug": True}]
    whole = {"datasets": tables, "base_model": {"unet": "a", "vae": "b"}}
    save_state(tmp_path / "s-state", replace(a_state(), identity=whole))
    changed = {"datasets": [tables[0], tables[1] | {"resolution": [192, 192]}], "base_model": {"unet": "a", "vae": "c"}}
    with pytest.raises(InputError) as refusal:
        load_state(tmp_path / "s-state", changed)
    end = ": datasets 2 resolution was [128, 128] and is [192, 192]; base_model vae was 'b' and is 'c'."
    assert str(refusal.value).endswith("other settings" + end)
    with pytest.raises(InputError, match=r"datasets was \[.*\] and is \[\]"):
        load_state(tmp_path / "s-state", whole | {"datasets": []})


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_damage_is_found(tmp_path: Path, name: str, harm: str) -> None:
    save_state(tmp_path / "s-state", a_state())
    file = tmp_path / "s-state" / name
    if harm == "missing":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    with pytest.raises(DamagedState, match=f"{name} is missing or damaged"):
        load_state(tmp_path / "s-state", IDENTITY)


@pytest.mark.parametrize(
    "manifest",
    [
        *(None, "", "{", "[]", "{}", '{"progress": {}}', "null", "[" * 100000),
        '{"progress": {"step": "3"}, "identity": {}, "files": {}}',
        '{"progress": {"step": 3}, "identity": [], "files": {}}',
    ],
)
def test_what_is_no_state(tmp_path: Path, manifest: str | None) -> None:
    folder = tmp_path / "s-state"
    folder.mkdir()
    if manifest is not None:
        (folder / "state.json").write_text(manifest)
    with pytest.raises(InputError, match="is no state folder"):
        load_state(folder, IDENTITY)
    assert newest_state(tmp_path, "s") is None


def test_the_newest_is_the_furthest(tmp_path: Path) -> None:
    for name, step in (("s-000002", 10), ("s-step00000012", 12), ("s-000001", 5), ("s-extra-000009", 99), ("x-1", 98)):
        save_state(tmp_path / f"{name}-state", a_state(step))
    assert newest_state(tmp_path, "s") == tmp_path / "s-step00000012-state"
    save_state(tmp_path / "s-state", a_state(20))
    assert newest_state(tmp_path, "s") == tmp_path / "s-state"


def test_names_are_no_patterns(tmp_path: Path) -> None:
    save_state(tmp_path / "me[1]*-000001-state", a_state())
    assert newest_state(tmp_path, "me[1]*") == tmp_path / "me[1]*-000001-state"
    assert newest_state(tmp_path, "me1") is None
    assert newest_state(tmp_path / "nowhere", "s") is None


def test_all_by_age(tmp_path: Path) -> None:
    for name, step in (("s-000002", 10), ("s-step00000012", 12), ("s-000001", 5)):
        save_state(tmp_path / f"{name}-state", a_state(step))
    assert [path.name for path in own_states(tmp_path, "s")] == [
        f"s-{name}-state" for name in ("step00000012", "000002", "000001")
    ]


@pytest.mark.parametrize("moment", ["the old one is away", "the new one is there"])
def test_killed_while_one_takes_the_others_place(tmp_path: Path, moment: str) -> None:
    """Between two renames only the old one is there, by another name; it is used, and swept when there is another."""
    folder = tmp_path / "s-state"
    save_state(folder, a_state(3))
    folder.rename(tmp_path / ".s-state.old")
    if moment == "the new one is there":
        save_state(folder, a_state(4))
        save_state(tmp_path / ".s-state.old", a_state(3))
    step = 3 if moment == "the old one is away" else 4
    sweep(tmp_path, "s")
    newest = newest_state(tmp_path, "s")
    assert load_state(newest, IDENTITY).progress["step"] == step
    save_state(folder, a_state(5))
    sweep(tmp_path, "s")
    assert [path.name for path in tmp_path.iterdir()] == ["s-state"]


def test_a_failing_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module.torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path / "s-state", a_state())
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed while deleting leaves nothing under a name that anybody looks for."""
    save_state(tmp_path / "s-state", a_state())
    monkeypatch.setattr(state_module.shutil, "rmtree", lambda *_, **__: None)
    remove_folder(tmp_path / "s-state")
    monkeypatch.undo()
    assert newest_state(tmp_path, "s") is None and list(tmp_path.iterdir())
    sweep(tmp_path, "s")
    assert not list(tmp_path.iterdir())


def test_only_own_rests_are_swept(tmp_path: Path) -> None:
    names = [".s-2-000001-state.partial", ".s2-state.gone", ".t-state.partial", "s-state.partial", ".s-state"]
    for name in (*names, ".s-000001-state.partial", ".s-state.gone", ".s-step00000012-state.partial"):
        (tmp_path / name).mkdir()
    sweep(tmp_path, "s")
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    sweep(tmp_path / "nowhere", "s")


def test_the_identity_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a-state"
    assert identity_of(folder) == {}
    save_state(folder, State({}, {}, {"step": 1}, {"optimizer_type": "Lion"}))
    assert identity_of(folder) == {"optimizer_type": "Lion"}
    (folder / "state.json").write_text("{")
    assert identity_of(folder) == {}
