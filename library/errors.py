"""Mistakes of the user's, said in plain sentences."""

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# What code stumbles over that takes a damaged file for a whole one.
STUMBLES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, re.error)

# How those word it who raise a plain RuntimeError where they get no memory: torch and what it is made of, and, where
# `ulimit -v` leaves no room for a stack, the system that begins no further thread.
FULL_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
    "can't start new thread",
    "resource temporarily unavailable",
)


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
        if is_full_memory(error) or "memory" in reason.lower():
            raise
        words = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise InputError(
            f"{file}: the file is damaged, or was made by nothing that is known here ({words})."
        ) from error


def is_full_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out; told by name, so that nobody imports torch for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in FULL_MEMORY_WORDS)
