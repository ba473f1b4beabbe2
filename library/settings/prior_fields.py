"""The settings of DreamBooth: what the subject and its class are called, and how the class is kept."""

from dataclasses import dataclass

from library.settings.rules import option


@dataclass(frozen=True)
class PriorFields:
    """The subject and its class."""

    instance_prompt: str | None = option(
        None, "The caption of each picture that has none of its own, with an identifier, such as a photo of sks dog."
    )
    class_prompt: str | None = option(
        None,
        "The same without the identifier, such as a photo of dog: the caption of class pictures without one. With "
        "enable_wildcard its choices are made for each picture that is drawn.",
    )
    prior_preservation: str | None = option(
        None,
        "What keeps the class as the base model draws it: pictures of it (pictures), the base model's own prediction "
        "of such pictures, which keeps its variety too (distill), or that for class_prompt, without any (self); unset "
        "means pictures, where there are some.",
        choices=("pictures", "distill", "self"),
    )
    num_class_images: int | None = option(
        None,
        "The base model draws class_prompt into reg_data_dir, or where that is unset into cache_dir, until so many "
        "pictures are there.",
        low=1,
        zero_is_unset=True,
    )
    class_image_steps: int = option(30, "The denoising steps of each class picture that is drawn.", low=1, high=1000)
    class_image_guidance: float = option(7.5, "The guidance with which class pictures are drawn.", low=0)
