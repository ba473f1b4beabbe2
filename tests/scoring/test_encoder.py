"""open_clip's vectors are those of the model in the folder; what is no such folder is said in a sentence."""

from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from library.errors import InputError
from library.scoring import encoder as module
from library.scoring.encoder import load_encoder
from tests.scoring.clips import CONFIG, write_clip

CPU = torch.device("cpu")
PICTURES = [Image.new("RGB", (40, 32), colour) for colour in ("red", "blue", "white")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "model")


def test_vectors_are_the_models_own(folder: Path, monkeypatch) -> None:
    encoder = load_encoder(str(folder), CPU)
    model = open_clip.CLIP(**CONFIG).eval()
    model.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    pixels = torch.stack(
        [torch.tensor(colour).float().view(3, 1, 1).expand(3, 32, 32) for colour in ((1, -1, -1), (-1, -1, 1))]
    )
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=True)
        words = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a cat"], context_length=16), normalize=True)
    torch.testing.assert_close(encoder.pictures(PICTURES)[:2], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.texts(["a dog", "a cat"])[1:], words, rtol=1e-4, atol=1e-5)
    at_once = encoder.pictures(PICTURES)
    monkeypatch.setattr(module, "BATCH", 2)
    torch.testing.assert_close(encoder.pictures(PICTURES), at_once, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "open_clip_config.json").write_text("{")
    (tmp_path / "open_clip_model.safetensors").write_text("none")
    with pytest.raises(InputError, match="cannot be loaded.*hf download") as caught:
        load_encoder(str(tmp_path), CPU)
    assert len(caught.value.sentences) == 1 and "\n" not in str(caught.value)

    def unreachable(name: str) -> None:
        raise OSError(f"no connection for {name}\nand more")

    monkeypatch.setattr(module.open_clip, "create_model_from_pretrained", unreachable)
    with pytest.raises(InputError, match=r"somebody/clip cannot be loaded \(no connection for hf-hub:somebody/clip\)"):
        load_encoder("somebody/clip", CPU)
