"""What the shapes of a single file's tensors tell of its model, in the words of diffusers' configurations."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

CLIP_SIZES = {
    "vocabulary": "embeddings.token_embedding.weight",
    "positions": "embeddings.position_embedding.weight",
    "inner": "encoder.layers.0.mlp.fc1.weight",
}
OPEN_CLIP_SIZES = {
    "vocabulary": "token_embedding.weight",
    "positions": "positional_embedding",
    "inner": "transformer.resblocks.0.mlp.c_fc.weight",
}
SD2_LAYERS = 23  # of the text encoder; files of most programs hold one more
TEXT_LAYER = re.compile(r"(?:encoder\.layers|transformer\.resblocks)\.(\d+)\.")


def unet_sizes(shapes: Shapes) -> dict[str, Any]:
    """A UNet; its blocks are numbered through, and all but the last end with `op`."""
    count = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("input_blocks."))
    if count > len(shapes):
        raise KeyError("input_blocks")
    ends = [number for number in range(count) if f"input_blocks.{number}.0.op.weight" in shapes]
    lasts = [number - 1 for number in ends] + [count - 1]
    sizes: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": [shapes[f"input_blocks.{last}.0.out_layers.3.weight"][0] for last in lasts],
        "cross_attention_dim": _first(shapes, "attn2.to_k.weight")[1],
        "use_linear_projection": len(_first(shapes, "proj_in.weight")) == 2,
    }
    if "label_emb.0.0.weight" in shapes:
        sizes["addition_embed_type"] = "text_time"
        sizes["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
        sizes["transformer_layers_per_block"] = [max(_depth(shapes, last), 1) for last in lasts]
    return sizes


def _depth(shapes: Shapes, block: int) -> int:
    """How many transformer blocks a block on the way down has in its attention."""
    found = (re.match(rf"input_blocks\.{block}\.1\.transformer_blocks\.(\d+)\.", key) for key in shapes)
    return max((1 + int(match[1]) for match in found if match), default=0)


def _first(shapes: Shapes, ending: str) -> tuple[int, ...]:
    """The shape of the first tensor whose name ends so; KeyError if there is none."""
    for key, shape in shapes.items():
        if key.endswith(ending):
            return shape
    raise KeyError(ending)


def vae_sizes(shapes: Shapes) -> dict[str, Any]:
    """A VAE, in either naming."""
    name = "encoder.down.{}.block.0.conv1.weight"
    if name.format(0) not in shapes:
        name = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    channels = [shapes[name.format(number)][0] for number in range(4)]
    return {"block_out_channels": channels, "latent_channels": shapes["decoder.conv_in.weight"][1]}


def text_sizes(shapes: Shapes) -> dict[str, Any]:
    """A CLIP text model, in transformers' naming or OpenCLIP's; its heads are 64 wide."""
    is_open = "token_embedding.weight" in shapes
    names = OPEN_CLIP_SIZES if is_open else CLIP_SIZES
    plain = {key.removeprefix("text_model."): shape for key, shape in shapes.items()}
    layers = {found[1] for key in plain if (found := TEXT_LAYER.match(key))}
    vocabulary, width = plain[names["vocabulary"]]
    projection = shapes.get("text_projection", (0, width))[1]
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": shapes.get("text_projection.weight", (projection,))[0],
        "intermediate_size": plain[names["inner"]][0],
        "max_position_embeddings": plain[names["positions"]][0],
        "num_attention_heads": max(width // 64, 1),
        "num_hidden_layers": len(layers),
    }


def sd2_text_sizes(shapes: Shapes) -> dict[str, Any]:
    """As `text_sizes`, without a 24th layer and a projection, which Stable Diffusion 2 does not use."""
    sizes = text_sizes(shapes)
    del sizes["projection_dim"]
    return sizes | {"num_hidden_layers": min(sizes["num_hidden_layers"], SD2_LAYERS)}


SIZES: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "unet": unet_sizes,
    "vae": vae_sizes,
    "text_encoder": text_sizes,
    "text_encoder_2": text_sizes,
}
