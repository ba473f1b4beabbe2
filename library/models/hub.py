"""Models from the Hugging Face hub: only the files that are needed, and none where they are there already."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from library.errors import InputError
from library.models.layout import choose_files

PATIENCE = 20  # seconds until a copy from before is used
SMALL_FILES = ("model_index.json", "config.json", "*/config.json", "scheduler/*.json", "tokenizer/*", "tokenizer_2/*")


def download(repository: str, parts: Sequence[str]) -> Path:
    """The folder of a hub repository with the weights of `parts`, best format first, fetched if need be.

    Raises InputError if there is no such repository, or if it is out of reach and was never fetched.
    """
    try:
        siblings = HfApi().model_info(repository, timeout=PATIENCE).siblings or []
        names = [sibling.rfilename for sibling in siblings]
    except (GatedRepoError, RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"{repository} is neither a file or folder here nor a model that the hub shows you; check the "
            "spelling, or, if it asks for a login, run `hf auth login` and accept its licence on its page."
        ) from None
    except Exception as error:  # each version of the hub's client has its own errors for no connection
        return _from_cache(repository, error)
    if "unet" in parts and "unet/config.json" not in names:
        singles = [name for name in names if name.endswith((".safetensors", ".ckpt"))]
        hint = f" Download one of its files ({', '.join(singles[:5])}) and name that." if singles else ""
        raise InputError(f"{repository} on the hub has no unet/config.json, so no diffusers layout.{hint}")
    patterns = [*SMALL_FILES, *wanted_files(names, parts)]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # as above
        return _from_cache(repository, error)


def wanted_files(names: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Those files of a repository that hold the weights of `parts`; a lone VAE's may lie at the top."""
    wanted = []
    for part in parts:
        folders = (part, ".") if part == "vae" and "unet/config.json" not in names else (part,)
        for folder in folders:
            paths = [PurePosixPath(name) for name in names]
            inside = [path.name for path in paths if str(path.parent) == folder]
            prefix = "" if folder == "." else f"{folder}/"
            wanted += [prefix + name for name in choose_files(part, inside)]
    return wanted


def _from_cache(repository: str, error: Exception) -> Path:
    """The folder as it was fetched before, without a connection."""
    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except Exception:  # as above
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{repository} is no file or folder here, and the hub cannot be reached ({reason}); check the "
            "spelling, or connect once to download it, or name a folder or file that is there."
        ) from None
