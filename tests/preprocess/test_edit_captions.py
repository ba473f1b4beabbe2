"""preprocess/edit_captions.py: edits, dry runs and tables as a person sees them, and every edit undone."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library.errors import InputError
from library.prepare.journal import FOLDER
from preprocess.edit_captions import main

PROGRAM = Path(__file__).resolve().parents[2] / "preprocess" / "edit_captions.py"
BAD = b"caf\xe9, red"

# Edits that between them use every option.
COMMANDS = (
    ["--add_front", "sks, dog", "--add_end", "end", "--add", "mid", "--position", "2"],
    ["--remove", "red", "--remove_regex", "^b", "--replace", "sky=clouds", "--replace_regex", "o=>0"],
    ["--text_regex", "e=>E", "--underscores_to_spaces", "--escape_brackets", "--with_any", "red, sky"],
    ["--unescape_brackets", "--clean", "--without", "red", "--match", "s"],
    ["--sort", "frequency", "--keep_first", "1", "--deduplicate", "--with", "red"],
    ["--sort", "alphabetical", "--prune_overlapping", "--prune_common", "0.5", "--trigger", "red"],
    ["--set", "one for all"],
    ["--set_empty", "only for the empty", "--keep_only", "red"],
    ["--set_empty", "", "--only_empty"],
)
TAGS = st.sampled_from(["red", "dark red", "sky", "b (c)", "long_hair", "^_^", "book", "  ", "\u732b"])
LINE = st.lists(TAGS, max_size=5).map(", ".join)
TEXT = st.tuples(st.lists(LINE, max_size=3), st.sampled_from(["\n", "\r\n"])).map(lambda two: two[1].join(two[0]))
RAW = st.none() | st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), TEXT, st.sampled_from(["", "\n", "\r\n"])).map(
    lambda parts: parts[0] + (parts[1] + parts[2]).encode()
)


def fill(folder: Path, *raws: bytes | str | None) -> Path:
    """Pictures 0.png, 1.png ... with these captions; None is none."""
    folder.mkdir(exist_ok=True)
    for number, raw in enumerate(raws):
        (folder / f"{number}.png").touch()
        if raw is not None:
            (folder / f"{number}.txt").write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by its path there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def texts_of(folder: Path) -> list[str]:
    """The captions in a folder, by name."""
    return [path.read_text() for path in sorted(folder.glob("*.txt"))]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raws=st.lists(RAW, min_size=1, max_size=4), commands=st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=3))
def test_edits_are_undone_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, raws: list[bytes | None], commands: list[list[str]]
) -> None:
    folder = fill(tmp_path_factory.mktemp("pictures"), *raws)
    states = [content_of(folder)]
    for command in commands:
        main([str(folder), *command, "--dry_run"])
        assert content_of(folder) == states[-1]
        main([str(folder), *command])
        if content_of(folder) != states[-1]:
            states.append(content_of(folder))
    for state in states[-2::-1]:
        main([str(folder), "--undo", "--dry_run"])
        main([str(folder), "--undo"])
        assert content_of(folder) == state
    assert not (folder / FOLDER).exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_edit_of_the_property_does_something(tmp_path: Path, command: list[str]) -> None:
    folder = fill(tmp_path, "red, dark red, red, book", "sky, b (c), long_hair, ", "red, sky", None, r"sky, \(b\)  ,")
    start = content_of(folder)
    main([str(folder), *command])
    assert content_of(folder) != start


def test_an_edit_and_its_undo_as_a_person_sees_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, "1girl, long_hair", BAD, "sks, 1girl", None)
    assert main([str(folder), "--add_front", "sks", "--underscores_to_spaces"]) == 0
    assert (folder / "0.txt").read_text() == "sks, 1girl, long hair\n"
    assert (folder / "1.txt").read_bytes() == BAD
    assert not (folder / "3.txt").exists()
    assert capsys.readouterr().out.splitlines() == [
        f"no caption: {folder}/3.txt",
        "captions: 1 edited, 1 unchanged, 1 without a caption (--set_empty writes one), 1 failed:",
        f"  {folder}/1.txt: the caption is not UTF-8 text; save it as UTF-8",
    ]
    assert main([str(folder), "--undo"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(f": {folder} --add_front sks --underscores_to_spaces")
    assert said[1] == "captions: 1 restored."
    assert (folder / "0.txt").read_bytes() == b"1girl, long_hair"


def test_a_dry_run_shows_the_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, "red, sky", "blue", None)
    main([str(folder), "--replace", "red=crimson", "--set_empty", "new", "--dry_run"])
    assert capsys.readouterr().out.splitlines() == [
        "0.txt",
        "- red, sky",
        "+ crimson, sky",
        "2.txt",
        "- (no caption)",
        "+ new",
        "A dry run: nothing was written.",
        "captions: 2 to be edited, 1 unchanged.",
    ]
    assert not (folder / FOLDER).exists()


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "coloured"), [(True, "1", False), (True, "", True), (False, "", False)]
)
def test_only_a_terminal_gets_colours(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_terminal: bool,
    no_color: str,
    coloured: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    main([str(fill(tmp_path, "red")), "--add_end", "b", "--dry_run"])
    assert ("\033[" in capsys.readouterr().out) == coloured


def test_what_is_pruned_and_emptied_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, "sks, 1girl, red", "sks, 1girl", "1girl", "sks, 1girl, sky")
    main([str(folder), "--prune_common", "0.75", "--trigger", "sks"])
    assert texts_of(folder) == ["sks, red\n", "sks\n", "\n", "sks, sky\n"]
    assert capsys.readouterr().out.splitlines() == [
        "pruned as common: 1girl (in 4 of 4 captions)",
        "without words now: 2.txt",
        "captions: 4 edited.",
    ]


def test_folders_inside_endings_and_loose_texts(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a")
    fill(folder / "deep", "b")
    (folder / "notes.txt").write_text("no caption")
    (folder / "0.tags").write_text("c")
    main([str(folder), "--add_end", "x"])
    assert (folder / "0.txt").read_text() == "a, x\n"
    assert (folder / "deep" / "0.txt").read_text() == "b"
    main([str(folder), "--add_end", "y", "--recursive", "--caption_extension", "tags", "--set_empty", "d"])
    assert (folder / "0.tags").read_text() == "c, y\n"
    assert (folder / "deep" / "0.tags").read_text() == "d, y\n"
    assert (folder / "notes.txt").read_text() == "no caption"
    assert (folder / "0.txt").read_text() == "a, x\n"


def test_a_caption_changed_by_hand_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, "a", "b")
    main([str(folder), "--add_front", "sks"])
    (folder / "0.txt").write_text("by hand")
    edited = content_of(folder)
    with pytest.raises(InputError, match=r"0\.txt was changed after the edit"):
        main([str(folder), "--undo"])
    assert content_of(folder) == edited
    main([str(folder), "--undo", "--keep_changed"])
    assert texts_of(folder) == ["by hand", "b"]
    assert "1 restored, 1 kept as changed since" in capsys.readouterr().out
    assert not (folder / FOLDER).exists()


def test_unless_that_is_forced(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a", None)
    start = content_of(folder)
    main([str(folder), "--set", "x"])
    (folder / "0.txt").write_text("by hand")
    (folder / "1.txt").write_text("by hand")
    main([str(folder), "--undo", "--force"])
    assert content_of(folder) == start


def test_an_undo_that_failed_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path, "a", "b")
    start = content_of(folder)
    main([str(folder), "--add_front", "sks"])
    with monkeypatch.context() as patch:
        whole = Path.write_bytes
        patch.setattr(Path, "write_bytes", lambda path, raw: whole(path, raw) if raw == b"a" else 1 / 0)
        main([str(folder), "--undo"])
    assert texts_of(folder) == ["a", "sks, b\n"]
    main([str(folder), "--undo"])
    assert content_of(folder) == start


def test_an_edit_that_was_killed_is_undone(tmp_path: Path) -> None:
    """The process kills itself as kill -9 does, when it has written some captions of many."""
    folder = fill(tmp_path, *(f"tag {number}" for number in range(30)))
    start = content_of(folder)
    code = (
        "import os, signal, sys\n"
        "from library import files\n"
        "from preprocess.edit_captions import main\n"
        "whole, done = os.replace, []\n"
        "def replace(*paths):\n"
        "    done.append(paths)\n"
        "    if len(done) == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    whole(*paths)\n"
        "files.os.replace = replace\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, str(folder), "--add_front", "sks"]
    killed = subprocess.run(command, cwd=PROGRAM.parents[1], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    edited = sum(text.startswith("sks") for text in texts_of(folder))
    assert 0 < edited < 30
    main([str(folder), "--undo"])
    assert {name: raw for name, raw in content_of(folder).items() if not name.endswith(".part")} == start


def test_without_room_for_the_journal_nothing_is_edited(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a")
    (folder / FOLDER).write_text("a file in its place")
    start = content_of(folder)
    with pytest.raises(InputError, match="nothing was edited"):
        main([str(folder), "--add_front", "sks"])
    assert content_of(folder) == start


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path / "in", "red, dog", "dog", "dog, red, sky", None, BAD)
    start = content_of(folder)
    report = tmp_path / "tags.json"
    main([str(folder), "--table", "--cooccurrence", "--top", "2", "--json", str(report)])
    assert capsys.readouterr().out.splitlines()[:7] == [
        "count    part  tag (3 of them)",
        "    3   75.0%  dog",
        "    2   50.0%  red",
        "count    part  pair of tags",
        "    2   50.0%  dog + red",
        "    1   25.0%  dog + sky",
        "captions: 3 counted, 1 without a caption, 1 failed:",
    ]
    content = json.loads(report.read_text())
    assert content["captions"] == 4
    assert content["tags"][2] == {"tag": "sky", "count": 1, "part": 0.25}
    assert content["pairs"] == [
        {"pair": ["dog", "red"], "count": 2, "part": 0.5},
        {"pair": ["dog", "sky"], "count": 1, "part": 0.25},
    ]
    main([str(folder), "--cooccurrence", "red", "--with", "dog", "--json", str(report)])
    assert capsys.readouterr().out.splitlines()[:3] == [
        "count    part  tag, in the 2 captions with red",
        "    2  100.0%  dog",
        "    1   50.0%  sky",
    ]
    assert json.loads(report.read_text())["together"][0] == {"tag": "dog", "count": 2, "part": 1.0}
    assert content_of(folder) == start


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--json .* cannot be written"):
        main([str(fill(tmp_path, "a")), "--json", str(tmp_path)])


def test_when_no_caption_can_be_read_the_input_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the captions"):
        main([str(fill(tmp_path, BAD, BAD)), "--add_front", "sks"])


def test_as_a_program(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a")
    command = [sys.executable, str(PROGRAM), str(folder)]
    done = subprocess.run([*command, "--add_front", "sks"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "captions: 1 edited.\n", "")
    refused = subprocess.run([*command, "--sort", "randomly"], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: argument --sort: invalid choice: 'randomly'")
    asked = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert asked.returncode == 0
    assert FOLDER in asked.stdout and "None" not in asked.stdout


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = "import sys; from preprocess.edit_captions import main; main(sys.argv[1:])\n"
    code += "print(sorted({'torch', 'numpy', 'onnxruntime', 'transformers'} & sys.modules.keys()))"
    command = [sys.executable, "-c", code, str(fill(tmp_path, "a")), "--add_front", "sks"]
    result = subprocess.run(command, cwd=PROGRAM.parents[1], capture_output=True, text=True)
    assert result.stdout.splitlines() == ["captions: 1 edited.", "[]"], result.stderr
