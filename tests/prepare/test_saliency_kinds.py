"""Kinds of models: told by the names that their files have where people get them."""

from pathlib import Path

import pytest

from library.errors import InputError
from library.prepare.saliency_kinds import KINDS, NAMES, choose_kind

LARGE, ANY = (1, 3, 1024, 1024), ("batch", 3, "height", "width")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("u2net.onnx", "u2net"),
        ("u2netp.onnx", "u2net"),
        ("u2net_human_seg.onnx", "u2net"),
        ("silueta.onnx", "u2net"),
        ("isnet-general-use.onnx", "isnet"),
        ("isnet-anime.onnx", "anime"),
        ("isnetis.onnx", "anime"),
        ("RMBG-1.4/onnx/model.onnx", "isnet"),
        ("bria-rmbg-2.0.onnx", "birefnet"),
        ("BiRefNet-general-epoch_244.onnx", "birefnet"),
        (".u2net/birefnet-portrait.onnx", "birefnet"),
        ("models--briaai--RMBG-2.0/snapshots/0a1b/onnx/model_fp16.onnx", "birefnet"),
        ("models--onnx-community--BiRefNet_lite/snapshots/0a1b/onnx/model.onnx", "birefnet"),
    ],
)
@pytest.mark.parametrize("shape", [LARGE, ANY])
def test_a_kind_is_told_by_its_name(tmp_path: Path, path: str, kind: str, shape: tuple[int | str, ...]) -> None:
    assert choose_kind(tmp_path / path, shape) == kind


def test_a_small_input_is_u2net_s() -> None:
    assert choose_kind(Path("/any/model.onnx"), ("batch", 3, 320, 320)) == "u2net"


@pytest.mark.parametrize("shape", [LARGE, ANY, ("batch", 3, -1, -1)])
def test_a_kind_that_nothing_tells_is_asked_for(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(InputError, match="--normalize u2net, isnet, anime, birefnet"):
        choose_kind(Path("/any/model.onnx"), shape)


def test_every_name_leads_to_a_kind() -> None:
    assert set(NAMES.values()) == set(KINDS)
