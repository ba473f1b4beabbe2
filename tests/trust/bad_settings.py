"""Wrong settings, made from the table of settings itself, so that each setting that is added is tried as well."""

from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from library.settings.datasets import DATASET_KEYS, SUBSET_KEYS
from library.settings.fields import HINTS, RULES
from library.settings.rules import Rule
from library.settings.tables import FLAT_NAMES

MISSPELT = "zq"  # behind a name; no setting ends so
TEXT_OF_NO_KIND = ["3", "true", "1979-05-27", "{ a = 1 }", '"a\\u0000b"']
# Per type: what is none of it, in TOML.
WRONG: dict[Any, list[str]] = {
    bool: ['"perhaps"', "2", "1.5", "[true, false]"],
    int: ['"many"', "1.5", "true", "[1, 2]", "1e30", "nan"],
    float: ['"many"', "true", "[1, 2]", "nan", "inf", "1979-05-27"],
    str: TEXT_OF_NO_KIND,
    Path: TEXT_OF_NO_KIND,
    tuple[str, ...]: ["3", "[1, 2]", "true", '["a\\u0000=1"]'],
    tuple[int, int]: ['"wide"', "100", "[64, 64, 64]", "-64", "0", "true", '"64,x"'],
    tuple[float, float]: ['"wide"', "[2, 1]", "[1]", "[0, 1]", "true"],
}


def kind_of(hint: Any) -> Any:
    """The type of a setting, without None; of a count or a part of the run it is float."""
    kinds = [hint]
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[-1]


def wrong_values(hint: Any, rule: Rule) -> list[str]:
    """Values in TOML that a setting cannot have."""
    kind = kind_of(hint)
    found = list(WRONG[kind])
    if rule.choices:
        found.append("76" if kind is int else '"no such choice"')
    if kind in (int, float) and rule.low is not None:
        found.append(str(-2 if rule.zero_is_unset else rule.low - 1))
    if kind in (int, float) and rule.high is not None and rule.high < 2**62:
        found.append(str(rule.high + 1))
    return found


def bad_settings() -> list[tuple[str, str]]:
    """(the word that the complaint must have, a line of TOML) for every setting."""
    lines = [(name, f"{name} = {value}") for name in RULES for value in wrong_values(HINTS[name], RULES[name])]
    return lines + [(name, f"{name}{MISSPELT} = 1") for name in RULES]


def bad_tables(folder: Path) -> list[tuple[str, str]]:
    """The same for the keys of data-set tables, with the whole text of a file."""
    found = []
    for keys, before in ((DATASET_KEYS, ""), (SUBSET_KEYS, "[[datasets.subsets]]\n")):
        for key, hint in keys.items():
            rule = RULES.get(FLAT_NAMES.get(key, key), Rule(""))
            lines = [f"{key} = {wrong_values(hint, rule)[0]}", f"{key}{MISSPELT} = 1"]
            after = f"[[datasets.subsets]]\nimage_dir = '{folder}'\n" if not before else f"image_dir = '{folder}'\n"
            after = "" if key == "image_dir" else after
            found += [(key, f"[[datasets]]\n{before}{line}\n{after}") for line in lines]
    subset = f"[[datasets.subsets]]\nimage_dir = '{folder}'\n"
    whole = {
        "datasets": ["datasets = 3", "datasets = [1]", "[datasets]\nresolution = 64", ""],
        "subsets": ["[[datasets]]\nsubsets = 3", "[[datasets]]\nsubsets = [1]"],
        "no pictures": ["[[datasets]]\nresolution = 64"],
        "table": ["general = 3\n[[datasets]]\n" + subset],
        "genral": ["[genral]\n[[datasets]]\n" + subset],
        "image_dir": [
            "[[datasets]]\n[[datasets.subsets]]\nflip_aug = true",
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir = '/nowhere'",
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir = '../../nowhere'",
            f"[[datasets]]\n{subset}{subset}",
        ],
        "is_reg": [f"[[datasets]]\n{subset}is_reg = true"],
        "caption_extension": [f"[[datasets]]\n{subset}caption_extension = '{ending}'" for ending in ENDINGS],
        "max_bucket_reso": [f"[[datasets]]\nresolution = 2048\n{subset}"],
        "bucket_reso_steps": [f"[[datasets]]\nbucket_reso_steps = 100\n{subset}"],
        "validation_split": [
            f"[[datasets]]\nvalidation_split = 0.5\n{subset}[[datasets]]\nvalidation_split = 0.1\n{subset}"
        ],
        "valid TOML": [
            "[[datasets]",
            "a = ",
            "= 1",
            "a = 1\na = 2",
            "\x00",
            "[a]\n[a]",
            "a = '",
            "a." * 3000 + "a = 1",
        ],
    }
    return found + [(word, text) for word, texts in whole.items() for text in texts]


ENDINGS = ["/../../secret", ".txt/..", ".", "..", "/etc/passwd", "\\\\a"]
