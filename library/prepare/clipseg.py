"""CLIPSeg (Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts", 2022): masks of what words name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoConfig, CLIPSegForImageSegmentation, CLIPSegProcessor

from library.data.decoding import flatten
from library.errors import InputError, is_full_memory
from library.prepare.masks import Mask, from_shares

KIND = "clipseg"


class ClipSeg:
    """A CLIPSeg model that looks for the same words in every picture; of several prompts, what fits any."""

    def __init__(
        self, model: CLIPSegForImageSegmentation, processor: CLIPSegProcessor, prompts: Sequence[str]
    ) -> None:
        """Reads the prompts once for all pictures. Raises InputError where one is too long for the model."""
        self._model, self._processor = model, processor
        config: Any = model.config.text_config
        longest = config.max_position_embeddings
        for prompt in prompts:
            length = len(processor.tokenizer(prompt).input_ids)
            if length > longest:
                raise InputError(f"--prompt '{prompt}' has {length} tokens; the model reads {longest}.")
        tokens = processor.tokenizer(list(prompts), padding=True, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            self._wanted = model.get_conditional_embeddings(
                batch_size=len(prompts), input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            )

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """(3, height, width) as the model's own processor makes it."""
        return self._processor.image_processor(flatten(image), return_tensors="pt").pixel_values[0].numpy()

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """How well each pixel fits the prompts, (pictures, height, width) in [0, 1]."""
        pixels = torch.from_numpy(np.stack(inputs)).to(self._model.device)
        try:
            with torch.inference_mode():
                found = [
                    self._model(pixel_values=pixels, conditional_embeddings=wanted.expand(len(pixels), -1)).logits
                    for wanted in self._wanted
                ]
        except RuntimeError as error:
            if is_full_memory(error):
                raise InputError("the memory is full; lower --batch_size or use --device cpu.") from error
            raise
        return torch.stack(found).amax(0).sigmoid().float().cpu().numpy()

    def mask_of(self, output: NDArray[np.float32]) -> Mask:
        """The mask of the model's own size."""
        return from_shares(output)


def open_clipseg(name: str, prompts: Sequence[str], device: str | None) -> ClipSeg:
    """The model in a folder or on the hub, ready for some prompts.

    Args:
        name: folder or hub id
        prompts: what to look for
        device: "cpu" or "cuda"; None takes a GPU where there is one

    Raises InputError where it cannot be had, is no CLIPSeg, or lacks weights.
    """
    place = choose_device(device)
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        if kind == KIND:
            processor = CLIPSegProcessor.from_pretrained(name)
            opened: Any = CLIPSegForImageSegmentation.from_pretrained(
                name, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # each version of the hub's client has its own errors
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise InputError(f"--model {name} cannot be opened as a folder or from the hub ({reason}).") from error
    if kind != KIND:
        raise InputError(f"--model {name} is a {kind} model; this method needs CLIPSeg, as CIDAS/clipseg-rd64-refined.")
    model, facts = opened
    if missing := sorted(facts["missing_keys"]):
        raise InputError(f"--model {name} lacks {len(missing)} of its weights, such as {missing[0]}; download it anew.")
    return ClipSeg(model.to(place).eval(), processor, prompts)


def choose_device(device: str | None) -> torch.device:
    """Where torch computes. Raises InputError where the device is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch finds no CUDA here; use --device cpu.")
    if device:
        return torch.device(device)
    return torch.accelerator.current_accelerator() or torch.device("cpu")
