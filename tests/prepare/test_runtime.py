"""Onnxruntime: started where it was asked for, and files that are no models refused."""

from pathlib import Path

import onnxruntime
import pytest

from library.errors import InputError
from library.log import warn
from library.prepare import runtime
from library.prepare.runtime import choose_providers, open_session
from tests.prepare.segmenters import write_colour_model

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("there", "device", "chosen"),
    [
        ([CUDA, CPU], None, [CUDA, CPU]),
        (["TensorrtExecutionProvider", CUDA, CPU], "cuda", [CUDA]),
        ([CUDA, CPU], "cpu", [CPU]),
        (["AzureExecutionProvider", CPU], None, [CPU]),
    ],
)
def test_the_best_provider_there_is(
    monkeypatch: pytest.MonkeyPatch, there: list[str], device: str | None, chosen: list[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    assert choose_providers(device) == chosen


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(InputError, match="this onnxruntime has no cuda; install onnxruntime-gpu"):
        choose_providers("cuda")


def test_a_gpu_that_does_not_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Onnxruntime lists CUDA whether or not its libraries are there, and goes on with the CPU."""
    path = write_colour_model(tmp_path / "model.onnx")
    monkeypatch.setattr(runtime, "choose_providers", lambda device: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    start = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, providers: start(path, options))
    warn.cache_clear()
    assert open_session(path).get_providers() == [CPU]
    assert "warning: onnxruntime could not start on the GPU" in capsys.readouterr().err
    with pytest.raises(InputError, match="could not start on cuda; .*use --device cpu"):
        open_session(path, "cuda")


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"this is no model")
    with pytest.raises(InputError, match=r"onnxruntime cannot open .*model\.onnx: "):
        open_session(tmp_path / "model.onnx", "cpu")
    with pytest.raises(InputError, match=r"gone\.onnx does not exist"):
        open_session(tmp_path / "gone.onnx", "cpu")


@pytest.mark.parametrize(("threads", "expected"), [("1", 1), ("", 0), ("many", 0)])
def test_as_many_threads_as_the_environment_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    session = open_session(write_colour_model(tmp_path / "model.onnx"), "cpu")
    assert session.get_session_options().intra_op_num_threads == expected
