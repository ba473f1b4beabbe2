"""The loop: every kind of training goes through here; what happens between the steps is the events' business."""

from library.log import warn
from library.train.events import Events
from library.train.report import Report
from library.train.signals import StopRequest
from library.train.training import Training


def run_training(training: Training, report: Report, events: Events, step: int, stop: StopRequest) -> int:
    """Trains from `step` finished steps to the plan's end; returns the exit status: 0, or that of a signal.

    After SIGINT or SIGTERM the step at work is finished and everything that was learned is saved.
    """
    plan = training.plan
    if step == 0:
        events.at_start()
    while step < plan.steps:
        epoch, done = plan.position(step)
        for batches in training.batches.of_epoch(epoch, done):
            rates = training.model.learner.rates()
            loss, norm = training.step(step, batches)
            step += 1
            samples = plan.world_size * sum(len(batch.captions) for batch in batches)
            report.step(step, loss, norm, rates, samples)
            events.after_step(step)
            if plan.position(step)[1] == 0:
                events.after_epoch(step, epoch + 1)
            events.save_due(step)
            if step == plan.steps:
                break
            if training.compute.any(stop.asked):
                warn(f"stopped after step {step} of {plan.steps}; saving what was learned.")
                events.at_stop(step)
                return stop.status
    events.at_end(step)
    return 0
