"""Files that are not what they are given for: adapters, base models, prompts, metadata and captions."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
PAGE = b"<!DOCTYPE html><html><body>404</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"


class Harmful:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harm",)


def with_header(header: object, rest: int = 0) -> bytes:
    """A safetensors file of any header, with zeros behind it."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + bytes(rest)


def entry(dtype: Any = "F32", shape: Any = (2, 2), offsets: Any = (0, 16)) -> dict[str, Any]:
    """One tensor of a header."""
    return {f"{STEM}.lora_down.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def no_safetensors() -> dict[str, bytes]:
    """What is no file of tensors at all, or a damaged one."""
    whole = save({f"{STEM}.lora_down.weight": torch.zeros(2, 2), f"{STEM}.lora_up.weight": torch.zeros(2, 2)})
    return {
        "empty": b"",
        "one byte": b"\x00",
        "eight bytes": bytes(8),
        "a page": PAGE,
        "a pointer": POINTER,
        "a zip": b"PK\x05\x06" + bytes(18),
        "rubbish": bytes(range(256)) * 4,
        "a huge header": (2**63 - 1).to_bytes(8, "little") + b"{}",
        "a header longer than the file": (10**6).to_bytes(8, "little") + b"{}",
        "cut in the header": whole[:20],
        "cut in the tensors": whole[:-4],
        "longer than it says": whole + bytes(8),
        "no JSON": with_header(b"{not json}"),
        "a list": with_header([]),
        "a number": with_header(3),
        "null": with_header(b"null"),
        "no UTF-8": with_header(b'{"\xff": 1}'),
        "without end": with_header(b'{"a":' * 5000),
        "metadata that are a number": with_header({"__metadata__": 3} | entry(), 16),
        "metadata that are no texts": with_header({"__metadata__": {"a": 1}} | entry(), 16),
        "no dtype": with_header({"a": {"shape": [1], "data_offsets": [0, 4]}}, 4),
        "no shape": with_header({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, 4),
        "no offsets": with_header({"a": {"dtype": "F32", "shape": [1]}}, 4),
        "an entry that is a text": with_header({"a": "b"}, 4),
        "a dtype that is a table": with_header(entry(dtype={}), 16),
        "no such dtype": with_header(entry(dtype="F31"), 16),
        "a negative shape": with_header(entry(shape=[-2, -2]), 16),
        "an absurd shape": with_header(entry(shape=[2**62, 2**62]), 16),
        "a shape of texts": with_header(entry(shape=["2", "2"]), 16),
        "a broken shape": with_header(entry(shape=[1.5, 2]), 16),
        "a shape that is no list": with_header(entry(shape=4), 16),
        "a shape of other length": with_header(entry(shape=[3, 2]), 16),
        "offsets backwards": with_header(entry(offsets=[16, 0]), 16),
        "negative offsets": with_header(entry(offsets=[-16, 0]), 16),
        "offsets beyond the file": with_header(entry(offsets=[10**9, 10**9 + 16]), 16),
        "three offsets": with_header(entry(offsets=[0, 8, 16]), 16),
        "infinite offsets": with_header(json.dumps(entry()).replace("16]", "1e999]").encode(), 16),
        "a hole": with_header(entry(offsets=[16, 32]), 32),
    }


def no_adapters() -> dict[str, bytes]:
    """Whole files of tensors that are no adapters for the toy model."""
    pair = {"lora_down.weight": torch.zeros(2, 16), "lora_up.weight": torch.zeros(16, 2)}
    changes: dict[str, dict[str, torch.Tensor]] = {
        "nothing": {},
        "a lone half": {f"{STEM}.lora_down.weight": torch.zeros(2, 16)},
        "halves that do not fit": {
            f"{STEM}.lora_down.weight": torch.zeros(2, 16),
            f"{STEM}.lora_up.weight": torch.zeros(16, 3),
        },
        "a rank of 0": {f"{STEM}.lora_down.weight": torch.zeros(0, 16), f"{STEM}.lora_up.weight": torch.zeros(16, 0)},
        "numbers without dimensions": {f"{STEM}.{leaf}": torch.tensor(1.0) for leaf in pair},
        "another width": {f"{STEM}.lora_down.weight": torch.zeros(2, 17), f"{STEM}.lora_up.weight": torch.zeros(17, 2)},
        "no such layer": {f"lora_unet_cellar_to_q.{leaf}": tensor for leaf, tensor in pair.items()},
        "no such part": {f"lora_vae_to_q.{leaf}": tensor for leaf, tensor in pair.items()},
        "a leaf of its own": {f"{STEM}.{leaf}": tensor for leaf, tensor in (pair | {"secret": torch.zeros(1)}).items()},
        "two alphas": {f"{STEM}.{leaf}": tensor for leaf, tensor in (pair | {"alpha": torch.zeros(2)}).items()},
        "a middle that does not fit": {
            f"{STEM}.{leaf}": tensor for leaf, tensor in (pair | {"lora_mid.weight": torch.zeros(3, 3)}).items()
        },
        "an embedding": {"emb_params": torch.zeros(1, 32)},
        "a base model's tensor": {"model.diffusion_model.out.2.bias": torch.zeros(4)},
    }
    return {name: save(tensors) for name, tensors in changes.items()}


def no_pickles() -> dict[str, bytes]:
    """Files called .ckpt that are none, or that want to run code."""

    def saved(content: object, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    circle: dict[str, object] = {}
    circle["state_dict"] = circle
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../harm", "x")
        file.writestr("model/data.pkl", b"\x80\x02}q\x00.")
    whole = saved({"a": torch.zeros(8)})
    return {
        "empty": b"",
        "a page": PAGE,
        "code": saved({"state_dict": {"a": Harmful()}}),
        "code in the old form": saved({"a": Harmful()}, _use_new_zipfile_serialization=False),
        "bare code": pickle.dumps(Harmful()),
        "a list": saved([1, 2]),
        "a number": saved(3),
        "a tensor alone": saved(torch.zeros(3)),
        "a table of numbers": saved({"a": 1}),
        "a circle": saved(circle),
        "state_dict that is none": saved({"state_dict": 3}),
        "cut": whole[: len(whole) // 2],
        "a zip that climbs": archive.getvalue(),
        "a zip of nothing": b"PK\x05\x06" + bytes(18),
        "half an opcode": b"\x80\x02a",
        "nothing on the stack": b"\x80\x02s.",
        "no end": b"\x80\x02}q\x00",
        "a text": b"hello\n",
    }


PROMPTS = {
    "txt": [b"", b"# only words\n", b"a --w many", b"a --w 65", b"a --h 0", b"a --w -64", b"a --w 1e3", b"a --s 0"]
    + [
        b"a --s 1001",
        b"a --d -1",
        b"a --d 9223372036854775808",
        b"a --l nan",
        b"a --l -1",
        b"a --l inf",
        b"a --ss none",
    ]
    + [b"a --q 3", b"a --w", b"a --wx 64", b"a --w 99999999999999", b"\xff\xfea\x00", b"a --d " + b"9" * 5000],
    "toml": [b"", b"a = ", b"x = 1", b"prompt = 3", b"[prompt]\nwidth = 64", b"[prompt]\nsubset = 3", b"[[prompt]]"]
    + [b"[prompt]\nprompt = 3", b"[prompt]\nprompt = 'a'\nwidht = 64", b"[prompt]\nprompt = 'a'\nwidth = 'x'"]
    + [b"[prompt]\nprompt = 'a'\nwidth = true", b"[prompt]\nprompt = 'a'\nseed = 1.5", b"prompt = " + b"[" * 3000],
    "json": [b"", b"{}", b"[]", b"[1]", b"[[]]", b"[{}]", b'[{"prompt": 3}]', b'[{"prompt": "a", "width": 65}]', b"["]
    + [b'[{"prompt": "a", "scale": 1' + b"0" * 400 + b"}]", b'["\\ud800"]', b"[" * 9000, b'["a --w x"]', b"\xff"],
    "yaml": [b"prompt: a"],
}
METADATA = {
    "json": [b"", b"{", b"[]", b"3", b"{}", b'{"a.png": 3}', b'{"a.png": {}}', b'{"000.png": {"caption": 3}}', b"\xff"]
    + [b'{"000.png": {"tags": [1]}}', b'{"../../etc/passwd": {"caption": "a"}}', b'{"": {"caption": "a"}}']
    + [b'{"000.png": {"caption": "\\ud800"}}', b'{"a":' * 5000, b'{"a\\u0000.png": {"caption": "a"}}', b"null"],
    "jsonl": [b"{", b"3", b"[]", b'{"caption": "a"}', b'{"image_path": 3}', b'{"image_path": "gone.png"}', b"[" * 9000],
}
CAPTIONS = {
    "latin-1": "café".encode("latin-1"),
    "UTF-16": "a thing".encode("utf-16"),
    "UTF-32": "ä thing".encode("utf-32"),
    "Shift-JIS": "名前".encode("shift-jis"),
    "GBK": "名字".encode("gbk"),
    "half of a character": "名".encode()[:2],
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00",
    "a surrogate": "\ud800".encode("utf-8", "surrogatepass"),
}


def bad_folders(place: Path) -> dict[str, Path]:
    """Folders in which there is nothing to train on, by what is wrong with them."""
    made = {name: place / name for name in ("empty", "hidden", "masks", "texts", "unread", "deep", "counted", "many")}
    made |= {"too many repeats": place / "repeats", "no UTF-8": place / "names"}
    for folder in made.values():
        folder.mkdir(parents=True)
    picture = b"\x89PNG\r\n\x1a\n"
    (made["hidden"] / ".000.png").write_bytes(picture)
    (made["masks"] / "a-masklabel.png").write_bytes(picture)
    (made["texts"] / "a.txt").write_text("a")
    for name in ("a.gif", "a.tif", "a.psd"):
        (made["unread"] / name).write_bytes(picture)
    (made["deep"] / "a" / "b").mkdir(parents=True)
    (made["deep"] / "a" / "b" / "000.png").write_bytes(picture)
    (made["counted"] / "10_dog").mkdir()
    for name in ("one", "two"):
        (made["many"] / name).mkdir()
        (made["many"] / name / "a.png").write_bytes(picture)
    (made["too many repeats"] / "99999999999_dog").mkdir()
    (made["too many repeats"] / "99999999999_dog" / "a.png").write_bytes(picture)
    odd = made["no UTF-8"] / os.fsdecode(b"10_d\xf6g")
    odd.mkdir()
    (odd / "a.png").write_bytes(picture)
    (place / "file").write_text("")
    (place / "circle").symlink_to(place / "circle")
    others = {"a file": place / "file", "nowhere": place / "nowhere", "a circle": place / "circle"}
    others |= {"too long": place / ("a" * 300), "a device": Path("/dev/null"), "no UTF-8 itself": odd}
    return made | others
