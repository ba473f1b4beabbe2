"""SD 1.5's structure with fewer channels: building the parts, the real CLIP tokenizer, and the folder on disk."""

import gzip
import json
import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

VAE_CHANNELS = (24, 48, 64, 64)
UNET_CHANNELS = (32, 64, 128, 128)
TEXT_WIDTH = 128
LATENT_SIZE = 16  # latent pixels; one is 8 picture pixels
VOCABULARY_SIZE = 49408
TOKEN_SPREAD = 0.5  # deviation of fresh token embeddings; with CLIP's 0.02 words are lost in what all captions share

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}


def build_vae() -> AutoencoderKL:
    """A VAE with SD 1.5's blocks: (batch, 3, 8h, 8w) in [-1, 1] to (batch, 4, h, w) and back."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=VAE_CHANNELS,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=8 * LATENT_SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    """A UNet with SD 1.5's blocks and module names; 4 heads a block, as many as channels allow."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=UNET_CHANNELS,
        layers_per_block=2,
        attention_head_dim=4,  # diffusers reads this as the number of heads, here as in SD 1.5
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
        use_linear_projection=False,
    )


def build_text_encoder() -> CLIPTextModel:
    """A CLIP text model of 12 layers: (batch, 77) token ids to (batch, 77, TEXT_WIDTH)."""
    config = CLIPTextConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=12,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=1,
    )
    encoder = CLIPTextModel(config)
    torch.nn.init.normal_(encoder.get_input_embeddings().weight, std=TOKEN_SPREAD)
    return encoder


def count_parameters(module: torch.nn.Module) -> int:
    """How many numbers a module holds."""
    return sum(parameter.numel() for parameter in module.parameters())


def write_tokenizer(folder: Path) -> None:
    """Rebuild CLIP's tokenizer files from the merges that open_clip carries."""
    import open_clip

    merges_file = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(merges_file, "rt", encoding="utf-8") as stream:
        lines = stream.read().split("\n")
    # CLIP uses this many merges only: 256 bytes, each again as a word's end, and two markers make up the rest.
    merges = lines[1 : VOCABULARY_SIZE - 256 - 256 - 2 + 1]
    characters = _byte_characters()
    words = characters + [character + "</w>" for character in characters]
    words += ["".join(merge.split()) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    markers = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    markers |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    _write_json(folder / "special_tokens_map.json", markers)
    options = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    _write_json(folder / "tokenizer_config.json", {**markers, **options, "tokenizer_class": "CLIPTokenizer"})


def _byte_characters() -> list[str]:
    """The printable character for each byte, in the order of GPT-2's and CLIP's vocabularies."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(plain)
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(others)]


def _write_json(path: Path, content: dict[str, object]) -> None:
    """One JSON file, indented as diffusers does."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_model(
    folder: Path, vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: Path
) -> None:
    """Write the whole diffusers folder in fp16, or nothing: beside its place first, then renamed.

    A README.md that stands in the old folder is kept.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    parts = {"vae": vae, "unet": unet, "text_encoder": text_encoder}
    for name, part in parts.items():
        _half_copy(part).save_pretrained(new / name, safe_serialization=True)
    _restore_text_names(new / "text_encoder" / "model.safetensors")
    shutil.copytree(tokenizer, new / "tokenizer")
    PNDMScheduler(**SCHEDULER).save_pretrained(new / "scheduler")
    _write_json(new / "scheduler" / "scheduler_config.json", _scheduler_config())
    _write_json(new / "model_index.json", _model_index())
    card = folder / "README.md"
    if card.exists():
        shutil.copy(card, new / "README.md")
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def _half_copy(part: torch.nn.Module) -> torch.nn.Module:
    """A copy in fp16 on the CPU, so that the learning weights stay as they are."""
    kinds = {AutoencoderKL: build_vae, UNet2DConditionModel: build_unet, CLIPTextModel: build_text_encoder}
    copy = kinds[type(part)]()
    copy.load_state_dict(part.state_dict())
    if isinstance(part, AutoencoderKL):
        copy.register_to_config(scaling_factor=part.config.scaling_factor)
    return copy.half()


def _restore_text_names(path: Path) -> None:
    """Files keep the prefix `text_model.`, which transformers 5.6 and later dropped from its module names."""
    tensors = load_file(path)
    named = {key if key.startswith("text_model.") else f"text_model.{key}": tensors[key] for key in tensors}
    save_file(named, path, metadata={"format": "pt"})


def _scheduler_config() -> dict[str, object]:
    """SD 1.5's scheduler file, to the letter; clip_sample is for DDIM, which reads the same file."""
    from diffusers import __version__

    name = {"_class_name": "PNDMScheduler", "_diffusers_version": __version__}
    return {**name, **SCHEDULER, "clip_sample": False, "trained_betas": None}


def _model_index() -> dict[str, object]:
    """The parts of the pipeline; no safety checker, for the model knows only its small world."""
    from diffusers import __version__

    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": __version__,
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
