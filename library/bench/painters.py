"""Two ways to draw a picture with the same model: this project's, and diffusers' pipeline."""

from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

from library.adapters.shared import use_shared_products
from library.bench.contestants import Step, random_condition
from library.device import Compute
from library.frozen import use_frozen_layers
from library.models.drawing import Painter
from library.models.family import Condition, Family
from library.models.guidance import Guidance
from library.models.prompts import Prompt
from library.settings import Settings

GUIDANCE = 7.5
SAMPLER = "euler"


def our_pictures(settings: Settings, family: Family, compute: Compute, size: int, steps: int) -> Step:
    """Draws the picture of a seed as `tools/generate.py` does once it has read the words."""
    unet, vae, condition = _parts(family, compute, torch.float32)
    if settings.compile != "no":
        unet.compile()
    else:
        use_frozen_layers([unet, *use_shared_products(unet)], ["ahead"])
    painter = Painter(family, vae, (), unet)
    guidance = Guidance(condition, (GUIDANCE,))

    def draw(seed: int) -> Any:
        prompt = Prompt("", "", size, size, seed, steps, GUIDANCE, SAMPLER)
        return painter.draw_batch([prompt], [guidance], compute.device, compute.dtype)

    return draw


def pipeline_pictures(settings: Settings, family: Family, compute: Compute, size: int, steps: int) -> Step:
    """The same with diffusers' pipeline."""
    unet, vae, condition = _parts(family, compute, compute.dtype)
    scheduler = EulerDiscreteScheduler.from_config(family.configs()["scheduler"])
    pipeline: Any = StableDiffusionPipeline(vae, None, None, unet, scheduler, None, None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    negative, positive = condition.hidden.to(compute.dtype).split(1)

    def draw(seed: int) -> Any:
        return pipeline(
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed),
        ).images

    return draw


def _parts(family: Family, compute: Compute, decodes: torch.dtype) -> tuple[Any, Any, Condition]:
    """UNet and VAE, the latter in the format `decodes`, and what text encoders might say to no words and to some."""
    unet = family.load_unet(compute.dtype).to(compute.device)
    said = random_condition(family, unet, compute.device).hidden
    return unet, family.load_vae(decodes).to(compute.device), Condition(torch.cat([said.flip(1), said]))
