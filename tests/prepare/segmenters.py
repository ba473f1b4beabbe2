"""Small models whose answers are known: ONNX files of a few nodes, and a CLIPSeg of random weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from PIL import Image
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, CLIPTokenizer, ViTImageProcessor

TOKENIZER = Path(__file__).resolve().parents[2] / "demo" / "model" / "tokenizer"
CLIPSEG_SIDE = 64  # pixels


def write_colour_model(
    path: Path,
    weights: Sequence[float] = (1, 0, 0),
    bias: float = 0.0,
    size: tuple[int | str, int | str] = (16, 16),
    batch: int | str = 1,
    half: bool = False,
) -> Path:
    """Writes a model whose output is a weighted sum of a pixel's channels; its second output is nonsense.

    `size` is (height, width), in pixels or as the name of a side that may be any.
    """
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    numbers = {"weights": np.array(weights, dtype).reshape(1, 3, 1, 1), "bias": np.array([bias], dtype)}
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in numbers.items()]
    nodes = [
        helper.make_node("Conv", ["input.1", "weights", "bias"], ["found"]),
        helper.make_node("Neg", ["found"], ["coarse"]),
    ]
    inputs = [helper.make_tensor_value_info("input.1", kind, [batch, 3, *size])]
    outputs = [helper.make_tensor_value_info(name, kind, [batch, 1, *size]) for name in ("found", "coarse")]
    return write_graph(path, nodes, inputs, outputs, constants)


def write_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> Path:
    """Writes an ONNX file that onnxruntime of the last years reads."""
    graph = helper.make_graph(nodes, "toy", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_clipseg(folder: Path) -> Path:
    """Writes a CLIPSeg of random weights with CLIP's own tokenizer."""
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = CLIPSegConfig(
        text_config=small | tokens,
        vision_config=small | {"image_size": CLIPSEG_SIDE, "patch_size": 16},
        projection_dim=16,
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        use_complex_transposed_convolution=True,
    )
    torch.manual_seed(0)
    model = CLIPSegForImageSegmentation(config)
    model.save_pretrained(folder)
    side = {"height": CLIPSEG_SIDE, "width": CLIPSEG_SIDE}
    processor = CLIPSegProcessor(ViTImageProcessor(size=side), CLIPTokenizer.from_pretrained(TOKENIZER))
    processor.save_pretrained(folder)
    return folder


def noise(size: tuple[int, int], seed: int = 0, brightest: int = 255) -> Image.Image:
    """A picture of coarse noise, (width, height), with the brightest value in it."""
    random = np.random.default_rng(seed)
    small = random.integers(0, brightest + 1, (max(1, size[1] // 8), max(1, size[0] // 8), 3), np.uint8)
    small[0, 0] = brightest
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)
