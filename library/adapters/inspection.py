"""What is inside an adapter file: for which models, of which kinds, where, how strong, and what is wrong with it."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from library.adapters.anatomy import LEAVES, Module, modules_of
from library.adapters.blocks import block_of, block_order
from library.adapters.hypernetwork_files import HypernetworkFile, modules_in, read_hypernetwork
from library.adapters.keys import PARTS, XL_MARK, dotted_of, stem_of
from library.documents import read_json
from library.errors import InputError, blaming
from library.weights import load_any, read_header

KINDS = {
    "lora": "LoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "ia3": "(IA)^3",
    "full": "full difference",
    "norm": "norms",
    "hypernetwork": "hypernetwork's networks",
    "oft": "OFT",
    "glora": "GLoRA",
    "unknown": "unknown",
}
FAMILY_NAMES = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}
WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}  # of the text that the UNet reads
VERSIONS = {"sdxl": "sdxl", "sd_v2": "sd2", "sd_v1": "sd1"}  # how ss_base_model_version begins
BLOCKS = r"(?:(?:down|up)_blocks\.\d\.|mid_block\.)"
TRANSFORMER = r"transformer_blocks\.\d+\.(?:attn[12]\.to_(?:[qkv]|out\.0)|ff\.net\.(?:0\.proj|2))"
ATTENTION = rf"attentions\.\d\.(?:proj_in|proj_out|{TRANSFORMER})"
RESNET = r"resnets\.\d\.(?:conv[12]|time_emb_proj|conv_shortcut)|(?:down|up)samplers\.0\.conv"
EDGES = r"conv_in|conv_out|(?:time|add)_embedding\.linear_[12]"
NORMS = rf"{BLOCKS}(?:resnets\.\d\.norm[12]|attentions\.\d\.(?:norm|transformer_blocks\.\d+\.norm[123]))"
UNET_LAYER = re.compile(rf"{BLOCKS}(?:{ATTENTION}|{RESNET})|{EDGES}")
UNET_NORM = re.compile(NORMS)
TEXT_LAYER = re.compile(r"text_model\.encoder\.layers\.\d+\.(?:self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])")


@dataclass(frozen=True)
class Inspection:
    """An adapter file as found; `dtypes` counts numbers by their format."""

    name: str
    size: int  # bytes
    metadata: Mapping[str, str]
    modules: list[Module]
    dtypes: Mapping[str, int]
    hypernetwork: HypernetworkFile | None = None

    @cached_property
    def layout(self) -> str:
        """Whose names the file has: "kohya", "original", "diffusers", or "unknown" if most are nobody's.

        Of a hypernetwork "hypernetwork".
        """
        if self.hypernetwork:
            return "hypernetwork"
        if any("." in module.stem for module in self.modules):
            return "diffusers" if self.dotted else "unknown"
        numbered = [re.search(r"lora_unet_(input|output|middle)_block", module.stem) for module in self.modules]
        if not self.dotted:
            return "unknown"
        return "original" if any(numbered) and self.family != "sdxl" else "kohya"

    @cached_property
    def dotted(self) -> dict[str, str]:
        """The stem of every module that has a place in some model, with the dotted name of diffusers' layout."""
        found = {module.stem: _dotted(module.stem) for module in self.modules}
        return {stem: name for stem, name in found.items() if name is not None}

    @cached_property
    def strangers(self) -> list[Module]:
        """Modules that no UI would match with a layer of Stable Diffusion."""
        if self.hypernetwork:
            return []
        return [module for module in self.modules if not _has_place(module, self.dotted.get(module.stem))]

    @cached_property
    def family(self) -> str | None:
        """The family it was made for: told by names and shapes, or else by the metadata."""
        if self.hypernetwork:
            return next((WIDTHS[width] for width in self.hypernetwork.pairs if width in WIDTHS), self.family_told)
        if any(XL_MARK.match(name) for name in self.dotted.values()):
            return "sdxl"
        for module in self.modules:
            is_reader = self.dotted.get(module.stem, "").endswith(("attn2.to_k", "attn2.to_v"))
            if is_reader and module.shape and module.shape[1] in WIDTHS:
                return WIDTHS[module.shape[1]]
        return self.family_told

    @property
    def family_told(self) -> str | None:
        """The family that the metadata name."""
        version = self.metadata.get("ss_base_model_version", "")
        architecture = self.metadata.get("modelspec.architecture", "")
        for start, family in VERSIONS.items():
            if version.startswith(start):
                return family
        words = {"stable-diffusion-xl": "sdxl", "stable-diffusion-v2": "sd2", "stable-diffusion-v1": "sd1"}
        return next((family for word, family in words.items() if architecture.startswith(word)), None)

    @property
    def kinds(self) -> dict[str, int]:
        """How many modules there are of each kind, DoRA counted as one."""
        words = (KINDS[each.kind] + (" with DoRA" if each.magnitude else "") for each in self.modules)
        return dict(Counter(words).most_common())

    @property
    def blocks(self) -> dict[str, list[Module]]:
        """The modules by the block of the model that they change, in the order of the data."""
        groups: dict[str, list[Module]] = {}
        if self.hypernetwork:
            return {module.stem: [module] for module in self.modules}
        for module in self.modules:
            name = self.dotted.get(module.stem)
            stem = stem_of(name, self.family == "sdxl") if name else module.stem
            groups.setdefault(block_of(stem), []).append(module)
        return {block: groups[block] for block in sorted(groups, key=block_order)}

    @property
    def tags(self) -> list[tuple[str, int]]:
        """The captions' tags, the most frequent first."""
        counts: Counter[str] = Counter()
        for folder in read_json(self.metadata.get("ss_tag_frequency")).values():
            told = folder if isinstance(folder, dict) else {}
            counts.update({tag.strip(): count for tag, count in told.items() if type(count) is int})
        return counts.most_common()

    @property
    def trigger(self) -> str | None:
        """The word that calls what was learned: as told, or else the tag that every caption has."""
        if phrase := self.metadata.get("modelspec.trigger_phrase"):
            return phrase
        folders = read_json(self.metadata.get("ss_dataset_dirs")).values()
        told = (folder.get("img_count") for folder in folders if isinstance(folder, dict))
        pictures = sum(count for count in told if type(count) is int)
        tags = self.tags
        return tags[0][0] if tags and pictures and tags[0][1] >= pictures else None

    @property
    def warnings(self) -> list[str]:
        """Sentences about what is wrong or doubtful."""
        found = []
        for words, chosen in (
            ("hold numbers that are none (NaN or infinite)", [each for each in self.modules if not each.is_finite]),
            ("change nothing (all zero)", [each for each in self.modules if each.is_complete and each.norm == 0]),
            ("are incomplete or do not fit together", [each for each in self.modules if not each.is_complete]),
            ("fit no layer that a UI knows", self.strangers),
        ):
            if chosen:
                found.append(f"{len(chosen)} of {len(self.modules)} layers {words}, such as {chosen[0].stem}.")
        if self.family and self.family_told and self.family != self.family_told:
            names = FAMILY_NAMES[self.family_told], FAMILY_NAMES[self.family]
            found.append(f"the metadata say that it is for {names[0]}, the layers that it is for {names[1]}.")
        return found


def inspect(path: Path) -> Inspection:
    """Reads a file of any kind of adapter; InputError if it cannot be read or holds none."""
    path = Path(path)
    if hypernetwork := read_hypernetwork(path):
        modules, size = modules_in(hypernetwork), path.stat().st_size
        numbers = sum(each.numel() for pair in hypernetwork.pairs.values() for one in pair for each in one.parameters())
        dtypes = {str(hypernetwork.dtype).removeprefix("torch."): numbers}
        return Inspection(str(path), size, hypernetwork.metadata, modules, dtypes, hypernetwork)
    is_safe = path.suffix.lower() == ".safetensors"
    metadata = read_header(path)[0] if is_safe else {}
    tensors: dict[str, Tensor] = load_any(path)
    with blaming(path):
        modules = modules_of(tensors)
    if all(module.kind == "unknown" for module in modules):
        examples = ", ".join(sorted(tensors)[:3]) or "none"
        raise InputError(f"{path} is no adapter that is known here ({len(tensors)} tensors: {examples}).")
    counts: Counter[str] = Counter()
    for tensor in tensors.values():
        counts[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return Inspection(str(path), path.stat().st_size, metadata, modules, dict(counts.most_common()))


def _dotted(stem: str) -> str | None:
    """A module's name in diffusers' layout, if it can be one."""
    try:
        if "." not in stem:
            return dotted_of(stem)
        part, _, path = stem.partition(".")
        if part == "diffusion_model":
            return dotted_of(f"lora_unet_{path.replace('.', '_')}")
        # Names of old and new text models differ by this word.
        is_bare = part.startswith("text_encoder") and path.startswith("encoder.")
        return f"{part}.text_model.{path}" if is_bare else stem if part in PARTS.values() else None
    except (InputError, StopIteration):
        return None


def _has_place(module: Module, name: str | None) -> bool:
    """Whether the module's name is that of a layer of Stable Diffusion, and its leaves are those of its kind."""
    if name is None or not set(module.leaves) <= set(LEAVES.get(module.kind, module.leaves)):
        return False
    part, _, path = name.partition(".")
    if module.kind == "norm" and part == "unet":
        return bool(UNET_NORM.fullmatch(path))
    if part == "unet":
        return bool(UNET_LAYER.fullmatch(path))
    return bool(TEXT_LAYER.fullmatch(path)) or name == "text_encoder_2.text_projection"
