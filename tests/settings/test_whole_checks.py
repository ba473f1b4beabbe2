"""What cannot be said together where all weights learn, and where adapters do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from library.errors import InputError
from library.settings import Settings, read_settings
from library.settings.whole_checks import places, text_learns, text_rates, unet_learns

BASICS = ["--pretrained_model_name_or_path", "someone/sd15", "--train_data_dir", "pictures"]
Said = Callable[..., tuple[str, ...]]


def settings_of(line: str, program: str = "train_dreambooth") -> Settings:
    """Settings of a program."""
    return read_settings([*BASICS, *line.split()], program=program)


def said(line: str, program: str = "train_dreambooth") -> tuple[str, ...]:
    """The complaints about a command line."""
    try:
        settings_of(line, program)
    except InputError as error:
        return error.sentences
    return ()


FUSED = "--fused_backward_pass --max_grad_norm 0"
LORA = "--network_module lora"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--network_dim 8", "network_dim belongs to the training of an adapter; leave it out, or name a"),
        ("--network_train_unet_only", "network_train_unet_only belongs to the training of an adapter"),
        ("--network_args a=1", "network_args belongs to the training of an adapter"),
        ("--text_encoder_lr 1e-5", "text_encoder_lr is the rate of an adapter; for the text encoders' own weights set"),
        ("--full_bf16", "full_bf16 needs mixed_precision = bf16, not no."),
        ("--full_bf16 --mixed_precision fp16", "full_bf16 needs mixed_precision = bf16, not fp16."),
        ("--full_bf16 --mixed_precision bf16 --optimizer_type Prodigy", "full_bf16 moves the weights one by one, and"),
        (f"{FUSED} --optimizer_type Prodigy", "fused_backward_pass moves the weights one by one, and Prodigy may look"),
        (f"{FUSED} --optimizer_type AdamWScheduleFree", "moves the weights one by one, and AdamWScheduleFree may look"),
        (f"{FUSED} --optimizer_type torch.optim.Adam", "moves the weights one by one, and torch.optim.Adam may look"),
        (f"{FUSED} --gradient_accumulation_steps 4", "set gradient_accumulation_steps = 1, not 4, or leave it out."),
        (f"{FUSED} --skip_nonfinite_steps 1", "moves weights before a step can be left out; leave out skip_nonfinite"),
        ("--fused_backward_pass", "so it cannot be shortened; set max_grad_norm = 0, not 1.0, or leave it out."),
        (f"{FUSED} --mixed_precision fp16", "cannot undo the scaling of fp16's loss; set mixed_precision to bf16"),
        ("--stop_text_encoder_training 5", "has nothing to stop, as no text encoder learns; set train_text_encoder"),
        (
            "--train_text_encoder --learning_rate_te 0 --stop_text_encoder_training 5",
            "stop_text_encoder_training has nothing to stop",
        ),
        ("--train_text_encoder --stop_text_encoder_training -1", "leaves train_text_encoder without effect; leave out"),
        ("--train_text_encoder --unet_lr 0 --stop_text_encoder_training 5", "would leave nothing that learns, as the"),
        ("--learning_rate_te 1e-6", "learning_rate_te is set, but no text encoder learns; set train_text_encoder ="),
        ("--learning_rate_te1 1e-6", "learning_rate_te1 is set, but no text encoder learns; set train_text_encoder"),
        (f"{LORA} --network_train_unet_only --learning_rate_te2 1e-6", "learning_rate_te2 is set, but no text encoder"),
        ("--ema_decay 0.5", "ema_decay is set, but no average is made; set ema = true, or leave it out."),
        ("--ema_device cpu", "ema_device is set, but no average is made"),
        ("--unet_lr 0", "every learning rate is 0, so nothing would be learned"),
        ("--train_text_encoder --cache_text_encoder_outputs", "a caption changes; leave out train_text_encoder, or"),
        ("--save_model_as ckpt", "save_model_as cannot be 'ckpt': it is a pickle"),
        (f"{LORA} --train_text_encoder", "training of all weights; leave it out, or use train_dreambooth.py without"),
        (f"{LORA} --learning_rate_te 1e-6", "learning_rate_te belongs to the training of all weights"),
        (f"{LORA} --save_model_as both", "save_model_as = both is for whole models; an adapter is saved as"),
        (f"{LORA} --network_train_unet_only --stop_text_encoder_training 5", "has nothing to stop"),
    ],
)
def test_mistakes(line: str, sentence: str) -> None:
    (told,) = said(line)
    assert sentence in told


def test_in_train_network_an_adapter_is_trained(read) -> None:
    assert read().network_module == "lora" and not read().trains_whole
    assert settings_of("").trains_whole and settings_of("").network_module is None
    assert settings_of("--network_module networks.lora").network_module == "lora"
    assert "save_model_as = both is for whole models" in said("--save_model_as both", "train_network")[0]


@pytest.mark.parametrize("name", ["full_bf16", "fused_backward_pass"])
def test_ways_to_save_memory_are_left_to_whole_models(read, name: str, capsys) -> None:
    """As configurations of sd-scripts for adapters may have them."""
    assert getattr(read(f"--{name}", "--mixed_precision", "bf16"), name) is False
    assert f"'{name}' changes nothing: it is for the training of all weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "unet", "texts", "rates"),
    [
        ("", True, False, (1e-4, 1e-4)),
        ("--train_text_encoder", True, True, (1e-4, 1e-4)),
        ("--train_text_encoder --learning_rate_te 1e-6", True, True, (1e-6, 1e-6)),
        ("--train_text_encoder --learning_rate_te 1e-6 --learning_rate_te2 1e-7", True, True, (1e-6, 1e-7)),
        ("--train_text_encoder --learning_rate_te1 1e-6", True, True, (1e-6, 1e-4)),
        ("--train_text_encoder --unet_lr 0", False, True, (1e-4, 1e-4)),
        (f"{LORA} --text_encoder_lr 1e-5", True, True, (1e-5, 1e-5)),
        (f"{LORA} --text_encoder_lr 1e-5 --learning_rate_te1 0", True, True, (0, 1e-5)),
        (f"{LORA} --learning_rate_te2 1e-6", True, True, (1e-4, 1e-6)),
        (f"{LORA} --network_train_unet_only", True, False, (1e-4, 1e-4)),
        (f"{LORA} --network_train_text_encoder_only", False, True, (1e-4, 1e-4)),
        (f"{LORA} --stop_text_encoder_training -1", True, False, (1e-4, 1e-4)),
    ],
)
def test_what_learns(line: str, unet: bool, texts: bool, rates: tuple[float, float]) -> None:
    settings = settings_of(line)
    assert (unet_learns(settings), text_learns(settings), text_rates(settings)) == (unet, texts, rates)


def test_one_text_encoder_that_learns_is_enough() -> None:
    line = "--train_text_encoder --learning_rate_te 0 --learning_rate_te2 1e-6"
    assert said(f"{line} --unet_lr 0") == ()
    assert "cannot be set while the text encoder learns" in said(f"{line} --cache_text_encoder_outputs")[0]
    alone = "--unet_lr 0 --train_text_encoder --learning_rate_te1 0 --learning_rate_te2 0"
    assert "every learning rate is 0" in said(alone)[0]


def test_places_of_a_result() -> None:
    stem, file = Path("out/my.model"), Path("out/my.model.safetensors")
    for layout, expected in (("safetensors", [file]), ("diffusers", [stem]), ("both", [file, stem])):
        assert places(settings_of(f"--save_model_as {layout}"), stem) == expected
    assert places(settings_of("--save_model_as diffusers_safetensors"), stem) == [stem]
    assert places(settings_of(f"{LORA} --save_model_as diffusers"), stem) == [file]


def test_the_base_model_is_not_replaced() -> None:
    Path("models").mkdir()
    Path("models/base.safetensors").touch()
    Path("models/folder").mkdir()
    Path("models/folder/model_index.json").touch()
    same = "--output_dir models --output_name"
    words = "would replace the base model; choose another name"
    assert words in said(f"--pretrained_model_name_or_path models/base.safetensors {same} base")[0]
    assert words in said(f"--pretrained_model_name_or_path models/folder {same} folder --save_model_as both")[0]
    assert said(f"--pretrained_model_name_or_path models/folder {same} folder") == ()
    for end in ("-000002", "-step00000100", "-step00000100-ema", "-ema"):
        Path(f"models/mine{end}.safetensors").touch()
        line = f"--pretrained_model_name_or_path models/mine{end}.safetensors {same}"
        assert words in said(f"{line} mine --ema")[0], end
        assert said(f"{line} min --ema") == said(f"{line} other") == ()
    assert said(f"--pretrained_model_name_or_path models/base.safetensors {same} base --save_model_as diffusers") == ()


def test_a_folder_of_something_else_is_not_filled() -> None:
    folder = Path("output/mine")
    folder.mkdir(parents=True)
    line = "--output_name mine --save_model_as diffusers"
    assert said(line) == ()
    (folder / "holiday.jpg").touch()
    assert "is a folder of something else; choose another name" in said(line)[0]
    assert said("--output_name mine") == ()
    (folder / "model_index.json").touch()
    assert said(line) == ()
