"""Findings: how bad each is, and the order they are told in."""

from pathlib import Path

import pytest

from library.prepare.findings import ERROR, KINDS, NOTE, SEVERITIES, WARNING, by_weight, counted, finding, them


def paths(number: int) -> list[Path]:
    """So many paths."""
    return [Path(f"{each}.png") for each in range(number)]


def test_a_warning_about_many_pictures_is_an_error() -> None:
    severity = {number: finding("blurred", paths(number), "", total=9).severity for number in (1, 3, 4)}
    assert severity == {1: WARNING, 3: WARNING, 4: ERROR}
    assert finding("blurred", paths(1), "", total=1).severity == WARNING
    assert finding("blurred", paths(9), "").severity == WARNING


def test_other_kinds_stay_as_they_are() -> None:
    assert finding("near_duplicates", paths(9), "", total=9).severity == WARNING
    assert finding("odd_shape", paths(9), "", total=9).severity == NOTE
    assert finding("unreadable", paths(1), "", total=99).severity == ERROR


@pytest.mark.parametrize(("copies", "severity"), [(3, WARNING), (4, ERROR)])
def test_of_copies_one_is_right(copies: int, severity: str) -> None:
    groups = [paths(copies)]
    assert finding("exact_duplicates", paths(copies), "", total=6, groups=groups).severity == severity


def test_errors_are_told_first() -> None:
    kinds = ("common_tag", "blurred", "unreadable", "dark", "tiny")
    told = by_weight(finding(kind, paths(1), "") for kind in kinds)
    assert [each.kind for each in told] == ["unreadable", "tiny", "blurred", "dark", "common_tag"]


def test_every_kind_has_a_title_and_a_severity() -> None:
    assert len({kind.title for kind in KINDS.values()}) == len(KINDS) >= 20
    assert {kind.severity for kind in KINDS.values()} == set(SEVERITIES)
    assert finding("tiny", {Path("a"): "3 times"}, "x").title == KINDS["tiny"].title


def test_numbers_agree_with_their_nouns() -> None:
    assert [counted(number) for number in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
    assert counted(2, "exact copy", "exact copies") == "2 exact copies"
    assert [them(1), them(2)] == ["it", "them"]
