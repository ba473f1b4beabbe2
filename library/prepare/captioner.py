"""Captions for a folder of pictures: read ahead, captioned in batches, each written as soon as it is made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tqdm import tqdm

from library.data.decoding import read_picture
from library.errors import InputError
from library.log import say
from library.prepare.sidecars import MODES, caption_path, keeps, merged, read_sidecar, write_sidecar
from library.prepare.walk import Outcome, read_ahead
from library.prepare.words import Wording, cut_loops, has_phrase

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

NO_ANSWER = "the model gave no words for it"
SEARCH_BEAMS = 3


@dataclass(frozen=True)
class Decoding:
    """How a model's answer is found: by beam search, or, with `top_p` below 1, by drawing from the likeliest words.

    Args:
        num_beams: answers that are followed at once; by default 3, and 1 where words are drawn
        min_length, max_length: tokens of the answer, the prompt not counted
        top_p: part of the probability that is drawn from, 1 for beam search
        temperature: above 1 draws unlikelier words more often; only where words are drawn
        repetition_penalty: what the scores of words that were said already are divided by; 1 is none
        prompt: the words that the caption goes on from
        forbidden: phrases that are not to be said
        forced: phrases for which all beams' answers are looked through
        seed: of the draws; each picture has its own, so batches and stops change nothing
    """

    num_beams: int | None = None
    min_length: int = 5
    max_length: int = 75
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    prompt: str = ""
    forbidden: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()
    seed: int = 0

    @property
    def draws(self) -> bool:
        """Whether words are drawn at random and not searched for."""
        return self.top_p < 1

    @property
    def beams(self) -> int:
        """How many answers are followed at once."""
        return self.num_beams or (1 if self.draws else SEARCH_BEAMS)

    def check(self) -> None:
        """Raises InputError naming all that cannot be."""
        wrong = []
        if self.num_beams is not None and self.num_beams < 1:
            wrong.append(f"--num_beams is {self.num_beams}; it must be 1 or more.")
        if not 0 <= self.min_length <= self.max_length or self.max_length < 1:
            wrong.append(
                f"--min_length is {self.min_length} and --max_length {self.max_length}; they are tokens, "
                "the first 0 or more, the second 1 or more and no less than the first."
            )
        if not 0 < self.top_p <= 1:
            wrong.append(f"--top_p is {self.top_p:g}; it must be above 0, and 1 (beam search) at most.")
        for name in ("temperature", "repetition_penalty"):
            if not 0 < getattr(self, name) < float("inf"):
                wrong.append(f"--{name} is {getattr(self, name):g}; it must be above 0.")
        if self.draws and self.beams > 1:
            wrong.append(f"--top_p {self.top_p:g} draws words; beams are for searching, so leave --num_beams out.")
        if not self.draws and self.temperature != 1:
            wrong.append("--temperature is for drawn words; give --top_p below 1 (such as 0.9) too.")
        both = [phrase for phrase in self.forbidden if any(has_phrase(other, phrase) for other in self.forced)]
        wrong += [f"'{phrase}' is both forced and forbidden." for phrase in both]
        asked = [phrase for phrase in self.forbidden if has_phrase(self.prompt, phrase)]
        wrong += [f"'{phrase}' is forbidden and stands in the prompt." for phrase in asked]
        if wrong:
            raise InputError(*wrong)


class Captioner(Protocol):
    """A model that says what pictures show."""

    def pixels(self, picture: "Image.Image") -> "Tensor":
        """A picture as the model wants it; called from threads."""
        ...

    def answers(self, pixels: Sequence["Tensor"], names: Sequence[str]) -> list[list[str]]:
        """For each picture its answers, the likeliest first; `names` tell apart the draws of pictures."""
        ...


class Made(NamedTuple):
    """A caption, and whether a loop was cut out of it."""

    text: str
    looped: bool


def choose_pictures(pictures: Sequence[Path], mode: str, extension: str, outcome: Outcome) -> list[Path]:
    """The pictures that this mode captions; the others are counted in `outcome`, or named with what is wrong."""
    assert mode in MODES
    chosen: dict[Path, Path] = {}
    for picture in pictures:
        path = caption_path(picture, extension)
        try:
            kept = keeps(path, mode)
            read_sidecar(path)
        except InputError as error:
            outcome.fail(picture, str(error).rstrip("."))
            continue
        if kept:
            outcome.count("kept")
        elif path in chosen:
            outcome.fail(picture, f"its caption would lie in the same file as that of {chosen[path].name}")
        else:
            chosen[path] = picture
    return list(chosen.values())


def caption_pictures(
    pictures: Sequence[Path], folder: Path, captioner: Captioner, wording: Wording, batch_size: int, keep_loops: bool
) -> Iterator[tuple[Path, Made | Exception]]:
    """Each picture with its caption, or with what went wrong; in order, with a progress bar.

    Args:
        pictures: their files
        folder: where they lie; the paths in it are the pictures' names
        captioner: the model
        wording: what becomes of its words
        batch_size: pictures that the model looks at together
        keep_loops: whether phrases that repeat themselves are left as they are
    """

    def read(path: Path) -> "Tensor":
        return captioner.pixels(read_picture(path))

    with tqdm(total=len(pictures), desc="captioning", unit="picture", delay=0.5) as bar:
        for batch in _batches(read_ahead(pictures, read), batch_size):
            sound = [(path, result) for path, result in batch if not isinstance(result, Exception)]
            names = [path.relative_to(folder).as_posix() for path, _ in sound]
            answers = captioner.answers([pixels for _, pixels in sound], names) if sound else []
            made = {
                path: _made(candidates, wording, keep_loops)
                for (path, _), candidates in zip(sound, answers, strict=True)
            }
            for path, result in batch:
                bar.update()
                yield path, result if isinstance(result, Exception) else made[path]


def write_captions(
    captions: Iterator[tuple[Path, Made | Exception]], mode: str, extension: str, outcome: Outcome
) -> list[Path]:
    """Writes each caption as it comes; returns the pictures whose captions had looped."""
    looped = []
    for picture, made in captions:
        if isinstance(made, Exception):
            outcome.fail(picture, str(made))
            continue
        path = caption_path(picture, extension)
        try:
            write_sidecar(path, merged(read_sidecar(path), made.text, "overwrite" if mode == "skip" else mode))
        except InputError as error:
            outcome.fail(picture, str(error).rstrip("."))
            continue
        except OSError as error:
            outcome.fail(picture, f"its caption cannot be written: {error.strerror or error}")
            continue
        outcome.count("written")
        looped += [picture] if made.looped else []
    return looped


def show_captions(captions: Iterator[tuple[Path, Made | Exception]], outcome: Outcome) -> None:
    """Prints each caption beside its picture's name, and writes nothing."""
    for picture, made in list(captions):  # all first, so that no progress bar runs through the lines
        if isinstance(made, Exception):
            outcome.fail(picture, str(made))
        else:
            say(f"{picture.name}: {made.text}{' (a loop was cut)' if made.looped else ''}")
            outcome.count("shown")


def _made(candidates: Sequence[str], wording: Wording, keep_loops: bool) -> Made | Exception:
    answer = wording.choose(candidates)
    text = answer if keep_loops else cut_loops(answer)
    caption = wording.dress(text)
    return Made(caption, text != answer) if caption else ValueError(NO_ANSWER)


def _batches(
    items: Iterator[tuple[Path, "Tensor | Exception"]], size: int
) -> Iterator[list[tuple[Path, "Tensor | Exception"]]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
