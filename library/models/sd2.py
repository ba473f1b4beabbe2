"""Stable Diffusion 2.x: OpenCLIP's text encoder without its last layer, linear projections in the UNet."""

from library.models.layout import Source
from library.models.stable import StableDiffusion, reads_one_text


class SD2(StableDiffusion):
    """Stable Diffusion 2.0 and 2.1: 512 pixels predicting the noise, or 768 predicting v."""

    name = "sd2"

    @property
    def base_model_version(self) -> str:  # type: ignore[override]  # it goes with what a run says that is predicted
        """kohya's name of the family."""
        return "sd_v2_v" if self.prediction_type == "v_prediction" else "sd_v2"

    @property
    def architecture(self) -> str:  # type: ignore[override]  # as above
        """Stability AI's name of the family."""
        return "stable-diffusion-v2-768-v" if self.prediction_type == "v_prediction" else "stable-diffusion-v2-512"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Whether UNet and text encoder fit together as in 2.x: matrices around the transformers."""
        return reads_one_text(source) and bool(source.configs["unet"].get("use_linear_projection"))

    def padding(self, folder: str) -> int | None:
        """OpenCLIP fills up with the token 0, an exclamation mark."""
        return 0
