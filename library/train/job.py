"""What all recipes share: a run planned from its settings, its latents, and what happens in and around it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from library.data.summary import describe
from library.device import Compute
from library.log import say
from library.models.family import Family
from library.models.prompts import Prompt
from library.settings import Settings
from library.train.batches import Batches, open_batches
from library.train.captions import captions_of_run, warn_of_cut_captions
from library.train.data import Datasets, encode_pictures, open_datasets
from library.train.events import Events
from library.train.facts import run_identity, training_facts
from library.train.health import Health
from library.train.model import Model
from library.train.objective import check_prediction, make_objective
from library.train.outputs import Outputs
from library.train.plan import Plan, make_plan
from library.train.preview import preview_prompts
from library.train.prior import prior_texts
from library.train.recorded import open_recording
from library.train.resume import find_state
from library.train.run import make_previews, open_report
from library.train.saves import check_output_room
from library.train.state import State
from library.train.training import Training
from library.train.vae import Vae, open_vae
from library.train.validation import make_validation


@dataclass(frozen=True)
class Job:
    """A run before any weights are loaded: what is learned from in which steps, and from which state it goes on."""

    settings: Settings
    family: Family
    compute: Compute
    datasets: Datasets
    plan: Plan
    prompts: list[Prompt]
    identity: Mapping[str, Any]
    state: State | None

    def captions(self) -> Iterator[str]:
        """Every text that the run will read."""
        return captions_of_run(self.datasets, self.plan, self.prompts, prior_texts(self.settings))


@dataclass(frozen=True)
class Encoded:
    """The VAE, which has left the device, and the batches of latents to learn from and to validate with."""

    vae: Vae
    batches: Batches
    watched: Batches | None


def plan_job(settings: Settings, family: Family, compute: Compute) -> Job:
    """Looks at pictures, captions and prompts, counts the steps that they make, and finds the state to go on from."""
    check_prediction(settings, family)
    with compute.main_first():  # the others then find every picture checked
        datasets = open_datasets(settings)
    plan = make_plan(settings, datasets.train, compute.world_size)
    prompts = preview_prompts(settings, datasets.train)
    warn_of_cut_captions(settings, family, datasets.train)
    say(describe(datasets.train))
    say(plan.summary())
    identity = run_identity(settings, family, datasets.train, plan)
    state = find_state(settings, plan, identity)
    return Job(settings, family, compute, datasets, plan, prompts, identity, state)


def encode_job(job: Job) -> Encoded:
    """Fills the caches where latents are missing, with the VAE on the device, and opens the batches."""
    settings, datasets, plan, compute = job.settings, job.datasets, job.plan, job.compute
    vae = open_vae(settings, job.family, compute)
    caches = encode_pictures(settings, datasets.all, vae, compute)
    batches = open_batches(settings, datasets.train, vae, caches, plan, compute)
    watched = None
    if datasets.validation:
        even = replace(settings, caption_loss_weights=())  # so that runs compare
        watched = open_batches(even, datasets.validation, vae, caches, plan, compute)
    return Encoded(vae, batches, watched)


def arrange(job: Job, encoded: Encoded, model: Model) -> Events:
    """What happens in a step, and between the steps."""
    settings, plan, compute = job.settings, job.plan, job.compute
    objective = make_objective(settings, job.family, compute)
    recording = open_recording(settings, model.learner, compute.device)
    health = Health(settings.skip_nonfinite_steps, is_scaled=settings.mixed_precision == "fp16")
    check_output_room(settings, model, plan, compute, job.state)
    return Events(
        settings=settings,
        training=Training(model, encoded.batches, objective, plan, compute, settings.seed, health, recording),
        report=open_report(settings, compute, plan.steps, job.state, health),
        outputs=Outputs(settings),
        previews=make_previews(job.prompts, model, encoded.vae, compute),
        validation=make_validation(settings, encoded.watched, objective),
        facts=training_facts(settings, job.family, model.learner, plan, job.datasets, job.state),
        identity=job.identity,
    )
