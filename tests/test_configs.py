"""Every file in configs/ is read, and trains the demo for three steps."""

from pathlib import Path
from types import ModuleType

import pytest
from accelerate.commands.config.config_args import load_config_from_file

import train_dreambooth
import train_network
from library.settings import read_settings
from library.weights import read_header

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))

# What every file is tried with instead of a real model and real pictures.
ON_THE_DEMO = {
    "pretrained_model_name_or_path": "demo/model",
    "train_data_dir": "demo/subject",
    "resolution": "128",
    "mixed_precision": "no",
    "max_train_steps": "3",
    "max_train_epochs": "0",
}


# The same for those that are about a subject and its class: few pictures of the class, quickly drawn.
OF_A_CLASS = {
    "instance_prompt": "sks creature",
    "class_prompt": "creature",
    "num_class_images": "2",
    "class_image_steps": "2",
}


def program_of(config: Path) -> ModuleType:
    """The program that a file's second line names."""
    program = config.read_text(encoding="utf-8").splitlines()[1].split()[2]
    return {"train_network.py": train_network, "train_dreambooth.py": train_dreambooth}[program]


def arguments(config: Path, folder: Path) -> list[str]:
    """The command line that tries `config` and writes into `folder`."""
    places = {"output_dir": folder / "output", "logging_dir": folder / "logs", "cache_dir": folder / "cache"}
    options = ON_THE_DEMO | (OF_A_CLASS if "class_prompt" in config.read_text(encoding="utf-8") else {})
    options |= {name: str(path) for name, path in places.items()}
    return [f"--config={config}", *(f"--{name}={value}" for name, value in options.items())]


LAUNCHERS = {"ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_accelerate_reads_its_files(name: str) -> None:
    """As its launcher does; a key that it does not know would be an error."""
    config = load_config_from_file(str(ROOT / "configs" / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type == LAUNCHERS[name] and config.num_processes == 2
    assert config.mixed_precision == "no" and config.use_cpu is False
    assert {path.stem for path in (ROOT / "configs" / "accelerate").iterdir()} == set(LAUNCHERS)


def test_there_is_one_for_each_use() -> None:
    names = {path.stem for path in CONFIGS}
    assert {"demo", "dreambooth", "lora_character", "lora_style", "lora_small_gpu", "portrait"} <= names
    assert {"textual_inversion", "pivotal", "lora_sdxl", "lycoris"} <= names


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_line_has_its_sentence(config: Path) -> None:
    lines = config.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if "=" in line and not line.startswith("#")]
    assert len(settings) >= 10
    assert [line for line in settings if not line.rstrip().endswith(".") or "  # " not in line] == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    argv = arguments(config, tmp_path)
    program = program_of(config)
    settings = read_settings(argv, program=program.__name__)
    assert program.main(argv) == 0
    metadata, tensors = read_header(tmp_path / "output" / f"{settings.output_name}.safetensors")
    assert metadata["ss_steps"] == "3"
    ranks = {shape[0] for key, (_, shape) in tensors.items() if key.endswith("lora_down.weight")}
    if settings.trains_whole:
        assert not ranks and "cond_stage_model.transformer.text_model.final_layer_norm.weight" in tensors
        return
    if settings.token_string:
        assert metadata["modelspec.trigger_phrase"] == settings.token_string
    if settings.embedding_only:
        assert tensors.keys() == {"emb_params"}
        return
    if settings.network_module == "loha":
        ranks = {shape[0] for key, (_, shape) in tensors.items() if key.endswith("hada_w1_b")}
    assert ranks == {settings.network_dim, settings.conv_dim or settings.network_dim}
    has_text_encoder = any(key.startswith("lora_te") for key in tensors)
    assert has_text_encoder is not settings.network_train_unet_only


def test_portrait_keeps_its_figures() -> None:
    model, pictures = ROOT / "demo" / "model", ROOT / "demo" / "subject"
    config = f"--config={ROOT / 'configs' / 'portrait.toml'}"
    on_the_demo = [f"--pretrained_model_name_or_path={model}", f"--train_data_dir={pictures}"]
    settings = read_settings([config, *on_the_demo])
    assert (settings.network_dim, settings.network_alpha) == (128, 64)
    assert (settings.gradient_accumulation_steps, settings.max_train_steps) == (4, 800)
    assert (settings.save_every_n_steps, settings.sample_every_n_steps) == (100, 100)
