"""preprocess/tag_wd14.py on the demo's tagger: true tags, every option, refusals, and the end as a person sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from demo.tagger_training import CHARACTERS, TAGS, Scene, tags_of
from demo.world import Creature, draw, random_for, sample
from library.errors import InputError
from preprocess import tag_wd14
from tests.prepare.taggers import write_colorist

PROGRAM = Path(tag_wd14.__file__)
TAGGER = str(PROGRAM.parents[1] / "demo" / "tagger")

# Purple with a hat: the tagger knows it by name.
BARON = Creature("round", "purple", 1, "hat", "big", "center", "yellow", "striped", x=64, y=74, radius=38)
STAR = Creature("star-shaped", "red", 2, "bow", "small", "left", "blue", "plain", x=40, y=74, radius=24)
# Options that leave the ratings and the names of characters alone.
NAME_ONLY = ("--undesired_tags", ",".join(set(TAGS) - set(CHARACTERS) - {"general"}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two creatures: one in a folder of its own, with bars of transparency around it."""
    draw(BARON).save(tmp_path / "baron.png")
    wide = Image.new("RGBA", (144, 128), (0, 0, 0, 0))
    wide.paste(draw(STAR), (8, 0))
    (tmp_path / "more").mkdir()
    wide.resize((432, 384)).save(tmp_path / "more" / "star.webp", lossless=True)
    return tmp_path


def tag(folder: Path, *arguments: str) -> dict[str, str]:
    """A run, and the captions that are there after it."""
    assert tag_wd14.main([str(folder), "--model", TAGGER, *arguments]) == 0
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.txt"))}


def test_the_tags_are_true(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = tag(folder)
    assert list(captions) == ["baron"]
    tags = captions["baron"].rstrip("\n").split(", ")
    assert set(tags) == tags_of(Scene(BARON, empty=False)) - {"general"}
    assert tags[0] == "solo" and tags[-1] == "baron_(easel)"
    assert capsys.readouterr().out == "captions: 1 written.\n"


def test_folders_inside_are_searched_if_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tag(folder)
    captions = tag(folder, "--recursive")
    assert capsys.readouterr().out.splitlines()[-1] == "captions: 1 kept, 1 written."
    # With white around it the creature is smaller than any of the world, so size and place are another matter.
    kinds = {"star-shaped_body", "red_body", "two_eyes", "bow"}
    assert kinds <= set(captions["star"].rstrip("\n").split(", "))


@pytest.mark.parametrize(
    ("options", "caption"),
    [
        (("--remove_underscore", *NAME_ONLY, "--character_threshold", "0.2"), "baron (easel)"),
        (("--undesired_tags", "baron_(easel), hat, solo,big", "--thresh", "0.5", "--remove_underscore"),
         "round body, purple body, one eye, in the center, yellow background, striped background"),
        (("--use_rating_tags", *NAME_ONLY), "general, baron_(easel)"),
        (("--use_rating_tags_as_last_tag", *NAME_ONLY), "baron_(easel), general"),
        (("--character_tag_expand", *NAME_ONLY, "--trigger_word", "sks man"), "sks man, baron, easel"),
        (("--escape_brackets", *NAME_ONLY), r"baron_\(easel\)"),
        (("--tag_replacement", r"baron_(easel),a\, b", *NAME_ONLY), "a, b"),
        (("--caption_separator", " | ", *NAME_ONLY, "--trigger_word", "sks"), "sks | baron_(easel)"),
    ],
)  # fmt: skip
def test_each_option_reaches_the_caption(folder: Path, options: tuple[str, ...], caption: str) -> None:
    assert tag(folder, *options) == {"baron": caption + "\n"}


def test_tags_are_put_in_order(folder: Path) -> None:
    first = tag(folder, "--character_tags_first")["baron"].split(", ")
    assert first[0] == "baron_(easel)" and first[1] == "solo"
    wanted = tag(folder, "--mode", "overwrite", "--always_first_tags", "hat,one eye")["baron"].split(", ")
    assert wanted[:3] == ["hat", "one_eye", "solo"]
    report = folder / "all.json"
    by_score = tag(folder, "--mode", "overwrite", "--sort_by_score", "--output_json", str(report))["baron"]
    content = json.loads(report.read_text())[str(folder / "baron.png")]
    best = [name for name in content["probabilities"] if name != "general"]
    assert by_score.rstrip("\n").split(", ") == content["tags"] == best[: len(content["tags"])]
    assert sorted(content["probabilities"].values(), reverse=True) == list(content["probabilities"].values())


def test_mcut_needs_no_threshold(folder: Path) -> None:
    tags = tag(folder, "--mcut")["baron"].rstrip("\n").split(", ")
    assert {"solo", "purple_body", "baron_(easel)"} <= set(tags) <= tags_of(Scene(BARON, empty=False))


def test_old_captions_are_joined(folder: Path) -> None:
    (folder / "baron.txt").write_text("a gentleman, hat")
    assert tag(folder)["baron"] == "a gentleman, hat"
    appended = tag(folder, "--mode", "append")["baron"].split(", ")
    assert appended[:3] == ["a gentleman", "hat", "solo"] and appended.count("hat") == 1


def test_tags_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(STAR).save(folder / "other.png")
    tag(folder, "--frequency_tags", "--batch_size", "4")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "how often each tag was given:" and lines[1] == "2  solo"
    assert "1  hat" in lines and lines[-1] == "captions: 2 written."


def test_bad_files_are_named_at_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.png").write_bytes((folder / "baron.png").read_bytes()[:200])
    (folder / "letter.jpg").write_text("not a picture")
    (folder / "baron-masklabel.png").write_text("a mask, and no picture")
    assert list(tag(folder)) == ["baron"]
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "captions: 1 written, 2 failed:" in text
    assert f"{folder / 'letter.jpg'}: its content is not a picture" in text and "broken.png" in text


def test_if_all_are_bad_the_input_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "letter.jpg").write_text("not a picture")
    with pytest.raises(InputError, match="none of the captions"):
        tag(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--thresh", "1.5"), "--thresh is 1.5; it must be a probability, from 0 to 1"),
        (("--general_threshold", "-1"), "--general_threshold is -1"),
        (("--character_threshold", "nan"), "--character_threshold is nan"),
        (("--batch_size", "0"), "--batch_size is 0"),
        (("--caption_separator", " "), "--caption_separator has only blanks"),
        (("--caption_extension", "."), "caption_extension"),
        (("--mcut", "--thresh", "0.5"), "not allowed with"),
        (("--mcut", "--general_threshold", "0.5"), "--mcut finds the thresholds by itself"),
        (("--use_rating_tags", "--use_rating_tags_as_last_tag"), "not allowed with"),
        (("--tag_replacement", "a,b;c"), "--tag_replacement has the part 'c'"),
        (("--output_json", "."), "cannot be written"),
        (("--output_json", f"{PROGRAM}/new.json"), "cannot be written"),
        (("--model", "nowhere"), "--model nowhere is no folder here"),
        (("--mode", "guess"), "invalid choice"),
    ],
)
def test_mistakes_are_refused_before_any_picture_is_read(
    folder: Path, options: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("library.prepare.tagger.read_picture", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(InputError, match=words):
        tag(folder, *options)
    assert not list(folder.glob("*.txt"))


def test_a_list_that_does_not_fit_the_model_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = write_colorist(tmp_path_factory.mktemp("model"))
    (model / "selected_tags.csv").write_text("tag_id,name,category,count\n1,a,0,1\n")
    with pytest.raises(InputError, match="has 1 tags: not a pair"):
        tag_wd14.main([str(folder), "--model", str(model)])


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures found"):
        tag(tmp_path)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program as a person starts it."""
    return subprocess.run([sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True)


def test_as_a_person_starts_it(folder: Path) -> None:
    result = run(folder, "--model", TAGGER, "--recursive", "--remove_underscore")
    assert (result.returncode, result.stdout) == (0, "captions: 2 written.\n"), result.stderr
    assert (folder / "baron.txt").read_text().startswith("solo, round body, purple body")
    result = run(folder, "--model", TAGGER, "--device", "cuda", "--mode", "overwrite")
    assert result.returncode in (0, 2)
    if result.returncode:
        assert result.stderr.startswith("error: ") and "--device cpu" in result.stderr


def test_help_and_refusals_come_without_heavy_libraries(folder: Path) -> None:
    result = run("--help")
    words = " ".join(result.stdout.split())
    assert result.returncode == 0 and "(default: 0.35)" in words and "(default: )" not in words
    code = f"import sys; sys.path.insert(0, {str(PROGRAM.parents[1])!r})\nfrom preprocess import tag_wd14\n"
    code += f"try: tag_wd14.main([{str(folder)!r}, '--model', 'x', '--thresh', '7'])\n"
    code += "except Exception as error: print(type(error).__name__, {'torch', 'onnxruntime', 'numpy'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "InputError set()\n", result.stderr


def test_the_demos_world_is_known(tmp_path: Path) -> None:
    scenes = [Scene(sample(random_for(77, number)), empty=False) for number in range(40)]
    for number, scene in enumerate(scenes):
        draw(scene.creature).save(tmp_path / f"{number:02d}.jpg", quality=80)
    captions = list(tag(tmp_path, "--batch_size", "8").values())
    wrong = [
        (caption, true)
        for caption, true in zip(captions, map(tags_of, scenes), strict=True)
        if set(caption.strip().split(", ")) != true - {"general"}
    ]
    assert len(wrong) <= 2, wrong
    assert len(captions) == 40
