"""The base model of a run, and what the settings may say of it."""

import pytest

from library.errors import InputError
from library.settings import Settings
from library.train.base import open_base
from tests.toy_families import write_toy


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A toy of each family, and one that predicts v."""
    base = tmp_path_factory.mktemp("bases")
    toys = {name: write_toy(base / name, name) for name in ("sd1", "sd2", "sdxl")}
    toys["v"] = write_toy(base / "v", "sd2", prediction_type="v_prediction")
    return {name: str(folder) for name, folder in toys.items()}


@pytest.fixture
def opened(folders):
    """Opens a toy under some settings."""
    return lambda name, **changes: open_base(Settings(pretrained_model_name_or_path=folders[name], **changes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sd1", {}),
        ("sd1", {"v2": False, "sdxl": False}),
        ("sd2", {}),
        ("sd2", {"v2": True}),
        ("sdxl", {}),
        ("sdxl", {"sdxl": True, "v2": False}),
    ],
)
def test_the_family_is_seen_in_the_files(opened, name: str, changes: dict) -> None:
    assert opened(name, **changes).name == name


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("sd1", {"v2": True}, "v2 is true, but .*sd1 is a Stable Diffusion 1.x model; give another model, or leave v2"),
        ("sd2", {"v2": False}, "v2 is false, but .*sd2 is a Stable Diffusion 2.x model"),
        ("sd2", {"sdxl": True}, "sdxl is true, but .*sd2 is a Stable Diffusion 2.x model"),
        ("sdxl", {"sdxl": False}, "sdxl is false, but .*sdxl is a Stable Diffusion XL model"),
    ],
)
def test_another_family_than_said(opened, name: str, changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        opened(name, **changes)


@pytest.mark.parametrize(
    ("name", "said", "prediction"),
    [
        ("sd2", None, "epsilon"),
        ("v", None, "v_prediction"),
        ("sd2", True, "v_prediction"),
        ("v", False, "epsilon"),
        ("sd1", True, "v_prediction"),
    ],
)
def test_what_it_predicts(opened, name: str, said: bool | None, prediction: str) -> None:
    assert opened(name, v_parameterization=said).prediction_type == prediction


def test_pure_noise_at_the_end(opened) -> None:
    assert not opened("v").zero_terminal_snr
    assert opened("v", zero_terminal_snr=True).zero_terminal_snr
    assert opened("sd1", zero_terminal_snr=True, v_parameterization=True).zero_terminal_snr
    for name, changes in (("sd2", {}), ("v", {"v_parameterization": False})):
        with pytest.raises(InputError, match="zero_terminal_snr needs a model that predicts v"):
            opened(name, zero_terminal_snr=True, **changes)


def test_a_second_text_encoder_is_there_or_not(opened) -> None:
    assert opened("sdxl", learning_rate_te2=1e-6).text_parts == ("text_encoder", "text_encoder_2")
    assert opened("sd1", learning_rate_te1=1e-6).text_parts == ("text_encoder",)
    for name, words in (("sd1", "Stable Diffusion 1.x"), ("sd2", "Stable Diffusion 2.x")):
        with pytest.raises(InputError, match=f"learning_rate_te2 is the rate of a second .* a {words} model, has one"):
            opened(name, learning_rate_te2=0)


def test_a_new_word_is_known(opened) -> None:
    plain, taught = opened("sdxl"), opened("sdxl", token_string="<thing>", num_vectors_per_token=5)
    assert (plain.token_count("a <thing>"), taught.token_count("a <thing>")) == (4, 6)
    with pytest.raises(InputError, match="'dog' cannot be a new word"):
        opened("sd1", token_string="dog")
