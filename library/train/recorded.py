"""Forward and backward passes recorded once for each size of batch and played back as one piece: CUDA graphs.

At batch 1 a GPU waits for Python, which starts thousands of small operations one by one. A recording starts them all at
once (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs). It is bound to addresses: what a batch brings is
copied into tensors that stay, and gradients are added up in tensors that stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from library.device import free_memory
from library.errors import InputError
from library.log import warn
from library.models.family import Condition
from library.settings import Settings
from library.train.learner import Learner
from library.train.step import Batch, Question

WARM_UP = 3  # passes before the recording: libraries choose their kernels in the first ones

Work = Callable[[Batch, Condition, Question], Tensor]  # leaves gradients, and returns losses


class Recorder(Protocol):
    """What can take down a device's work and do it again."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Has `work` done some times and taken down; what plays it back, and the tensor that then holds its result."""


class CudaRecorder:
    """Takes down what a GPU is given, all of it in one pool of memory, as one recording is played at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.pool = device, torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Has `work` done some times beside the main stream, as torch demands, and then taken down."""
        aside, here = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                work()
        here.wait_stream(aside)
        free_memory(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            result = work()
        return graph.replay, result


class Pass(NamedTuple):
    """A recorded pass: where its inputs are looked for, what plays it back, and where it leaves the losses."""

    inputs: Sequence[Tensor]
    play: Callable[[], None]
    losses: Tensor


class Asked(NamedTuple):
    """All that a pass reads and that differs from batch to batch; None is what the run does not have."""

    noisy: Tensor
    timesteps: Tensor
    target: Tensor
    weights: Tensor
    mask: Tensor | None
    sizes: Tensor | None
    hidden: Tensor
    pooled: Tensor | None

    @classmethod
    def of(cls, batch: Batch, condition: Condition, question: Question) -> "Asked":
        """What is asked of the model about a batch."""
        return cls(*question, batch.weights, batch.mask, batch.sizes, condition.hidden, condition.pooled)

    @property
    def shapes(self) -> tuple[object, ...]:
        """What recordings are told apart by."""
        return tuple(None if each is None else (each.shape, each.dtype) for each in self)

    def held(self) -> "Asked":
        """The same in tensors of its own."""
        own: list[Any] = [None if each is None else each.clone() for each in self]
        return Asked(*own)

    def tensors(self) -> list[Tensor]:
        """Those that are there."""
        return [each for each in self if each is not None]


class Recording:
    """Has batches learned from by recordings; where none can be made, it says so once and does without from then on."""

    def __init__(self, learner: Learner, recorder: Recorder) -> None:
        self.learner = learner
        self.recorder: Recorder | None = recorder
        self._passes: dict[tuple[object, ...], Pass] = {}
        self._sums: dict[nn.Parameter, Tensor] = {}

    def learn(self, work: Work, batch: Batch, condition: Condition, question: Question) -> Tensor:
        """The losses that `work` gives for these, (batch,), with the gradients that it adds to those of the step."""
        if self.recorder is None:
            return work(batch, condition, question)
        asked = Asked.of(batch, condition, question)
        self._hold_gradients()
        if asked.shapes not in self._passes:
            try:
                self._passes[asked.shapes] = self._record(self.recorder, work, batch, asked.held())
            except RuntimeError as error:
                reason = str(error).strip().split("\n")[0].rstrip(".")
                warn(f"cuda_graphs: a step cannot be recorded ({reason}); steps are computed as without.")
                self._passes.clear()
                self.recorder = None
                return work(batch, condition, question)
        found = self._passes[asked.shapes]
        torch._foreach_copy_(list(found.inputs), asked.tensors())
        found.play()
        return found.losses.clone()  # the next batch's take their place

    def _hold_gradients(self) -> None:
        """Has gradients of the step added up where recordings look for them."""
        fresh = [parameter for parameter in self.learner.parameters if parameter.grad is None]
        for parameter in fresh:
            if parameter not in self._sums:
                self._sums[parameter] = torch.zeros_like(parameter)
            parameter.grad = self._sums[parameter]
        if fresh:
            torch._foreach_zero_([self._sums[parameter] for parameter in fresh])

    def _record(self, recorder: Recorder, work: Work, batch: Batch, held: Asked) -> Pass:
        """Records a pass; the gradients of the step are afterwards what they were, though it has been done."""
        batch = replace(batch, weights=held.weights, mask=held.mask, sizes=held.sizes)
        condition = Condition(held.hidden, held.pooled)
        question = Question(held.noisy, held.timesteps, held.target)
        sums = list(self._sums.values())
        before = [each.clone() for each in sums]
        try:
            play, losses = recorder.record(partial(work, batch, condition, question))
        finally:
            torch._foreach_copy_(sums, before)
        return Pass(held.tensors(), play, losses)


def check_graphs(settings: Settings, device: torch.device) -> None:
    """InputError where `cuda_graphs` is set and no GPU is there that has them."""
    if settings.cuda_graphs and device.type != "cuda":
        raise InputError(f"cuda_graphs is for NVIDIA GPUs, and this run is on {device.type}; leave it out.")


def open_recording(settings: Settings, learner: Learner, device: torch.device) -> Recording | None:
    """What records the steps of a run, if the settings ask for it."""
    return Recording(learner, CudaRecorder(device)) if settings.cuda_graphs else None
