"""The words of a generated caption: loops cut, forbidden ones left out, forced ones and the trigger put in."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_REPEATS = 3  # of a single word; "very very" is English, while two equal phrases in a row are not
# Words that tie others together: left dangling where a loop was cut away behind them.
TYING = {
    "a", "an", "and", "are", "as", "at", "beside", "but", "by", "for", "from", "has", "her", "his", "in", "is",
    "its", "near", "next", "of", "on", "or", "over", "that", "the", "their", "to", "under", "while", "who",
    "with",
}  # fmt: skip
# What word-piece tokenizers tear apart: "t - shirt" and "a man ' s hat".
TORN_HYPHEN = re.compile(r"(?<=\w) - (?=\w)")
TORN_APOSTROPHE = re.compile(r"(?<=\w) ' (?=(?:s|t|re|ve|ll|d|m)\b)")
MARKS = ",.;:!?"


@dataclass(frozen=True)
class Wording:
    """What becomes of the words that a model gives.

    `prefix` and `suffix` stand before and behind them, `trigger_word` and a comma before everything. `forced`
    phrases that are lacking are added with commas, `forbidden` ones are left out.
    """

    prefix: str = ""
    suffix: str = ""
    trigger_word: str = ""
    forced: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()

    def choose(self, candidates: Sequence[str]) -> str:
        """Of several answers, the likeliest first, the one with the fewest forbidden and the most forced phrases."""
        return min(candidates, key=self._faults)

    def dress(self, text: str) -> str:
        """The caption with all that belongs around it; empty where nothing of the model's is left."""
        text = without(text, self.forbidden)
        if not text:
            return ""
        whole = " ".join((self.trigger_word, self.prefix, text, self.suffix))
        missing = [phrase for phrase in self.forced if not has_phrase(whole, phrase)]
        if missing:
            text = ", ".join((text.rstrip(f"{MARKS} "), *missing))
        caption = joined(self.prefix, text, self.suffix)
        if self.trigger_word and not has_phrase(caption, self.trigger_word):
            caption = f"{self.trigger_word}, {caption}"
        return caption

    def _faults(self, text: str) -> tuple[int, int]:
        said = sum(has_phrase(text, phrase) for phrase in self.forbidden)
        return said, sum(not has_phrase(text, phrase) for phrase in self.forced)


def split_phrases(text: str) -> tuple[str, ...]:
    """The phrases of a list with commas, each once."""
    return tuple(dict.fromkeys(" ".join(part.split()) for part in text.split(",") if part.strip()))


def has_phrase(text: str, phrase: str) -> bool:
    """Whether the phrase stands in the text as whole words, in upper or lower case."""
    return _pattern(phrase).search(text) is not None


def without(text: str, phrases: Sequence[str]) -> str:
    """The text without these phrases, and without the blanks and commas that they would leave behind."""
    left = text
    for phrase in phrases:
        left = _pattern(phrase).sub(" ", left)
    if left == text:
        return text
    left = re.sub(r"(\s*,)+", ",", " ".join(left.split()))
    return re.sub(rf"\s+(?=[{MARKS}])", "", left).strip(f"{MARKS} ")


def joined(*parts: str) -> str:
    """The parts with blanks between them, but none before a comma or full stop."""
    whole = ""
    for part in (part.strip() for part in parts):
        blank = " " if whole and part and part[0] not in MARKS else ""
        whole += blank + part
    return whole


def mend(text: str) -> str:
    """Hyphens and apostrophes as people write them: "t - shirt" is "t-shirt", "man ' s" is "man's"."""
    return TORN_APOSTROPHE.sub("'", TORN_HYPHEN.sub("-", text))


def cut_loops(text: str) -> str:
    """The text with each phrase that repeats itself at once said only once; the very same text if none does.

    A loop is a phrase of two words or more that stands twice or more in a row, or one word three times; case and
    punctuation do not matter. "a cat and a cat and a cat on a mat" becomes "a cat on a mat".
    """
    words = text.split()
    found = _find_loop(words)
    if found is None:
        return text
    while found is not None:
        words = _cut(words, *found)
        found = _find_loop(words)
    return " ".join(words)


def _pattern(phrase: str) -> re.Pattern[str]:
    inner = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.compile(rf"(?<!\w){inner}(?!\w)", re.IGNORECASE)


def _key(word: str) -> str:
    return word.strip(string.punctuation).lower() or word


def _find_loop(words: Sequence[str]) -> tuple[int, int, int] | None:
    """Start, end and period of the first loop of the shortest period, counted in words."""
    keys = [_key(word) for word in words]
    for period in range(1, len(keys) // 2 + 1):
        needed = period if period > 1 else LEAST_REPEATS - 1
        matches = 0
        for place in range(len(keys) - period + 1):
            same = place + period < len(keys) and keys[place] == keys[place + period]
            if same:
                matches += 1
                continue
            if matches >= needed:
                return place - matches, place + period, period
            matches = 0
    return None


def _cut(words: list[str], start: int, end: int, period: int) -> list[str]:
    """The words with the loop from `start` to `end` said once."""
    rest = (end - start) % period
    # The phrase and what had begun anew after it; only the latter if it lacks nothing but a tying word.
    tail = [_key(word) for word in words[end - period : end - rest]]
    kept = words[end - rest : end] if rest and set(tail) <= TYING else words[end - rest - period : end]
    result = [*words[:start], *kept, *words[end:]]
    if end < len(words):
        return result
    whole = list(result)
    while result and _key(result[-1]) in TYING:
        result.pop()
    if not result:
        return whole
    if len(result) < len(whole):
        result[-1] = result[-1].rstrip(",;:")
    return result
