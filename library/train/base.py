"""The base model of a run: recognised from its file, and what the settings say of it besides."""

from library.errors import InputError
from library.models.family import Family, open_family
from library.settings import Settings

# Settings of sd-scripts that name a family; ours is seen in the file, so that they can only agree or not.
NAMED = {"v2": "sd2", "sdxl": "sdxl"}
WORDS = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


def open_base(settings: Settings) -> Family:
    """The base model that the settings name.

    It knows the new word of `token_string`. Raises InputError where it is not what they say that it is, or knew the
    word before.
    """
    family = open_family(settings.pretrained_model_name_or_path, settings.vae)
    for name, kind in NAMED.items():
        said = getattr(settings, name)
        if said is not None and said != (family.name == kind):
            raise InputError(
                f"{name} is {str(said).lower()}, but {settings.pretrained_model_name_or_path} is a "
                f"{WORDS.get(family.name, family.name)} model; give another model, or leave {name} out."
            )
    if settings.learning_rate_te2 is not None and len(family.text_parts) == 1:
        raise InputError(
            f"learning_rate_te2 is the rate of a second text encoder, and {settings.pretrained_model_name_or_path}, a "
            f"{WORDS.get(family.name, family.name)} model, has one; set learning_rate_te1, or leave it out."
        )
    if settings.v_parameterization is not None:
        family.prediction_type = "v_prediction" if settings.v_parameterization else "epsilon"
    if settings.zero_terminal_snr is not None:
        family.zero_terminal_snr = settings.zero_terminal_snr
    if family.zero_terminal_snr and family.prediction_type == "epsilon":
        raise InputError(
            "zero_terminal_snr needs a model that predicts v, for at the last timestep nothing but noise is left to "
            "predict it from; leave it out, or set v_parameterization = true for a model that was trained so."
        )
    if settings.token_string:
        family.add_word(settings.token_string, settings.num_vectors_per_token)
    return family
