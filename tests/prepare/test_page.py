"""The page: it holds everything itself, says what the report says, and lets no name or caption break it."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from library.prepare.doctor import Report
from library.prepare.findings import KINDS, Finding, finding
from library.prepare.looks import look_at
from library.prepare.page import IN_A_FINDING, page
from tests.prepare.patients import SUBSET, looks, photo, save, seen, unseen, wish

VOID = {"meta", "img", "br", "input"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and fails where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Checks that it is the last one that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collects the words."""
        if "style" not in self.open:
            self.words += f" {data}"

    def images(self) -> list[dict[str, str]]:
        """The attributes of the thumbnails."""
        return [attributes for tag, attributes in self.elements if tag == "img"]


@pytest.fixture(scope="module")
def thumbnail(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return look_at(save(photo("coffee"), tmp_path_factory.mktemp("a") / "a.png"), thumbnail=True).thumbnail


def report_of(thumbnail: bytes, count: int, *findings: Finding) -> Report:
    """A report on so many pictures, each with a thumbnail, and one that is broken."""
    pictures = [seen(f"{number:03d}.png", f"sks, tag {number}", looks(thumbnail=thumbnail)) for number in range(count)]
    return Report(SUBSET.image_dir, wish(train_batch_size=4), (*pictures, unseen("broken.png")), findings)


def about(kind: str, count: int, words: str = "", size: int = 0) -> Finding:
    """A finding about the first pictures; in groups of a size."""
    paths = {SUBSET.image_dir / f"{number:03d}.png": words for number in range(count)}
    groups = [list(paths)[start : start + size] for start in range(0, count, size)] if size else []
    return finding(kind, paths, f"sentence about {kind}.", groups=groups)


def test_the_page_says_what_the_report_says(thumbnail: bytes) -> None:
    broken = finding("unreadable", {SUBSET.image_dir / "broken.png": "it is cut short"}, "sentence about it.")
    report = report_of(thumbnail, 3, broken, about("blurred", 2, "2.1 px"), about("near_duplicates", 2, size=2))
    reader = Reader(page(report))
    assert reader.open == []
    for words in ("Training would suffer", "1 error", "2 warnings", "it is cut short", "2.1 px", "512 x 512", "tag 2"):
        assert words in reader.words
    for each in report.findings:
        assert KINDS[each.kind].title in reader.words
        assert each.sentence[1:] in reader.words
    assert [attributes["id"] for _, attributes in reader.elements if "id" in attributes] == ["error", "warning"]
    assert len(reader.images()) == 2 + 2 + 3
    assert sum(attributes.get("class") == "group" for _, attributes in reader.elements) == 1


def test_the_page_of_good_pictures_says_so(thumbnail: bytes) -> None:
    report = report_of(thumbnail, 1)
    text = page(replace(report, pictures=report.pictures[:1]))
    assert "Fit for training" in text and "Nothing to complain of" in text and '<header class="good">' in text


def test_nothing_is_fetched_and_nothing_runs(thumbnail: bytes) -> None:
    text = page(report_of(thumbnail, 2, about("dark", 1)))
    reader = Reader(text)
    assert {tag for tag, _ in reader.elements} & {"script", "link", "iframe", "object", "base"} == set()
    for tag, attributes in reader.elements:
        assert all(not name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert attributes.get("href", "#").startswith("#"), tag
    assert not re.search(r"url\(|@import|https?:", text)
    for image in reader.images():
        assert (image["loading"], image["decoding"]) == ("lazy", "async")
    assert "prefers-color-scheme: dark" in text and "color-scheme: light dark" in text


def test_names_and_captions_are_only_words(thumbnail: bytes) -> None:
    evil = '"><script>alert(1)</script>&.png'
    odd = seen(evil, f"sks, {evil}", looks(thumbnail=thumbnail))
    found = finding("dark", {odd.path: evil}, evil)
    reader = Reader(page(Report(SUBSET.image_dir, wish(), (odd, odd), (found,))))
    assert "script" not in {tag for tag, _ in reader.elements}
    assert reader.words.count("<script>alert(1)</script>") >= 5


def test_long_lists_are_cut_and_what_is_left_is_named(thumbnail: bytes) -> None:
    report = report_of(thumbnail, IN_A_FINDING + 5, about("enlarged", IN_A_FINDING + 2))
    text = page(report)
    assert len(Reader(text).images()) == IN_A_FINDING + len(report.pictures) - 1
    assert f"and 2 more</summary>{IN_A_FINDING:03d}.png, {IN_A_FINDING + 1:03d}.png</details>" in text


def test_a_finding_about_all_shows_none_of_them(thumbnail: bytes) -> None:
    report = report_of(thumbnail, IN_A_FINDING + 1)
    everything = finding("captions_same", [each.path for each in report.pictures], "all the same.")
    reader = Reader(page(replace(report, findings=(everything,))))
    assert len(reader.images()) == IN_A_FINDING + 1
    assert reader.words.count(KINDS["captions_same"].title) == 1


def test_two_hundred_pictures_stay_small(thumbnail: bytes) -> None:
    kinds = [kind for kind in KINDS if kind not in ("unreadable", "near_duplicates", "exact_duplicates")]
    report = report_of(thumbnail, 200, *(about(kind, 200) for kind in kinds))
    assert len(page(report).encode()) < 5_000_000
    some = report_of(thumbnail, 200, *(about(kind, 199) for kind in kinds[:8]))
    assert len(page(some).encode()) < 5_000_000


def test_a_folder_without_captions_or_pictures_that_can_be_read_has_a_page() -> None:
    broken = replace(unseen("broken.png"), caption=seen("a").caption.__class__())
    reader = Reader(page(Report(Path("."), wish(), (broken,), ())))
    assert "There are no captions" in reader.words and "no caption" in reader.words
