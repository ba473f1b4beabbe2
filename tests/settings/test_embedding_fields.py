"""The settings of a new word, as they are read and written."""

from library.settings.fields import GROUPS
from library.settings.writing import settings_text


def test_defaults_train_no_word(read) -> None:
    settings = read()
    assert settings.token_string is settings.init_word is settings.embedding_lr is settings.ti_steps is None
    assert settings.num_vectors_per_token == 1 and not settings.embedding_only
    assert "[embedding]" not in settings_text(settings)


def test_steps_are_a_count_or_a_part(read) -> None:
    words = ("--token_string", "<toy>", "--init_word", "toy", "--ti_steps")
    assert read(*words, "0.25").ti_steps == 0.25
    assert read(*words, "100").ti_steps == 100 and isinstance(read(*words, "100").ti_steps, int)
    assert read(*words, "0").ti_steps is None


def test_they_have_a_section_of_their_own(read) -> None:
    assert "embedding" in GROUPS
    written = settings_text(read("--token_string=<toy>", "--init_word=toy dog", "--embedding_only=true"))
    assert '[embedding]\n' in written and 'token_string = "<toy>"' in written and 'init_word = "toy dog"' in written
