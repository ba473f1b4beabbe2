"""--help and the settings table leave nothing out."""

from library.settings import settings_table
from library.settings.fields import FILE_OPTIONS, RULES
from library.settings.table import help_text

LONGEST_LINE = 100


def test_table_has_a_row_for_each_setting() -> None:
    lines = settings_table().splitlines()
    for name in (*RULES, *FILE_OPTIONS):
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1, name
    assert "| `resolution` | `512,512` | " in settings_table()
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines if line.startswith("|"))


def test_help_has_every_setting_and_fits_a_terminal() -> None:
    text = help_text("train_network")
    lines = text.splitlines()
    assert lines[0].startswith("usage: python train_network.py --config")
    for name in (*RULES, *FILE_OPTIONS):
        heads = [line for line in lines if line.split(",")[0].split()[:1] == [f"--{name}"]]
        assert len(heads) == 1, name
    assert max(len(line) for line in lines) <= LONGEST_LINE
    assert "--flip_aug, --no_flip_aug" in text
    assert "AdamW8bit" in text and "Default: 16." in text
