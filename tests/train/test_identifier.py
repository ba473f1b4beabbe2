"""What tells the subject from its class, and captions that do not say it."""

from pathlib import Path

import pytest

from library.data.folders import Subset
from library.errors import InputError
from library.log import warn
from library.train.data import find_pictures, open_datasets
from library.train.identifier import identifier_of, with_prompts
from tests.runs import draw_pictures

PROMPTS = {"instance_prompt": "a photo of zwx dog", "class_prompt": "a photo of dog"}


@pytest.mark.parametrize(
    ("instance", "kind", "found"),
    [
        ("a photo of sks dog", "a photo of dog", ["sks"]),
        ("A photo of SKS dog.", "a Photo of dog", ["sks"]),
        ("zwx krk dog", "dog", ["zwx", "krk"]),
        ("a dog, a <dog>", "a dog", ["a", "<dog>"]),
        ("dog", "cat", ["dog"]),
    ],
)
def test_what_the_instance_has_beyond_the_class(instance: str, kind: str, found: list[str]) -> None:
    assert identifier_of(instance, kind) == found


@pytest.mark.parametrize("instance", ["a dog", "dog", "a dog."])
def test_without_an_identifier(instance: str) -> None:
    with pytest.raises(InputError, match=f"instance_prompt '{instance}' has no word beyond class_prompt 'a dog'"):
        identifier_of(instance, "a dog")


def test_prompts_stand_for_class_words(settings_of) -> None:
    settings = settings_of(**PROMPTS)
    own, other = Subset(Path("a"), class_tokens="sks dog"), Subset(Path("b"), is_reg=True)
    assert with_prompts(own, settings).class_tokens == "a photo of zwx dog"
    assert with_prompts(other, settings).class_tokens == "a photo of dog"
    assert with_prompts(own, settings_of()) == own
    assert with_prompts(other, settings_of(instance_prompt="zwx")) == other


def test_a_caption_wins_then_the_prompt_then_the_folder(settings_of, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "train" / "1_sks dog", 2, words="zwx in the grass").parent
    (folder / "1_sks dog" / "001.txt").unlink()

    def captions(**changes) -> list[str]:
        train = open_datasets(settings_of(train_data_dir=folder, **changes)).train
        return [picture.caption for picture in train.pictures]

    written = "zwx in the grass, shape 0, bright, plain"
    assert captions() == [written, "sks dog"]
    assert captions(**PROMPTS) == [written, "a photo of zwx dog"]


def test_tables_have_the_prompts_too(settings_of, bench, tmp_path: Path) -> None:
    text = f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{bench.pictures}'\nclass_tokens = 'sks'\n"
    (tmp_path / "data.toml").write_text(text)
    (subset,) = find_pictures(settings_of(train_data_dir=None, dataset_config=tmp_path / "data.toml", **PROMPTS))
    assert subset.class_tokens == "a photo of zwx dog"


@pytest.fixture
def said(settings_of, tmp_path: Path, capsys):
    """What is said of captions, each in its own picture; None is a picture without one."""

    def _said(*captions: str | None, **changes) -> str:
        warn.cache_clear()
        folder = draw_pictures(tmp_path / f"own {len(list(tmp_path.iterdir()))}", len(captions))
        for number, caption in enumerate(captions):
            path = folder / f"{number:03d}.txt"
            path.unlink() if caption is None else path.write_text(caption)
        open_datasets(settings_of(train_data_dir=folder, **{**PROMPTS, **changes}))
        return capsys.readouterr().err

    return _said


def test_captions_that_lack_the_identifier(said) -> None:
    assert said("a zwx dog", "ZWX", "my dog (zwx), sitting", None) == ""
    assert said(None, None) == ""
    told = said("a zwx dog", "a dog", "zwxy", None)
    assert "2 of 3 captions lack the identifier 'zwx' of instance_prompt; set trigger_words = 'zwx'" in told
    with pytest.raises(InputError, match="identifier 'zwx' of instance_prompt is in none of the 1 captions.*000.png"):
        said("a dog", None)


@pytest.mark.parametrize("words", [{"trigger_words": "zwx"}, {"caption_prefix": "zwx"}, {"caption_suffix": "by zwx"}])
def test_words_that_are_put_around_captions_count(said, words: dict[str, str]) -> None:
    assert said("a dog", **words) == ""


def test_without_both_prompts_nothing_is_looked_for(said) -> None:
    assert said("a dog", class_prompt=None) == ""
    assert said("a dog", instance_prompt=None, class_prompt=None) == ""


def test_class_pictures_need_no_identifier(said, tmp_path: Path) -> None:
    reg = draw_pictures(tmp_path / "reg", 1, first=9, words="a dog")
    assert said("a zwx dog", reg_data_dir=reg) == ""


def test_class_pictures_must_not_have_the_identifier(said, tmp_path: Path) -> None:
    reg = draw_pictures(tmp_path / "reg", 2, first=9, words="a dog")
    told = said("a dog", reg_data_dir=reg, caption_prefix="zwx")
    assert "2 captions of class pictures, such as that of" in told and "have the identifier 'zwx'" in told
    assert said("a dog", reg_data_dir=reg, trigger_words="zwx") == ""  # these are for the subject alone
