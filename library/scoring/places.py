"""Where a model of open_clip is: in a folder, or on the hub. Imports nothing heavy."""

from pathlib import Path

from library.errors import InputError

CONFIG = "open_clip_config.json"
WEIGHTS = (".safetensors", ".bin", ".pth")
USUAL = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
REMEDY = f"download one where there is a connection, by `hf download {USUAL} --local-dir clip`, and give --model clip"


def place_of(name: str) -> str:
    """The folder or hub id in open_clip's words. Raises InputError, saying where to get a model, if it is neither."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        files = [path.name for path in folder.iterdir()]
        if CONFIG not in files or not any(file.endswith(WEIGHTS) for file in files):
            lacking = "weights" if CONFIG in files else CONFIG
            raise InputError(f"--model {name} holds no model of open_clip ({lacking} not found in it); {REMEDY}.")
        return f"local-dir:{folder}"
    if name.count("/") == 1 and not folder.exists() and not name.startswith((".", "/", "~")):
        return f"hf-hub:{name}"
    raise InputError(f"--model {name}: there is no such folder, and it is no hub id such as {USUAL}; {REMEDY}.")
