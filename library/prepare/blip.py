"""BLIP and BLIP-2 by way of transformers: a model opened, pictures made into pixels, and its answers to them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from library.errors import InputError
from library.prepare.captioner import Decoding
from library.prepare.words import mend
from library.seeds import derive_seed

# model_type in config.json -> the class of transformers; the papers are arXiv 2201.12086 and 2301.12597.
KINDS = {"blip": "BlipForConditionalGeneration", "blip-2": "Blip2ForConditionalGeneration"}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Blip:
    """A captioning model with its processor and its way of finding answers."""

    def __init__(self, model: Any, processor: Any, decoding: Decoding) -> None:
        """Takes a model of one of `KINDS`, in the dtype and on the device that it is to work in.

        Raises InputError where an answer as long as `decoding` allows has no room in the model.
        """
        self.model, self.processor, self.decoding = model, processor, decoding
        # Not the model's own dtype: BLIP-2 in fp16 keeps some of its weights in fp32.
        self._dtype = next(model.vision_model.parameters()).dtype
        self._prompt = self._encode_prompt()
        self._options = self._search_options()
        self._check_room()

    def pixels(self, picture: Image.Image) -> Tensor:
        """A picture as the model wants it, (3, height, width)."""
        pixels: Tensor = self.processor.image_processor(picture, return_tensors="pt").pixel_values[0]
        return pixels

    @torch.inference_mode()
    def answers(self, pixels: Sequence[Tensor], names: Sequence[str]) -> list[list[str]]:
        """For each picture its answers, the likeliest first: all beams' where phrases are forced or forbidden, or one.

        Words are drawn from (seed, name) alone. An answer that adds nothing to the prompt is empty.
        """
        batch = torch.stack(list(pixels)).to(self.model.device, self._dtype)
        prompt = {key: value.repeat(len(batch), 1) for key, value in self._prompt.items()}
        options = dict(self._options)
        if self.decoding.draws:
            options["logits_processor"] = self._drawing(names)
        ids = self.model.generate(pixel_values=batch, **prompt, **options)
        texts = [self._worded(text) for text in self.processor.batch_decode(ids, skip_special_tokens=True)]
        count = len(texts) // len(batch)
        return [texts[start : start + count] for start in range(0, len(texts), count)]

    def _encode_prompt(self) -> dict[str, Tensor]:
        """The prompt's token ids (1, length) and their mask, or nothing without a prompt."""
        text = " ".join(self.decoding.prompt.split())
        if not text:
            return {}
        # BLIP-2's processor puts the places of the picture in front, so it has to see one.
        inputs = self.processor(images=Image.new("RGB", (32, 32)), text=text, return_tensors="pt")
        return {key: inputs[key].to(self.model.device) for key in ("input_ids", "attention_mask")}

    def _search_options(self) -> dict[str, Any]:
        decoding = self.decoding
        chosen = bool(decoding.forced or decoding.forbidden)
        options: dict[str, Any] = {
            "max_new_tokens": decoding.max_length,
            "min_new_tokens": decoding.min_length,
            "num_beams": decoding.beams,
            "num_return_sequences": decoding.beams if chosen else 1,
            "repetition_penalty": decoding.repetition_penalty,
            "do_sample": False,
        }
        if decoding.forbidden:
            options["bad_words_ids"] = self._forbidden_ids()
        return options

    def _forbidden_ids(self) -> list[list[int]]:
        """The phrases as tokens, in the spellings that they have at the start of a text, inside it and capitalised."""
        spellings = {
            blank + word
            for phrase in self.decoding.forbidden
            for word in (phrase, phrase.lower(), phrase.capitalize())
            for blank in ("", " ")
        }
        encode = self.processor.tokenizer
        ids = {tuple(encode(text, add_special_tokens=False).input_ids) for text in sorted(spellings)}
        return [list(each) for each in sorted(ids) if each and encode.unk_token_id not in each]

    def _check_room(self) -> None:
        text = self.model.config.text_config
        room = getattr(text, "max_position_embeddings", None)
        before = self._prompt["input_ids"].shape[1] if self._prompt else 1
        if not self._prompt and self.model.config.model_type == "blip-2":
            before += self.model.config.num_query_tokens
        if room and before + self.decoding.max_length > room:
            raise InputError(
                f"--max_length is {self.decoding.max_length}, but this model has room for {room - before} tokens "
                "behind the prompt; give that or less."
            )

    def _drawing(self, names: Sequence[str]) -> LogitsProcessorList:
        decoding = self.decoding
        seeds = [derive_seed(decoding.seed, "caption", name) for name in names]
        narrowing = [TemperatureLogitsWarper(decoding.temperature), TopPLogitsWarper(decoding.top_p)]
        return LogitsProcessorList([*narrowing, Draw(seeds)])

    def _worded(self, text: str) -> str:
        """One line, empty if it is the prompt alone."""
        line = " ".join(part.strip() for part in text.strip().splitlines())
        if line.lower().split() == self.decoding.prompt.lower().split():
            return ""
        return mend(line) if self.model.config.model_type == "blip" else line


class Draw(LogitsProcessor):
    """Makes the choice of the highest score a draw by the scores' probabilities, with a random stream for each row.

    The Gumbel-max trick (Maddison et al., "A* Sampling", 2014): the highest of score + Gumbel noise is such a draw.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        """Takes a seed for each row of the batch."""
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (batch, vocabulary) with noise on them."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=stream) for stream in self.streams])
        return scores.float() - torch.log(-torch.log(uniform)).to(scores.device)


def open_blip(name: str, decoding: Decoding, device: torch.device, dtype: torch.dtype) -> Blip:
    """A model from a folder or from the hub.

    Raises InputError where there is none, where it is of another kind, or where its files are broken.
    """
    kind = model_kind(name)
    if kind not in KINDS:
        raise InputError(
            f"{name} is a model of the kind {kind!r}; captions are made by BLIP and BLIP-2 "
            f"(model_type {' or '.join(KINDS)} in its config.json)."
        )
    try:
        processor = AutoProcessor.from_pretrained(name)
        model, facts = getattr(transformers, KINDS[kind]).from_pretrained(
            name, dtype=dtype, output_loading_info=True
        )
    except Exception as error:  # broken files raise nearly everything in there
        raise InputError(f"the model {name} cannot be opened: {_first_line(error)}.") from error
    if facts["missing_keys"]:
        lacking = sorted(facts["missing_keys"])
        raise InputError(
            f"the model {name} lacks {len(lacking)} of the weights that captions need, such as {lacking[0]}; "
            "take a model for captioning (conditional generation)."
        )
    return Blip(model.to(device).eval(), processor, decoding)


def model_kind(name: str) -> str:
    """What the model's config.json says that it is."""
    folder = Path(name).expanduser()
    if folder.is_file():
        raise InputError(f"--model {name} is a file; give the folder around it, or a hub id.")
    try:
        if folder.is_dir():
            content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        else:
            content, _ = transformers.PreTrainedConfig.get_config_dict(name)
        return str(content["model_type"])
    except FileNotFoundError as error:
        raise InputError(f"the folder {name} has no config.json, so it is no captioning model.") from error
    except Exception as error:  # the hub's client has many kinds
        if folder.is_dir():
            raise InputError(f"the config.json of {name} cannot be read: {_first_line(error)}.") from error
        raise InputError(
            f"--model {name} is neither a folder here nor a model that the hub gives ({_first_line(error)}); "
            "check the spelling and the connection, or name a folder."
        ) from error


def pick_device(name: str | None) -> torch.device:
    """The device of that name, or a GPU where there is one."""
    if name is None:
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} is not there ({_first_line(error)}); leave it out, or say cpu.") from error
    return device


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
