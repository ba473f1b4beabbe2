"""An ONNX tagger: its files, its input exactly as it was trained on, and the probabilities that it gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from library.data.decoding import read_picture
from library.errors import InputError
from library.prepare.runtime import choose_providers, open_session
from library.prepare.tag_line import Tag, parse_selected_tags, parse_tags_txt
from library.prepare.walk import read_ahead

MODEL, SELECTED_TAGS = "model.onnx", "selected_tags.csv"
DANBOORU_TAGS, DANBOORU_CHARACTERS = "tags.txt", "tags-character.txt"
SIDE, DANBOORU_SIDE = 448, 512  # pixels, where a model takes any size
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
ROUNDING = 1e-3  # by which a sigmoid's output may leave [0, 1]
PATIENCE = 20  # seconds until the hub counts as out of reach

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Form:
    """The input that a model takes.

    `side` is in pixels; `channels_first` is NCHW instead of NHWC; `batch` is the one number of pictures that it
    takes at a time, None for any.
    """

    side: int
    channels_first: bool
    batch: int | None
    is_danbooru: bool


class Tagger:
    """A model and its tags; `tags` are in the order of its outputs."""

    def __init__(self, session: onnxruntime.InferenceSession, tags: Sequence[Tag], form: Form) -> None:
        """One white picture goes through the model at once, so that what is wrong with it shows before any work.

        Raises InputError where it has no output for these tags.
        """
        self.tags, self.form = tuple(tags), form
        self._session, self._input = session, session.get_inputs()[0]
        white = self.prepare(Image.new("RGB", (form.side, form.side), "white"))
        try:
            outputs = session.run(None, {self._input.name: self._typed(np.stack([white] * (form.batch or 1)))})
        except Exception as error:  # onnxruntime has a kind for each of its reasons
            raise InputError(f"the model cannot work on a picture: {str(error).strip().rstrip('.')}.") from error
        fitting = [number for number, output in enumerate(outputs) if output.shape[1:] == (len(self.tags),)]
        if not fitting:
            shapes = " and ".join(str(output.shape[-1]) for output in outputs)
            raise InputError(f"the model gives {shapes} numbers, but its list has {len(self.tags)} tags: not a pair.")
        self._output = session.get_outputs()[fitting[-1]].name  # where there are logits too, probabilities are last
        first = outputs[fitting[-1]]
        if not np.isfinite(first).all():
            raise InputError("the model gives numbers that are not finite; try another copy of it.")
        self._gives_logits = bool(first.min() < -ROUNDING or first.max() > 1 + ROUNDING)

    def prepare(self, picture: Image.Image) -> Pixels:
        """The model's input for an RGB picture, (side, side, 3), or (3, side, side) where channels come first."""
        pixels = (danbooru_pixels if self.form.is_danbooru else wd_pixels)(picture, self.form.side)
        if not self.form.channels_first:
            return pixels
        # Taggers with channels first come from PyTorch, where inputs lie in [-1, 1].
        return np.ascontiguousarray((pixels if self.form.is_danbooru else pixels / 127.5 - 1).transpose(2, 0, 1))

    def probabilities(self, inputs: Pixels) -> Pixels:
        """(pictures, tags) in [0, 1] for inputs of `prepare`, (pictures, ...)."""
        outputs = self._run(inputs)
        return (1 / (1 + np.exp(-outputs)) if self._gives_logits else outputs).clip(0, 1)

    def _run(self, inputs: Pixels) -> Pixels:
        """The model's own output; a model for a fixed number of pictures gets the last one again to fill up."""
        size = self.form.batch or len(inputs)
        outputs = []
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            outputs.append(self._session.run([self._output], {self._input.name: self._typed(filled)})[0][: len(part)])
        return np.concatenate(outputs).astype(np.float32)

    def _typed(self, inputs: Pixels) -> NDArray[np.floating]:
        return inputs.astype(DTYPES[self._input.type], copy=False)


def open_tagger(model: str, device: str | None = None) -> Tagger:
    """The tagger in a folder, or from a repository of the hub.

    Args:
        model: folder with model.onnx and selected_tags.csv (or DeepDanbooru's tags.txt), or a hub id
        device: "cpu" or "cuda"; None takes CUDA where onnxruntime has it

    Raises InputError where files are missing or do not belong together, or the device is not there.
    """
    choose_providers(device)  # the device is wrong or right whatever the model
    folder = Path(model) if Path(model).exists() else fetch(model)
    tags, is_danbooru = read_tags(folder)
    session = open_session(find_model(folder), device)
    return Tagger(session, tags, read_form(session, is_danbooru))


def fetch(repository: str) -> Path:
    """The folder of a tagger from the hub; without a connection the copy fetched before.

    Raises InputError where there is none.
    """
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise InputError(f"--model {repository} is no folder here; name one with {MODEL} and {SELECTED_TAGS} in it.")
    from huggingface_hub import snapshot_download

    files = [MODEL, SELECTED_TAGS, DANBOORU_TAGS, DANBOORU_CHARACTERS]
    try:
        return Path(snapshot_download(repository, allow_patterns=files, etag_timeout=PATIENCE))
    except Exception as error:  # each version of the hub's client has its own errors
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    raise InputError(
        f"--model {repository} is no folder here and could not be had from the hub ({reason}); check the "
        f"spelling, or download its {MODEL} and {SELECTED_TAGS} into a folder and name that."
    )


def find_model(folder: Path) -> Path:
    """The model.onnx of a folder, or the only .onnx file there. Raises InputError where there is neither."""
    found = sorted(folder.glob("*.onnx"))
    if folder / MODEL in found:
        return folder / MODEL
    if len(found) == 1:
        return found[0]
    names = f"; it has {', '.join(path.name for path in found)}, so name the wanted one so" if found else ""
    raise InputError(f"the tagger's folder {folder} has no {MODEL}{names}.")


def read_tags(folder: Path) -> tuple[list[Tag], bool]:
    """The tags of a folder's model, and whether they are DeepDanbooru's. Raises InputError where there is no list."""
    if (folder / SELECTED_TAGS).is_file():
        return parse_selected_tags(_read_text(folder / SELECTED_TAGS)), False
    if not (folder / DANBOORU_TAGS).is_file():
        if folder.is_file():
            raise InputError(f"--model {folder} is a file; name the folder that holds it and its {SELECTED_TAGS}.")
        raise InputError(f"the tagger's folder {folder} has no {SELECTED_TAGS}; get it from where the model is from.")
    characters = folder / DANBOORU_CHARACTERS
    named = _read_text(characters) if characters.is_file() else ""
    return parse_tags_txt(_read_text(folder / DANBOORU_TAGS), named), True


def read_form(session: onnxruntime.InferenceSession, is_danbooru: bool) -> Form:
    """What the model takes, told by the shape of its input. Raises InputError where that is no square RGB picture."""
    given = session.get_inputs()[0]
    shape = [size if isinstance(size, int) and size > 0 else None for size in given.shape]
    channels_first = len(shape) == 4 and shape[1] == 3 and shape[3] != 3
    sides = shape[2:] if channels_first else shape[1:3]
    channels = shape[1:2] if channels_first else shape[3:]
    if len(shape) != 4 or channels[0] not in (3, None) or sides[0] != sides[1] or given.type not in DTYPES:
        raise InputError(
            f"the model takes {given.type} of shape {given.shape}; a tagger takes square pictures, 3 channels, floats."
        )
    side = sides[0] or (DANBOORU_SIDE if is_danbooru else SIDE)
    return Form(side, channels_first, shape[0], is_danbooru)


def wd_pixels(picture: Image.Image, side: int) -> Pixels:
    """A picture as WD taggers know them: in the middle of a white square, BGR, 0 to 255, (side, side, 3)."""
    longest = max(picture.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
    if longest != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)  # as the models' author shows them
    return np.ascontiguousarray(np.asarray(square)[:, :, ::-1], dtype=np.float32)


def danbooru_pixels(picture: Image.Image, side: int) -> Pixels:
    """A picture as DeepDanbooru knows them: its edges drawn out to a square, RGB, 0 to 1, (side, side, 3)."""
    longest = max(picture.size)
    width, height = (max(1, round(length * side / longest)) for length in picture.size)
    # It was trained with means of areas, to which Pillow's Hamming comes near; its box filter shifts single pixels.
    resized = picture.resize((width, height), Image.Resampling.HAMMING)
    pixels = np.asarray(resized, dtype=np.float32) / 255
    margins = [((side - length) // 2, (side - length + 1) // 2) for length in pixels.shape[:2]]
    return np.pad(pixels, [*margins, (0, 0)], mode="edge")


def tag_pictures(
    tagger: Tagger, pictures: Sequence[Path], batch_size: int, workers: int = 2
) -> Iterator[tuple[Path, Pixels | Exception]]:
    """Each picture with its probabilities (tags,), or with the exception that reading it raised; in order.

    Pictures are read by threads while the model works; a progress bar goes along.
    """
    batch: list[tuple[Path, Pixels | Exception]] = []
    with tqdm(total=len(pictures), desc="tagging", unit="picture", delay=0.5) as bar:
        for number, item in enumerate(read_ahead(pictures, lambda path: tagger.prepare(read_picture(path)), workers)):
            batch.append(item)
            if len(batch) < batch_size and number + 1 < len(pictures):
                continue
            yield from _tag_batch(tagger, batch)
            bar.update(len(batch))
            batch.clear()


def _tag_batch(
    tagger: Tagger, batch: Sequence[tuple[Path, Pixels | Exception]]
) -> Iterator[tuple[Path, Pixels | Exception]]:
    """Prepared pictures with probabilities in place of pixels; exceptions as they are."""
    inputs = [item for _, item in batch if not isinstance(item, Exception)]
    probabilities = iter(tagger.probabilities(np.stack(inputs)) if inputs else ())
    for path, item in batch:
        yield path, item if isinstance(item, Exception) else next(probabilities)


def _read_text(path: Path) -> str:
    """A text file; InputError where it is not UTF-8 or cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}.") from error
