"""Trains a LoRA: a folder of pictures and a base model in, one .safetensors file out.

python train_network.py --config configs/demo.toml [--name value ...]
"""

from library.cli import run_program
from library.settings import read_settings


def main(argv: list[str] | None = None) -> int:
    """Reads the settings, trains, and returns the exit status. docs/SETTINGS.md explains every setting."""
    # ---- settings: read before torch is imported, so that a misspelt word is answered at once
    settings = read_settings(argv, program="train_network")

    from library.device import start_compute
    from library.log import say
    from library.train.base import open_base
    from library.train.batches import open_batches
    from library.train.captions import captions_of_run, warn_of_cut_captions
    from library.train.data import encode_pictures, open_datasets
    from library.train.dry_run import describe_run
    from library.train.events import Events
    from library.train.facts import run_identity, training_facts
    from library.train.learner import check_learning
    from library.train.model import build_model
    from library.train.outputs import Outputs
    from library.train.plan import make_plan
    from library.train.preview import preview_prompts
    from library.train.resume import find_state
    from library.train.run import make_objective, make_previews, open_report, run
    from library.train.training import Training
    from library.train.vae import open_vae
    from library.train.validation import make_validation

    # ---- device and processes
    compute = start_compute(settings.mixed_precision)

    # ---- optimizer and base model, looked at before anything is loaded or written
    check_learning(settings)
    family = open_base(settings)

    # ---- pictures, captions, and the steps they make
    with compute.main_first():  # the others then find every picture checked
        datasets = open_datasets(settings)
    plan = make_plan(settings, datasets.train, compute.world_size)
    prompts = preview_prompts(settings, datasets.train)
    warn_of_cut_captions(settings, family, datasets.train)
    say(datasets.train.summary())
    say(plan.summary())

    # ---- the state to go on from
    identity = run_identity(settings, family, datasets.train, plan)
    state = find_state(settings, plan, identity)

    # ---- text encoders, UNet, adapters and optimizer, looked at only
    captions = captions_of_run(datasets, plan, prompts)
    if settings.dry_run:
        model = build_model(settings, family, compute, plan.steps, captions)
        return describe_run(settings, model, compute, datasets.train)

    # ---- latents: if the caches lack any, the VAE is loaded, encodes them and leaves the device
    vae = open_vae(settings, family, compute)
    caches = encode_pictures(settings, datasets.all, vae, compute)
    batches = open_batches(settings, datasets.train, vae, caches, plan, compute)
    watched = None
    if datasets.validation:
        watched = open_batches(settings, datasets.validation, vae, caches, plan, compute)

    # ---- text encoders, UNet, adapters and optimizer
    model = build_model(settings, family, compute, plan.steps, captions)

    # ---- what happens in a step, and between the steps
    objective = make_objective(settings, family, compute)
    training = Training(model, batches, objective, plan, compute, settings.seed)
    events = Events(
        settings=settings,
        training=training,
        report=open_report(settings, compute, plan.steps, state),
        outputs=Outputs(settings),
        previews=make_previews(prompts, model, vae, compute),
        validation=make_validation(settings, watched, objective),
        facts=training_facts(settings, family, model.learner, plan, datasets, state),
        identity=identity,
    )

    # ---- the loop
    return run(settings, events, state, datasets.train)


if __name__ == "__main__":
    run_program(main)
