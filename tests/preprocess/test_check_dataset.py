"""preprocess/check_dataset.py: its exit status is its verdict, and its reports are written whole or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from library.errors import InputError
from preprocess import check_dataset
from tests.prepare.patients import draw, good_folder, photo, save

PROGRAM = Path(check_dataset.__file__)


def run(*arguments: object) -> int:
    """The program's exit status, run in this process on pictures trained at 64x64."""
    return check_dataset.main([*map(str, arguments), "--resolution=64", "--processes=1"])


def test_good_pictures_end_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(good_folder(tmp_path, 3), "--trigger_word", "sks") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verdict: fit for training: nothing to complain of."


def test_as_people_run_it(tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "pictures", 20)
    (folder / "broken.png").write_text("no picture")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    reports = ["--json", str(tmp_path / "out" / "report.json"), "--html", str(tmp_path / "out" / "report.html")]
    command = [sys.executable, str(PROGRAM), str(folder), "--resolution", "64", *reports]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    assert "broken.png: its content is not a picture" in result.stdout
    assert result.stdout.splitlines()[-1] == f"written: {reports[1]} and {reports[3]}"
    found = json.loads(Path(reports[1]).read_text(encoding="utf-8"))
    assert (found["status"], found["pictures"]) == (3, 21)
    assert found["findings"][0]["pictures"] == ["broken.png"]
    page = Path(reports[3]).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 20 and "broken.png" in page
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_a_folder_whose_name_is_no_text_gets_its_reports(tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "caf\udce9", 2)
    data, page = tmp_path / "report.json", tmp_path / "report.html"
    assert run(folder, "--json", data, "--html", page) == 0
    assert json.loads(data.read_text(encoding="utf-8"))["folder"] == str(folder)
    assert "caf?" in page.read_text(encoding="utf-8")


def test_settings_are_those_of_training(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    folder = tmp_path / "pictures"
    save(draw(0, (128, 64)), folder / "wide.png").with_suffix(".caption").write_text("thing")
    save(draw(1), folder / "square.png").with_suffix(".caption").write_text("other thing")
    options = ("--caption_extension", "caption", "--train_batch_size", "3", "--dataset_repeats", "2")
    assert run(folder, "--json", report, *options, "--enable_bucket", "false", "--caption_prefix", "sks") == 0
    found = json.loads(report.read_text())
    assert found["buckets"] == {"64x64": 4}
    assert {row["kind"] for row in found["findings"]} == {"cropped"}
    assert found["facts"][0]["caption"] == "sks other thing"
    assert run(folder, "--json", report, *options, "--bucket_no_upscale", "--min_bucket_reso=64") == 0
    found = json.loads(report.read_text())
    assert found["buckets"] == {"64x64": 2, "128x64": 2}
    assert {row["kind"] for row in found["findings"]} == {"small_bucket"}


def test_every_setting_of_a_folder_arrives(tmp_path: Path) -> None:
    changed = {
        "resolution": "128,192",
        "enable_bucket": "false",
        "min_bucket_reso": "64",
        "max_bucket_reso": "512",
        "bucket_reso_steps": "128",
        "bucket_no_upscale": "true",
        "dataset_repeats": "7",
        "caption_extension": ".tags",
        "caption_separator": ";",
        "caption_prefix": "front",
        "caption_suffix": "back",
        "enable_wildcard": "true",
        "train_batch_size": "5",
        "max_token_length": "225",
    }
    assert set(changed) == {*check_dataset.SUBSET_SETTINGS, *check_dataset.RUN_SETTINGS}
    options = [f"--{name}={value}" for name, value in changed.items()]
    given = ([str(tmp_path)], [str(tmp_path), *options])
    plain, asked = (check_dataset.wish_of(check_dataset.parse_arguments(each)) for each in given)
    subset = vars(asked.subset)
    differing = {name for name, value in subset.items() if vars(plain.subset)[name] != value}
    renamed = {"dataset_repeats": "num_repeats"}
    wanted = {renamed.get(name, name) for name in check_dataset.SUBSET_SETTINGS}
    assert differing == wanted and subset["num_repeats"] == 7
    assert (asked.train_batch_size, asked.max_token_length) == (5, 225)


def test_folders_within_are_looked_into_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good_folder(tmp_path / "a", 2)
    good_folder(tmp_path / "b" / "c", 2, first=5)
    with pytest.raises(InputError, match="no pictures found"):
        run(tmp_path)
    assert run(tmp_path, "--recursive") == 0
    assert "4 pictures in 2 folders" in capsys.readouterr().out


def test_a_real_photograph_is_fit(tmp_path: Path) -> None:
    save(photo("astronaut"), tmp_path / "a.jpg", "sks, woman in an orange suit", quality=90)
    assert check_dataset.main([str(tmp_path), "--processes", "1"]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resolution", "100"], "multiples of 64"),
        (["--train_batch_size", "0"], "at least 1"),
        (["--max_token_length", "80"], "75, 150 or 225"),
        (["--processes", "-1"], "0 to 1024"),
        (["--json", "{folder}"], "no file can be written"),
        (["--json", "{folder}/a.json", "--html", "{folder}/a.json"], "same file"),
        (["--caption_extension", "a/b"], "caption_extension"),
        (["--max_bucket_reso", "64"], "max_bucket_reso"),
        (["--resolutoin", "512"], "--resolutoin"),
    ],
)
def test_wrong_input_is_refused_and_nothing_written(options: list[str], words: str, tmp_path: Path) -> None:
    good_folder(tmp_path, 2)
    before = sorted(tmp_path.iterdir())
    arguments = [option.format(folder=tmp_path) for option in options]
    report = [] if "--json" in options else ["--json", str(tmp_path / "report.json")]
    with pytest.raises(InputError, match=words):
        check_dataset.main([str(tmp_path), *report, *arguments])
    assert sorted(tmp_path.iterdir()) == before


def test_a_refusal_is_quick() -> None:
    code = "import sys; from preprocess import check_dataset\n"
    code += "try: check_dataset.main(['gone', '--processes', '-1'])\n"
    code += "except Exception as error: print(type(error).__name__, {'torch', 'numpy'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parents[1], capture_output=True, text=True)
    assert result.stdout == "InputError set()\n", result.stderr
