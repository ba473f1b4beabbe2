"""Small ONNX taggers whose answers can be told beforehand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 4  # pixels
COLORS = ("blue", "green", "red")

Shape = Sequence[int | str]


def write_model(
    path: Path, nodes: list[onnx.NodeProto], shape: Shape, outputs: dict[str, Shape], half: bool = False,
    line: tuple[float, float] = (1 / 255, 0),
) -> Path:
    """A model of these nodes; "input" goes in, and `line` are the constants "factor" and "shift"."""
    number, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    constants = {name: np.array(value, dtype) for name, value in zip(("factor", "shift"), line, strict=True)}
    constants["flat"] = np.array([0, -1])
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("input", number, shape)],
        [helper.make_tensor_value_info(name, number, size) for name, size in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_tags(path: Path, names: Sequence[str], categories: Sequence[int] | None = None) -> Path:
    """selected_tags.csv; all general unless told otherwise."""
    rows = zip(names, categories or [0] * len(names), strict=True)
    lines = [f"{number},{name},{category},1" for number, (name, category) in enumerate(rows)]
    path.write_text("\n".join(["tag_id,name,category,count", *lines]) + "\n", encoding="utf-8")
    return path


def write_mirror(
    folder: Path, shape: Shape = ("batch", SIDE, SIDE, 3), line: tuple[float, float] = (1 / 255, 0), half: bool = False
) -> Path:
    """A tagger whose outputs are its input, number for number, times a factor and plus a shift."""
    nodes = [
        helper.make_node("Mul", ["input", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Reshape", ["shifted", "flat"], ["output"]),
    ]
    count = 3 * SIDE * SIDE
    write_model(folder / "model.onnx", nodes, shape, {"output": [shape[0], count]}, half, line)
    write_tags(folder / "selected_tags.csv", [f"tag_{number}" for number in range(count)])
    return folder


def write_colorist(folder: Path) -> Path:
    """A tagger that says how blue, green and red a picture is, 0 to 1, and gives the logits of that too."""
    nodes = [
        helper.make_node("Mul", ["input", "factor"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["probabilities"], axes=[1, 2], keepdims=0),
        helper.make_node("Log", ["probabilities"], ["logits"]),
    ]
    sizes: dict[str, Shape] = {"logits": ["batch", 3], "probabilities": ["batch", 3]}
    write_model(folder / "model.onnx", nodes, ("batch", SIDE, SIDE, 3), sizes)
    write_tags(folder / "selected_tags.csv", COLORS)
    return folder
