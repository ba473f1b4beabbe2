"""Names of samplers: the tables fit together, and people's spellings are understood."""

import pytest

from library.lookup import SAMPLERS
from library.samplers import KARRAS, LABELS, NAMES, OPTIONS, find_sampler, spellings, split_name


def test_the_tables_are_of_the_same_methods() -> None:
    assert list(LABELS) and set(LABELS) == set(SAMPLERS) and len(set(LABELS.values())) == len(LABELS)
    assert set(KARRAS) <= set(SAMPLERS) and set(OPTIONS) <= set(SAMPLERS)
    assert len(NAMES) == len(SAMPLERS) + len(KARRAS) == len(set(NAMES))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("dpm++ 2m karras", "dpmsolver++_karras"),
        ("DPM++ 2M", "dpmsolver++"),
        ("dpmpp_2m_sde_karras", "dpm++_2m_sde_karras"),
        ("DPM++ SDE Karras", "dpm++_sde_karras"),
        ("k_dpm_2_a", "dpm_2_a"),
        ("DPM2 a Karras", "dpm_2_a_karras"),
        ("dpm_2_ancestral", "dpm_2_a"),
        ("Euler a", "euler_a"),
        ("dpm-solver++", "dpmsolver++"),
        ("plms", "pndm"),
        ("uni_pc", "unipc"),
        ("DPM adaptive", "dpm_adaptive"),
        ("dpmpp_2s_ancestral", "dpm++_2s_a"),
        ("eulr", None),
        ("ddim karras", None),
        ("", None),
    ],
)
def test_names_as_people_write_them(words: str, name: str | None) -> None:
    assert find_sampler(words) == name


def test_every_spelling_leads_to_its_own_name() -> None:
    for words, name in {**spellings(), **{name: name for name in NAMES}}.items():
        assert find_sampler(words) == name, words
    assert split_name("heun_karras") == ("heun", True) and split_name("heun") == ("heun", False)
