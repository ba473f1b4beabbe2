"""What only shows when settings are seen together, and whether the files that they name are there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from library.files import expanded
from library.settings.embedding_checks import embedding_mistakes
from library.settings.fields import Settings
from library.settings.loss_checks import loss_mistakes, schedule_mistakes
from library.settings.network_args import argument_mistakes, network_mistakes
from library.settings.speed_checks import speed_mistakes
from library.settings.tables import fit_bucket_range
from library.settings.whole_checks import text_learns, text_rates, unet_learns, whole_mistakes

# Without these nothing can start; what was said of them already is not said again.
CAPTION_ENDING = re.compile(r"\.?[^./\\][^/\\]*")
LONGEST_NAME = 200  # bytes, so that what is put behind it still fits into 255
NEEDED = ("pretrained_model_name_or_path", "train_data_dir")


def find_mistakes(settings: Settings, told: list[str]) -> list[str]:
    """A sentence for each mistake. Looks at the names of files, never into them.

    `told` are the complaints so far: a needed setting that is misspelt or wrong is not missing as well.
    """
    told_names = [name for name in NEEDED if any(name in sentence for sentence in told)]
    mistakes = [
        *_model_mistakes(settings),
        *_data_mistakes(settings),
        *_prior_mistakes(settings),
        *_bucket_mistakes(settings),
        *_learning_mistakes(settings),
        *loss_mistakes(settings),
        *schedule_mistakes(settings),
        *whole_mistakes(settings),
        *embedding_mistakes(settings),
        *network_mistakes(settings),
        *speed_mistakes(settings),
        *argument_mistakes(settings),
        *_file_mistakes(settings),
    ]
    return [mistake for mistake in mistakes if not any(name in mistake for name in told_names)]


def looks_like_path(name: str) -> bool:
    """Whether a model's name can only be a path, and not a name on the hub."""
    return (
        name.startswith((".", "/", "~"))
        or name.lower().endswith((".safetensors", ".ckpt", ".pt"))
        or "\\" in name
        or name.count("/") > 1
        or Path(name).is_absolute()
    )


def _model_mistakes(settings: Settings) -> Iterator[str]:
    name = settings.pretrained_model_name_or_path
    if not name:
        yield (
            "pretrained_model_name_or_path is missing; name a Stable Diffusion model: a diffusers "
            "folder, a .safetensors or .ckpt file, or a name on the Hugging Face hub."
        )
    for key, path in (("pretrained_model_name_or_path", name), ("vae", settings.vae)):
        if path and looks_like_path(path) and not os.path.exists(expanded(path)):
            yield f"{key} '{path}' does not exist; give an existing folder or file, or a name on the hub."


def _data_mistakes(settings: Settings) -> Iterator[str]:
    if settings.train_data_dir is None and settings.in_json is None and not settings.datasets:
        yield "there are no pictures to train on; set train_data_dir, or name folders in [[datasets]] tables."
    if settings.datasets and all(subset.is_reg for table in settings.datasets for subset in table.subsets):
        yield "every [[datasets.subsets]] has is_reg; at least one must hold the pictures to learn."
    folders = [("train_data_dir", settings.train_data_dir), ("reg_data_dir", settings.reg_data_dir)]
    folders += [("image_dir", subset.image_dir) for table in settings.datasets for subset in table.subsets]
    tables: list[Any] = [settings, *settings.datasets, *(each for table in settings.datasets for each in table.subsets)]
    folders += [("conditioning_data_dir", table.conditioning_data_dir) for table in tables]
    for key, folder in dict.fromkeys(folders):
        if folder is None or (key == "reg_data_dir" and settings.num_class_images and not os.path.exists(folder)):
            continue
        if not os.path.exists(folder):
            drawn = ", or set num_class_images to have it filled" if key == "reg_data_dir" else ""
            yield f"{key} '{folder}' does not exist; give an existing folder of pictures{drawn}."
        elif not os.path.isdir(folder):
            yield f"{key} '{folder}' is a file; give the folder that the pictures are in."
    files = [("in_json", settings.in_json)]
    files += [("metadata_file", subset.metadata_file) for table in settings.datasets for subset in table.subsets]
    for key, file in dict.fromkeys(files):
        if file is not None and not os.path.isfile(file):
            yield f"{key} '{file}' does not exist; give a JSON or JSONL file that names pictures."
    for ending in dict.fromkeys(table.caption_extension for table in tables if table.caption_extension is not None):
        if not CAPTION_ENDING.fullmatch(ending):
            yield f"caption_extension must be the ending of a file, as .txt is, not '{ending}'."
        elif ending == settings.caption_extension and not ending.startswith("."):
            yield f"caption_extension must begin with a dot, as in .txt, not '{ending}'."


def _prior_mistakes(settings: Settings) -> Iterator[str]:
    """What DreamBooth's settings ask of each other."""
    told = any(subset.is_reg for table in settings.datasets for subset in table.subsets)
    pictures = bool(settings.reg_data_dir or settings.num_class_images or told)
    keeps_itself = settings.prior_preservation == "self"
    if (settings.num_class_images or keeps_itself) and not settings.class_prompt:
        name = "num_class_images" if settings.num_class_images else "prior_preservation = self"
        yield f"{name} needs class_prompt, the words for the class, such as a photo of dog."
    if keeps_itself and pictures:
        yield (
            "prior_preservation = self needs no class pictures; leave out reg_data_dir, num_class_images and "
            "subsets with is_reg, or set it to pictures."
        )
    if keeps_itself and settings.enable_wildcard and "{" in (settings.class_prompt or ""):
        yield "prior_preservation = self reads class_prompt as it stands; leave its choices in braces out."
    if settings.prior_preservation in ("pictures", "distill") and not pictures:
        yield (
            f"prior_preservation = {settings.prior_preservation} has none; set reg_data_dir, or num_class_images to "
            "have some drawn."
        )
    if settings.num_class_images and settings.datasets:
        yield "num_class_images cannot be set with [[datasets]] tables; give the class a table of its own with is_reg."
    if settings.class_prompt and not (pictures or settings.prior_preservation or settings.instance_prompt):
        yield "class_prompt changes nothing by itself; set instance_prompt, num_class_images or prior_preservation."


def _bucket_mistakes(settings: Settings) -> Iterator[str]:
    """Buckets of each table of datasets, or of the flat settings where there is none."""
    views: list[Any] = list(settings.subset_tables()) or [settings]
    enabled = [view for view in views if view.enable_bucket]
    ranges = [(v.resolution, v.min_bucket_reso, v.max_bucket_reso, v.bucket_reso_steps) for v in enabled]
    for resolution, low, high, step in dict.fromkeys(ranges):
        if step % 64:
            yield f"bucket_reso_steps must be a multiple of 64, not {step}."
            continue
        low, high = fit_bucket_range(low, high, step, resolution)
        if high < max(resolution):
            yield (
                f"max_bucket_reso must not be below the resolution, {max(resolution)}, but is {high}; "
                "raise it or lower the resolution."
            )
        elif low > high:
            yield f"min_bucket_reso must not be above max_bucket_reso, but {low} is above {high}."


def _learning_mistakes(settings: Settings) -> Iterator[str]:
    unet_only, text_only = settings.network_train_unet_only, settings.network_train_text_encoder_only
    if unet_only and text_only:
        yield (
            "network_train_unet_only and network_train_text_encoder_only cannot both be set; "
            "choose one, or neither to train both parts."
        )
    reads = text_learns(settings) and any(text_rates(settings))
    if not (reads or unet_learns(settings) or (unet_only and text_only) or settings.embedding_only):
        yield "every learning rate is 0, so nothing would be learned; raise learning_rate."
    if settings.cache_text_encoder_outputs and reads:
        adapters = "set network_train_unet_only or text_encoder_lr = 0"
        remedy = "leave out train_text_encoder" if settings.trains_whole else adapters
        yield (
            "cache_text_encoder_outputs cannot be set while the text encoder learns, because what it makes of a "
            f"caption changes; {remedy}, or leave it out."
        )
    if settings.dim_from_weights and settings.network_weights is None:
        yield "dim_from_weights needs a file to take the rank from; set network_weights."
    if settings.scale_weight_norms and settings.network_module not in (None, "lora", "lora_fa", "dylora"):
        yield "scale_weight_norms is for network_module = lora, lora_fa or dylora; leave it out."
    for pattern in settings.network_layers:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"network_layers: '{pattern}' is no regular expression: {error}."
    for key in ("network_args", "optimizer_args", "lr_scheduler_args"):
        for word in getattr(settings, key):
            if not re.match(r"\w+=", word):
                yield f"{key} must be written key=value, not '{word}'."


def _file_mistakes(settings: Settings) -> Iterator[str]:
    for key in ("sample_prompts", "network_weights"):
        file = getattr(settings, key)
        if file is not None and not os.path.isfile(file):
            yield f"{key} '{file}' does not exist; give an existing file."
    if settings.resume not in (None, "auto") and not os.path.isdir(expanded(settings.resume)):
        yield f"resume '{settings.resume}' does not exist; give a state folder that a run has saved, or auto."
    if len(settings.output_name.encode()) > LONGEST_NAME:
        yield f"output_name must be at most {LONGEST_NAME} bytes long, not {len(settings.output_name.encode())}."
    if re.search(r"[/\\\x00-\x1f\x7f]", settings.output_name) or settings.output_name in (".", ".."):
        yield f"output_name must be a plain name, not {settings.output_name!r}; set output_dir too."
    for name in ("log_prefix", "log_tracker_name"):
        words = getattr(settings, name) or ""
        if os.path.isabs(words) or ".." in Path(words).parts:
            yield f"{name} is {words!r}, which leads out of logging_dir; give a plain name, or another logging_dir."
    written = ["output_dir", "logging_dir", "cache_dir", *(["reg_data_dir"] if settings.num_class_images else [])]
    for key in written:
        if getattr(settings, key) is not None:
            yield from _place_mistakes(key, getattr(settings, key))


def _place_mistakes(key: str, folder: Path) -> Iterator[str]:
    """A folder that is made if it is not there, and written into."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if there == folder and not os.path.isdir(folder):
        if key != "reg_data_dir":  # which is looked at among the pictures
            yield f"{key} '{folder}' is a file; give the name of a folder."
    elif not os.path.isdir(there):
        yield f"{key} '{folder}' cannot be made, because '{there}' is a file; give the name of another folder."
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"{key} '{folder}' cannot be written, as '{there}' is not yours to write into; give another folder."
