"""Our own samplers, where the answer is known: latents of a normal distribution, whose equation has a closed form."""

import math

import pytest
import torch
from torch import Tensor

from library.diffusion import solvers
from library.diffusion.schedule import scaled_linear
from library.diffusion.sigmas import Sigmas

SPREAD = 0.8  # the standard deviation of all clean latents
TABLE = Sigmas(scaled_linear(0.00085, 0.012, 1000))


def best(noisy: Tensor, sigma: float) -> Tensor:
    """The best estimate of clean latents with that spread."""
    return noisy * SPREAD**2 / (SPREAD**2 + sigma**2)


def exact(start: float, end: float) -> float:
    """What the equation multiplies latents by between two sigmas."""
    return math.sqrt((SPREAD**2 + end**2) / (SPREAD**2 + start**2))


def no_noise() -> Tensor:
    raise AssertionError("a solver without chance draws noise")


@pytest.mark.parametrize("order", [1, 2, 3])
def test_steps_have_their_order(order: int) -> None:
    """Half as long steps make an error that is 2^order times smaller."""
    start, end, errors = 10.0, 0.1, []
    for count in (32, 64):
        latents = torch.ones(1, dtype=torch.float64)
        width = math.log(start / end) / count
        for number in range(count):
            now = number * width - math.log(start)
            latents, _ = solvers._solve(best, latents, now, now + width, order)
        errors.append(abs(float(latents) - exact(start, end)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_what_a_step_gives_by_the_lower_order() -> None:
    latents = torch.ones(1, dtype=torch.float64)
    for order in (2, 3):
        higher, lower = solvers._solve(best, latents, 0.0, 0.1, order)
        wanted = exact(1.0, math.exp(-0.1))
        assert abs(float(higher) - wanted) < abs(float(lower) - wanted) / 3 < 1e-3


def test_two_stages_have_second_order_where_no_noise_is_added() -> None:
    errors = []
    for count in (32, 64):
        sigmas = [10.0 * 0.01 ** (number / count) for number in range(count + 1)]
        latents = torch.ones(1, dtype=torch.float64)
        drawn = solvers._two_stage_ancestral(best, latents, sigmas, no_noise, 0.0)
        errors.append(abs(float(drawn) - exact(10.0, 0.1)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize(("steps", "evaluations"), [(1, 1), (2, 2), (3, 3), (7, 7), (24, 24), (25, 25)])
def test_the_fast_solver_keeps_to_its_evaluations(steps: int, evaluations: int) -> None:
    asked = []

    def counting(noisy: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return best(noisy, sigma)

    sigmas = TABLE.even(steps)
    drawn = solvers.dpm_fast(counting, torch.ones(1, dtype=torch.float64), sigmas, no_noise)
    assert len(asked) == evaluations and asked[0] == pytest.approx(sigmas[0])
    if steps > 20:
        assert float(drawn) == pytest.approx(exact(sigmas[0], min(sigmas[-2], 0.03)), rel=0.02)


def test_the_adaptive_solver_keeps_to_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sigmas, errors = TABLE.even(20), []
    wanted = float(best(torch.tensor(exact(sigmas[0], sigmas[-2]) * sigmas[0]), sigmas[-2]))
    for allowed in (0.05, 0.0005):
        monkeypatch.setattr(solvers, "RELATIVE", allowed)
        monkeypatch.setattr(solvers, "ABSOLUTE", allowed / 6)
        latents = torch.full((1, 4), sigmas[0], dtype=torch.float64)
        errors.append(abs(float(solvers.dpm_adaptive(best, latents, sigmas, no_noise)[0, 0]) - wanted))
    assert errors[1] < errors[0] / 5 and errors[0] < 0.1 * wanted


def test_the_adaptive_solver_ends_where_numbers_do() -> None:
    latents = torch.ones(1, 4)
    assert solvers.dpm_adaptive(lambda x, _: x * torch.nan, latents, TABLE.even(9), no_noise).isnan().all()


@pytest.mark.parametrize("solve", [solvers.dpmpp_2s_ancestral, solvers.dpmpp_sde])
@pytest.mark.parametrize("sigmas", [TABLE.even(60), TABLE.karras(60)], ids=["even", "karras"])
def test_solvers_with_noise_draw_the_right_distribution(solve, sigmas: list[float]) -> None:
    """Far from where they began: each latent is another draw of what the model was made for."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(40000, generator=generator, dtype=torch.float64)

    start = sigmas[0] * draw()
    drawn = solve(best, start, sigmas, draw)
    assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.03)
    assert abs(float(torch.corrcoef(torch.stack([start, drawn]))[0, 1])) < 0.1


def test_the_noise_of_both_stages_is_one_path() -> None:
    """Seen by a model that knows nothing: what of each draw is in the latents, as a Brownian motion has it."""
    draws = iter(torch.eye(2, dtype=torch.float64))
    seen = []

    def nothing(noisy: Tensor, sigma: float) -> Tensor:
        seen.append(noisy)
        return torch.zeros_like(noisy)

    start, end = 4.0, 1.0
    solvers.dpmpp_sde(nothing, torch.zeros(2, dtype=torch.float64), [start, end, 0.0], lambda: next(draws))
    _, halfway, whole = seen
    middle = 2.0
    assert halfway.tolist() == pytest.approx([solvers.ancestral(start, middle)[1], 0])
    up = solvers.ancestral(start, end)[1]
    assert float(whole.norm()) == pytest.approx(up)
    assert float(whole[0]) == pytest.approx(up * math.sqrt((start - middle) / (start - end)))


def test_ancestral_steps_keep_the_variance() -> None:
    down, up = solvers.ancestral(2.0, 1.0)
    assert down**2 + up**2 == pytest.approx(1) and up**2 == pytest.approx(1 * (4 - 1) / 4)
    assert solvers.ancestral(2.0, 0.0) == (0, 0) and solvers.ancestral(2.0, 1.0, 0.0) == (1, 0)
