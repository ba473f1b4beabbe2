"""memory = "auto": what makes a run fit into its device's memory, chosen before anything is encoded."""

import gc
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from library.device import Compute, free_memory
from library.errors import InputError
from library.log import say
from library.models.family import Family
from library.settings import Settings
from library.train.batches import open_batches
from library.train.captions import REMEMBERED, captions_of_run
from library.train.data import Datasets, open_datasets
from library.train.memory import largest
from library.train.model import Model, build_model
from library.train.objective import make_objective
from library.train.plan import make_plan
from library.train.prior import prior_texts
from library.train.probe import measured_peak_gb, meter_of
from library.train.remedies import USABLE, change_in_words, thriftier, thrifty_peak_gb, thrifty_shapes, usable_gb
from library.train.resume import as_resumed
from library.train.training import Training
from library.train.vae import open_vae


def fit_memory(settings: Settings, family: Family, compute: Compute) -> Settings:
    """With memory = "auto" the first of ever thriftier settings that fits on every process; else those given.

    Predicted on a model that is built for that and let go; where the device can be measured, a step on another one has
    the last word. Raises InputError where nothing fits.
    """
    if settings.memory != "auto":
        return settings
    given, settings = settings, as_resumed(settings)
    if settings != given:
        say(f'memory = "auto": {settings.optimizer_type} stays, as the run to go on with has it.')
    with compute.main_first():
        datasets = open_datasets(settings)
    trial = Trial(family, compute, datasets)
    candidates, usable = list(thriftier(settings, compute)), usable_gb(compute.device)
    peaks, chosen = trial.predict(settings, candidates, usable), len(candidates)
    peak, how = peaks[-1], "predicted"
    if not compute.any(peak > usable):
        chosen, measured = trial.measure(candidates, len(peaks) - 1, usable)
        peak, how = (peak, how) if measured is None else (measured, "measured")
    place = f"{usable:.2f} GB can be used on {compute.device.type}"
    if chosen == len(candidates):
        raise InputError(_refusal(settings, candidates[-1], peaks, peak if how == "measured" else None, place))
    if chosen == 0:
        say(f'memory = "auto": {peak:.2f} GB are {how} and {place}, so everything stays as it is set.')
    else:
        words = change_in_words(settings, candidates[chosen])
        say(
            f'memory = "auto": {peaks[0]:.2f} GB are predicted as it is set and {place}, so this run has {words}, '
            f"with which {peak:.2f} GB are {how}; each step learns from the same pictures."
        )
    return candidates[chosen]


@dataclass(frozen=True)
class Trial:
    """Models that are built to see what they take, each process for itself, and let go again."""

    family: Family
    compute: Compute
    datasets: Datasets

    def predict(self, settings: Settings, candidates: Sequence[Settings], usable: float) -> list[float]:
        """The predicted peaks in GB of the candidates in turn, down to the first that is usable on every process."""
        shapes = list(self.datasets.train.shapes)
        model, peaks = self._model(settings), []
        for candidate in candidates:
            peaks.append(thrifty_peak_gb(model, self.compute.alone, settings, candidate, shapes))
            if not self.compute.any(peaks[-1] > usable):
                break
        del model
        self._let_go()
        return peaks

    def measure(self, candidates: Sequence[Settings], first: int, usable: float) -> tuple[int, float | None]:
        """The number of the first candidate from `first` on of which steps are measured to fit, or their count.

        Beside it the measured peak in GB; None where the device cannot be measured, and the prediction stands.
        """
        meter, peak = meter_of(self.compute.device), None
        if meter is None:
            return first, None
        shapes = list(self.datasets.train.shapes)
        for number, candidate in enumerate(candidates[first:], first):
            shape = largest(thrifty_shapes(candidates[0], candidate, shapes))
            peak = measured_peak_gb(meter, partial(self._training, candidate), candidate, shape)
            self._let_go()
            if not self.compute.any(peak > usable):
                return number, peak
        return len(candidates), peak

    def _model(self, settings: Settings) -> Model:
        """The model of a run that keeps nothing and compiles nothing."""
        plan = make_plan(settings, self.datasets.train, self.compute.world_size)
        texts = ["", *prior_texts(settings)]
        quiet = replace(settings, dry_run=True, compile="no")
        model = build_model(quiet, self.family, self.compute.alone, plan.steps, texts)
        captions = captions_of_run(self.datasets, plan)
        if not (model.reader.trained or settings.cache_text_encoder_outputs) and _are_too_many(captions):
            model.reader.stay()
        return model

    def _training(self, settings: Settings) -> Training:
        """What a step is made of; its batches are not read."""
        plan = make_plan(settings, self.datasets.train, self.compute.world_size)
        alone, dataset = self.compute.alone, self.datasets.train
        batches = open_batches(settings, dataset, open_vae(settings, self.family, alone), None, plan, alone)
        objective = make_objective(settings, self.family, alone)
        return Training(self._model(settings), batches, objective, plan, alone, settings.seed)

    def _let_go(self) -> None:
        gc.collect()  # models hold on to themselves in circles
        free_memory(self.compute.device)


def _are_too_many(captions: Iterable[str]) -> bool:
    """Whether frozen text encoders cannot learn them all by heart."""
    different: set[str] = set()
    for caption in captions:
        different.add(caption)
        if len(different) > REMEMBERED:
            return True
    return False


def _refusal(
    settings: Settings, thriftiest: Settings, peaks: Sequence[float], measured: float | None, place: str
) -> str:
    """Why a run cannot begin, and what would be needed; `measured` is what the thriftiest settings took, if tried."""
    words = f" with {change_in_words(settings, thriftiest)}" if thriftiest != settings else " as it is set"
    least = min(peaks) if measured is None else measured
    if measured is None:
        with_all = f", still {least:.2f} GB{words}," if thriftiest != settings else ""
        told = f"{peaks[0]:.2f} GB are predicted for this run as it is set{with_all} and {place}"
    else:
        taken = f"{least:.2f} GB" if math.isfinite(least) else "more than there is"
        told = f"steps of this run take {taken}{words} when they are tried, and {place}"
    wanted = f"one with {least / USABLE:.1f} GB free" if math.isfinite(least) else "one with more"
    return f"memory: {told}; lower the resolution, end what else holds memory there, or use another device, {wanted}."
