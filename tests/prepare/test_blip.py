"""BLIP and BLIP-2: the answers are those of transformers itself, at every batch size, and draws follow the seed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from skimage import data
from transformers import AutoProcessor

from library.errors import InputError
from library.prepare.blip import KINDS, Blip, Draw, model_kind, open_blip, pick_device
from library.prepare.captioner import Decoding
from library.prepare.words import has_phrase
from tests.prepare.captioners import write_blip, write_blip2

CPU = torch.device("cpu")
WRITERS: dict[str, Callable[[Path], Path]] = {
    "blip": write_blip,
    "opt": lambda folder: write_blip2(folder, "opt"),
    "t5": lambda folder: write_blip2(folder, "t5"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Five real pictures of different shapes."""
    cat, astronaut = Image.fromarray(data.chelsea()), Image.fromarray(data.astronaut())
    return [cat, astronaut, cat.crop((100, 0, 300, 300)), astronaut.resize((40, 90)), Image.fromarray(data.coffee())]


def opened(folder: Path, **settings: object) -> Blip:
    """A model with a way of finding answers, of 12 tokens at most."""
    decoding = Decoding(**{"max_length": 12, "min_length": 2} | settings)  # type: ignore[arg-type]
    return open_blip(str(folder), decoding, CPU, torch.float32)


def ask(model: Blip, pictures: list[Image.Image], size: int = 8) -> list[list[str]]:
    """Every picture's answers, by batches of `size`."""
    names = [f"{number}.png" for number in range(len(pictures))]
    pixels = [model.pixels(picture) for picture in pictures]
    starts = range(0, len(pictures), size)
    return [answer for at in starts for answer in model.answers(pixels[at : at + size], names[at : at + size])]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("prompt", ["", "a red cat"])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_transformers(
    kind: str, prompt: str, beams: int, folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    processor = AutoProcessor.from_pretrained(folders[kind])
    model_class = getattr(transformers, KINDS[model_kind(str(folders[kind]))])
    model = model_class.from_pretrained(folders[kind], dtype=torch.float32)
    text = [prompt] * len(pictures) if prompt else None
    inputs = processor(images=pictures, text=text, return_tensors="pt")
    ids = model.generate(**inputs, num_beams=beams, min_new_tokens=2, max_new_tokens=12, repetition_penalty=1.2)
    expected = [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
    ours = ask(opened(folders[kind], num_beams=beams, prompt=prompt, repetition_penalty=1.2), pictures)
    assert ours == [[text] for text in expected]
    assert len(set(expected)) > 1
    if prompt and kind != "t5":
        assert all(text.startswith(prompt) for text in expected)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("settings", [{}, {"prompt": "a"}, {"top_p": 0.9, "temperature": 1.5}, {"forced": ("hat",)}])
def test_the_batch_changes_nothing(
    kind: str, settings: dict[str, object], folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    model = opened(folders[kind], **settings)
    asked = [ask(model, pictures, size) for size in (1, 4, 5)]
    assert {len(answers) for answers in asked[0]} == {3 if "forced" in settings else 1}
    # Of random weights' beams the lesser ones are often equally likely.
    alone, four, five = ([answers[0] for answers in each] for each in asked)
    assert alone == four == five


def test_draws_follow_seed_and_name(folders: dict[str, Path], pictures: list[Image.Image]) -> None:
    first, again, other = (opened(folders["blip"], top_p=0.95, seed=seed) for seed in (1, 1, 2))
    assert ask(first, pictures) == ask(again, pictures) != ask(other, pictures)
    pixels = [first.pixels(pictures[0])] * 2
    one, two = first.answers(pixels, ["a.png", "b.png"])
    assert one != two
    assert first.answers(pixels[:1], ["b.png"]) == [two]


def test_draws_have_the_probabilities_of_the_scores() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.2, 0.0]]).log().repeat(8000, 1)
    drawn = Draw(list(range(8000)))(torch.empty(0), scores).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=4) / 8000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.02)
    assert shares[3] == 0


@pytest.mark.parametrize(("kind", "top_p"), [("blip", 1.0), ("blip", 0.99), ("opt", 1.0), ("t5", 1.0)])
def test_forbidden_phrases_are_not_said(
    kind: str, top_p: float, folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    free = [answers[0] for answers in ask(opened(folders[kind], top_p=top_p), pictures)]
    said = "of" if kind == "blip" else free[0].split()[0]
    assert any(has_phrase(answer, said) for answer in free)
    bound = ask(opened(folders[kind], top_p=top_p, forbidden=("never mind", said.upper())), pictures)
    assert len(bound) == 5 and not any(has_phrase(answer, said) for answers in bound for answer in answers)


def test_phrases_of_several_tokens_are_forbidden_as_a_whole(folders: dict[str, Path]) -> None:
    model = opened(folders["blip"], forbidden=("photo of",))
    words = model.processor.tokenizer.get_vocab()
    assert model._options["bad_words_ids"] == [[words["photo"], words["of"]]]
    spellings = opened(folders["opt"], forbidden=("cat",))._options["bad_words_ids"]
    words = spellings and opened(folders["opt"]).processor.tokenizer.get_vocab()
    assert [words["cat"]] in spellings and [words["Ġcat"]] in spellings


def test_lengths_are_kept(folders: dict[str, Path], pictures: list[Image.Image]) -> None:
    model = opened(folders["blip"], min_length=7, max_length=9)
    model.processor.batch_decode = lambda ids, **_: [str(ids.shape[1]) for _ in ids]
    assert ask(model, pictures) == [["10"]] * 5  # with the token that every caption begins with


def test_the_prompt_alone_is_no_answer(folders: dict[str, Path]) -> None:
    model = opened(folders["blip"], prompt="A  red cat")
    assert [model._worded(text) for text in ("a red cat", "a red cat - house")] == ["", "a red cat-house"]
    assert opened(folders["opt"])._worded(" a\nb - c ") == "a b - c"


@pytest.mark.parametrize(("kind", "room"), [("blip", 63), ("opt", 60)])
def test_an_answer_without_room_is_refused(kind: str, room: int, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=f"room for {room} tokens"):
        opened(folders[kind], max_length=200)
    opened(folders[kind], max_length=room)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_works(
    kind: str, dtype: torch.dtype, folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    model = open_blip(str(folders[kind]), Decoding(max_length=6, prompt="a"), CPU, dtype)
    assert next(model.model.vision_model.parameters()).dtype == dtype
    assert any(answer for answers in ask(model, pictures) for answer in answers)


def test_other_models_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    def refused(words: str, name: Path | str = tmp_path) -> None:
        with pytest.raises(InputError, match=words):
            open_blip(str(name), Decoding(), CPU, torch.float32)

    refused("no config.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "git"}))
    refused("kind 'git'; captions are made by BLIP and BLIP-2")
    refused("is a file", tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    refused("config.json of .* cannot be read")
    shutil.copytree(folders["blip"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    refused("cannot be opened")


def test_a_model_without_a_text_decoder_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    config = transformers.BlipConfig.from_pretrained(folders["blip"])
    transformers.BlipForImageTextRetrieval(config).save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(folders["blip"]).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="lacks .* of the weights that captions need"):
        open_blip(str(tmp_path), Decoding(), CPU, torch.float32)


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device(None).type in ("cuda", "mps", "cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(InputError, match=f"--device {name}"):
            pick_device(name)
