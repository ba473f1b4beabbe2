"""The readers of what people and strangers write: whatever they are given, a result or an InputError comes of it."""

import json
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from library.adapters.changes import read_changes
from library.adapters.inspection import inspect
from library.data import wildcards
from library.data.captions import caption_variant, read_caption, whole_captions
from library.data.folders import EXTENSIONS, Subset
from library.data.metadata import read_metadata
from library.errors import InputError
from library.models.emphasis import parse_weights
from library.models.prompts import Prompt, read_prompts
from library.models.single_file import open_file
from library.settings import read_settings
from library.train.retold import ENTRY, retold_settings
from library.weights import LARGEST_HEADER, load_any, read_header

SECONDS = 10.0  # that no reader needs for what is a few kilobytes long
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
COMPLETE = ("--pretrained_model_name_or_path", "someone/sd15", "--train_data_dir")
VARIED = {"enable_wildcard": True, "shuffle_caption": True, "caption_tag_dropout_rate": 0.3, "token_warmup_step": 0.5}
MARKED = {"keep_tokens_separator": "|||", "secondary_separator": ";;;", "trigger_words": "sks, thing"}
LONGEST_PAYLOAD = 1 << 20  # bytes of tensors that are put behind a header

Reader = Callable[[bytes, Path], object]


class Hang(BaseException):
    """A reader that does not come to an end."""


class Wrote(BaseException):
    """A reader that wrote something."""


class _Watch:
    """Sees everything that this process writes, while it is on."""

    is_on = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.is_on:
            return
        flags = arguments[2] if event == "open" else 0
        if event in CHANGES or isinstance(flags, int) and flags & WRITING:
            self.is_on = False
            raise Wrote(f"{event} {arguments[0]!r}")


WATCH = _Watch()
sys.addaudithook(WATCH)


def check(name: str, data: bytes, folder: Path) -> bool:
    """Lets a reader read, which has to end in time and to write nothing; returns whether it had a result.

    Raises whatever the reader raises that is no InputError.
    """
    reader = READERS[name]
    with _in_time():
        try:
            reader(data, folder)
        except InputError as error:
            assert error.sentences and all(error.sentences), "an error without words"
            return False
        except SystemExit as end:  # --help
            assert not end.code
        finally:
            WATCH.is_on = False
    return True


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _file(folder: Path, name: str, data: bytes) -> Path:
    """A file for a reader to read; from now on nothing may be written."""
    path = folder / name
    path.write_bytes(data)
    WATCH.is_on = True
    return path


def _config(data: bytes, folder: Path) -> object:
    return read_settings([*COMPLETE, str(folder), "--config", str(_file(folder, "run.toml", data))])


def _json_config(data: bytes, folder: Path) -> object:
    return read_settings([*COMPLETE, str(folder), "--config", str(_file(folder, "run.json", data))])


def _dataset(data: bytes, folder: Path) -> object:
    return read_settings([*COMPLETE[:2], "--dataset_config", str(_file(folder, "data.toml", data))])


def _command_line(data: bytes, folder: Path) -> object:
    WATCH.is_on = True
    return read_settings(os.fsdecode(data).replace("\0", "").split("\n"))  # no shell can pass a NUL


def _text_prompts(data: bytes, folder: Path) -> object:
    return read_prompts(_file(folder, "prompts.txt", data), Prompt(""))


def _toml_prompts(data: bytes, folder: Path) -> object:
    return read_prompts(_file(folder, "prompts.toml", data), Prompt(""))


def _json_prompts(data: bytes, folder: Path) -> object:
    return read_prompts(_file(folder, "prompts.json", data), Prompt(""))


def _weights(data: bytes, folder: Path) -> object:
    return parse_weights(data.decode("utf-8", "replace"))


def _wildcards(data: bytes, folder: Path) -> object:
    text = data.decode("utf-8", "replace")
    return wildcards.choose(text, Random(len(data)), ", "), wildcards.longest(text, ", ")


def _caption(data: bytes, folder: Path) -> object:
    caption = "\n".join(read_caption(_file(folder, "a.txt", data).with_suffix(".png"), ".txt"))
    subsets = [Subset(folder), Subset(folder, **VARIED), Subset(folder, **VARIED, **MARKED)]
    texts = [caption_variant(caption, subset, len(data), 1, 3, 10) for subset in subsets]
    return texts, [whole_captions(caption, subset) for subset in subsets]


def _metadata(data: bytes, folder: Path) -> object:
    return read_metadata(_file(folder, "meta.json", data), folder, EXTENSIONS, ", ")


def _metadata_lines(data: bytes, folder: Path) -> object:
    return read_metadata(_file(folder, "meta.jsonl", data), folder, EXTENSIONS, ", ")


def _safetensors(data: bytes, folder: Path) -> object:
    path = _file(folder, "lora.safetensors", data)
    return read_header(path), load_any(path)


def _adapter(data: bytes, folder: Path) -> object:
    """What a header says, with as many bytes behind it as it wants."""
    path = _file(folder, "lora.safetensors", with_payload(data))
    found = inspect(path)
    told = found.layout, found.family, found.kinds, found.blocks, found.tags, found.trigger, found.warnings
    return told, read_changes(path)


def _lora_metadata(data: bytes, folder: Path) -> object:
    """What a stranger's file notes of its run, as settings: TOML, unless the file brings such a text itself."""
    path = _file(folder, "lora.safetensors", with_payload(b'{"__metadata__":' + data + b"}"))
    metadata = read_header(path)[0]
    told = retold_settings(metadata)
    return told if ENTRY in metadata else tomllib.loads(told)


def _model(data: bytes, folder: Path) -> object:
    source = open_file("model", _file(folder, "model.safetensors", with_payload(data)))
    return [source.read(part) for part in source.files]


def _pickle(data: bytes, folder: Path) -> object:
    return load_any(_file(folder, "model.ckpt", data))


def with_payload(header: bytes) -> bytes:
    """A safetensors file of this header, with zeros behind it."""
    end = 0
    with suppress(ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError):
        table = json.loads(header)
        end = max(int(entry["data_offsets"][1]) for key, entry in table.items() if key != "__metadata__")
    assert len(header) < LARGEST_HEADER
    return len(header).to_bytes(8, "little") + header + bytes(max(0, min(end, LONGEST_PAYLOAD)))


READERS: dict[str, Reader] = {
    "config": _config,
    "json_config": _json_config,
    "dataset": _dataset,
    "command_line": _command_line,
    "text_prompts": _text_prompts,
    "toml_prompts": _toml_prompts,
    "json_prompts": _json_prompts,
    "weights": _weights,
    "wildcards": _wildcards,
    "caption": _caption,
    "metadata": _metadata,
    "metadata_lines": _metadata_lines,
    "safetensors": _safetensors,
    "adapter": _adapter,
    "lora_metadata": _lora_metadata,
    "model": _model,
    "pickle": _pickle,
}
