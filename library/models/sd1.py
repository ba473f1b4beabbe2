"""Stable Diffusion 1.x: one CLIP text encoder, a UNet for pictures of 512 x 512 pixels."""

from library.models.layout import Source
from library.models.stable import StableDiffusion, reads_one_text


class SD1(StableDiffusion):
    """Stable Diffusion 1.x, and models of its structure in any size."""

    name = "sd1"
    base_model_version = "sd_v1"
    architecture = "stable-diffusion-v1"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Whether UNet and text encoder fit together as in 1.x: 1x1 convolutions around the transformers."""
        return reads_one_text(source) and not source.configs["unet"].get("use_linear_projection")
