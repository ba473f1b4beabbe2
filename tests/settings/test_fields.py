"""The settings as a whole: each in one group, with a sentence and an allowed default."""

from dataclasses import fields

from library.settings import Settings
from library.settings.fields import DEFAULTS, GROUPS, HINTS, RULES


def test_every_setting_has_one_sentence_and_stands_in_one_group() -> None:
    names = [field.name for group in GROUPS.values() for field in fields(group)]
    assert len(names) == len(set(names)) > 90
    assert set(names) == {field.name for field in fields(Settings)} - {"datasets"} == set(RULES)
    for name, rule in RULES.items():
        assert rule.help[0].isupper() and rule.help.endswith("."), name
    assert len({rule.help for rule in RULES.values()}) == len(RULES)


def test_groups_have_titles_and_sections_that_mean_nothing_else() -> None:
    for section, group in GROUPS.items():
        assert (group.__doc__ or "").endswith(".")
        assert section not in RULES and section not in ("general", "datasets")


def test_defaults_are_allowed_values() -> None:
    for name, rule in RULES.items():
        default = DEFAULTS[name]
        if default is None:
            assert type(None) in HINTS[name].__args__, name
            continue
        assert not rule.choices or default in rule.choices, name
        assert rule.low is None or default >= rule.low, name
        assert rule.high is None or default <= rule.high, name


def test_what_may_be_unset_is_unset_by_default() -> None:
    """Else a written file could not say that it was unset."""
    for name, hint in HINTS.items():
        if type(None) in getattr(hint, "__args__", ()):
            assert DEFAULTS[name] is None, name
