"""Whole runs of train_network.py on the toy model: pictures, command lines, and what a run has written."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

import train_dreambooth
import train_network
from library.cli import run_program
from library.weights import read_header

ROOT = Path(__file__).resolve().parent.parent

# Short, small, and with a rate at which four steps move every weight far more than rounding does.
BASICS = {
    "resolution": 64,
    "train_batch_size": 2,
    "max_train_steps": 4,
    "network_dim": 2,
    "network_alpha": 2,
    "learning_rate": 0.01,
    "log_every_n_steps": 1,
    "seed": 7,
    "output_name": "toy",
}

# The same for all weights, and no network.
WHOLE = {"network_dim": None, "network_alpha": None, "learning_rate": 0.001}


def draw_pictures(
    folder: Path, count: int = 4, size: tuple[int, int] = (64, 64), first: int = 0, words: str = "sks thing"
) -> Path:
    """Writes `count` different pictures with captions of a few tags each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        image = Image.new("RGB", size, (37 * number % 256, 80, 200 - 23 * number % 200))
        pen = ImageDraw.Draw(image)
        pen.ellipse((4 + number, 8, size[0] // 2 + number, size[1] - 8), fill=(250, 40 * number % 256, 30))
        pen.rectangle((size[0] // 2, 5, size[0] - 3, 20 + number), fill=(20, 200, 30 * number % 256))
        image.save(folder / f"{number:03d}.png")
        (folder / f"{number:03d}.txt").write_text(f"{words}, shape {number}, bright, plain", encoding="utf-8")
    return folder


def draw_two_shapes(folder: Path, tall: int, wide: int) -> Path:
    """So many pictures of 64 x 128 pixels, and so many of 128 x 64."""
    draw_pictures(folder, tall, size=(64, 128))
    return draw_pictures(folder, wide, size=(128, 64), first=tall)


def draw_mask(picture: Path, size: tuple[int, int] = (64, 64), left: int = 0, right: int = 255) -> Path:
    """Writes the mask of a picture beside it: one shade on its left half, another on its right."""
    mask = Image.new("L", size, left)
    mask.paste(right, (size[0] // 2, 0, *size))
    path = picture.with_name(f"{picture.stem}-masklabel.png")
    mask.save(path)
    return path


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """The command line of some settings; a list gives one option several words."""
    words = []
    for name, value in settings.items():
        if isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        else:
            words.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return words


@dataclass(frozen=True)
class Bench:
    """A place to run the trainer in: a base model, pictures, and folders for what it writes.

    The cache is shared by all tests: what is in it is named by its content.
    """

    model: Path
    pictures: Path
    folder: Path
    cache: Path

    @property
    def output(self) -> Path:
        """The output folder."""
        return self.folder / "output"

    @property
    def logs(self) -> Path:
        """The folder of the curves."""
        return self.folder / "logs"

    def at(self, name: str) -> "Bench":
        """The same with output and logs of its own."""
        return Bench(self.model, self.pictures, self.folder / name, self.cache)

    def argv(self, **settings: Any) -> list[str]:
        """The command line; a setting of None leaves out what BASICS has."""
        places = {
            "pretrained_model_name_or_path": self.model,
            "train_data_dir": self.pictures,
            "output_dir": self.output,
            "logging_dir": self.logs,
            "cache_dir": self.cache,
        }
        chosen = {**places, **BASICS, **settings}
        return words_of({name: value for name, value in chosen.items() if value is not None})

    def train(self, **settings: Any) -> dict[str, Tensor]:
        """Runs the program in this process to its good end; returns the finished LoRA's tensors."""
        assert train_network.main(self.argv(**settings)) == 0
        return self.tensors(settings.get("output_name", "toy"))

    def train_all(self, **settings: Any) -> dict[str, Tensor]:
        """The same with train_dreambooth.py, where all weights of the UNet learn unless a network is named.

        Nothing is returned where the model became a folder alone.
        """
        assert train_dreambooth.main(self.argv(**{**WHOLE, **settings})) == 0
        return {} if settings.get("save_model_as") == "diffusers" else self.tensors()

    def tensors(self, name: str = "toy") -> dict[str, Tensor]:
        """The tensors of a written LoRA."""
        return load_file(self.output / f"{name}.safetensors")

    def metadata(self, name: str = "toy") -> dict[str, str]:
        """The metadata of a written LoRA."""
        return read_header(self.output / f"{name}.safetensors")[0]

    def names(self) -> set[str]:
        """Everything directly in the output folder."""
        return {path.name for path in self.output.iterdir()} if self.output.exists() else set()

    def scalars(self) -> dict[str, list[tuple[int, float]]]:
        """Every curve of the logs: tag -> (step, value)."""
        curves: dict[str, list[tuple[int, float]]] = {}
        for folder in sorted(self.logs.iterdir()):
            events = events_of(folder)
            for tag in events.Tags()["scalars"]:
                curves.setdefault(tag, []).extend((each.step, each.value) for each in events.Scalars(tag))
        return curves

    def losses(self) -> list[float]:
        """The loss of each step."""
        return [value for _, value in self.scalars()["loss/current"]]


def events_of(folder: Path) -> Any:
    """What TensorBoard reads in a folder of curves."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Both hold the same names and, bit for bit, the same numbers."""
    assert one.keys() == other.keys()
    differing = [name for name in one if not torch.equal(one[name], other[name])]
    assert not differing, differing[:3]


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of two numbers in the same place."""
    assert one.keys() == other.keys()
    return max((one[name].float() - other[name].float()).abs().max().item() for name in one)


def largest(tensors: Mapping[str, Tensor], part: str, matrix: str = "lora_up") -> float:
    """The largest number among the matrices of one kind in one part, such as lora_unet; 0 means untrained."""
    found = [tensor for name, tensor in tensors.items() if name.startswith(part) and matrix in name]
    assert found
    return max(tensor.abs().max().item() for tensor in found)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time of change, to see that nothing was touched."""
    files: Iterable[Path] = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def run_to_the_end(argv: list[str], main: Callable[[list[str]], int] = train_network.main) -> int:
    """The exit status of a program, run in this process."""
    try:
        run_program(lambda: main(argv))
    except SystemExit as end:
        return int(end.code or 0)
