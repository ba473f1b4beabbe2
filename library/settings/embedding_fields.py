"""The settings of textual inversion: a new word, learned by itself or together with a network."""

from dataclasses import dataclass

from library.settings.rules import option


@dataclass(frozen=True)
class EmbeddingFields:
    """A new word for the text encoders (textual inversion), with or without a network (pivotal tuning)."""

    token_string: str | None = option(
        None, "A new word that the text encoder learns, such as <my-creature>; captions must have it in them."
    )
    init_word: str | None = option(None, "The known word or words that token_string begins as, such as creature.")
    num_vectors_per_token: int = option(
        1, "How many of a caption's tokens the new word takes up; more hold more detail.", low=1, high=75
    )
    embedding_lr: float | None = option(
        None,
        "The new word's learning rate; unset means 0.005, or learning_rate with an optimizer that finds its own.",
        low=0,
    )
    ti_steps: int | float | None = option(
        None,
        "The new word learns alone in the first so many steps and the network alone after them; below 1 it is a part "
        "of the run, and unset means that both learn from start to end.",
        low=0,
        zero_is_unset=True,
    )
    embedding_only: bool = option(False, "Trains the new word and no network.")
