"""Stable Diffusion XL: two text encoders, and a UNet that is told each picture's size and crop."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from library.models import text
from library.models.family import Condition, Tokens
from library.models.layout import Source
from library.models.stable import PIXELS, StableDiffusion
from library.names import unet_names

PENULTIMATE = 2  # the layer, counted from the last, whose states the UNet reads


class SDXL(StableDiffusion):
    """Stable Diffusion XL base, and models of its structure in any size."""

    name = "sdxl"
    base_model_version = "sdxl_base_v1-0"
    architecture = "stable-diffusion-xl-v1-base"
    scale = 0.13025
    text_parts = ("text_encoder", "text_encoder_2")
    takes_sizes = True

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Whether UNet and both text encoders fit together as in XL."""
        widths = [source.configs.get(part, {}).get("hidden_size", 0) for part in cls.text_parts]
        unet = source.configs.get("unet", {})
        return (
            unet.get("in_channels") == 4
            and unet.get("addition_embed_type") == "text_time"
            and min(widths) > 0
            and unet.get("cross_attention_dim") == sum(widths)
        )

    def encode_text(
        self, encoders: Sequence[nn.Module], tokens: Sequence[Tokens], clip_skip: int | None = None
    ) -> Condition:
        """Hidden states of both encoders side by side (batch, 75 * chunks + 2, width), not normed, from their last
        layer but one unless `clip_skip` says another; and the second's pooled vector (batch, width) of the
        first 75 tokens.
        """
        skip = clip_skip or PENULTIMATE
        read = [text.read(encoder, each.ids, skip) for encoder, each in zip(encoders, tokens, strict=True)]
        hidden = torch.cat(
            [text.joined(states, each.weights) for (states, _), each in zip(read, tokens, strict=True)], dim=-1
        )
        pooled = read[1][1]
        assert pooled is not None
        return Condition(hidden, pooled)

    def predict(self, unet: Any, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """The UNet's answer, shaped as `noisy`: (batch, 4, height / 8, width / 8).

        Without `condition.sizes` a picture counts as drawn at its own size and not cropped.
        """
        sizes = condition.sizes
        if sizes is None:
            height, width = (PIXELS * side for side in noisy.shape[-2:])
            whole = torch.tensor([height, width, 0, 0, height, width], device=noisy.device)
            sizes = whole.expand(len(noisy), -1)
        assert condition.pooled is not None
        dtype = unet.conv_in.weight.dtype
        added = {"text_embeds": condition.pooled.to(dtype), "time_ids": sizes}
        answer: Tensor = unet(
            noisy.to(dtype), timesteps, encoder_hidden_states=condition.hidden.to(dtype), added_cond_kwargs=added
        ).sample
        return answer

    def text_prefix(self, part: str) -> str:
        """How the names of a text encoder's layers begin in kohya's files."""
        return "lora_te1" if part == "text_encoder" else "lora_te2"

    def unet_stems(self, unet: nn.Module) -> dict[str, str]:
        """kohya's files have the UNet of XL under the names of the original layout."""
        return unet_names(path for path, _ in unet.named_modules())

    def padding(self, folder: str) -> int | None:
        """The second encoder is OpenCLIP's, which fills up with the token 0."""
        return 0 if folder == "tokenizer_2" else None
