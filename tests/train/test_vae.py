"""The VAE of a run: loaded when needed, in the run's number format, and in float32 where that overflows."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from library.models.family import Family, open_family
from library.train.vae import Vae, open_vae
from tests.toys import write_overflowing_sd1

CPU = torch.device("cpu")
PIXELS = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)


@pytest.fixture
def wild(tmp_path: Path) -> Family:
    """The family of a model whose VAE overflows in fp16."""
    return open_family(str(write_overflowing_sd1(tmp_path / "wild")))


def compute_of(device: str, dtype: torch.dtype) -> SimpleNamespace:
    """A device that may not be there."""
    return SimpleNamespace(device=torch.device(device), dtype=dtype)


def test_its_number_format(settings_of, family) -> None:
    cases = [("cuda", torch.float16), ("cuda", torch.bfloat16), ("cpu", torch.bfloat16), ("cpu", torch.float32)]
    for device, dtype in cases:
        assert open_vae(settings_of(), family, compute_of(device, dtype)).dtype == dtype
        assert open_vae(settings_of(no_half_vae=True), family, compute_of(device, dtype)).dtype == torch.float32
    assert open_vae(settings_of(), family, compute_of("cpu", torch.float16)).dtype == torch.float32


def test_it_is_loaded_once_and_late(family, monkeypatch) -> None:
    loads = []
    load = type(family).load_vae
    monkeypatch.setattr(type(family), "load_vae", lambda self, dtype: loads.append(dtype) or load(self, dtype))
    vae = Vae(family, torch.bfloat16, CPU)
    vae.leave_device()
    assert loads == []
    mean, logvar = vae.encode(PIXELS)
    assert mean.shape == logvar.shape == (2, 4, 8, 8) and mean.dtype == torch.float32
    assert next(vae.module.parameters()).dtype == torch.bfloat16
    vae.leave_device()
    assert torch.equal(vae.encode_surely(PIXELS)[0], mean)
    assert loads == [torch.bfloat16]


def test_an_overflow_is_answered_by_float32_and_said_once(wild, capsys) -> None:
    half = Vae(wild, torch.float16, CPU)
    assert not torch.isfinite(half.encode(PIXELS)[0]).all()
    whole = Vae(wild, torch.float32, CPU)
    for _ in range(2):
        mean, logvar = half.encode_surely(PIXELS)
        assert torch.equal(mean, whole.encode(PIXELS)[0]) and torch.isfinite(logvar).all()
        assert half.dtype == torch.float32
    assert capsys.readouterr().err.count("the VAE overflows in float16; it goes on in float32") == 1


def test_what_float32_cannot_do_is_left_to_the_caller(wild) -> None:
    mean, _ = Vae(wild, torch.float32, CPU).encode_surely(PIXELS * float("nan"))
    assert not torch.isfinite(mean).any()
