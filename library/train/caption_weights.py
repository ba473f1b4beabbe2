"""How much pictures count in the loss by the words of their captions."""

import math
from collections.abc import Callable
from functools import cache

from library.models.text import words_pattern
from library.settings import Settings
from library.settings.loss_checks import WORDS_AND_WEIGHT


def caption_weigher(settings: Settings) -> Callable[[str], float]:
    """A function of a picture's caption: the product of those weights in `caption_loss_weights` whose words it has.

    Whole words count, whatever their case. Without any such setting every caption has the weight 1.
    """
    pairs = [WORDS_AND_WEIGHT.fullmatch(word) for word in settings.caption_loss_weights]
    weights = [(words_pattern([found[1]]), float(found[2])) for found in pairs if found]

    @cache
    def weigh(caption: str) -> float:
        return float(math.prod(weight for pattern, weight in weights if pattern.search(caption)))

    return weigh
