"""Stable Diffusion 2.x: OpenCLIP's text encoder without its last layer, linear projections in the UNet."""

from library.models.layout import Source
from library.models.stable import StableDiffusion

BASE_SIZE = 512  # pixels; larger models of the family predict v


class SD2(StableDiffusion):
    """Stable Diffusion 2.0 and 2.1: 512 pixels predicting the noise, or 768 predicting v."""

    name = "sd2"
    base_model_version = "sd_v2"

    def __init__(self, source: Source, vae: Source | None = None) -> None:
        super().__init__(source, vae)
        predicts_v = self.prediction_type == "v_prediction"
        self.architecture = "stable-diffusion-v2-768-v" if predicts_v else "stable-diffusion-v2-512"
        if predicts_v:
            self.base_model_version = "sd_v2_v"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Whether UNet and text encoder fit together as in 2.x: matrices around the transformers."""
        unet, encoder = source.configs.get("unet", {}), source.configs.get("text_encoder", {})
        return (
            unet.get("in_channels") == 4
            and bool(unet.get("use_linear_projection"))
            and not unet.get("addition_embed_type")
            and "text_encoder_2" not in source.configs
            and unet.get("cross_attention_dim") == encoder.get("hidden_size")
        )

    def padding(self, folder: str) -> int | None:
        """OpenCLIP fills up with the token 0, an exclamation mark."""
        return 0
