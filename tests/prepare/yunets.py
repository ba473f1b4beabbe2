"""A model with the inputs and outputs of a YuNet that takes red squares for faces."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
# What every cell answers: the middle of the face from the cell's corner, and its size, all in strides.
MIDDLE, SIZE = (0.5, 0.25), (2.0, 3.0)


def write_yunet(path: Path, size: tuple[int, int] = (160, 96), is_fixed: bool = True, skip: str = "") -> Path:
    """Writes the model for pictures of `size` (width, height), which it names or leaves open.

    A cell is a face as surely as its pixels are red and not blue. The output `skip` is left out.
    """
    nodes = [
        node("Gather", ["input", "third"], "red", axis=1),
        node("Gather", ["input", "first"], "blue", axis=1),
        node("Sub", ["red", "blue"], "difference"),
        node("Mul", ["difference", "per_level"], "scaled"),
        node("Relu", ["scaled"], "redness"),
    ]
    constants = {
        "first": np.array([0]),
        "third": np.array([2]),
        "per_level": np.array(1 / 255, np.float32),
        "line": np.array([1, -1, 1]),
    }
    outputs = []
    for stride in STRIDES:
        count = (size[0] // stride) * (size[1] // stride)
        box = np.array([*MIDDLE, *np.log(SIZE)], np.float32)
        constants[f"obj_{stride}"] = np.ones((1, count, 1), np.float32)
        constants[f"bbox_{stride}"] = np.tile(box, (1, count, 1))
        constants[f"kps_{stride}"] = np.zeros((1, count, 10), np.float32)
        square = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(node("AveragePool", ["redness"], f"mean_{stride}", **square))
        nodes.append(node("Reshape", [f"mean_{stride}", "line"], f"cls_{stride}"))
        for part, values in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            if f"{part}_{stride}" != skip:
                shape = [1, count, values]
                outputs.append(helper.make_tensor_value_info(f"{part}_{stride}", TensorProto.FLOAT, shape))
    shape = [1, 3, size[1], size[0]] if is_fixed else [1, 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        outputs,
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def node(kind: str, inputs: list[str], output: str, **options: object) -> onnx.NodeProto:
    """A node with one output."""
    return helper.make_node(kind, inputs, [output], **options)
