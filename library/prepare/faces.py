"""Faces in a picture, found by scikit-image's cascade or by a YuNet model."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from library.errors import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Face(NamedTuple):
    """Where a face is, in the picture's pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """In square pixels."""
        return self.width * self.height

    @property
    def middle(self) -> tuple[float, float]:
        """Across and down."""
        return self.left + self.width / 2, self.top + self.height / 2


Finder = Callable[[Image.Image], list[Face]]

# The cascade takes many things for faces. With these numbers it finds the astronaut's and none in the other
# photographs that come with scikit-image and scikit-learn.
CASCADE_SIDE = 400  # pixels of the longer side when it looks; more finds more that is no face
SMALLEST_PART = 12  # a face is at least this part of the shorter side
SCALE_STEP, PLACE_STEP = 1.1, 1.3
NEIGHBOURS = 8  # windows that must agree

YUNET_SIDE = 640  # pixels of the square that a YuNet without a fixed size looks at
YUNET_STRIDES = (8, 16, 32)
YUNET_PARTS = {"cls": 1, "obj": 1, "bbox": 4}  # of what is used; kps are eyes, nose and mouth
LEAST_SCORE = 0.8
SAME_FACE = 0.3  # intersection over union above which two boxes show one face


def largest_face(image: Image.Image, model: Path | None = None) -> Face | None:
    """The largest face in an RGB picture, or None; `model` is a YuNet file, without it the cascade looks."""
    return max(face_finder(model)(image), key=lambda face: face.area, default=None)


@cache
def face_finder(model: Path | None = None) -> Finder:
    """What finds faces; opened once in a process. Raises InputError where `model` is no YuNet."""
    return YuNet(model) if model else Cascade()


class Cascade:
    """The frontal faces that a cascade of local binary patterns finds (Liao et al. 2007), as bundled."""

    def __init__(self) -> None:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade as Detector

        self.detector = Detector(lbp_frontal_face_cascade_filename())

    def __call__(self, image: Image.Image) -> list[Face]:
        """All faces in an RGB picture."""
        factor = CASCADE_SIDE / max(image.size)
        size = _times(image.size, factor)
        grey = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
        shorter = min(size)
        smallest = max(self.detector.window_width, shorter // SMALLEST_PART)
        if shorter < smallest:
            return []
        found = self.detector.detect_multi_scale(
            np.asarray(grey, dtype=np.float32) / 255,
            scale_factor=SCALE_STEP,
            step_ratio=PLACE_STEP,
            min_size=(smallest, smallest),
            max_size=(shorter, shorter),
            min_neighbor_number=NEIGHBOURS,
        )
        return [Face(*(each[side] / factor for side in ("c", "r", "width", "height"))) for each in found]


class YuNet:
    """The faces that a YuNet finds (Wu et al. 2023), a file such as face_detection_yunet_2023mar.onnx."""

    def __init__(self, model: Path) -> None:
        from library.prepare.runtime import open_session

        self.session: InferenceSession = open_session(model, "cpu")
        outputs = {each.name for each in self.session.get_outputs()}
        self.wanted = [f"{part}_{stride}" for part in YUNET_PARTS for stride in YUNET_STRIDES]
        self.input = self.session.get_inputs()[0]
        if not outputs.issuperset(self.wanted) or len(self.input.shape) != 4:
            raise InputError(
                f"the face model {model} is not a YuNet of 2023 or later: it gives {', '.join(sorted(outputs))}, "
                f"and {', '.join(self.wanted)} are needed."
            )

    def __call__(self, image: Image.Image) -> list[Face]:
        """All faces in an RGB picture, each once."""
        height, width = (side if isinstance(side, int) else YUNET_SIDE for side in self.input.shape[2:])
        factor = min(width / image.width, height / image.height)
        canvas = Image.new("RGB", (width, height))
        size = _times(image.size, factor)
        canvas.paste(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        bgr = np.asarray(canvas, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1)[None]
        values = self.session.run(self.wanted, {self.input.name: np.ascontiguousarray(bgr)})
        answers = dict(zip(self.wanted, values, strict=True))
        boxes, scores = _decode(answers, width)
        return [Face(*(boxes[index] / factor).tolist()) for index in _one_each(boxes, scores)]


def _times(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """A size multiplied, at least one pixel in each direction."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _decode(answers: dict[str, np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4: left, top, width, height) in pixels of the canvas, and their scores (n), the good ones only.

    Each cell of a grid of `stride` pixels answers with the middle of a face relative to the cell's corner and with
    the logarithm of its size, both in strides; its score is the geometric mean of "a face" and "a thing".
    """
    boxes, scores = [], []
    for stride in YUNET_STRIDES:
        cells = {part: answers[f"{part}_{stride}"].reshape(-1, n) for part, n in YUNET_PARTS.items()}
        score = np.sqrt(cells["cls"].clip(0, 1) * cells["obj"].clip(0, 1))[:, 0]
        good = np.flatnonzero(score >= LEAST_SCORE)
        rows, columns = np.divmod(good, width // stride)
        middle = np.stack([columns, rows], axis=1) + cells["bbox"][good, :2]
        size = np.exp(cells["bbox"][good, 2:])
        boxes.append(np.concatenate([middle - size / 2, size], axis=1) * stride)
        scores.append(score[good])
    return np.concatenate(boxes), np.concatenate(scores)


def _one_each(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """The indices of the best boxes, one for each face, best first."""
    chosen: list[int] = []
    left = np.argsort(-scores, kind="stable")
    while len(left):
        chosen.append(int(left[0]))
        left = left[1:][_overlaps(boxes[left[0]], boxes[left[1:]]) <= SAME_FACE]
    return chosen


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The areas of the intersections of a box with others (n, 4) over those of their unions."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    both = (high - low).clip(0).prod(axis=1)
    return both / (box[2:].prod() + others[:, 2:].prod(axis=1) - both)
