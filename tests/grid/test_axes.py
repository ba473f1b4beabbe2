"""Axes as they are written, and what each picture of a grid is drawn with."""

from pathlib import Path

import pytest

from library.errors import InputError
from library.grid.axes import Axis, Spec, read_axis, specs_of, with_tagged
from library.models.prompts import Prompt

BASE = Spec("model", (), Prompt("a red cat", seed=7))


def test_axes_are_read() -> None:
    assert read_axis("strength=0, 0.5,1") == Axis("strength", ("0", "0.5", "1"))
    assert read_axis('Prompt=cat,"cat, sitting"') == Axis("prompt", ("cat", "cat, sitting"))
    assert read_axis("strength=0,1").titles == ("strength 0", "strength 1")
    assert read_axis("sampler=ddim").titles == ("ddim",)


def test_loras_are_found_by_pattern(tmp_path: Path) -> None:
    for name in ("a-000002", "a-000001", "b"):
        (tmp_path / f"{name}.safetensors").touch()
    axis = read_axis(f"lora=none,{tmp_path}/a-*.safetensors")
    assert axis.titles == ("no LoRA", "a-000001", "a-000002")
    specs = specs_of(BASE, [axis])
    assert [spec.loras for spec in specs] == [(), *(((Path(value), 1.0),) for value in axis.values[1:])]
    with pytest.raises(InputError, match="no file has such a name"):
        read_axis(f"lora={tmp_path}/c-*.safetensors")


def test_prompts_name_loras_of_a_folder(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.safetensors").touch()
    base = Spec("model", (), Prompt("a cat <lora:a:0.5>"))
    specs = with_tagged(specs_of(base, [Axis("prompt", ("lora:a:0.5", "lora:b:2"))]), tmp_path)
    assert [spec.tagged for spec in specs] == [
        ((tmp_path / "a.safetensors", 0.5),),
        ((tmp_path / "b.safetensors", 2.0),),
    ]
    assert with_tagged([BASE], None) == [BASE]
    with pytest.raises(InputError, match="give --lora_dir, the folder of its file"):
        with_tagged([base], None)
    twice = Spec("model", ((tmp_path / "a.safetensors", 1.0),), base.prompt)
    with pytest.raises(InputError, match="<lora:a> is in a prompt and given by --lora or an axis too"):
        with_tagged([twice], tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("strength", "is no axis"),
        ("size=1,2", "KIND is one of model, lora"),
        ("seed=", "no values"),
        ("seed=1,1", "twice"),
    ],
)
def test_what_is_no_axis(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_axis(text)


def test_the_last_axis_is_the_fastest_and_strength_is_of_the_lora_of_an_axis(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for file in files:
        file.touch()
    base = Spec("model", ((files[2], 0.3),), BASE.prompt)
    axes = [Axis("strength", ("0.5", "2")), Axis("lora", tuple(map(str, files[:2])))]
    assert [spec.loras for spec in specs_of(base, axes)] == [
        ((files[0], 0.5), (files[2], 0.3)),
        ((files[1], 0.5), (files[2], 0.3)),
        ((files[0], 2.0), (files[2], 0.3)),
        ((files[1], 2.0), (files[2], 0.3)),
    ]
    assert [spec.loras for spec in specs_of(base, axes[:1])] == [((files[2], 0.5),), ((files[2], 2.0),)]


def test_epochs_are_files_beside_the_last(tmp_path: Path) -> None:
    for name in ("a", "a-000004"):
        (tmp_path / f"{name}.safetensors").touch()
    base = Spec("model", ((tmp_path / "a.safetensors", 0.8),), BASE.prompt)
    found = specs_of(base, [Axis("epoch", ("4", "last")), Axis("strength", ("1",))])
    assert [spec.loras[0] for spec in found] == [
        (tmp_path / "a-000004.safetensors", 1.0),
        (tmp_path / "a.safetensors", 1.0),
    ]
    with pytest.raises(InputError, match="there is no file .*a-000005.safetensors"):
        specs_of(base, [Axis("epoch", ("5",))])
    with pytest.raises(InputError, match="needs --lora"):
        specs_of(BASE, [Axis("epoch", ("4",))])


def test_fields_and_words_of_the_prompt() -> None:
    axes = [Axis("prompt", ("red", "blue")), Axis("seed", ("1", "2")), Axis("sampler", ("Euler_A",))]
    prompts = [spec.prompt for spec in specs_of(BASE, axes)]
    assert [(each.text, each.seed, each.sampler) for each in prompts] == [
        ("a red cat", 1, "euler_a"),
        ("a red cat", 2, "euler_a"),
        ("a blue cat", 1, "euler_a"),
        ("a blue cat", 2, "euler_a"),
    ]
    found = specs_of(BASE, [Axis("guidance", ("1.5",)), Axis("steps", ("9",)), Axis("model", ("x",))])[0]
    assert (found.model, found.prompt.guidance, found.prompt.steps) == ("x", 1.5, 9)


@pytest.mark.parametrize(
    ("axis", "complaint"),
    [
        (Axis("steps", ("1.5",)), "'1.5' is no whole number"),
        (Axis("steps", ("0",)), "steps 0 is not between"),
        (Axis("guidance", ("nan",)), "'nan' is no number"),
        (Axis("sampler", ("eulr",)), "did you mean 'euler'"),
        (Axis("prompt", ("dog", "cat")), "'dog'.* no part of the prompt"),
        (Axis("lora", ("gone.safetensors",)), "there is no file gone.safetensors"),
    ],
)
def test_values_that_do_not_fit_are_named_once(axis: Axis, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        specs_of(BASE, [axis, Axis("seed", ("1", "2"))] if axis.kind != "seed" else [axis])
    assert len(caught.value.sentences) == 1


def test_two_axes_of_one_kind_are_refused() -> None:
    with pytest.raises(InputError, match="two axes are both about seed"):
        specs_of(BASE, [Axis("seed", ("1",)), Axis("seed", ("2",))])
