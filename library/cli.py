"""How every program ends: with an exit status, and with a sentence where a person can help it."""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from library.errors import InputError, is_full_memory
from library.files import is_full_disk, why_unwritable
from library.log import show

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

MEMORY_REMEDIES = (
    "the memory is full; lower train_batch_size or resolution, set gradient_checkpointing and cache_latents, "
    "use mixed_precision fp16 or bf16, choose optimizer_type AdamW8bit, or let memory = auto choose."
)
NUMBER_REMEDIES = "the numbers left their range; lower the learning rate, or set mixed_precision to bf16 or no."
DISK_REMEDIES = "the disk is full; what was there before is whole. Make room and start again."

# What the system says of names that nothing can have, and of places that it keeps closed.
NO_NAMES = {errno.ELOOP, errno.ENAMETOOLONG}
PLACE_ERRORS = NO_NAMES | {errno.EACCES, errno.ENOTDIR, errno.EPERM, errno.EROFS}


def run_program(main: Callable[[], int]) -> NoReturn:
    """Runs `main` and ends the process with its status.

    Status 2 after wrong input, 130 after Ctrl+C, and 1 after anything else, with a traceback only where the
    cause is unknown.
    """
    try:
        status = main()
    except InputError as error:
        # Every process of a machine finds the same mistakes, so one of them names them.
        if os.environ.get("LOCAL_RANK", "0") in ("", "0"):
            _complain(*error.sentences)
        status = WRONG_INPUT
    except KeyboardInterrupt:
        _complain("interrupted.")
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    except FloatingPointError as error:
        _complain(_with_remedy(str(error), NUMBER_REMEDIES))
        status = FAILED
    except Exception as error:
        if is_full_memory(error):
            remedy = " ".join(getattr(error, "__notes__", [])) or MEMORY_REMEDIES
            _complain(_with_remedy(str(error).partition("\n")[0], remedy))
        elif is_full_disk(error):
            where = getattr(error, "filename", None)
            _complain(_with_remedy(f"{where}" if where else "", DISK_REMEDIES))
        elif isinstance(error, OSError) and error.errno in PLACE_ERRORS and error.filename:
            _complain(f"{error.filename}: {error.strerror}.")
            if error.errno in NO_NAMES:
                sys.exit(WRONG_INPUT)
        else:
            traceback.print_exc()
        status = FAILED
    sys.exit(status)


def argument_parser(description: str, example: str = "") -> argparse.ArgumentParser:
    """A parser for a small program; wrong arguments raise InputError, so `run_program` ends with status 2.

    `example` is a command line that --help shows at its end.
    """
    ending = f"example: {example}" if example else None
    return _Parser(description=description, epilog=ending, allow_abbrev=False, formatter_class=_Help)


def missing_files(option: str, paths: Sequence[Path]) -> list[str]:
    """A sentence for each file that is not there; `option` is what it was given for."""
    return [f"{option}: there is no file {path}." for path in paths if not os.path.isfile(path)]


def wrong_output(path: Path, overwrite: bool, endings: Sequence[str] = (".safetensors",)) -> list[str]:
    """What speaks against writing to `path`: its ending, something that is there already, a folder that is closed.

    Without `endings` any name will do.
    """
    if endings and path.suffix.lower() not in endings:
        return [f"the output must end in {' or '.join(endings)}, not {path.name!r}."]
    if endings and os.path.isdir(path):
        return [f"the output {path} is a folder; name a file."]
    if os.path.exists(path) and not overwrite:
        return [f"{path} is there already; give --overwrite to replace it, or another name."]
    if reason := why_unwritable(path.parent if os.path.isfile(path) else path):
        return [f"{path} cannot be written ({reason}); give another place."]
    return []


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names defaults, but not those that only say that nothing is given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_empty = action.default is None or action.default is False or action.default in ("", [])
        return action.help if is_empty else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help lists what is allowed.")


def _complain(*sentences: str) -> None:
    sys.stdout.flush()
    for sentence in sentences:
        show(f"error: {sentence}", sys.stderr)


def _with_remedy(cause: str, remedy: str) -> str:
    """`remedy` as a sentence, after the cause where the exception tells one."""
    cause = cause.strip().rstrip(".")
    return f"{cause}: {remedy}" if cause else remedy
