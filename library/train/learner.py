"""What learns, its optimizer and learning rates, and one step of learning."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from library.device import Compute
from library.errors import InputError
from library.optim.one_by_one import OneByOne
from library.optim.optimizers import averaged, build_optimizer, learning_rates
from library.settings import Settings
from library.settings.whole_checks import TO_THE_END
from library.train.ema import PREFIX, Ema
from library.train.learned import Learned
from library.train.loraplus import loraplus_ratios, parameter_groups, part_of_group
from library.train.networks import block_factors
from library.train.rates import make_schedule
from library.train.sharding import gathered, is_sharded, shorten, spread_state, total_norm


@dataclass
class Learner:
    """What learns, with everything that moves its weights.

    A part of `spans` learns in those steps alone, counted from 0, and is frozen in all others. Where weights are moved
    `one_by_one`, the optimizer knows stand-ins for some of them.
    """

    learned: Learned
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    compute: Compute
    max_grad_norm: float
    spans: Mapping[str, range] = field(default_factory=dict)
    one_by_one: OneByOne | None = None
    averages: Ema | None = None
    skips: bool = False  # steps whose gradients are not finite

    def __post_init__(self) -> None:
        self._choose()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, in a fixed order."""
        return [parameter for group in self.optimizer.param_groups for parameter in self._weights(group)]

    def backward(self, loss: Tensor) -> None:
        """Adds the loss's gradients to those of the step, or moves the weights by them at once."""
        self.scaler.scale(loss).backward()

    def step(self) -> Tensor:
        """Moves the weights by the gradients of all processes; returns the gradients' norm before clipping."""
        norm = self.one_by_one.take_norm() if self.one_by_one and self.one_by_one.in_backward else self._move()
        self.schedule.step()
        self._choose()
        if self.averages:
            self.averages.update(self.schedule.last_epoch)
        return norm

    def _move(self) -> Tensor:
        """Moves the weights by the gradients that were added up; returns these gradients' norm."""
        learning = [parameter for group in self._learning() for parameter in self._weights(group)]
        # What is in slices has been added up in the backward pass.
        self.compute.sum_gradients(parameter for parameter in learning if not is_sharded(parameter))
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in learning if parameter.grad is not None]
        norm = total_norm(gradients)
        # The scaler of fp16 looks for itself. Asking waits for the device, so only who wants it does.
        if self.skips and not self.scaler.is_enabled() and not norm.isfinite():
            for parameter in learning:
                parameter.grad = None
            return norm
        if self.max_grad_norm > 0:
            shorten(learning, self.max_grad_norm, norm)
        if self.one_by_one:
            for parameter in learning:
                self.one_by_one.step(parameter)
            return norm
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def rates(self) -> dict[str, float]:
        """The learning rate of each part at this step, by TensorBoard tag."""
        return {f"lr/{name}": rate for name, rate in learning_rates(self.optimizer).items()}

    def weights(self) -> dict[str, Tensor]:
        """What has been learned, and its averages: copies on the CPU, for `restore`."""
        return self.learned.state_dict() | (self.averages.state_dict() if self.averages else {})

    def state(self) -> dict[str, Any]:
        """What optimizer, schedule and loss scaling remember."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Takes up where a saved run stopped."""
        self.learned.load({name: tensor for name, tensor in weights.items() if not name.startswith(PREFIX)})
        if self.averages:
            self.averages.load(weights)
        known = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.optimizer.load_state_dict(spread_state(state["optimizer"], known))
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # empty where the run so far was not in fp16
            self.scaler.load_state_dict(state["scaler"])
        self._choose()

    def gathered(self) -> AbstractContextManager[None]:
        """Within it, the main process has all of what is in slices, to be written; all processes have to come here."""
        if not self.compute.shards:
            return nullcontext()
        learned: Any = self.learned  # whole parts: adapters are never in slices
        averages = self.averages.tables() if self.averages else []
        return gathered([*learned.tables(), *self.optimizer.state.values(), *averages], self.compute.is_main)

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the weights are those to be used, where the optimizer learns at others."""
        return averaged(self.optimizer)

    def _learning(self) -> list[dict[str, Any]]:
        """The optimizer's groups that learn in the coming step; the schedule counts the steps, after a resume too."""
        frozen = {part for part, span in self.spans.items() if self.schedule.last_epoch not in span}
        return [group for group in self.optimizer.param_groups if part_of_group(group.get("name", "")) not in frozen]

    def _choose(self) -> None:
        """Asks for gradients of what learns in the coming step alone; no optimizer moves what has none."""
        if self.one_by_one:
            self.one_by_one.number = self.schedule.last_epoch
        if not self.spans:
            return
        learning = [group["name"] for group in self._learning()]
        for group in self.optimizer.param_groups:
            for parameter in self._weights(group):
                parameter.requires_grad_(group["name"] in learning)

    def _weights(self, group: Mapping[str, Any]) -> list[nn.Parameter]:
        """What one of the optimizer's groups stands for."""
        found: list[nn.Parameter] = self.one_by_one.weights[group["name"]] if self.one_by_one else group["params"]
        return found


def build_learner(
    settings: Settings,
    learned: Learned,
    rates: Mapping[str, float],
    compute: Compute,
    steps: int,
    spans: Mapping[str, range] | None = None,
) -> Learner:
    """Optimizer, schedule and loss scaling for what learns, each part at its own rate.

    The rate of a part of `spans` runs its whole course within them.
    """
    spans = spans or {}
    ratios = loraplus_ratios(settings, list(rates))
    groups = parameter_groups(learned, rates, ratios, block_factors(settings))
    one_by_one = None
    if settings.full_bf16 or settings.fused_backward_pass:
        one_by_one = OneByOne(settings.optimizer_type, groups, settings.optimizer_args, settings.seed)
        optimizer = one_by_one.optimizer
    else:
        optimizer = build_optimizer(settings.optimizer_type, groups, settings.optimizer_args)
    own = {group["name"]: spans[part] for group in groups if (part := part_of_group(group["name"])) in spans}
    schedule = make_schedule(settings, optimizer, steps, own)
    scaler = torch.amp.GradScaler(compute.device.type, enabled=settings.mixed_precision == "fp16")
    scaler.scale(torch.zeros((), device=compute.device))  # makes its tensors, also where a first step has no samples
    spans = _stopped(settings, rates, spans, steps)
    clip, averages = settings.max_grad_norm, _averages(settings, learned, compute)
    skips = settings.skip_nonfinite_steps > 0
    learner = Learner(learned, optimizer, schedule, scaler, compute, clip, spans, one_by_one, averages, skips)
    if one_by_one and settings.fused_backward_pass:
        one_by_one.step_in_backward()
    return learner


def _averages(settings: Settings, learned: Learned, compute: Compute) -> Ema | None:
    """The average of what learns, if one is asked for."""
    if not settings.ema:
        return None
    return Ema(learned, settings.ema_decay, torch.device("cpu") if settings.ema_device == "cpu" else compute.device)


def _stopped(settings: Settings, parts: Iterable[str], spans: Mapping[str, range], steps: int) -> Mapping[str, range]:
    """The spans of a run whose text encoders stop learning at a step; their rates follow the whole run's course."""
    stop = settings.stop_text_encoder_training
    if stop in TO_THE_END:
        return spans
    texts = [part for part in parts if part.startswith("text_encoder")]
    whole = {part: spans.get(part, range(steps)) for part in texts}
    first = max((span.start for span in whole.values()), default=0)
    if first >= stop:
        raise InputError(
            f"stop_text_encoder_training = {stop} comes before the text encoder's first step, {first} by ti_steps; "
            "raise it, or set it to -1."
        )
    return {**spans, **{part: range(span.start, min(span.stop, stop)) for part, span in whole.items()}}
