"""Samplers that diffusers lacks, in the variables of sigmas.py: x is clean latents plus sigma times noise.

Each takes a denoiser, latents with noise of the first sigma, falling sigmas that end in 0, and a function that draws
noise of the latents' shape; and returns clean latents. In t = -ln(sigma) the equation of the noise is
dx/dt = x - D(x, sigma), whose linear part is solved exactly (Lu et al. 2022, arXiv 2206.00927 and 2211.01095).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
Draw = Callable[[], Tensor]

LEAST_SIGMA = 0.03  # noise that nobody sees: where the solvers end that cannot go to 0
RELATIVE, ABSOLUTE = 0.05, 0.0078  # the errors that the adaptive solver allows in a step, as in its paper
CAUTION = 0.9  # what the next step is multiplied with, as in the paper
GROWTH = 2.0  # of a step at most: the two orders can agree by chance where both are far off
FIRST_STEP = 0.05  # in t


def dpmpp_2s_ancestral(denoise: Denoise, latents: Tensor, sigmas: Sequence[float], draw: Draw) -> Tensor:
    """DPM-Solver++(2S) (arXiv 2211.01095, algorithm 1 with r = 1/2) to less noise than wanted; then noise is added."""
    return _two_stage_ancestral(denoise, latents, sigmas, draw, 1.0)


def _two_stage_ancestral(denoise: Denoise, latents: Tensor, sigmas: Sequence[float], draw: Draw, eta: float) -> Tensor:
    for sigma, target in pairwise(sigmas):
        clean = denoise(latents, sigma)
        down, up = ancestral(sigma, target, eta)
        if down == 0:
            latents = clean
            continue
        middle = math.sqrt(sigma * down)
        halfway = _towards(latents, clean, sigma, middle)
        latents = _towards(latents, denoise(halfway, middle), sigma, down)
        if up:
            latents = latents + up * draw()
    return latents


def dpmpp_sde(denoise: Denoise, latents: Tensor, sigmas: Sequence[float], draw: Draw) -> Tensor:
    """SDE-DPM-Solver++ in two stages with r = 1/2 (arXiv 2211.01095, section 5 and appendix B).

    Both stages see one path of a Brownian motion in sigma: the noise of the whole step is that of its first half and
    an independent rest. As the sigmas are known before, two draws a step are the path, exactly.
    """
    for sigma, target in pairwise(sigmas):
        clean = denoise(latents, sigma)
        if target == 0:
            return clean
        middle = math.sqrt(sigma * target)
        early, late = draw(), draw()
        down, up = ancestral(sigma, middle)
        halfway = _towards(latents, clean, sigma, down) + up * early
        whole = math.sqrt((sigma - middle) / (sigma - target)) * early
        whole = whole + math.sqrt((middle - target) / (sigma - target)) * late
        down, up = ancestral(sigma, target)
        latents = _towards(latents, denoise(halfway, middle), sigma, down) + up * whole
    return latents


def dpm_fast(denoise: Denoise, latents: Tensor, sigmas: Sequence[float], draw: Draw) -> Tensor:
    """DPM-Solver-fast (arXiv 2206.00927, section 3.4): as many evaluations as there are steps, the most of them in
    steps of third order, evenly spaced in t. No noise is drawn.
    """
    budget = len(sigmas) - 1
    thirds, rest = divmod(budget, 3)
    orders = [3] * thirds + [rest] if rest else [3] * (thirds - 1) + [2, 1]
    start, end = -math.log(sigmas[0]), -math.log(_last(sigmas))
    times = [start + (end - start) * number / len(orders) for number in range(len(orders) + 1)]
    for order, (now, then) in zip(orders, pairwise(times), strict=True):
        latents = _solve(denoise, latents, now, then, order)[0]
    return latents


def dpm_adaptive(denoise: Denoise, latents: Tensor, sigmas: Sequence[float], draw: Draw) -> Tensor:
    """DPM-Solver-23 (arXiv 2206.00927, appendix C): steps of third order, as long as the error allows that a second
    order in the same evaluations shows, and at the end the model's own estimate. Of `sigmas` only the ends count, and
    no noise is drawn; a batch takes the same steps together, so that pictures are to be solved one by one. Latents
    that are no numbers are handed back.
    """
    now, end = -math.log(sigmas[0]), -math.log(_last(sigmas))
    step, before = FIRST_STEP, latents
    while now < end - 1e-9:
        step = min(step, end - now)
        high, low = _solve(denoise, latents, now, now + step, 3)
        allowed = (RELATIVE * torch.maximum(low.abs(), before.abs())).clamp(min=ABSOLUTE)
        error = float(((high - low) / allowed).square().mean().sqrt())
        if not math.isfinite(error):
            return high
        if error <= 1:
            latents, before, now = high, low, now + step
        step *= min(GROWTH, CAUTION * max(error, 1e-6) ** (-1 / 3))
    return denoise(latents, math.exp(-end))


def ancestral(sigma: float, target: float, eta: float = 1.0) -> tuple[float, float]:
    """Where a step goes without noise, and the noise that is then added to be at `target` (DDPM's posterior for eta 1,
    Song et al. 2021, arXiv 2010.02502, equation 16, in sigmas).
    """
    up = min(target, eta * target * math.sqrt(max(sigma**2 - target**2, 0.0)) / sigma)
    return math.sqrt(max(target**2 - up**2, 0.0)), up


def _last(sigmas: Sequence[float]) -> float:
    return min(sigmas[-2], LEAST_SIGMA)


def _towards(latents: Tensor, clean: Tensor, sigma: float, target: float) -> Tensor:
    """The exact solution at `target` if the clean latents stay what they are."""
    share = target / sigma
    return share * latents + (1 - share) * clean


def _solve(denoise: Denoise, latents: Tensor, now: float, then: float, order: int) -> tuple[Tensor, Tensor]:
    """A step of DPM-Solver-1, 2 or 3 (algorithms 1 and 2 there, with r1 = 1/2, and 1/3 with r2 = 2/3) from one t to
    another, and what the evaluations before the last give by the next lower order.
    """
    step = then - now
    noise = _noise(denoise, latents, now)
    first = latents - math.exp(-then) * math.expm1(step) * noise
    if order == 1:
        return first, latents
    share = 1 / order
    between = now + share * step
    early = _noise(denoise, latents - math.exp(-between) * math.expm1(share * step) * noise, between) - noise
    second = first - math.exp(-then) / (2 * share) * math.expm1(step) * early
    if order == 2:
        return second, first
    share = 2 / 3
    between = now + share * step
    linear = latents - math.exp(-between) * math.expm1(share * step) * noise
    bend = math.exp(-between) * 2 * (math.expm1(share * step) / (share * step) - 1)
    late = _noise(denoise, linear - bend * early, between) - noise
    return first - math.exp(-then) / share * (math.expm1(step) / step - 1) * late, second


def _noise(denoise: Denoise, latents: Tensor, time: float) -> Tensor:
    sigma = math.exp(-time)
    return (latents - denoise(latents, sigma)) / sigma
