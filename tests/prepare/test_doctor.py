"""The doctor as a whole: exactly the bad pictures, a verdict, a table that fits, and JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from library.prepare.doctor import BAD, HEALTHY, NAMED, WIDTH, Report, as_json, diagnose, named, table
from library.prepare.findings import KINDS, finding
from tests.prepare.patients import SUBSET, draw, good_folder, photo, save, seen, unseen, wish

SMALL = wish(subset=replace(SUBSET, resolution=(64, 64), min_bucket_reso=64))


def kinds(report: Report) -> dict[str, set[str]]:
    """The pictures of each kind of finding, by name."""
    return {each.kind: {path.name for path in each.pictures} for each in report.findings}


def test_good_pictures_are_fit_for_training(tmp_path: Path) -> None:
    report = diagnose(good_folder(tmp_path, 4), replace(SMALL, trigger_word="sks"), processes=1)
    assert (report.status, report.findings) == (HEALTHY, ())
    assert table(report).splitlines() == [
        "4 pictures in 1 folder; trained at 64x64 in 1 bucket, batches of 1",
        "",
        "verdict: fit for training: nothing to complain of.",
    ]


def test_a_report_names_exactly_the_bad_ones(tmp_path: Path) -> None:
    """60 good pictures and 40 bad ones: 10 broken, 10 tiny, 10 copies, 10 without words."""
    good_folder(tmp_path, 60)
    bad = {"unreadable": set(), "tiny": set(), "exact_duplicates": set(), "caption_missing": set()}
    for number in range(10):
        broken = save(draw(100 + number), tmp_path / f"broken_{number}.png", "sks, broken")
        broken.write_bytes(broken.read_bytes()[: 20 + 9 * number])
        tiny = save(draw(200 + number, (20, 20)), tmp_path / f"tiny_{number}.png", f"sks, tiny {number}")
        copy = tmp_path / f"good_{number:03d} (copy).png"
        copy.write_bytes((tmp_path / f"good_{number:03d}.png").read_bytes())
        copy.with_suffix(".txt").write_text(f"sks, copy {number}")
        wordless = save(draw(300 + number), tmp_path / f"wordless_{number}.png")
        names = (("unreadable", broken), ("tiny", tiny), ("exact_duplicates", copy), ("caption_missing", wordless))
        for kind, path in names:
            bad[kind].add(path.name)
    report = diagnose(tmp_path, SMALL)
    seen_kinds = kinds(report)
    later = {path.name for each in report.findings for group in each.groups for path in group[1:]}
    assert {kind: later if kind == "exact_duplicates" else seen_kinds[kind] for kind in seen_kinds} == bad | {
        "common_tag": {each.path.name for each in report.pictures} - bad["caption_missing"]
    }
    assert (len(report.pictures), report.status) == (100, BAD)
    assert report.verdict == "training would suffer: 2 errors, 2 warnings, 1 note."


def messy_folder(folder: Path) -> Path:
    """A folder with something of every kind, apart from captions that are all the same and class words."""
    good_folder(folder, 12)
    cat = photo("chelsea").crop((75, 0, 375, 300))
    save(cat, folder / "cat.png", "sks, cat")
    (folder / "cat (copy).png").write_bytes((folder / "cat.png").read_bytes())
    save(cat.resize((150, 150)), folder / "cat_small.png", "sks, cat again", quality=60)
    save(photo("coffee").filter(ImageFilter.GaussianBlur(4)), folder / "coffee.jpg", "sks, blurred coffee")
    save(Image.eval(draw(50), lambda level: level // 5), folder / "dark.png", "sks, dark")
    save(Image.eval(draw(51), lambda level: 220 + level // 8), folder / "bright.png", "sks, bright")
    save(Image.new("RGB", (64, 64), "gold"), folder / "empty.png", "sks, nothing")
    save(draw(52).convert("L"), folder / "grey.png", "sks, grey")
    save(draw(53, (50, 50)), folder / "enlarged.png", "sks, small")
    save(draw(54, (30, 30)), folder / "tiny.png", "sks, tiny")
    save(draw(55, (900, 64)), folder / "long.png", "sks, long")
    save(draw(56), folder / "no_caption.png")
    save(draw(57), folder / "empty_caption.png", "")
    save(draw(58), folder / "long_caption.png", "sks, " + "word " * 90)
    save(draw(59), folder / "lines.png", "sks, one line\nanother")
    save(draw(60), folder / "no_trigger.png", "thing, number 60")
    save(draw(61), folder / "latin.png").with_suffix(".txt").write_bytes(b"caf\xe9")
    save(draw(62), folder / "good_000.jpg")
    save(draw(63), folder / "film.gif")
    for name, side in (("good_001", 32), ("lost", 64)):
        save(Image.new("L", (side, side)), folder / f"{name}-masklabel.png")
    save(Image.new("L", (64, 20)), folder / "good_002-masklabel.png")
    (folder / "broken.png").write_text("no picture")
    return folder


def test_every_kind_of_finding_can_be_found(tmp_path: Path) -> None:
    messy = messy_folder(tmp_path / "messy")
    found = kinds(diagnose(messy, replace(SMALL, trigger_word="sks", train_batch_size=64), processes=1))
    for number in range(6):
        save(draw(number), tmp_path / "same" / f"{number}.png", "sks thing")
        save(draw(number), tmp_path / "class" / "2_sks thing" / f"{number}.png")
        save(draw(number), tmp_path / "tags" / f"{number}.png", f"sks, thing, {number}")
    for name in ("same", "class", "tags"):
        found |= kinds(diagnose(tmp_path / name, SMALL, processes=1))
    assert set(found) == set(KINDS)
    assert found["blurred"] == {"coffee.jpg"}
    assert found["near_duplicates"] == {"cat.png", "cat_small.png"}
    assert found["tiny"] == {"tiny.png"}
    assert found["greyscale"] == {"grey.png"}


def test_the_table_fits_a_terminal_and_names_what_is_bad(tmp_path: Path) -> None:
    report = diagnose(messy_folder(tmp_path), replace(SMALL, trigger_word="sks", train_batch_size=2), processes=1)
    lines = table(report).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line.split()[0] for line in lines if line[:1].strip()][1:-1] == [each.severity for each in report.findings]
    text = " ".join(table(report).split())
    for words in ("cat.png = cat (copy).png", "cat.png ~ cat_small.png", "broken.png: its content is not a picture"):
        assert words in text
    assert lines[-1] == f"verdict: {report.verdict}"


def test_json_holds_all_that_was_found(tmp_path: Path) -> None:
    report = diagnose(messy_folder(tmp_path / "in"), replace(SMALL, trigger_word="sks"), processes=1)
    found = json.loads(json.dumps(as_json(report)))
    assert (found["status"], found["pictures"], found["folder"]) == (3, 31, str(tmp_path / "in"))
    assert found["errors"] + found["warnings"] + found["notes"] == len(found["findings"])
    by_kind = {row["kind"]: row for row in found["findings"]}
    assert by_kind["unreadable"] == {
        "kind": "unreadable",
        "severity": "error",
        "pictures": ["broken.png"],
        "sentence": report.findings[0].sentence,
        "details": {"broken.png": "its content is not a picture"},
        "groups": [],
    }
    assert by_kind["exact_duplicates"]["groups"] == [["cat.png", "cat (copy).png"]]
    facts = {row["picture"]: row for row in found["facts"]}
    assert len(facts) == 31
    assert facts["broken.png"]["reason"] == "its content is not a picture" and "width" not in facts["broken.png"]
    tiny = facts["tiny.png"]
    assert (tiny["width"], tiny["bucket"], tiny["enlargement"], tiny["caption"]) == (30, [64, 64], 2.133, "sks, tiny")
    assert "tiny" in tiny["findings"] and facts["no_caption.png"]["caption"] is None
    assert sum(found["buckets"].values()) == 30
    assert found["tags"]["sks"] >= 20


def test_pictures_in_folders_are_named_with_them(tmp_path: Path) -> None:
    for folder in ("1_sks cat", "2_sks dog"):
        save(draw(0), tmp_path / folder / "a.png", "sks, thing")
    report = diagnose(tmp_path, SMALL, processes=1)
    assert named(report, report.findings[0]) == ["1_sks cat/a.png = 2_sks dog/a.png"]
    assert "2 pictures in 2 folders" in report.plan
    assert as_json(report)["buckets"] == {"64x64": 3}


def test_a_long_list_is_cut_in_the_table_only() -> None:
    pictures = [seen(f"{number}.png") for number in range(NAMED + 3)]
    dark = finding("dark", [each.path for each in pictures], "dark pictures.")
    report = Report(SUBSET.image_dir, wish(), tuple(pictures), (dark,))
    assert named(report, dark)[-2:] == [f"{NAMED - 1}.png", "and 3 more"]
    assert len(as_json(report)["findings"][0]["pictures"]) == NAMED + 3
    assert report.findings_of(pictures[0].path) == [dark] and report.findings_of(Path("other")) == []


def test_every_unreadable_picture_is_named() -> None:
    pictures = [unseen(f"{number}.png") for number in range(NAMED + 3)]
    broken = finding("unreadable", {each.path: each.reason for each in pictures}, "unreadable pictures.")
    report = Report(SUBSET.image_dir, wish(), tuple(pictures), (broken,))
    assert named(report, broken) == [f"{each.path.name}: {each.reason}" for each in pictures]


@pytest.mark.parametrize("name", ["odd\udce9.png", "weiß.png"])
def test_any_name_can_be_said(name: str) -> None:
    report = Report(SUBSET.image_dir, wish(), (seen(name),), ())
    said = report.name(SUBSET.image_dir / name)
    assert said.encode() and said == ("odd?.png" if "odd" in name else name)
    assert report.name(Path("elsewhere") / "a.png") == str(Path("elsewhere") / "a.png")
