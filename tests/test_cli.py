"""Exit statuses, and what a person reads when a program ends early."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError


class OutOfMemoryError(RuntimeError):
    """Named as torch's own, which is known by its name."""


def _end(error: BaseException | None, status: int = 0) -> int:
    """The exit status of a program that raises `error` or returns `status`."""

    def main() -> int:
        if error is not None:
            raise error
        return status

    with pytest.raises(SystemExit) as ended:
        run_program(main)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("status", [0, 3])
def test_status_is_what_main_returns(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(None, status) == status
    assert capsys.readouterr().err == ""


def test_wrong_input_is_one_line_for_each_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(InputError("no pictures.", "no model.")) == 2
    assert capsys.readouterr().err == "error: no pictures.\nerror: no model.\n"


def test_a_name_that_is_no_text_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(InputError("no caf\udce9.")) == 2
    assert capsys.readouterr().err == "error: no caf?.\n"


def test_wrong_input_is_told_once_for_each_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert _end(InputError("no pictures.")) == 2
    assert capsys.readouterr().err == ""


def test_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_status_that_the_program_chose_itself_stays() -> None:
    assert _end(SystemExit(143)) == 143


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    ],
)
def test_full_memory_names_remedies(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(error) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "gradient_checkpointing" in said
    assert "Traceback" not in said and said.count("\n") == 1


def test_numbers_out_of_range_name_remedies(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(FloatingPointError("the loss is nan at step 7.")) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the loss is nan at step 7: ") and "learning rate" in said


def test_a_place_that_the_system_refuses_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(PermissionError(errno.EACCES, "Permission denied", "/a/b")) == 1
    assert capsys.readouterr().err == "error: /a/b: Permission denied.\n"


def test_anything_else_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(RuntimeError("a bug")) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "a bug" in said


def test_arguments_of_small_programs(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argument_parser("Crops pictures.")
    parser.add_argument("--size", type=int, default=512, help="Pixels.")
    assert parser.parse_args(["--size", "64"]).size == 64
    with pytest.raises(InputError, match="--size: invalid int value: 'big'.*--help"):
        parser.parse_args(["--size", "big"])
    with pytest.raises(InputError, match="--siz"):
        parser.parse_args(["--siz", "64"])
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--help"])
    assert ended.value.code == 0
    assert "Crops pictures." in capsys.readouterr().out


@pytest.mark.parametrize(("words", "status"), [(["--steps", "x"], 2), (["--steps", "3"], 0)])
def test_a_small_program_ends_with_its_status(words: list[str], status: int) -> None:
    program = (
        "import sys\n"
        "from library.cli import argument_parser, run_program\n"
        "parser = argument_parser('x')\n"
        "parser.add_argument('--steps', type=int)\n"
        "run_program(lambda: parser.parse_args(sys.argv[1:]).steps - 3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr


def test_a_reader_who_has_enough_gets_no_traceback() -> None:
    code = "from library.cli import run_program\nrun_program(lambda: print('words ' * 100000, flush=True) or 0)"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None and writer.stderr is not None
    writer.stdout.read(5)
    writer.stdout.close()
    assert (writer.stderr.read(), writer.wait()) == (b"", 1)


def test_an_example_stands_at_the_end_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        argument_parser("Crops.", "python crop.py x").parse_args(["--help"])
    assert capsys.readouterr().out.rstrip().endswith("example: python crop.py x")


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    there = tmp_path / "a.safetensors"
    there.touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert wrong_output(tmp_path / "new" / "b.safetensors", overwrite=False) == []
    assert wrong_output(there, overwrite=True) == [] and wrong_output(tmp_path / "folder", False, ()) == []
    for path, words in (
        (there, "is there already"),
        (tmp_path / "a.pt", "must end in .safetensors"),
        (there / "b.safetensors", "cannot be written (Not a directory)"),
        (tmp_path / ("b" * 300 + ".safetensors"), "cannot be written (File name too long)"),
        (tmp_path / "circle" / "b.safetensors", "cannot be written (Too many levels of symbolic links)"),
        *([(Path("/proc/b.safetensors"), "cannot be written")] if Path("/proc/self").exists() else []),
    ):
        [sentence] = wrong_output(path, overwrite=False)
        assert words in sentence
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "circle"}, "trying leaves nothing"
    (tmp_path / "d.safetensors").mkdir()
    assert "is a folder" in wrong_output(tmp_path / "d.safetensors", overwrite=True)[0]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert missing_files("--lora", [Path("b" * 300)]) == [f"--lora: there is no file {'b' * 300}."]
    assert missing_files("--lora", [tmp_path / "a", tmp_path / "b"]) == [f"--lora: there is no file {tmp_path / 'b'}."]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "a/toy.safetensors"), "error: a/toy.safetensors: the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "error: the disk is full"),
    ],
)
def test_a_full_disk_is_a_sentence(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(error) == 1
    told = capsys.readouterr().err
    assert told.startswith(said) and "Make room" in told and "Traceback" not in told
