"""What learns: the adapters, their optimizer and learning rates, and one step of learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from library.device import Compute
from library.errors import InputError
from library.optim.optimizers import build_optimizer, check_optimizer, learning_rates
from library.optim.schedules import build_schedule
from library.settings import Settings
from library.train.learned import Learned


def part_rates(settings: Settings, text_parts: Sequence[str] = ("text_encoder",)) -> dict[str, float]:
    """The learning rate of each part that learns; a part with rate 0 is left out and gets no adapters.

    `text_parts` are the family's text encoders, which share one rate.
    """
    rates = {}
    if not settings.network_train_text_encoder_only:
        rates["unet"] = settings.learning_rate if settings.unet_lr is None else settings.unet_lr
    if not settings.network_train_unet_only:
        rate = settings.text_encoder_lr
        rates |= dict.fromkeys(text_parts, settings.learning_rate if rate is None else rate)
    rates = {part: rate for part, rate in rates.items() if rate > 0}
    if not rates:
        raise InputError("learning_rate, unet_lr and text_encoder_lr leave nothing to learn; set one above 0.")
    return rates


def check_learning(settings: Settings) -> None:
    """Finds wrong rates and optimizer_args while nothing has been loaded or written yet; raises InputError."""
    rates = part_rates(settings)
    check_optimizer(settings.optimizer_type, settings.optimizer_args, max(rates.values()))


def warmup_steps(settings: Settings, steps: int) -> int:
    """`lr_warmup_steps` in steps; below 1 it is a part of the run."""
    warmup = settings.lr_warmup_steps
    return round(warmup * steps) if warmup < 1 else int(warmup)


@dataclass
class Learner:
    """What learns, with everything that moves its weights."""

    learned: Learned
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    compute: Compute
    max_grad_norm: float

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, in a fixed order."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def backward(self, loss: Tensor) -> None:
        """Adds the loss's gradients to those of the step."""
        self.scaler.scale(loss).backward()

    def step(self) -> Tensor:
        """Moves the weights by the gradients of all processes; returns the gradients' norm before clipping."""
        self.compute.sum_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.max_grad_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        return norm

    def rates(self) -> dict[str, float]:
        """The learning rate of each part at this step, by TensorBoard tag."""
        return {f"lr/{name}": rate for name, rate in learning_rates(self.optimizer).items()}

    def state(self) -> dict[str, Any]:
        """What optimizer, schedule and loss scaling remember."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Takes up where a saved run stopped."""
        self.learned.load(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # empty where the run so far was not in fp16
            self.scaler.load_state_dict(state["scaler"])


def build_learner(
    settings: Settings, learned: Learned, rates: Mapping[str, float], compute: Compute, steps: int
) -> Learner:
    """Optimizer, schedule and loss scaling for what learns, each part at its own rate."""
    groups = [{"params": learned.parameters(part), "lr": rate, "name": part} for part, rate in rates.items()]
    optimizer = build_optimizer(settings.optimizer_type, groups, settings.optimizer_args)
    schedule = build_schedule(
        settings.lr_scheduler,
        optimizer,
        steps,
        warmup_steps(settings, steps),
        settings.lr_scheduler_num_cycles,
        settings.lr_scheduler_power,
    )
    scaler = torch.amp.GradScaler(compute.device.type, enabled=settings.mixed_precision == "fp16")
    scaler.scale(torch.zeros((), device=compute.device))  # makes its tensors, also where a first step has no samples
    return Learner(learned, optimizer, schedule, scaler, compute, settings.max_grad_norm)
