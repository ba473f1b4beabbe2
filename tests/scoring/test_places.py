"""Folders and hub ids of open_clip's models, and what is said of anything else."""

from pathlib import Path

import pytest

from library.errors import InputError
from library.scoring.places import place_of


def test_a_folder_needs_configuration_and_weights(tmp_path: Path) -> None:
    for name, complaint in (
        ("config", r"\(open_clip_config.json not found"),
        ("weights", r"\(weights not found in it\)"),
    ):
        with pytest.raises(InputError, match=f"holds no model of open_clip {complaint}.*hf download") as caught:
            place_of(str(tmp_path))
        assert len(caught.value.sentences) == 1, name
        (tmp_path / "open_clip_config.json").touch()
    (tmp_path / "open_clip_model.safetensors").touch()
    assert place_of(str(tmp_path)) == f"local-dir:{tmp_path}"


def test_hub_ids_and_what_is_neither(tmp_path: Path) -> None:
    assert place_of("somebody/clip") == "hf-hub:somebody/clip"
    (tmp_path / "file").touch()
    for name in ("clip", "./some/clip", "a/b/c", str(tmp_path / "file"), str(tmp_path / "gone")):
        with pytest.raises(InputError, match="there is no such folder.*hf download"):
            place_of(name)
