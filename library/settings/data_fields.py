"""The settings of the base model, the pictures, the captions and the buckets."""

from dataclasses import dataclass
from pathlib import Path

from library.settings.rules import option


@dataclass(frozen=True)
class ModelFields:
    """The base model."""

    pretrained_model_name_or_path: str = option(
        "",
        "The base model: a diffusers folder, a .safetensors or .ckpt file, or a hub name. Always needed.",
    )
    v2: bool | None = option(None, "Whether it is a Stable Diffusion 2.x model; unset means: seen in the file.")
    sdxl: bool | None = option(None, "Whether it is a Stable Diffusion XL model; unset means: seen in the file.")
    v_parameterization: bool | None = option(
        None, "Whether the model predicts v and not the noise; unset means: as its file or scheduler says."
    )
    zero_terminal_snr: bool | None = option(
        None, "Trains on a schedule that ends in pure noise (for models that predict v); unset means: as it says."
    )
    vae: str | None = option(None, "Another VAE than the base model's own: a folder, a file or a hub name.")
    no_half_vae: bool = option(
        False, "Computes the VAE in float32 even with mixed_precision; else one that overflows is found by itself."
    )
    clip_skip: int | None = option(
        None,
        "The text encoder's layer to use, counted from the last, which is 1; unset means the last.",
        low=1,
        high=12,
        zero_is_unset=True,
    )
    max_token_length: int = option(
        75,
        "The most tokens of a caption that are read.",
        choices=(75, 150, 225),
        aliases={"255": 225},  # lora-scripts' own default, which sd-scripts reads so
    )


@dataclass(frozen=True)
class PictureFields:
    """The pictures."""

    train_data_dir: Path | None = option(
        None, "The folder of pictures, or of folders named by repeats and class, such as 10_sks dog."
    )
    reg_data_dir: Path | None = option(
        None, "The folder of regularisation pictures, which keep the class as the base model draws it."
    )
    resolution: tuple[int, int] = option(
        (512, 512), "The training size in pixels, one number or width,height; multiples of 64."
    )
    train_batch_size: int = option(1, "Pictures in a batch on each device.", low=1)
    dataset_repeats: int = option(
        1, "How often each picture of a folder without a count comes up in an epoch.", low=1, high=100_000
    )
    flip_aug: bool = option(False, "Mirrors each picture left to right half of the time.")
    color_aug: bool = option(False, "Changes hue or gamma of each picture a little a third of the time.")
    random_crop: bool = option(False, "Moves the crop of each picture by chance instead of taking the middle.")
    face_crop_aug_range: tuple[float, float] | None = option(
        None,
        "Crops around the face, whose place is in the file's name (_x_y_width_height), to between so many times "
        "and so many times its size, such as 1.5,4.",
    )
    masked_loss: bool = option(
        False,
        "Learns each pixel as much as it is bright in the picture's mask, name-masklabel.png beside it or in "
        "conditioning_data_dir.",
    )
    conditioning_data_dir: Path | None = option(
        None, "The folder of the masks, which are named as their pictures; unset means beside the pictures."
    )
    alpha_mask: bool = option(
        False, "Learns each pixel as much as it is opaque; a mask file goes before that with masked_loss."
    )
    resize_interpolation: str = option(
        "lanczos",
        "How pictures are resized.",
        choices=("lanczos", "area", "bicubic", "bilinear", "nearest", "box"),
        aliases={"cubic": "bicubic", "linear": "bilinear"},
    )
    skip_unreadable: bool = option(False, "Goes on without unreadable pictures instead of ending the run.")
    cache_latents: bool = option(True, "Encodes each picture once with the VAE and keeps the result.")
    cache_variants: int = option(4, "How many random crops and colours of each picture are kept in the cache.", low=1)
    vae_batch_size: int = option(1, "Pictures that the VAE encodes at a time.", low=1)
    cache_dir: Path | None = option(
        None, "Where cached latents lie; unset means easel in the user's cache folder ($XDG_CACHE_HOME)."
    )
    max_data_loader_n_workers: int = option(0, "Processes that read pictures; 0 reads them in the trainer.", low=0)


@dataclass(frozen=True)
class BucketFields:
    """Buckets: pictures of one shape are trained together."""

    enable_bucket: bool = option(True, "Sorts pictures into sizes near their own shape instead of cropping to one.")
    min_bucket_reso: int = option(
        256, "The shortest side of a bucket in pixels, in whole steps; never above the resolution.", low=64
    )
    max_bucket_reso: int = option(1024, "The longest side of a bucket in pixels, in whole steps.", low=64)
    bucket_reso_steps: int = option(64, "The step between bucket sides in pixels, a multiple of 64.", low=64)
    bucket_no_upscale: bool = option(False, "Never enlarges a picture to fill its bucket.")


@dataclass(frozen=True)
class CaptionFields:
    """The captions."""

    in_json: Path | None = option(
        None,
        "A JSON or JSONL file that names the pictures, with captions and tags; train_data_dir is where names begin.",
    )
    caption_extension: str = option(".txt", "The ending of caption files, which are named as their pictures.")
    caption_separator: str = option(",", "What stands between the tags of a caption.")
    secondary_separator: str | None = option(
        None, "A mark between tags that stay together as one; it becomes caption_separator in the end."
    )
    enable_wildcard: bool = option(
        False,
        "Shows by chance one line of a caption and one part of each {a|b}, or N parts of {N$$a|b|c}; "
        "{{ and }} are plain braces.",
    )
    shuffle_caption: bool = option(False, "Shuffles the tags of a caption anew in each epoch.")
    keep_tokens: int = option(0, "How many tags at the front stay in place when tags are shuffled or dropped.", low=0)
    keep_tokens_separator: str | None = option(
        None,
        "A mark in the caption before which tags stay in place, instead of counting them by keep_tokens.",
    )
    caption_prefix: str | None = option(None, "Words put in front of every caption.")
    caption_suffix: str | None = option(None, "Words put at the end of every caption.")
    trigger_words: str | None = option(
        None,
        "Words put in front of every caption that lacks them; dropped captions and regularisation go without.",
    )
    caption_dropout_rate: float = option(0.0, "The part of samples that train with an empty caption.", low=0, high=1)
    caption_dropout_every_n_epochs: int = option(
        0, "Every so many epochs all captions are empty; 0 means never.", low=0
    )
    caption_tag_dropout_rate: float = option(
        0.0,
        "The chance of each tag to be left out of a caption, apart from those kept in place.",
        low=0,
        high=1,
    )
    token_warmup_min: int = option(
        1, "How many tags are shown when token warmup begins, besides those kept in place.", low=0
    )
    token_warmup_step: int | float = option(
        0, "Steps in which all tags come to be shown one by one; a number below 1 is a part of the run.", low=0
    )
    weighted_captions: bool = option(
        False,
        "Reads (word:1.3), (word) and [word] in captions and previews as weights; \\( and \\[ are plain brackets.",
    )
    cache_text_encoder_outputs: bool = option(
        False,
        "Keeps on disk, in cache_dir, what frozen text encoders make of each caption; the next start needs none.",
    )


@dataclass(frozen=True)
class ValidationFields:
    """Validation: the loss at fixed noise and timesteps."""

    validation_split: float = option(
        0.0,
        "The part of the pictures held out; with 0 the loss is taken on training pictures.",
        low=0,
        high=0.9,
    )
    validation_seed: int | None = option(None, "The seed that chooses the held-out pictures; unset means seed.", low=0)
    validate_every_n_steps: int | None = option(None, "Validates every so many steps.", low=1, zero_is_unset=True)
    validate_every_n_epochs: int | None = option(None, "Validates every so many epochs.", low=1, zero_is_unset=True)
    max_validation_steps: int | None = option(
        None, "The most batches that one validation uses; unset means all.", low=1, zero_is_unset=True
    )
