"""Mistakes of the user's, said in plain sentences."""

from collections.abc import Iterable


class InputError(Exception):
    """Wrong settings or input. Programs print the sentences without a traceback and end with status 2."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences

    @classmethod
    def of(cls, sentences: Iterable[str]) -> "InputError":
        """One error for many complaints, so that a person sees all of them at once."""
        return cls(*sentences)
