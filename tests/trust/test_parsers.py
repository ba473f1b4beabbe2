"""Readers of settings, prompts, captions, metadata and weights take any bytes: a result or an InputError."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library.settings.fields import RULES
from tests.trust.parsers import READERS, check, with_payload

EXAMPLES = 25
PIECES = """
    { } {{ }} | 2$$ ( ) [ ] :1.3) \\( \\ : ||| ;;; , = [[datasets]] [[datasets.subsets]] [general] [prompt]
    [[prompt.subset]] image_dir resolution 512 -1 0 1e999 nan 'x' "x" true [1,2] --w --d --n --ss ~ /.. 1979-05-27
    "prompt": "seed": "shape": "dtype": "F32" "data_offsets": "__metadata__": "lora_down.weight": null {"a":1}
"""
WORDS = st.sampled_from([*PIECES.split(), *RULES, "\n", " ", "a", "\ufeff", "\x00", "é"])
texts = st.lists(WORDS, max_size=30).map("".join) | st.lists(WORDS, max_size=30).map(" ".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENTRY = {
    "dtype": st.sampled_from(["F32", "F16", "I64", "F8_E4M3", "X"]) | values,
    "shape": st.lists(st.integers(-1, 3), max_size=4) | values,
    "data_offsets": st.tuples(st.integers(0, 4), st.integers(-1, 72)).map(list) | values,
}
STEM = "lora_unet_mid_block_attentions_0_proj_in"
LEAVES = (
    "lora_down.weight",
    "lora_up.weight",
    "alpha",
    "lora_mid.weight",
    "dora_scale",
    "hada_w1_a",
    "lokr_w1",
    "diff",
)
KEYS = [
    *(f"{STEM}.{leaf}" for leaf in LEAVES),
    *(
        "ss_tag_frequency",
        "ss_dataset_dirs",
        "lora_adapter_metadata",
        "caption",
        "tags",
        "image_path",
        "prompt",
        "seed",
    ),
    *("model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.input_blocks.99999999999.0.weight"),
    *("unet.mid_block.attentions.0.proj_in.lora_A.weight", "first_stage_model.encoder.conv_in.weight"),
    *("cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight", "easel.structure", "network_dim"),
]


@pytest.mark.parametrize("name", READERS)
def test_bytes_of_any_kind(name: str, tmp_path: Path) -> None:
    seen = 0

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=200) | texts.map(str.encode))
    def every(data: bytes) -> None:
        nonlocal seen
        check(name, data, tmp_path)
        seen += 1

    every()
    assert seen >= EXAMPLES


@pytest.mark.parametrize("name", ["json_config", "json_prompts", "metadata", "metadata_lines", "adapter", "model"])
def test_json_of_any_kind(name: str, tmp_path: Path) -> None:
    """Also where tables are as they should be, but for one thing."""

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(KEYS), values | st.fixed_dictionaries(ENTRY), max_size=4), values)
    def every(table: dict[str, object], extra: object) -> None:
        for document in (table, [table, extra], extra, {"__metadata__": table, "a": table}):
            check(name, json.dumps(document).encode(), tmp_path)

    every()


# What was found by trying, by this and by fuzz.py, and what was foreseen: reader -> inputs that it once fell over.
FOUND: dict[str, list[bytes]] = {
    "config": [
        b"a = " + b"[" * 3000 + b"]" * 3000,
        b".".join([b"a"] * 3000) + b" = 1",
        b"network_dim = 1" + b"0" * 300,
        b"output_dir = '~nobody-of-this-name/x'",
        b"reg_data_dir = '" + b"a" * 300 + b"'",
        b"resume = '" + b"a" * 5000 + b"'",
        b'vae = "./\\u0000"',
        b'output_name = "a\\u0000"',
        b"datasets = 3\ngeneral = 4",
    ],
    "json_config": [b"[" * 100_000, b'{"output_name": "\\ud800"}', b'{"a":' * 900 + b"1" + b"}" * 900],
    "command_line": [b"--config\n/", b"--config\n.", b"--config", b"--config\n" + b"a" * 5000, b"--vae\n./\xff", b"--"],
    "dataset": [b"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '.'\ncaption_extension = '/../../x'"],
    "json_prompts": [b"[" * 100_000, b'[{"prompt": "a", "scale": 1' + b"0" * 400 + b"}]", b'["\\ud800"]'],
    "toml_prompts": [b"prompt = " + b"[" * 3000],
    "text_prompts": [b"a --w 8000000000000000000", b"a --l nan", b"a --d " + b"9" * 5000],
    "weights": [b"(" * 3000, b"(a" * 3000, b"[a(b" * 1500, b"(a:" + b"9" * 400 + b")"],
    "wildcards": [b"{" * 3000 + b"a|b" + b"}" * 3000, b"{" + b"9" * 5000 + b"$$a|b}", b"{a" * 2000, b"{0$$a|b}"],
    "caption": [b"{" * 3000 + b"a|b" + b"}" * 3000, b"\xff\xfe", b"\xef\xbb\xbf", b"a\x00b"],
    "metadata": [
        b'{"a":' * 3000,
        b'{"a.png": {"caption": "\\ud800"}}',
        b'{"\\ud800": {}}',
        b'{"a\\u0000": {"caption": ""}}',
    ],
    "metadata_lines": [b"[" * 100_000, b'{"image_path": "' + b"a" * 5000 + b'"}'],
    "safetensors": [
        with_payload(header)
        for header in (
            b"[]",
            b'{"__metadata__": 3}',
            b'{"__metadata__": {"a": 1}}',
            b'{"a": {"dtype": {}, "shape": [1], "data_offsets": [0, 4]}}',
            b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
            b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 4]}}',
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}',
            b'{"a":' * 3000,
        )
    ],
    "adapter": [
        b'{"lora_unet_a.alpha": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
        b'"lora_unet_a.lora_down.weight": '
        b'{"dtype": "F32", "shape": [0, 2], "data_offsets": [8, 8]}, "lora_unet_a.lora_up.weight": '
        b'{"dtype": "F32", "shape": [2, 0], "data_offsets": [8, 8]}}',
        b'{"__metadata__": {"ss_tag_frequency": "{\\"a\\": 3}"}, "lora_unet_a.diff": '
        b'{"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}',
    ],
    "model": [
        b'{"model.diffusion_model.input_blocks.0.0.weight": '
        b'{"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]}, '
        b'"model.diffusion_model.input_blocks.99999999999.0.weight": '
        b'{"dtype": "F32", "shape": [1], "data_offsets": [16, 20]}}'
    ],
    "pickle": [
        b"\x80\x02a",
        b"PK\x03\x04",
        b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dictq\x01h\x00s.",
        b".",
        b"r",
    ],
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name: str, tmp_path: Path) -> None:
    for data in FOUND[name]:
        check(name, data, tmp_path)


def test_the_watch_sees_what_is_written_and_what_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.trust import parsers

    def write(data: bytes, folder: Path) -> None:
        parsers._file(folder, "a", data)
        (folder / "b").write_bytes(data)

    monkeypatch.setattr(parsers, "SECONDS", 0.2)
    monkeypatch.setitem(READERS, "writes", write)
    monkeypatch.setitem(READERS, "hangs", lambda data, folder: [None for _ in iter(int, 1)])
    with pytest.raises(parsers.Wrote):
        check("writes", b"", tmp_path)
    with pytest.raises(parsers.Hang):
        check("hangs", b"", tmp_path)
