"""A UNet's graph answers as the UNet does, in every family, in half precision, and with its weights apart."""

from pathlib import Path

import onnx
import pytest
import torch

from library.models import graphs
from library.models.family import Family, open_family
from library.models.graphs import Agreement, Predictor, compare, write_unet
from tests.toy_families import write_toy

WORDS = {"base_model": "toy"}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    base = tmp_path_factory.mktemp("graphs")
    return {name: open_family(str(write_toy(base / name, name))) for name in ("sd1", "sdxl")}


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_it_answers_as_torch_does(families, tmp_path: Path, name: str) -> None:
    unet, path = families[name].load_unet(torch.float32), tmp_path / "unet.onnx"
    agreement = write_unet(path, families[name], unet, WORDS)
    assert agreement.difference < 1e-4 * agreement.largest and agreement.largest > 0.1
    assert [each.name for each in tmp_path.iterdir()] == ["unet.onnx"]
    graph = onnx.load(path)
    told = list(graphs.INPUTS) + (list(graphs.INPUTS_OF_XL) if name == "sdxl" else [])
    assert [each.name for each in graph.graph.input] == told
    assert {each.key: each.value for each in graph.metadata_props} == WORDS
    # The comparison sees when it is not so.
    other = families[name].load_unet(torch.float32)
    other.conv_out.bias.data += 0.25
    assert compare(path, Predictor(families[name], other)).difference == pytest.approx(0.25, rel=1e-3)


def test_large_weights_stand_in_a_file_of_their_own_in_half_precision(families, tmp_path: Path) -> None:
    unet, path = families["sd1"].load_unet(torch.float16), tmp_path / "unet.onnx"
    agreement = write_unet(path, families["sd1"], unet, WORDS, room=1000)
    assert agreement.difference < 2e-2 * agreement.largest
    assert {each.name for each in tmp_path.iterdir()} == {"unet.onnx", "unet.onnx.data"}
    assert (tmp_path / "unet.onnx.data").stat().st_size > 4 * path.stat().st_size / 10
    write_unet(path, families["sd1"], unet, WORDS)  # over the old one, whose weights go too
    assert [each.name for each in tmp_path.iterdir()] == ["unet.onnx"]


def test_a_graph_that_answers_otherwise_is_not_written(families, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "unet.onnx"
    path.write_text("the one before")
    unet = families["sd1"].load_unet(torch.float32)
    for difference in (1.0, float("nan")):
        monkeypatch.setattr(graphs, "compare", lambda *_, found=difference: Agreement(found, 1.0))
        with pytest.raises(RuntimeError, match="answers differ from torch's by"):
            write_unet(path, families["sd1"], unet, WORDS)
    assert [each.name for each in tmp_path.iterdir()] == ["unet.onnx"] and path.read_text() == "the one before"
