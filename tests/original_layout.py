"""The tensors of Stable Diffusion's checkpoints by name and shape, written down from the original code's structure."""

from collections.abc import Sequence

Shapes = dict[str, tuple[int, ...]]

UNETS = {
    "sd1": {"channels": (320, 640, 1280, 1280), "depths": (1, 1, 1, 0), "context": 768, "ones": (1, 1)},
    "sd2": {"channels": (320, 640, 1280, 1280), "depths": (1, 1, 1, 0), "context": 1024},
    "sdxl": {"channels": (320, 640, 1280), "depths": (0, 2, 10), "context": 2048, "labels": 2816},
}


def checkpoint(family: str) -> Shapes:
    """Everything in a file of "sd1", "sd2" or "sdxl"."""
    texts = {
        "sd1": _under("cond_stage_model.transformer.text_model.", clip(768, 12)),
        "sd2": _under("cond_stage_model.model.", open_clip(1024, 24)),
        "sdxl": _under("conditioner.embedders.0.transformer.text_model.", clip(768, 12))
        | _under("conditioner.embedders.1.model.", open_clip(1280, 32)),
    }
    own = _under("model.diffusion_model.", unet(**UNETS[family])) | _under("first_stage_model.", vae())
    return own | texts[family]


def unet(
    channels: Sequence[int],
    depths: Sequence[int],
    context: int,
    ones: tuple[int, ...] = (),
    labels: int = 0,
) -> Shapes:
    """A UNet; `depths` are the transformer blocks of each resolution, `ones` are there if 1x1 convolutions surround
    them, and `labels` are the numbers that it is told beside the text.
    """
    first, time = channels[0], 4 * channels[0]
    parts = {"time_embed.0": _layer(time, first), "time_embed.2": _layer(time, time)}
    if labels:
        parts |= {"label_emb.0.0": _layer(time, labels), "label_emb.0.2": _layer(time, time)}
    parts["input_blocks.0.0"] = _layer(first, 4, 3, 3)
    number, now, skips = 1, first, [first]
    for level, width in enumerate(channels):
        for _ in range(2):
            parts[f"input_blocks.{number}.0"] = _residual(now, width, time)
            if depths[level]:
                parts[f"input_blocks.{number}.1"] = _transformer(width, depths[level], context, ones)
            number, now = number + 1, width
            skips.append(width)
        if level + 1 < len(channels):
            parts[f"input_blocks.{number}.0.op"] = _layer(width, width, 3, 3)
            number += 1
            skips.append(width)
    parts |= {"middle_block.0": _residual(now, now, time), "middle_block.2": _residual(now, now, time)}
    parts["middle_block.1"] = _transformer(now, max(depths[-1], 1), context, ones)
    number = 0
    for level, width in reversed(list(enumerate(channels))):
        for place in range(3):
            block = f"output_blocks.{number}"
            parts[f"{block}.0"] = _residual(now + skips.pop(), width, time)
            if depths[level]:
                parts[f"{block}.1"] = _transformer(width, depths[level], context, ones)
            if place == 2 and level:
                parts[f"{block}.{2 if depths[level] else 1}.conv"] = _layer(width, width, 3, 3)
            number, now = number + 1, width
    parts |= {"out.0": _layer(first), "out.2": _layer(4, first, 3, 3)}
    return _joined(parts)


def vae() -> Shapes:
    """The VAE that all of them have."""
    widths = (128, 256, 512, 512)
    middle = {"mid.block_1": _vae_residual(512, 512), "mid.block_2": _vae_residual(512, 512)}
    middle["mid.attn_1.norm"] = _layer(512)
    middle |= {f"mid.attn_1.{name}": _layer(512, 512, 1, 1) for name in ("q", "k", "v", "proj_out")}
    encoder = {"conv_in": _layer(128, 3, 3, 3), "norm_out": _layer(512), "conv_out": _layer(8, 512, 3, 3), **middle}
    decoder = {"conv_in": _layer(512, 4, 3, 3), "norm_out": _layer(128), "conv_out": _layer(3, 128, 3, 3), **middle}
    before, above = (128, *widths), (*widths, 512)
    for level, width in enumerate(widths):
        for block in range(3):
            if block < 2:
                encoder[f"down.{level}.block.{block}"] = _vae_residual(width if block else before[level], width)
            decoder[f"up.{level}.block.{block}"] = _vae_residual(width if block else above[level + 1], width)
        if level < 3:
            encoder[f"down.{level}.downsample.conv"] = _layer(width, width, 3, 3)
        if level:
            decoder[f"up.{level}.upsample.conv"] = _layer(width, width, 3, 3)
    quant = {"quant_conv": _layer(8, 8, 1, 1), "post_quant_conv": _layer(4, 4, 1, 1)}
    return _joined({"encoder": _joined(encoder), "decoder": _joined(decoder), **quant})


def clip(width: int, layers: int) -> Shapes:
    """CLIP's text model in transformers' words."""
    parts = {"embeddings.token_embedding": _weight(49408, width), "embeddings.position_embedding": _weight(77, width)}
    for number in range(layers):
        inside = {f"self_attn.{name}_proj": _layer(width, width) for name in ("q", "k", "v", "out")}
        inside |= {"layer_norm1": _layer(width), "layer_norm2": _layer(width)}
        inside |= {"mlp.fc1": _layer(4 * width, width), "mlp.fc2": _layer(width, 4 * width)}
        parts[f"encoder.layers.{number}"] = _joined(inside)
    return _joined(parts | {"final_layer_norm": _layer(width)})


def open_clip(width: int, layers: int) -> Shapes:
    """The text model of OpenCLIP in its own words."""
    parts = {"token_embedding": _weight(49408, width), "ln_final": _layer(width)}
    for number in range(layers):
        inside = {"ln_1": _layer(width), "ln_2": _layer(width), "attn.out_proj": _layer(width, width)}
        inside |= {"mlp.c_fc": _layer(4 * width, width), "mlp.c_proj": _layer(width, 4 * width)}
        inside["attn"] = {"in_proj_weight": (3 * width, width), "in_proj_bias": (3 * width,)}
        parts[f"transformer.resblocks.{number}"] = _joined(inside)
    loose: Shapes = {"positional_embedding": (77, width), "text_projection": (width, width), "logit_scale": ()}
    return _joined(parts) | loose


def _residual(before: int, width: int, time: int) -> Shapes:
    parts = {
        "in_layers.0": _layer(before),
        "in_layers.2": _layer(width, before, 3, 3),
        "emb_layers.1": _layer(width, time),
        "out_layers.0": _layer(width),
        "out_layers.3": _layer(width, width, 3, 3),
    }
    return _joined(parts | ({"skip_connection": _layer(width, before, 1, 1)} if before != width else {}))


def _transformer(width: int, depth: int, context: int, ones: tuple[int, ...]) -> Shapes:
    parts = {"norm": _layer(width), "proj_in": _layer(width, width, *ones), "proj_out": _layer(width, width, *ones)}
    for number in range(depth):
        inside = {f"norm{norm}": _layer(width) for norm in (1, 2, 3)}
        for name, read in (("attn1", width), ("attn2", context)):
            inside |= {f"{name}.to_q": _weight(width, width), f"{name}.to_out.0": _layer(width, width)}
            inside |= {f"{name}.to_k": _weight(width, read), f"{name}.to_v": _weight(width, read)}
        inside |= {"ff.net.0.proj": _layer(8 * width, width), "ff.net.2": _layer(width, 4 * width)}
        parts[f"transformer_blocks.{number}"] = _joined(inside)
    return _joined(parts)


def _vae_residual(before: int, width: int) -> Shapes:
    parts = {"norm1": _layer(before), "conv1": _layer(width, before, 3, 3)}
    parts |= {"norm2": _layer(width), "conv2": _layer(width, width, 3, 3)}
    return _joined(parts | ({"nin_shortcut": _layer(width, before, 1, 1)} if before != width else {}))


def _layer(*shape: int) -> Shapes:
    """Weight and bias."""
    return {"weight": shape, "bias": shape[:1]}


def _weight(*shape: int) -> Shapes:
    return {"weight": shape}


def _joined(parts: dict[str, Shapes]) -> Shapes:
    return {f"{name}.{key}": shape for name, part in parts.items() for key, shape in part.items()}


def _under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: shape for key, shape in shapes.items()}
