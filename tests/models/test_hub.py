"""Models from the hub: which files are fetched, and what is said when it does not work."""

from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HFValidationError

from library.errors import InputError
from library.models import hub

SD15 = [
    "model_index.json",
    "README.md",
    "v1-5-pruned.ckpt",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "safety_checker/model.safetensors",
    *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder")),
    *(
        f"{part}/diffusion_pytorch_model{ending}"
        for part in ("unet", "vae")
        for ending in (".safetensors", ".bin", ".fp16.safetensors", ".non_ema.safetensors")
    ),
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
]
WEIGHTS = [
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.fp16.safetensors",
]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The hub with SD 1.5's files; what is fetched from it."""
    calls: list[list[str]] = []

    def fetch(repository: str, allow_patterns: list[str]) -> str:
        calls.append(allow_patterns)
        return "somewhere"

    answer_with(monkeypatch, SD15)
    monkeypatch.setattr(hub, "snapshot_download", fetch)
    return calls


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: list[str] | Exception) -> None:
    """Lets the hub list these files, or fail."""

    def info(self: object, repository: str, timeout: float) -> SimpleNamespace:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in answer])

    monkeypatch.setattr(hub.HfApi, "model_info", info)


def test_only_what_is_needed_is_fetched(fetched: list[list[str]]) -> None:
    assert hub.download("user/model", ["unet", "vae", "text_encoder"]) == Path("somewhere")
    assert fetched == [[*hub.SMALL_FILES, *WEIGHTS]]


def test_both_text_encoders_and_tokenizers_of_xl(fetched: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"text_encoder{end}/model{kind}.safetensors" for end in ("", "_2") for kind in ("", ".fp16")]
    more = ["tokenizer_2/merges.txt", "text_encoder_2/config.json", "text_encoder_2/model.onnx"]
    answer_with(monkeypatch, [*names, *more, "unet/config.json"])
    hub.download("user/model", ["unet", "text_encoder", "text_encoder_2"])
    chosen = [name for name in [*names, *more] if any(fnmatch(name, pattern) for pattern in fetched[0])]
    assert chosen == [names[0], names[2], *more[:2]]


def test_one_part_is_fetched_alone(fetched: list[list[str]]) -> None:
    hub.download("user/model", ["vae"])
    assert fetched == [[*hub.SMALL_FILES, WEIGHTS[1]]]


def test_a_vae_at_the_top_of_its_repository() -> None:
    names = ["config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors", "old.ckpt"]
    assert hub.wanted_files(names, ["vae"]) == ["diffusion_pytorch_model.safetensors"]


def test_a_repository_of_single_files_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, ["a.safetensors", "README.md"])
    with pytest.raises(InputError, match=r"no diffusers layout. Download one of its files \(a.safetensors\)"):
        hub.download("user/model", ["unet"])


def test_what_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, HFValidationError("bad"))
    with pytest.raises(
        InputError, match="user/model is neither a file or folder here nor a model that the hub"
    ):
        hub.download("user/model", ["unet"])


def test_without_a_connection_the_copy_here_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, ConnectionError("no route"))
    asked = []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **options: asked.append(options) or "here")
    assert hub.download("user/model", ["unet"]) == Path("here")
    assert asked == [{"local_files_only": True}]


def test_without_a_connection_and_a_copy_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer_with(monkeypatch, ConnectionError("no route\nto host"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"the hub cannot be reached \(no route\); check the spelling"
    ) as caught:
        hub.download("easel-tests/no-such-model", ["unet"])
    assert "\n" not in str(caught.value)
