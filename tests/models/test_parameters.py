"""What pictures say of themselves: written and read as the web UI does it."""

from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from library.errors import InputError
from library.models.parameters import hashes_entry, parse_parameters, read_parameters, repeated, webui_text
from library.models.prompts import Prompt

PROMPT = Prompt("a dog", "bad", 512, 768, 3, 20, 7.0, "euler_a")
# Laid out as that program lays it, with entries that nobody reads here.
OF_WEBUI = (
    "a (dog:1.2), snow,\nsecond line <lora:sks:0.8>\nNegative prompt: blurry,\nugly: very\n"
    "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: 4054, Size: 640x512, "
    'Model hash: 6ce0161689, Model: base, Denoising strength: 0.45, Clip skip: 2, Lora hashes: "sks: 0123456789ab, '
    'b: 0", Hires upscale: 2, Version: v1.10.1'
)


def test_the_text_for_the_web_uis() -> None:
    text = webui_text(PROMPT, "base", clip_skip=2)
    assert text == (
        "a dog\nNegative prompt: bad\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 512x768, Model: base, Clip skip: 2"
    )
    assert webui_text(Prompt("x"), "m").splitlines()[1].startswith("Steps: 30, Sampler: DDIM, CFG")


def test_every_entry_stands_in_its_place_and_is_quoted_where_it_must_be() -> None:
    more = {"Lora hashes": hashes_entry({"a": "f" * 64, "b": "0" * 64}), "Model hash": "6ce0161689", "TI hashes": ""}
    prompt = Prompt("x", "", 64, 64, 1, 5, 3.5, "dpm++ 2m karras")
    assert webui_text(prompt, "a, b", 2, more | {"Denoising strength": "0.6"}).splitlines()[1] == (
        "Steps: 5, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 1, Size: 64x64, "
        'Model hash: 6ce0161689, Model: "a, b", Denoising strength: 0.6, Clip skip: 2, '
        'Lora hashes: "a: ffffffffffff, b: 000000000000"'
    )


def test_a_text_of_the_web_ui() -> None:
    found = parse_parameters(OF_WEBUI)
    assert found.text == "a (dog:1.2), snow,\nsecond line <lora:sks:0.8>"
    assert found.negative == "blurry,\nugly: very"
    assert found.entries["Lora hashes"] == "sks: 0123456789ab, b: 0" and found.entries["Version"] == "v1.10.1"
    assert repeated(found, "x.png") == {
        "negative": "blurry,\nugly: very", "steps": 28, "guidance": 5.5, "seed": 4054, "clip_skip": 2,
        "strength": 0.45, "width": 640, "height": 512, "sampler": "dpmsolver++_karras",
    }  # fmt: skip


@pytest.mark.parametrize("sampler", ["ddim", "dpm_2", "dpm_2_karras", "dpm++_sde", "euler_karras", "dpm++_2s_a_karras"])
def test_what_is_written_is_read(sampler: str) -> None:
    prompt = Prompt("a, b: c\nd", "e\nf", 64, 128, 9, 12, 2.25, sampler)
    read = parse_parameters(webui_text(prompt, "m, n", 3, {"Denoising strength": "0.3"}))
    again = repeated(read, "x") | {"text": read.text}
    assert again.pop("clip_skip") == 3 and again.pop("strength") == 0.3
    assert Prompt(**again) == prompt and read.entries["Model"] == "m, n"


@pytest.mark.parametrize(
    ("label", "spacing", "name"),
    [
        ("DPM++ 2M Karras", None, "dpmsolver++_karras"),
        ("DPM++ 2M", None, "dpmsolver++"),
        ("DPM++ 2M", "Automatic", "dpmsolver++_karras"),
        ("DPM++ 2M", "Uniform", "dpmsolver++"),
        ("Euler a", "Automatic", "euler_a"),
        ("DPM++ 2M SDE", "Automatic", "dpm++_2m_sde_karras"),
        ("Heun", "Exponential", "heun_karras"),
    ],
)
def test_samplers_of_old_and_new_web_uis(label: str, spacing: str | None, name: str, capsys) -> None:
    entries = {"Sampler": label} | ({"Schedule type": spacing} if spacing else {})
    line = ", ".join(f"{key}: {value}" for key, value in {"Steps": 5, **entries, "Seed": 1, "Size": "8x8"}.items())
    assert repeated(parse_parameters(f"x\n{line}"), f"{label} {spacing}.png")["sampler"] == name
    assert ("'exponential', which is not known here" in capsys.readouterr().err) == ("SDE" in label or label == "Heun")


def test_a_prompt_alone() -> None:
    assert parse_parameters("a dog, Steps: 4").text == "a dog, Steps: 4"
    with pytest.raises(InputError, match="the sampler 'Restart', which is not known here; give --sampler another"):
        repeated(parse_parameters("x\nSteps: 4, Sampler: Restart, Seed: 1"), "x.png")
    with pytest.raises(InputError, match=r"x.png says how it was made in numbers that are none"):
        repeated(parse_parameters("x\nSteps: many, Sampler: DDIM, Seed: 1"), "x.png")


def test_files(tmp_path: Path) -> None:
    path, text = tmp_path / "a.png", OF_WEBUI.replace("snow", "snö 雪")
    facts = PngInfo()
    facts.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=facts)
    assert read_parameters(path) == parse_parameters(text)
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(InputError, match=r"a.png does not say how it was made"):
        read_parameters(path)
    path.write_text("no picture")
    for broken in (path, tmp_path / "none.png"):
        with pytest.raises(InputError, match="cannot be read as a picture"):
            read_parameters(broken)
