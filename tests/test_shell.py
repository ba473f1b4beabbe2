"""The shell programs: each variable of train.sh reaches the trainer, and the set-up does what it promises."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from library.settings import Settings, read_settings

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = re.compile(r'^: "\$\{(\w+)=(.*?)\}"\s*(#.*)?$', re.MULTILINE)
FOUND = VARIABLE.findall((ROOT / "train.sh").read_text(encoding="utf-8"))
VARIABLES = {name: (default, comment) for name, default, comment in FOUND}

# A Python that answers the set-up's questions and writes down what else it is asked to run.
STUB = """#!/usr/bin/env bash
case "$1" in
-c) exec "{python}" "$@" ;;
esac
"{python}" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >>"$RECORD"
if [ "$1" = train_network.py ]; then
    if [ -n "${{WRITES:-}}" ]; then sleep 0.01; mkdir -p "$(dirname "$WRITES")"; touch "$WRITES"; fi
    exit "${{STATUS:-0}}"
fi
"""

# Variable -> (a value that differs from the default, the option that it becomes).
OPTIONS = {
    "pretrained_model": ("my model.safetensors", "--pretrained_model_name_or_path=my model.safetensors"),
    "train_data_dir": ("""my "best" cat's $pictures""", """--train_data_dir=my "best" cat's $pictures"""),
    "reg_data_dir": ("class pictures", "--reg_data_dir=class pictures"),
    "network_module": ("lora", "--network_module=lora"),
    "network_weights": ("first run.safetensors", "--network_weights=first run.safetensors"),
    "network_dim": ("64", "--network_dim=64"),
    "network_alpha": ("32", "--network_alpha=32"),
    "conv_dim": ("4", "--conv_dim=4"),
    "conv_alpha": ("2", "--conv_alpha=2"),
    "dropout": ("0.1", "--network_dropout=0.1"),
    "resolution": ("512,768", "--resolution=512,768"),
    "batch_size": ("3", "--train_batch_size=3"),
    "gradient_accumulation_steps": ("2", "--gradient_accumulation_steps=2"),
    "max_train_epoches": ("7", "--max_train_epochs=7"),
    "max_train_steps": ("500", "--max_train_steps=500"),
    "save_every_n_epochs": ("3", "--save_every_n_epochs=3"),
    "train_unet_only": ("1", "--network_train_unet_only=1"),
    "train_text_encoder_only": ("1", "--network_train_text_encoder_only=1"),
    "noise_offset": ("0.05", "--noise_offset=0.05"),
    "shuffle_caption": ("1", "--shuffle_caption=1"),
    "keep_tokens": ("2", "--keep_tokens=2"),
    "caption_dropout_rate": ("0.2", "--caption_dropout_rate=0.2"),
    "min_snr_gamma": ("3", "--min_snr_gamma=3"),
    "prior_loss_weight": ("0.5", "--prior_loss_weight=0.5"),
    "lr": ("3e-4", "--learning_rate=3e-4"),
    "unet_lr": ("2e-4", "--unet_lr=2e-4"),
    "text_encoder_lr": ("0", "--text_encoder_lr=0"),
    "lr_scheduler": ("cosine_with_restarts", "--lr_scheduler=cosine_with_restarts"),
    "lr_warmup_steps": ("25", "--lr_warmup_steps=25"),
    "lr_restart_cycles": ("3", "--lr_scheduler_num_cycles=3"),
    "optimizer_type": ("Lion", "--optimizer_type=Lion"),
    "output_dir": ("my output", "--output_dir=my output"),
    "output_name": ("my cat", "--output_name=my cat"),
    "save_model_as": ("diffusers", "--save_model_as=diffusers"),
    "save_precision": ("bf16", "--save_precision=bf16"),
    "logging_dir": ("my logs", "--logging_dir=my logs"),
    "log_tracker_name": ("my run", "--log_tracker_name=my run"),
    "sample_prompts": ("my prompts.txt", "--sample_prompts=my prompts.txt"),
    "sample_every_n_epochs": ("4", "--sample_every_n_epochs=4"),
    "save_state": ("1", "--save_state=1"),
    "resume": ("output/cat-state", "--resume=output/cat-state"),
    "mixed_precision": ("bf16", "--mixed_precision=bf16"),
    "seed": ("7", "--seed=7"),
    "enable_bucket": ("0", "--enable_bucket=0"),
    "min_bucket_reso": ("128", "--min_bucket_reso=128"),
    "max_bucket_reso": ("768", "--max_bucket_reso=768"),
    "cache_latents": ("0", "--cache_latents=0"),
    "max_token_length": ("225", "--max_token_length=225"),
    "caption_extension": (".caption", "--caption_extension=.caption"),
    "clip_skip": ("2", "--clip_skip=2"),
    "gradient_checkpointing": ("1", "--gradient_checkpointing=1"),
}
LAUNCHER_VARIABLES = {"multi_gpu", "num_processes"}


class Shell:
    """Runs the shell programs of the clone with a stub in place of the environment's Python."""

    def __init__(self, folder: Path) -> None:
        self.environment, self.record = folder / "environment", folder / "calls.jsonl"
        stub = self.environment / "bin" / "python"
        stub.parent.mkdir(parents=True)
        stub.write_text(STUB.format(python=sys.executable))
        stub.chmod(0o755)

    def run(self, program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a program; `variables` are set in its environment, and no others of train.sh's."""
        self.record.unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment |= {"EASEL_VENV": str(self.environment), "RECORD": str(self.record)} | variables
        command = ["bash", str(ROOT / program), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def calls(self) -> list[list[str]]:
        """What the stub was asked to run, the installation left out."""
        calls = [json.loads(line) for line in self.record.read_text().splitlines()]
        return [call for call in calls if call[:2] != ["-m", "pip"]]

    def options(self, *arguments: str, **variables: str) -> list[str]:
        """The trainer's command line under these variables."""
        result = self.run("train.sh", *arguments, **variables)
        assert result.returncode == 0, result.stderr
        assert self.calls()[0][0] == "train_network.py"
        return self.calls()[0][1:]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("shell"))


@pytest.fixture(scope="module")
def shipped(shell: Shell) -> list[str]:
    """The trainer's command line with nothing changed."""
    return shell.options()


def test_every_variable_is_tested_and_explained() -> None:
    assert set(VARIABLES) == set(OPTIONS) | LAUNCHER_VARIABLES
    assert len(VARIABLES) >= 40
    assert [name for name, (_, comment) in VARIABLES.items() if len(comment) < 8] == []


@pytest.mark.parametrize("name", OPTIONS)
def test_a_changed_variable_reaches_the_trainer(shell: Shell, shipped: list[str], name: str) -> None:
    value, option = OPTIONS[name]
    assert option not in shipped
    assert shell.options(**{name: value}).count(option) == 1


def test_every_option_is_a_setting_of_the_trainer(shell: Shell) -> None:
    known = {field.name for field in fields(Settings)}
    changed = shell.options(**{name: value for name, (value, _) in OPTIONS.items()})
    names = {option.removeprefix("--").split("=")[0] for option in changed}
    assert len(names) == len(OPTIONS)
    assert names - known == set()


def test_an_empty_variable_is_not_passed(shell: Shell) -> None:
    assert shell.options(**dict.fromkeys(OPTIONS, "")) == []


def test_zero_means_none_to_the_trainer(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    none = ("min_snr_gamma", "clip_skip", "save_every_n_epochs", "sample_every_n_epochs")
    settings = read_settings(shell.options(save_state="0", text_encoder_lr="0", **dict.fromkeys(none, "0")))
    assert [getattr(settings, name) for name in none] == [None] * len(none)
    assert (settings.save_state, settings.text_encoder_lr) == (False, 0.0)


def test_as_shipped_it_does_as_the_demo_config(shipped: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert read_settings(shipped) == read_settings(["--config", "configs/demo.toml"])


def test_what_stands_behind_the_program_goes_to_the_trainer_as_it_is(shell: Shell) -> None:
    more = ["--dry_run", "--output_name", "two words"]
    assert shell.options(*more)[-3:] == more


@pytest.mark.parametrize("status", [1, 2, 130])
def test_the_status_of_the_trainer_is_kept_and_nothing_is_drawn(shell: Shell, status: int) -> None:
    assert shell.run("train.sh", STATUS=str(status)).returncode == status
    assert len(shell.calls()) == 1


def test_several_gpus_are_started_by_accelerate(shell: Shell, shipped: list[str]) -> None:
    assert shell.run("train.sh", multi_gpu="1", num_processes="3").returncode == 0
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=3", "train_network.py"]
    assert shell.calls()[0][:5] == launch
    assert shell.options(multi_gpu="0", num_processes="3") == shipped


def test_afterwards_base_and_lora_are_drawn_and_the_files_named(shell: Shell, tmp_path: Path) -> None:
    output = tmp_path / "my output"
    lora = output / "my cat.safetensors"
    variables = {"output_dir": str(output), "output_name": "my cat", "pretrained_model": "my model"}
    result = shell.run("train.sh", WRITES=str(lora), **variables)
    assert result.returncode == 0, result.stderr
    _, drawing = shell.calls()
    assert drawing[0] == "tools/generate.py" and "--compare" in drawing
    names = ("--model", "--lora", "--prompts_file", "--sheet")
    options = {name: drawing[drawing.index(name) + 1] for name in names}
    sheet = output / "my cat.png"
    assert options == {
        "--model": "my model",
        "--lora": str(lora),
        "--prompts_file": VARIABLES["sample_prompts"][0],
        "--sheet": str(sheet),
    }
    for named in (str(lora), str(sheet), "--logdir logs"):
        assert named in result.stdout


def test_without_a_new_file_nothing_is_drawn(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "demo.safetensors").write_bytes(b"of an earlier run")
    os.utime(tmp_path / "demo.safetensors", (1, 1))
    assert shell.run("train.sh", "--dry_run", output_dir=str(tmp_path)).returncode == 0
    assert len(shell.calls()) == 1


def test_the_tests_get_their_arguments(shell: Shell) -> None:
    assert shell.run("tests/run.sh", "-k", "two words").returncode == 0
    assert shell.calls() == [["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-k", "two words"]]


class Clone:
    """A copy of the set-up with requirements of its own."""

    def __init__(self, folder: Path, requirements: str) -> None:
        self.folder, self.environment = folder, folder / "environment"
        (folder / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "setup_env.sh", folder / "tools")
        self.require(requirements)

    def require(self, requirements: str) -> None:
        """Other requirements."""
        (self.folder / "requirements.txt").write_text(requirements)

    def set_up(self, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Sources the set-up as train.sh does and prints the Python that it named."""
        environment = dict(os.environ) | {"EASEL_VENV": str(self.environment)} | dict(variables or {})
        command = ["bash", "-c", 'set -euo pipefail; . tools/setup_env.sh; echo "python=$python"']
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)


def install_log(clone: Clone, status: int = 0) -> Path:
    """Puts a stub into the clone's environment whose pip only writes a line, and ends with `status`."""
    stub, log = clone.environment / "bin" / "python", clone.folder / "pip.log"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.write_text(f"""#!/usr/bin/env bash
if [ "$1" = -c ]; then exec "{sys.executable}" "$@"; fi
sleep 0.3
echo "$*" >>"{log}"
exit {status}
""")
    stub.chmod(0o755)
    return log


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "a clone", "# nothing to install\n")
    first, second = clone.set_up(), clone.set_up()
    python = clone.environment / "bin" / "python"
    assert first.returncode == 0, first.stderr
    assert "3 GB" in first.stdout and first.stdout.endswith(f"python={python}\n")
    assert second.stdout == f"python={python}\n"
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def test_packages_are_installed_again_when_the_requirements_change(tmp_path: Path) -> None:
    clone = Clone(tmp_path, "one\n")
    log = install_log(clone)
    for requirements, installations in (("one\n", 1), ("one\n", 1), ("two\n", 2)):
        clone.require(requirements)
        assert clone.set_up().returncode == 0
        assert len(log.read_text().splitlines()) == installations


def test_a_broken_installation_is_said_and_tried_again(tmp_path: Path) -> None:
    clone = Clone(tmp_path, "one\n")
    log = install_log(clone, status=1)
    for attempt in (1, 2):
        result = clone.set_up()
        assert result.returncode == 1
        assert "the installation failed" in result.stderr and "python=" not in result.stdout
        assert len(log.read_text().splitlines()) == attempt
    install_log(clone)
    assert clone.set_up().returncode == 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="this machine has no flock")
def test_two_starts_install_once(tmp_path: Path) -> None:
    clone = Clone(tmp_path, "one\n")
    log = install_log(clone)
    command = ["bash", "-c", "set -euo pipefail; . tools/setup_env.sh"]
    environment = dict(os.environ) | {"EASEL_VENV": str(clone.environment)}
    starts = [subprocess.Popen(command, cwd=clone.folder, env=environment) for _ in range(2)]
    assert [start.wait(timeout=60) for start in starts] == [0, 0]
    assert len(log.read_text().splitlines()) == 1


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    clone = Clone(tmp_path, "one\n")
    clone.environment.mkdir()
    (clone.environment / "letters.txt").write_text("mine")
    result = clone.set_up()
    assert result.returncode == 1
    assert "not a virtual environment" in result.stderr
    assert (clone.environment / "letters.txt").read_text() == "mine"


@pytest.mark.parametrize(("version", "remedy"), [("3.10", "Python 3.11, 3.12 or 3.13"), ("3.12", "-venv")])
def test_a_python_that_will_not_do_is_said_with_the_remedy(tmp_path: Path, version: str, remedy: str) -> None:
    """A stub stands for a Python that is too old, or for Debian's without ensurepip."""
    clone = Clone(tmp_path, "one\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "cat", "dirname", "flock", "ls", "mkdir"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    fits = 0 if version == "3.12" else 1
    stub = programs / "python3"
    stub.write_text(f"""#!{shutil.which("bash")}
case "$2" in
*"sys.exit"*) exit {fits} ;;
*ensurepip*) exit 1 ;;
*version*) echo "{version}" ;;
esac
""")
    stub.chmod(0o755)
    result = clone.set_up({"PATH": str(programs)})
    assert result.returncode == 1
    assert remedy in result.stderr and version in result.stderr
