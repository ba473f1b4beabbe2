"""Mistakes of the user's, said in plain sentences."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# What code stumbles over that takes a damaged file for a whole one.
STUMBLES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, re.error)


class InputError(Exception):
    """Wrong settings or input. Programs print the sentences without a traceback and end with status 2."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences

    @classmethod
    def of(cls, sentences: Iterable[str]) -> "InputError":
        """One error for many complaints, so that a person sees all of them at once."""
        return cls(*sentences)


@contextmanager
def blaming(file: object) -> Iterator[None]:
    """Within it, whatever stumbles over what is in `file` becomes an InputError that names it; full memory does not."""
    try:
        yield
    except STUMBLES as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        if "memory" in reason.lower():
            raise
        words = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise InputError(
            f"{file}: the file is damaged, or was made by nothing that is known here ({words})."
        ) from error
