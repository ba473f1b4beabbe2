"""DreamBooth's words: what tells the subject from its class, and whether the captions say it."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from library.data.captions import whole_captions
from library.data.folders import Subset
from library.data.pictures import Picture
from library.errors import InputError
from library.log import warn
from library.settings import Settings


def with_prompts(subset: Subset, settings: Settings) -> Subset:
    """The subset with the prompt that stands for captions its pictures have not; it goes before class words."""
    prompt = settings.class_prompt if subset.is_reg else settings.instance_prompt
    return replace(subset, class_tokens=prompt) if prompt else subset


def identifier_of(instance_prompt: str, class_prompt: str) -> list[str]:
    """The words that `instance_prompt` has beyond `class_prompt`: "sks" of "a photo of sks dog" and "a photo of dog".

    Raises InputError where there are none: then subject and class could not be told apart.
    """
    shared = Counter(_words(class_prompt))
    found = []
    for word in _words(instance_prompt):
        if shared[word]:
            shared[word] -= 1
        else:
            found.append(word)
    if not found:
        raise InputError(
            f"instance_prompt '{instance_prompt}' has no word beyond class_prompt '{class_prompt}'; give it an "
            "identifier, a rare word for the subject such as sks."
        )
    return found


def check_identifier(settings: Settings, pictures: Sequence[Picture]) -> None:
    """Sees to it that captions of the subject name it. Raises InputError where none does, and warns where some do not,
    and where the class is called by the subject's name.

    Prefix, suffix and trigger words count, as they are what is read.
    """
    if not (settings.instance_prompt and settings.class_prompt):
        return
    identifier = identifier_of(settings.instance_prompt, settings.class_prompt)
    name = " ".join(identifier)
    wrong = [picture for picture in pictures if picture.subset.is_reg and _names(picture, identifier)]
    if wrong:
        warn(
            f"{len(wrong)} captions of class pictures, such as that of {wrong[0].path}, have the identifier '{name}', "
            "so that the class learns what the subject is; take it out of them, or of caption_prefix."
        )
    captioned = [picture for picture in pictures if picture.has_caption and not picture.subset.is_reg]
    silent = [picture for picture in captioned if not _names(picture, identifier)]
    if not silent:
        return
    remedy = f"set trigger_words = '{name}' to have it put in front, write it into them, or take them away"
    if len(silent) == len(captioned):
        raise InputError(
            f"the identifier '{name}' of instance_prompt is in none of the {len(captioned)} captions, such as that of "
            f"{silent[0].path}; {remedy}."
        )
    warn(f"{len(silent)} of {len(captioned)} captions lack the identifier '{name}' of instance_prompt; {remedy}.")


def _names(picture: Picture, identifier: Sequence[str]) -> bool:
    """Whether a picture's caption, or a line of it, has every word of the identifier."""
    lines = whole_captions(picture.caption, picture.subset)
    return any(set(identifier) <= set(_words(line)) for line in lines)


def _words(text: str) -> list[str]:
    """The words of a text in small letters, without the marks around them."""
    return re.findall(r"[^\s,.;:!?()\[\]{}|\"]+", text.lower())
