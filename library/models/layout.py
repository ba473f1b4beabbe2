"""A model on disk as parts with configurations and tensors, and the folders of diffusers in these terms."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from library.documents import parse_json
from library.errors import InputError, blaming
from library.files import write_atomically
from library.weights import content_hash, load_any

FILES = Path(__file__).parent / "files"

# Weights of a part in diffusers' folders, the best first: no pickles if possible, then no half precision.
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
SUFFIXES = (".safetensors", ".fp16.safetensors", "-*-of-*.safetensors", ".fp16-*-of-*.safetensors")
PICKLED = (".bin", ".fp16.bin")

# Old VAEs of diffusers name the parts of their attention in their own way.
OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
# Channels that a UNet takes -> what the others than 4 are for.
PURPOSES = {
    5: " (it is guided by depth)",
    7: " (it enlarges pictures)",
    8: " (it is for editing by instructions)",
    9: " (it is for inpainting)",
}
REFINER = "the refiner of Stable Diffusion XL, which finishes pictures that the base model began"
EDM = "a Stable Diffusion XL model with the noise schedule of EDM, as Playground 2.5 and CosXL have it"
ALIGNMENT = 64  # bytes, of the memory that torch takes for tensors on the CPU
TEXT_PARTS = ("embeddings.", "encoder.", "final_layer_norm.")
PROJECTION = "text_projection."


@dataclass(frozen=True)
class Source:
    """A model as found: for each part its configuration in diffusers' terms and the files of its weights.

    `read(part)` gives a part's tensors by diffusers' names; text encoders without the prefix `text_model.`.
    `instead` says what the file is where it holds no model at all.
    """

    name: str
    path: Path
    configs: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, tuple[Path, ...]]
    read: Callable[[str], dict[str, Tensor]]
    instead: str = ""
    _hashes: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """A name to write down: of the file or folder alone, or the hub id."""
        return self.path.resolve().name if Path(self.name).expanduser().exists() else self.name

    def require(self, part: str, remedy: str = "") -> None:
        """Raises InputError if a part is missing."""
        if not self.files.get(part) or part not in self.configs:
            missing = "weights" if part in self.configs else "configuration"
            words = "" if self.path.is_file() else f" ({missing} not found in {part}/)"
            raise InputError(f"{self.name} has no {part.replace('_', ' ')}{words}.{remedy}")

    def fingerprint(self, part: str, cache_dir: Path | None = None) -> str:
        """A hash of a part's weights, remembered here and, by the files' sizes and times, in `cache_dir`."""
        if part not in self._hashes:
            files = self.files[part]
            self._hashes[part] = remembered(
                part, files, lambda: content_hash(self.read(part).items()), cache_dir
            )
        return self._hashes[part]


def open_folder(name: str, path: Path) -> Source:
    """A diffusers folder: of a whole model, or of a VAE alone."""
    configs: dict[str, dict[str, Any]] = {}
    for file in sorted([*path.glob("*/config.json"), *path.glob("scheduler/scheduler_config.json")]):
        configs[file.parent.name] = _read_config(file)
    folders = {part: path / part for part in STEMS}
    root = _read_config(path / "config.json") if (path / "config.json").is_file() else {}
    if str(root.get("_class_name", "")).startswith("Autoencoder"):
        configs["vae"], folders["vae"] = root, path
    files: dict[str, tuple[Path, ...]] = {}
    for part, folder in folders.items():
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        files[part] = tuple(folder / name for name in choose_files(part, names))
    instead = "" if configs.keys() & {"unet", "vae", "transformer"} else _folder_instead(path)
    if str(configs.get("scheduler", {}).get("_class_name", "")).startswith("EDM"):
        instead = EDM
    return Source(name, path, configs, files, lambda part: _read_part(part, files[part]), instead)


def choose_files(part: str, names: Iterable[str]) -> list[str]:
    """Those of a part's files that hold its weights; several if they are split; none if there are none."""
    names = sorted(names)
    stem = STEMS[part]
    bin_stem = "pytorch_model" if part.startswith("text_encoder") else stem
    patterns = [stem + suffix for suffix in SUFFIXES] + [bin_stem + suffix for suffix in PICKLED]
    for pattern in patterns:
        found = [name for name in names if fnmatch(name, pattern)]
        if found:
            return found
    return []


def what_it_is(source: Source) -> str:
    """What a model seems to be that no family recognises, in plain words."""
    unet = source.configs.get("unet")
    if source.instead:
        return source.instead
    if "transformer" in source.configs:
        return "a model with a transformer in the place of a UNet, such as Stable Diffusion 3 or FLUX"
    if unet is None:
        return "a VAE and no base model" if "vae" in source.configs else "no base model"
    kind, channels = f"a {_kind_of(unet)} model", unet.get("in_channels", 4)
    writes = [config.get("hidden_size") for part, config in source.configs.items() if part.startswith("text_encoder")]
    if not writes:
        return "a UNet without a text encoder"
    if "text_encoder" not in source.configs:
        return REFINER
    if channels != 4:
        return f"{kind} whose UNet takes {channels} channels instead of 4{PURPOSES.get(channels, '')}"
    if unet.get("class_embed_type"):
        return f"{kind} whose UNet is told pictures beside the text (it is for variations of them, unCLIP)"
    if unet.get("addition_embed_type") and len(writes) == 1:
        return f"{kind} without its second text encoder"
    widths = f"its UNet reads text of width {unet.get('cross_attention_dim')}, its text encoder writes"
    return f"a model of an unknown kind ({widths} {' + '.join(map(str, writes))})"


def build(
    create: Callable[[], nn.Module], tensors: Mapping[str, Tensor], dtype: torch.dtype, what: str
) -> nn.Module:
    """The module that `create` makes, frozen, with these tensors in `dtype` and never any other memory.

    Raises InputError if the tensors are not exactly those of the module; `what` names it in the sentence.
    """
    with blaming(what), init_empty_weights(include_buffers=False):
        module = create()
    expected = module.state_dict()
    both = expected.keys() & tensors.keys()
    wrong = [key for key in both if tensors[key].shape != expected[key].shape]
    for problem, keys in (
        ("tensors are missing", expected.keys() - tensors.keys()),
        ("tensors are unknown", tensors.keys() - expected.keys()),
        ("tensors have another shape than expected", wrong),
    ):
        if keys:
            example = min(keys)
            raise InputError(
                f"{what}: {len(keys)} {problem}, such as {example}; the model is damaged or unusual."
            )
    module.load_state_dict({key: _aligned(tensor.to(dtype)) for key, tensor in tensors.items()}, assign=True)
    return module.requires_grad_(False).eval()


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor where torch itself would put it; from elsewhere in a mapped file the last bits of sums differ."""
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()


def plain_text_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP text model's own tensors, without the prefix that only some files have."""
    plain = {key.removeprefix("text_model."): tensor for key, tensor in tensors.items()}
    return {
        key: tensor
        for key, tensor in plain.items()
        if key.startswith(TEXT_PARTS) and not key.endswith("position_ids")
    }


def plain_vae_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's tensors by diffusers' present names; the attention's projections as matrices."""
    plain = {}
    for key, tensor in tensors.items():
        if ".attentions." in key:
            for old, new in OLD_ATTENTION.items():
                key = key.replace(old, new)
        plain[key] = tensor[..., 0, 0] if ".attentions." in key and tensor.ndim == 4 else tensor
    return plain


def remembered(
    purpose: str, files: Iterable[Path], compute: Callable[[], str], cache_dir: Path | None
) -> str:
    """A hash of files, computed once for their names, sizes and times if there is a `cache_dir`."""
    if cache_dir is None:
        return compute()
    facts = [purpose]
    for file in files:
        status = file.stat()
        facts.append(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}")
    key = content_hash([("\n".join(facts), torch.zeros(0))])
    note = Path(cache_dir) / "hashes" / f"{key}.txt"
    if note.is_file() and (found := note.read_text(encoding="ascii", errors="replace").strip()):
        return found
    value = compute()
    write_atomically(note, lambda unfinished: unfinished.write_text(value, encoding="ascii"))
    return value


def usual_config(family: str, part: str) -> dict[str, Any]:
    """The configuration that a part (or "scheduler") of a family has in its usual size: "sd1", "sd2" or "sdxl"."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return _read_config(FILES / family / part / name)


def _kind_of(unet: Mapping[str, Any]) -> str:
    """The generation that a UNet's configuration looks like."""
    if unet.get("addition_embed_type"):
        return "Stable Diffusion XL"
    return "Stable Diffusion 2.x" if unet.get("use_linear_projection") else "Stable Diffusion 1.x"


def _read_part(part: str, files: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors of a part's files."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= load_any(file)
    if part.startswith("text_encoder"):
        projected = {key: tensor for key, tensor in tensors.items() if key.startswith(PROJECTION)}
        return plain_text_names(tensors) | (projected if part == "text_encoder_2" else {})
    return plain_vae_names(tensors) if part == "vae" else tensors


def _read_config(path: Path) -> dict[str, Any]:
    """A JSON file that holds a table."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the configuration cannot be read ({error}).") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: the configuration is no table.")
    return content


def _folder_instead(path: Path) -> str:
    """What a folder is that has neither UNet nor VAE."""
    models = sorted(file.name for file in path.iterdir() if file.suffix in (".safetensors", ".ckpt", ".pt"))
    if models:
        return f"a folder without unet/config.json (a file in it may be meant, such as {path / models[0]})"
    return "a folder without unet/config.json, so no model in diffusers' layout"
