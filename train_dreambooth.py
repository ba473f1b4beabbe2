"""Trains all weights of a model on a subject or a set of captioned pictures; or a LoRA, where a network is named.

python train_dreambooth.py --config configs/dreambooth.toml [--name value ...]
"""

from library.cli import run_program
from library.settings import read_settings


def main(argv: list[str] | None = None) -> int:
    """Reads the settings, trains, and returns the exit status. docs/SETTINGS.md explains every setting."""
    # ---- settings: read before torch is imported, so that a misspelt word is answered at once
    settings = read_settings(argv, program="train_dreambooth")

    from library.device import start_compute
    from library.train.base import open_base
    from library.train.class_pictures import prepare_class_pictures
    from library.train.dry_run import describe_run
    from library.train.fitting import fit_memory
    from library.train.job import arrange, encode_job, plan_job
    from library.train.model import build_model
    from library.train.places import check_places
    from library.train.rates import check_learning
    from library.train.recorded import check_graphs
    from library.train.run import run
    from library.train.sharding import check_sharding

    # ---- device and processes
    compute = start_compute(settings.mixed_precision, may_shard=settings.trains_whole)

    # ---- folders, optimizer and base model, looked at before anything is loaded or written
    check_places(settings)
    check_graphs(settings, compute.device)
    check_learning(settings, compute.world_size)
    check_sharding(settings, compute)
    family = open_base(settings)

    # ---- pictures of the class, drawn by the base model where they are asked for
    settings = prepare_class_pictures(settings, family, compute)

    # ---- with memory = "auto", what makes the run fit into the device's memory
    settings = fit_memory(settings, family, compute)

    # ---- pictures, captions, the steps they make, and the state to go on from
    job = plan_job(settings, family, compute)

    # ---- text encoders, UNet, what learns of them or on them, and the optimizer, looked at only
    if settings.dry_run:
        model = build_model(settings, family, compute, job.plan.steps, job.captions())
        return describe_run(settings, model, compute, job.datasets.train, job.plan)

    # ---- latents: if the caches lack any, the VAE is loaded, encodes them and leaves the device
    encoded = encode_job(job)

    # ---- text encoders, UNet, what learns of them or on them, and the optimizer
    model = build_model(settings, family, compute, job.plan.steps, job.captions())

    # ---- what happens in a step, and between the steps
    events = arrange(job, encoded, model)

    # ---- the loop
    return run(settings, events, job.state, job.datasets.train)


if __name__ == "__main__":
    run_program(main)
