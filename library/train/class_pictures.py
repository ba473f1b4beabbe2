"""Class pictures: what the base model draws for the class, so that training on the subject does not change it.

They are the prior-preservation set of DreamBooth (Ruiz et al. 2022, arXiv 2208.12242, section 3.2).
"""

import gc
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random

import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from library.data import wildcards
from library.data.folders import COUNTED_FOLDER, pictures_in
from library.device import Compute, free_memory
from library.files import write_atomically
from library.log import say, warn
from library.models.drawing import Painter, save_png, texts_of
from library.models.family import Family
from library.models.parameters import webui_text
from library.models.prompts import Prompt
from library.seeds import derive_seed
from library.settings import Settings
from library.train.captions import TextReader
from library.train.data import cache_folder, open_datasets
from library.train.facts import told_identity
from library.train.networks import build_network
from library.train.rates import part_rates
from library.train.resume import as_resumed, saved_state
from library.train.vae import open_vae

DRAWN = re.compile(r"class_(\d{5,})\.png")
NAME_LENGTH = 40  # of the model's and the prompt's part of a folder's name


def prepare_class_pictures(settings: Settings, family: Family, compute: Compute) -> Settings:
    """Draws the class pictures that are missing, shared among the processes; returns the settings with their folder.

    Picture number k is drawn from seed k and written whole, so that a run that was stopped in between goes on to the
    same pictures. Those that are there already count, whatever they are called. A dry run only says what is missing.
    The other pictures are checked before the first one is drawn.
    """
    if not settings.num_class_images:
        return settings
    root = settings.reg_data_dir or _default_folder(settings, family)
    folder, held = _look_into(root)
    drawn = {int(found[1]): path for path in held if (found := DRAWN.fullmatch(path.name))}
    numbers = _free_numbers(drawn, settings.num_class_images - len(held))
    _warn_of_others(settings, family, drawn)
    if settings.dry_run:
        say(f"class pictures: {len(held)} are in {folder}, {len(numbers)} would be drawn of '{settings.class_prompt}'.")
        return replace(settings, reg_data_dir=root if held else None)
    if numbers:
        with compute.main_first():
            open_datasets(replace(settings, reg_data_dir=None))
            _look_ahead(settings, family)
        compute.wait()  # until everyone has seen what is missing
        _draw(settings, family, compute, {number: folder / f"class_{number:05d}.png" for number in numbers})
        compute.wait()
        count = len(held) + len(numbers)
        say(f"class pictures: {len(numbers)} drawn of '{settings.class_prompt}', {count} in {folder}.")
    return replace(settings, reg_data_dir=root)


def _look_ahead(settings: Settings, family: Family) -> None:
    """Finds what would refuse the run after the pictures have been drawn: a state of another run, a wrong network.

    Whether a state was made with the same pictures shows when they are there.
    """
    if settings.resume:
        same = as_resumed(settings)
        saved_state(same, told_identity(same, family))
    rates = part_rates(settings, family.text_parts)
    if settings.trains_whole or not any(part in rates for part in ("unet", *family.text_parts)):
        return
    modules: dict[str, nn.Module] = {}
    if any(part in rates for part in family.text_parts):
        modules |= zip(family.text_parts, family.load_text_encoders(torch.float32), strict=True)
    if "unet" in rates:
        modules["unet"] = family.load_unet(torch.float32)
    build_network(settings, family, {part: module for part, module in modules.items() if part in rates})


def _look_into(root: Path) -> tuple[Path, list[Path]]:
    """Where class pictures go in a folder, and those that it holds: in its `N_class words` folders, if it has some.

    Such a folder may be empty, unless pictures lie beside it: then it is these that are trained with.
    """
    if not root.is_dir():
        return root, []
    counted = [path for path in sorted(root.iterdir()) if path.is_dir() and COUNTED_FOLDER.fullmatch(path.name)]
    full = [path for path in counted if pictures_in(path)]
    held = [picture for folder in full or [root] for picture in pictures_in(folder)]
    return (full or [root] if held else [*counted, root])[0], held


def _free_numbers(drawn: dict[int, Path], count: int) -> list[int]:
    """The first `count` numbers of pictures that are not there."""
    return [number for number in range(len(drawn) + max(count, 0)) if number not in drawn][: max(count, 0)]


def _default_folder(settings: Settings, family: Family) -> Path:
    """The folder in the cache of all pictures that would be drawn alike: by this model, of these words, so large."""
    cache = cache_folder(settings)
    parts = ("unet", *family.text_parts, "vae")
    first = replace(_prompt_of(settings, 0), text=settings.class_prompt or "")
    maker = (*(family.fingerprint(part, cache) for part in parts), first, settings.clip_skip or 1)
    digest = sha256(repr(maker).encode()).hexdigest()[:8]
    words = (re.sub(r"[^\w.]+", "-", name)[:NAME_LENGTH].strip("-.") for name in (family.base_name, first.text))
    return cache / "class" / "-".join([*filter(None, words), digest])


def _prompt_of(settings: Settings, number: int) -> Prompt:
    """What class picture `number` is drawn from; its seed and its choices do not depend on the run's seed."""
    words = settings.class_prompt or ""
    if settings.enable_wildcard:
        words = wildcards.choose(words, Random(derive_seed(number, "class prompt")), " ")
    width, height = settings.resolution
    steps, guidance = settings.class_image_steps, settings.class_image_guidance
    return Prompt(words, "", width, height, number, steps, guidance)


def _text_of(settings: Settings, family: Family, number: int) -> str:
    """How class picture `number` is made, as it stands in its file."""
    return webui_text(_prompt_of(settings, number), family.base_name, settings.clip_skip or 1)


def _warn_of_others(settings: Settings, family: Family, drawn: dict[int, Path]) -> None:
    """Says how many of the drawn pictures would be drawn otherwise now."""
    other = [path for number, path in drawn.items() if _written_in(path) != _text_of(settings, family, number)]
    if other:
        warn(
            f"{len(other)} class pictures, such as {other[0]}, were drawn by another model, of other words or in "
            "another way than now; take them away to have them drawn anew."
        )


def _written_in(path: Path) -> str | None:
    """What a file says of how it was drawn; None where it is damaged, which is complained of later."""
    try:
        with Image.open(path) as image:
            return image.info.get("parameters")
    except (OSError, SyntaxError):
        return None


def _draw(settings: Settings, family: Family, compute: Compute, files: dict[int, Path]) -> None:
    """Draws and writes this process's share of `files`, by number; afterwards no model is left in memory."""
    share = list(files)[compute.rank :: compute.world_size]
    drawn = _drawn(settings, family, compute, share)
    quiet = not compute.is_main
    for number, image in tqdm(drawn, "drawing class pictures", len(share), unit="picture", disable=quiet, leave=False):
        if (words := _prompt_of(settings, number).text) != settings.class_prompt:
            caption = files[number].with_suffix(settings.caption_extension)
            write_atomically(caption, partial(Path.write_text, data=words, encoding="utf-8"))
        save_png(files[number], image, _text_of(settings, family, number))
    gc.collect()  # models hold on to themselves in circles
    free_memory(compute.device)


def _drawn(
    settings: Settings, family: Family, compute: Compute, numbers: Sequence[int]
) -> Iterator[tuple[int, Image.Image]]:
    """Each picture with its number. The text encoders have left before the UNet comes."""
    reader = TextReader(family, settings, compute, trained=False)
    texts = {prompt.text: texts_of(prompt) for prompt in (_prompt_of(settings, number) for number in numbers)}
    reader.learn_by_heart([text for several in texts.values() for text in several])
    conditions = {words: reader.read(several) for words, several in texts.items()}
    del reader
    vae = open_vae(settings, family, compute).module.to(compute.device)
    painter = Painter(family, vae, [], family.load_unet(compute.dtype).to(compute.device))
    for number in numbers:
        prompt = _prompt_of(settings, number)
        image = painter.draw(prompt, device=compute.device, dtype=compute.dtype, condition=conditions[prompt.text])
        if image.getbbox() is None:
            raise FloatingPointError(f"class picture {number} came out black")
        yield number, image
