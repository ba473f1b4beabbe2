"""Models that find a picture's subject: U2-Net, IS-Net, BiRefNet and others that rembg knows, as ONNX files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from library.data.decoding import flatten
from library.errors import InputError, is_full_memory
from library.prepare.masks import Mask, from_shares
from library.prepare.runtime import open_session
from library.prepare.saliency_kinds import KINDS, Kind, choose_kind
from library.prepare.segmenters import Input, Output

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
ROUNDING = 1e-3  # by which a sigmoid's output may leave [0, 1]


class SaliencyModel:
    """A model in onnxruntime that gives, for a picture, how much each pixel belongs to its subject."""

    def __init__(self, session: onnxruntime.InferenceSession, kind: Kind) -> None:
        """Raises InputError where the model takes anything else than one picture with 3 channels."""
        self._session, self._kind = session, kind
        inputs = session.get_inputs()
        shape = [side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape]
        if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, None) or inputs[0].type not in DTYPES:
            forms = " and ".join(f"{each.type} of shape {each.shape}" for each in inputs)
            raise InputError(f"the model takes {forms}; one that finds subjects takes (pictures, 3, height, width).")
        self.size = (shape[3] or kind.side, shape[2] or kind.side)  # (width, height)
        self._batch = shape[0]
        self._input, self._dtype = inputs[0].name, DTYPES[inputs[0].type]
        self._output = session.get_outputs()[0].name  # the others are coarser steps to it

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """(3, height, width), whatever the picture's shape: these models know pictures that are squeezed."""
        picture = flatten(image).resize(self.size, Image.Resampling.LANCZOS)
        pixels = np.asarray(picture, dtype=np.float32)
        largest = max(pixels.max(), 1) if self._kind.by_maximum else 255
        mean, deviation = (np.array(each, np.float32) for each in (self._kind.mean, self._kind.deviation))
        normal = (pixels / largest - mean) / deviation
        return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=self._dtype)

    def run(self, inputs: Sequence[Input]) -> list[Output]:
        """(height, width) for each, as the model gives it; InputError where it cannot do its work."""
        at_once = self._batch or len(inputs)
        found: list[Output] = []
        for start in range(0, len(inputs), at_once):
            part = list(inputs[start : start + at_once])
            filled = part + part[-1:] * (at_once - len(part))  # a model for a fixed number takes no fewer
            found += self._run(np.stack(filled))[: len(part)]
        return found

    def mask_of(self, output: Output) -> Mask:
        """The mask of the model's own size. Raises ValueError where the model has failed on the picture."""
        shares = output.astype(np.float32)
        low, high = shares.min(), shares.max()
        if self._kind.is_stretched:
            return from_shares((shares - low) / (high - low) if high != low else np.zeros_like(shares))
        if low < -ROUNDING or high > 1 + ROUNDING:
            shares = 1 / (1 + np.exp(-shares.clip(-80, 80)))
        return from_shares(shares)

    def _run(self, inputs: Input) -> list[Output]:
        try:
            output = self._session.run([self._output], {self._input: inputs})[0]
        except Exception as error:  # onnxruntime has its own kinds
            if is_full_memory(error) or "allocate" in str(error):
                raise InputError("the memory is full; lower --batch_size or use --device cpu.") from error
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
            raise InputError(f"the model failed; some work with --batch_size 1 only ({reason}).") from error
        if output.ndim == 4 and output.shape[1] == 1:
            output = output[:, 0]
        if output.ndim != 3 or len(output) != len(inputs):
            raise InputError(f"the model gives {output.shape}; one that tells a subject from the rest is needed.")
        return list(output)


def open_saliency(path: Path, normalize: str | None, device: str | None) -> tuple[SaliencyModel, str]:
    """The model in an .onnx file, and the name of its kind.

    Args:
        path: the file
        normalize: a kind of `KINDS`; None tells it by the file's name, or else by the size of the input
        device: "cpu" or "cuda"; None takes CUDA where onnxruntime has it

    Raises InputError where it cannot be opened or is no such model.
    """
    session = open_session(path, device)
    kind = normalize or choose_kind(path, session.get_inputs()[0].shape)
    return SaliencyModel(session, KINDS[kind]), kind
