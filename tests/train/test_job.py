"""A run planned from its settings, its latents, and what happens in and around it."""

from library.train.job import arrange, encode_job, plan_job
from library.train.model import build_model


def test_from_settings_to_events(settings_of, family, compute, capsys) -> None:
    changes = {"sample_every_n_steps": 2, "validation_split": 0.25, "max_train_steps": 3, "min_snr_gamma": 5}
    settings = settings_of(**changes, prior_preservation="self", class_prompt="a thing")
    job = plan_job(settings, family, compute)
    told = capsys.readouterr().out
    assert "2 samples an epoch in batches of 2: 3 steps in 3 epochs of 1" in told
    assert job.plan.steps == 3 and job.state is None and job.identity["seed"] == 7
    captions = list(job.captions())
    assert "a thing" in captions and {prompt.text for prompt in job.prompts} < set(captions)
    encoded = encode_job(job)
    assert encoded.watched is not None and encoded.batches.latents.dataset is job.datasets.train
    model = build_model(settings, family, compute, job.plan.steps, job.captions())
    events = arrange(job, encoded, model)
    assert events.training.model is model and events.training.objective.weighting.min_snr_gamma == 5
    assert events.validation.objective.weighting.is_even and events.previews.prompts == job.prompts
    assert (events.facts.pictures, events.facts.validation_pictures) == (2, 2)
    events.report.close()


def test_without_pictures_to_validate_with(settings_of, family, compute) -> None:
    job = plan_job(settings_of(), family, compute)
    assert job.prompts == [] and encode_job(job).watched is None
