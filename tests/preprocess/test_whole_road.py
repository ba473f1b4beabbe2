"""The whole road: a folder of sixty good and forty bad files, cropped, tagged, edited, checked and trained on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from library.data.decoding import examine
from library.data.folders import is_picture
from preprocess import check_dataset, crop_images, edit_captions, tag_wd14
from tests.preprocess.bad_files import BAD, GOOD, write_bad, write_good
from tests.runs import Bench, listing, run_to_the_end

ROOT = Path(crop_images.__file__).parents[1]
# Pillow's, which programs leave to their own reports; under pytest it comes through.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

FAILED = r"  (.+?): \S.*"  # a line of what a preprocessing program could not work on


def named(pattern: str, said: str) -> list[str]:
    """What the lines of a report that are like a pattern name, in order, again and again if they do."""
    return sorted(match[1] for line in said.splitlines() if (match := re.fullmatch(pattern, line)))


def shown(paths: Iterable[Path]) -> list[str]:
    """Paths as programs name them."""
    return sorted(str(path).encode(errors="replace").decode() for path in paths)


def test_the_files_are_what_they_say(tmp_path: Path) -> None:
    good, bad = write_good(tmp_path / "good"), write_bad(tmp_path / "bad")
    assert (len(good), len(bad)) == (GOOD, BAD) and sorted((tmp_path / "bad").iterdir()) == bad
    assert len({examine(path).sha256 for path in good}) == GOOD
    assert all(is_picture(path) for path in bad)
    for path in bad:
        with pytest.raises(ValueError, match=r"^\w[^\n]+[^.\s]$"):
            examine(path)


def crop(raw: Path, folder: Path) -> None:
    """Crops good and bad ones as a person does, and looks at the report."""
    write_good(raw)
    bad = write_bad(raw)
    before = listing(raw)
    command = [sys.executable, crop_images.__file__, raw, folder, "--size", "64"]
    # Most terminals are strict about what they show.
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=strict)
    assert result.returncode == 0, result.stderr
    assert named(FAILED, result.stdout.partition("crops: 60 written, 40 failed:\n")[2]) == shown(bad)
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    assert len(list(folder.iterdir())) == GOOD and listing(raw) == before


def test_every_report_names_exactly_the_forty(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, report = tmp_path / "pictures", tmp_path / "report.json"
    crop(tmp_path / "photos", pictures)
    bad = write_bad(pictures)
    (pictures / "album.png").mkdir()  # a folder, whatever it is called

    assert tag_wd14.main([str(pictures), "--model", str(ROOT / "demo" / "tagger")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("captions: 60 written, 40 failed:\n") and named(FAILED, said) == shown(bad)

    assert edit_captions.main([str(pictures), "--add_front", "sks"]) == 0
    said = capsys.readouterr().out
    assert named("no caption: (.+)", said) == shown(path.with_suffix(".txt") for path in bad)
    assert said.splitlines()[-1].startswith("captions: 60 edited, 40 without a caption")

    options = ["--resolution", "64", "--trigger_word", "sks", "--json", str(report)]
    assert check_dataset.main([str(pictures), *options]) == 3
    found = {row["kind"]: row["pictures"] for row in json.loads(report.read_text(encoding="utf-8"))["findings"]}
    assert sorted(found["unreadable"]) == shown(path.relative_to(pictures) for path in bad)
    assert not {"caption_missing", "trigger_missing", "exact_duplicates"} & found.keys()
    in_table = " ".join(capsys.readouterr().out.split())
    assert not [name for name in found["unreadable"] if f"{name}: " not in in_table]

    run = Bench(bench.model, pictures, tmp_path, tmp_path / "cache")
    before = listing(pictures)
    assert run_to_the_end(run.argv()) == 2
    said = capsys.readouterr().err
    assert named("error: the picture (.+) cannot be read: .*", said) == shown(bad)
    assert "set skip_unreadable = true" in said.splitlines()[-1]
    assert listing(pictures) == before and not run.output.exists() and not run.logs.exists()

    tensors = run.train(skip_unreadable=True)
    said = capsys.readouterr()
    assert named(r"left out, because it cannot be read: (.+?) \(.*\)", said.out) == shown(bad)
    assert named("warning: (.+) is left out: .*", said.err) == shown(bad)
    assert "60 pictures x 1, 60 captions" in said.out and tensors
    dirs = json.loads(run.metadata()["ss_dataset_dirs"])
    assert dirs == {"pictures": {"n_repeats": 1, "img_count": GOOD}}

