"""From a tagger's probabilities to a line of tags: chosen, renamed and put in order. Functions of their arguments."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from library.errors import InputError
from library.prepare.tags import escape_brackets, with_spaces

GENERAL, CHARACTER, RATING = 0, 4, 9  # Danbooru's numbers; the other kinds (artist, copyright ...) go with general
RATING_PREFIX = "rating:"  # DeepDanbooru's ratings, which are tags among others
MCUT_CHARACTER_FLOOR = 0.15  # where no character is in the picture, the widest gap lies among mere noise


class Tag(NamedTuple):
    """A tag as the model names it, and its category."""

    name: str
    category: int


@dataclass(frozen=True)
class TagRules:
    """How a tag line is made.

    Args:
        general_threshold: probability from which on a tag is taken
        character_threshold: the same for the names of characters
        mcut: find both thresholds for each picture by the widest gap between probabilities
        rating: where the most probable rating goes: "first", "last", or None for nowhere
        sort_by_score: the most probable tags first, instead of the model's order
        character_tags_first: the names of characters before all other tags
        always_first: tags that go to the front if they are there, in this order
        character_tag_expand: `name_(series)` becomes the tags `name` and `series`
        remove_underscore: spaces for underscores, except in faces such as ^_^
        replacements: what a tag is called instead
        undesired: tags that are left out, by their old or their new name
        escape_brackets: backslashes before ( and ), which are weights to web UIs
    """

    general_threshold: float = 0.35
    character_threshold: float = 0.35
    mcut: bool = False
    rating: str | None = None
    sort_by_score: bool = False
    character_tags_first: bool = False
    always_first: tuple[str, ...] = ()
    character_tag_expand: bool = False
    remove_underscore: bool = False
    replacements: Mapping[str, str] = field(default_factory=dict)
    undesired: frozenset[str] = frozenset()
    escape_brackets: bool = False


def tag_line(tags: Sequence[Tag], probabilities: NDArray[np.floating], rules: TagRules) -> list[str]:
    """The tags of a picture as they are written, in order and each once.

    `probabilities` (tags,) are those of `tags`. Names in the rules may have spaces or underscores, whichever way
    the tags are written.
    """
    numbers = _in_order(tags, probabilities, choose(tags, probabilities, rules), rules)
    undesired = {_plain(name) for name in rules.undesired}
    replacements = {_plain(name): new for name, new in rules.replacements.items()}
    wanted = [tags[number] for number in numbers if _plain(tags[number].name) not in undesired]
    names = [name for tag in wanted for name in _parts(tag, rules.character_tag_expand, replacements)]
    usual = with_spaces if rules.remove_underscore else str
    written = dict.fromkeys(replacements.get(_plain(name)) or usual(name) for name in names)
    line = sorted((name for name in written if _plain(name) not in undesired), key=_rank(rules.always_first))
    return [escape_brackets(name) for name in line] if rules.escape_brackets else line


def choose(tags: Sequence[Tag], probabilities: NDArray[np.floating], rules: TagRules) -> list[int]:
    """The numbers of the tags that reach their threshold, in the model's order, without ratings."""
    categories = np.array([tag.category for tag in tags])
    is_character, is_rating = categories == CHARACTER, categories == RATING
    general, character = rules.general_threshold, rules.character_threshold
    if rules.mcut:
        general = mcut_threshold(probabilities[~is_character & ~is_rating])
        character = max(MCUT_CHARACTER_FLOOR, mcut_threshold(probabilities[is_character]))
    thresholds = np.where(is_character, character, general).astype(probabilities.dtype)
    return np.flatnonzero((probabilities >= thresholds) & ~is_rating).tolist()


def best_rating(tags: Sequence[Tag], probabilities: NDArray[np.floating]) -> int | None:
    """The number of the most probable rating, or None where the model knows none."""
    ratings = [number for number, tag in enumerate(tags) if tag.category == RATING]
    return max(ratings, key=lambda number: probabilities[number], default=None)


def mcut_threshold(probabilities: NDArray[np.floating]) -> float:
    """The middle of the widest gap between sorted probabilities (MCut: Largeron, Moulin and Gery, 2012).

    1 where there are fewer than two.
    """
    if len(probabilities) < 2:
        return 1.0
    falling = np.sort(probabilities)[::-1]
    widest = int((falling[:-1] - falling[1:]).argmax())
    return float(falling[widest] + falling[widest + 1]) / 2


def read_names(text: str) -> tuple[str, ...]:
    r"""Tags with commas between them; `\,` is a comma inside a tag."""
    return tuple(_letters(name) for name in _split(text, ","))


def read_replacements(text: str) -> dict[str, str]:
    r"""`a,b;c,d` as {"a": "b", "c": "d"}; `\,` and `\;` are letters. Raises InputError where a pair is no pair."""
    replacements: dict[str, str] = {}
    for pair in _split(text, ";"):
        names = read_names(pair)
        if len(names) != 2:
            raise InputError(
                f"--tag_replacement has the part '{pair}'; each part is an old tag, a comma and a new tag, such as "
                "`cat,kitty;dog,puppy`, and a comma inside a tag is written `\\,`."
            )
        replacements[names[0]] = names[1]
    return replacements


def parse_selected_tags(text: str) -> list[Tag]:
    """The tags of a selected_tags.csv: `tag_id,name,category,count`, one row per output of the model.

    Raises InputError where a column is missing or a category is no number.
    """
    rows = csv.DictReader(io.StringIO(text))
    missing = {"name", "category"} - set(rows.fieldnames or ())
    if missing:
        raise InputError(f"selected_tags.csv has no column {' and '.join(sorted(missing))}; its first line names them.")
    return list(_tags(rows))


def parse_tags_txt(text: str, characters: str = "") -> list[Tag]:
    """The tags of DeepDanbooru's tags.txt, one a line; those of `characters`, listed likewise, are characters."""
    named = set(characters.split())
    tags = []
    for name in text.split():
        category = CHARACTER if name in named else GENERAL
        tags.append(Tag(name, RATING if name.startswith(RATING_PREFIX) else category))
    return tags


def _tags(rows: "csv.DictReader[str]") -> Iterator[Tag]:
    for row in rows:
        try:
            yield Tag(row["name"], int(row["category"]))
        except (TypeError, ValueError):
            raise InputError(
                f"selected_tags.csv, line {rows.line_num}: the category is '{row['category']}'; it must be a number."
            ) from None


def _split(text: str, mark: str) -> list[str]:
    r"""The parts between marks, without blanks around them; a mark behind a backslash is a letter."""
    parts = re.split(rf"(?<!\\){mark}", text)
    return [part.strip() for part in parts if part.strip()]


def _letters(name: str) -> str:
    r"""A name with its `\,` and `\;` as plain letters."""
    return re.sub(r"\\([,;])", r"\1", name)


def _in_order(
    tags: Sequence[Tag], probabilities: NDArray[np.floating], chosen: list[int], rules: TagRules
) -> list[int]:
    """The chosen tags and the rating as the rules want them in the line."""
    if rules.sort_by_score:
        chosen = sorted(chosen, key=lambda number: -probabilities[number])
    if rules.character_tags_first:
        chosen = sorted(chosen, key=lambda number: tags[number].category != CHARACTER)
    rating = best_rating(tags, probabilities) if rules.rating else None
    if rating is None:
        return chosen
    return [rating, *chosen] if rules.rating == "first" else [*chosen, rating]


def _parts(tag: Tag, expand: bool, replacements: Mapping[str, str]) -> list[str]:
    """`name_(series)` as name and series, for characters without a replacement; the last brackets hold the series."""
    match = re.fullmatch(r"(.+?)_?\(([^()]+)\)", tag.name)
    if not expand or tag.category != CHARACTER or not match or _plain(tag.name) in replacements:
        return [tag.name]
    return [match[1], match[2]]


def _plain(name: str) -> str:
    """What makes two names the same tag."""
    return name.strip().replace("_", " ")


def _rank(first: Sequence[str]) -> Callable[[str], int]:
    """A sort key: the tags of `first` in their order, then all others as they are."""
    places = {_plain(name): place for place, name in enumerate(first)}
    return lambda name: places.get(_plain(name), len(places))
