"""A UNet as an ONNX graph, for onnxruntime and what is built on it, and the proof that both answer alike."""

import io
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from tqdm import tqdm

from library.models.family import Condition, Family
from library.weights import bytes_of

OPSET = 17  # the oldest that has a layer norm of its own
EMBEDDED = 1_900_000_000  # bytes of weights that one file may hold; the format itself ends at 2 GiB
ANSWER = "out_sample"
# The names by which diffusers and optimum call a UNet's inputs -> the axes that may have any length.
INPUTS = {
    "sample": {0: "batch", 2: "height", 3: "width"},
    "timestep": {0: "batch"},
    "encoder_hidden_states": {0: "batch", 1: "tokens"},
}
INPUTS_OF_XL = {"text_embeds": {0: "batch"}, "time_ids": {0: "batch"}}
KINDS = {torch.float32: onnx.TensorProto.FLOAT, torch.float16: onnx.TensorProto.FLOAT16}
# Shapes that both are asked about: batch, height and width of latents, tokens. The graph is traced with the first.
SHAPES = ((2, 8, 8, 77), (1, 16, 8, 152))
# The largest difference that rounding explains, as a part of the largest number in the answer.
ROUNDING = {torch.float32: 1e-3, torch.float16: 5e-2}


class Agreement(NamedTuple):
    """The largest difference between torch's answers and onnxruntime's, and the largest number among them."""

    difference: float
    largest: float


class Predictor(nn.Module):
    """A family's UNet with plain tensors for inputs, in the order of `INPUTS` and `INPUTS_OF_XL`."""

    def __init__(self, family: Family, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.family = family

    def forward(self, noisy: Tensor, timesteps: Tensor, hidden: Tensor, *told: Tensor) -> Tensor:
        """The answer, shaped as `noisy`: (batch, 4, height, width)."""
        return self.family.predict(self.unet, noisy, timesteps, Condition(hidden, *told))


def write_unet(
    path: Path, family: Family, unet: nn.Module, words: Mapping[str, str], room: int = EMBEDDED
) -> Agreement:
    """Writes a UNet as `path`, and as `path`.data beside it what does not fit into one file; whole or not at all.

    Args:
        unet: on the CPU, all its weights float32 or all float16
        words: what the graph says of itself
        room: bytes of weights beyond which they get a file of their own

    Raises RuntimeError, with nothing written, where onnxruntime's answers are not those of torch.
    """
    predictor = Predictor(family, unet).eval()
    graph = _trace(predictor)
    for key, value in words.items():
        graph.metadata_props.add(key=key, value=value)
    unfinished = path.with_name(f".{path.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        weights = _take_weights(graph, predictor)
        _write(unfinished / path.name, graph, weights, room)
        agreement = compare(unfinished / path.name, predictor)
        if not agreement.difference <= ROUNDING[_dtype_of(unet)] * agreement.largest:
            raise RuntimeError(
                f"{path} was not written: onnxruntime's answers differ from torch's by {agreement.difference:.2g}."
            )
        # A graph never stands beside another's weights: it goes first and comes last.
        for old in (path, _data_of(path)):
            old.unlink(missing_ok=True)
        for name in (_data_of(path).name, path.name):
            if (unfinished / name).exists():
                os.replace(unfinished / name, path.with_name(name))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return agreement


@torch.no_grad()
def compare(path: Path, predictor: Predictor) -> Agreement:
    """Asks a written graph and the torch model the same, in several shapes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it says of half precision on a CPU is no help here
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    differences, largest = [], []
    for shape in SHAPES:
        asked = _example(predictor, shape)
        feed = {name: tensor.numpy() for name, tensor in zip(names, asked, strict=True)}
        [answer] = session.run([ANSWER], feed)
        expected = predictor(*asked).float().numpy()
        differences.append(float(np.abs(answer.astype(np.float32) - expected).max()))
        largest.append(float(np.abs(expected).max()))
    return Agreement(max(differences), max(largest))


def _trace(predictor: Predictor) -> onnx.ModelProto:
    """The graph with the weights among its inputs, so that they need not be in memory twice."""
    asked = _example(predictor, SHAPES[0])
    axes = dict(list((INPUTS | INPUTS_OF_XL).items())[: len(asked)])
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about lengths that the trace takes as fixed, and `compare` tries out
        torch.onnx.export(
            predictor,
            asked,
            written,  # type: ignore[arg-type]  # a stream is fine where dynamo is not used
            input_names=list(axes),
            output_names=[ANSWER],
            dynamic_axes=axes | {ANSWER: INPUTS["sample"]},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs one more package, and gives the same graph
            export_params=False,
            do_constant_folding=False,
        )
    return onnx.load_model_from_string(written.getvalue())


def _example(predictor: Predictor, shape: tuple[int, int, int, int]) -> tuple[Tensor, ...]:
    """Inputs of a shape (batch, height, width, tokens), always the same ones."""
    batch, height, width, tokens = shape
    source, dtype = torch.Generator().manual_seed(0), _dtype_of(predictor.unet)
    unet: Any = predictor.unet
    sample = torch.randn(batch, unet.config.in_channels, height, width, generator=source).to(dtype)
    hidden = torch.randn(batch, tokens, unet.config.cross_attention_dim, generator=source).to(dtype)
    asked = (sample, torch.full((batch,), 500), hidden)
    if not predictor.family.takes_sizes:
        return asked
    # What is left of the width after the six numbers of size and crop is the pooled text's.
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    sizes = torch.tensor([8 * height, 8 * width, 0, 0, 8 * height, 8 * width]).to(dtype).expand(batch, -1)
    return (*asked, torch.randn(batch, pooled, generator=source).to(dtype), sizes.contiguous())


def _take_weights(graph: onnx.ModelProto, predictor: Predictor) -> dict[str, Tensor]:
    """Takes the weights from the graph's inputs; returns them by name. Equal tensors are there once."""
    state = predictor.state_dict()
    inputs = [each for each in graph.graph.input if each.name not in state]
    weights = {each.name: state[each.name] for each in graph.graph.input if each.name in state}
    if unknown := {each.name for each in inputs} - (INPUTS | INPUTS_OF_XL).keys():
        raise RuntimeError(f"The graph wants {min(unknown)}, which the UNet has not.")
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    return weights


def _write(path: Path, graph: onnx.ModelProto, weights: Mapping[str, Tensor], room: int) -> None:
    """Writes the graph with its weights inside, or those in a file of their own where they need more than `room`."""
    data, start = _data_of(path), 0
    is_apart = sum(tensor.numel() * tensor.dtype.itemsize for tensor in weights.values()) > room
    with open(data, "wb") if is_apart else io.BytesIO() as file:
        for name, tensor in tqdm(weights.items(), f"writing {path.name}", unit="tensor", delay=1, leave=False):
            entry = graph.graph.initializer.add(name=name, data_type=KINDS[tensor.dtype], dims=tensor.shape)
            content = bytes_of(tensor)
            if not is_apart:
                entry.raw_data = bytes(content)
                continue
            file.write(content)
            entry.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", start), ("length", len(content))):
                entry.external_data.add(key=key, value=str(value))
            start += len(content)
    path.write_bytes(graph.SerializeToString())


def _data_of(path: Path) -> Path:
    """Where the weights of a large graph are."""
    return path.with_name(f"{path.name}.data")


def _dtype_of(unet: nn.Module) -> torch.dtype:
    return next(unet.parameters()).dtype
