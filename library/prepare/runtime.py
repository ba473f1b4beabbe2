"""Starting onnxruntime with a model, on the GPU where there is one."""

import os
from pathlib import Path

import onnxruntime

from library.errors import InputError
from library.log import warn

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(path: Path, device: str | None = None) -> onnxruntime.InferenceSession:
    """Onnxruntime with a model's file.

    Args:
        path: the .onnx file
        device: "cpu" or "cuda"; None takes CUDA where onnxruntime has it

    Raises InputError where the file is missing or no model, or the device is not there.
    """
    if not path.is_file():
        raise InputError(f"the model {path} does not exist; name an .onnx file.")
    providers = choose_providers(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    threads = os.environ.get("OMP_NUM_THREADS", "")  # which onnxruntime does not heed by itself
    options.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    if PROVIDERS["cuda"] in providers:
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # of many kinds, for a file that is no model and for one that is too new
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise InputError(f"onnxruntime cannot open {path}: {reason}.") from error
    if providers[0] not in session.get_providers():  # it goes on with the CPU by itself
        if device:
            raise InputError(f"onnxruntime could not start on {device}; its libraries do not fit, so use --device cpu.")
        warn("onnxruntime could not start on the GPU, as its libraries do not fit; the CPU does the work.")
    return session


def choose_providers(device: str | None) -> list[str]:
    """Onnxruntime's names for where it computes, best first. Raises InputError where the device is not there."""
    there = onnxruntime.get_available_providers()
    wanted = [PROVIDERS[device]] if device else [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    chosen = [provider for provider in wanted if provider in there]
    if not chosen:
        raise InputError(f"this onnxruntime has no {device}; install onnxruntime-gpu instead or use --device cpu.")
    return chosen
