"""What settings of the loss and the rate's course must not say together, and warnings of what has no effect."""

import pytest


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--soft_min_snr", "soft_min_snr needs min_snr_gamma, 5 as a rule"),
        ("--adaptive_noise_scale 0.1", "adaptive_noise_scale changes noise_offset, which is 0; set it"),
        ("--timestep_sampling importance", "draws timesteps by their weights, but all count alike; set min_snr_gamma"),
        ("--loss_type huber --huber_c 2", "huber_c must be at most 1, not 2.0"),
        ("--min_timestep 5 --max_timestep 5", "min_timestep must be below max_timestep, but 5 is not below 5."),
        ("--caption_loss_weights blurry", "must be written words=weight, such as blurry=0.5, not 'blurry'."),
        ("--caption_loss_weights blurry=-1", "must be written words=weight"),
        ("--caption_loss_weights =0.5", "must be written words=weight"),
        ("--lr_warmup_steps 2000", "lr_warmup_steps must not be longer than the run, max_train_steps = 1600"),
        ("--lr_scheduler warmup_stable_decay", "needs lr_decay_steps, such as 0.2"),
        ("--lr_scheduler cosine_with_min_lr", "needs lr_scheduler_min_lr_ratio, such as 0.1."),
        ("--lr_scheduler piecewise_constant", "piecewise_constant needs its rules"),
        ("--lr_scheduler cosine --lr_scheduler_args a=1", "lr_scheduler_args: cosine takes no 'a=1'; leave it out."),
        ("--lr_scheduler cosine --lr_scheduler_args a", "lr_scheduler_args must be written key=value, not 'a'."),
        ("--lr_scheduler_type StepLR --lr_warmup_steps 5", "lr_warmup_steps belongs to the courses of lr_scheduler;"),
        ("--lr_scheduler_type StepLR --lr_decay_steps 5", "lr_decay_steps belongs to the courses of lr_scheduler;"),
        (
            "--lr_scheduler_type StepLR --ti_steps 5 --token_string <a> --init_word b",
            "lr_scheduler_type knows one course for all",
        ),
        ("--scale_weight_norms -1", "scale_weight_norms must be at least 0"),
    ],
)
def test_mistakes(complaints, line: str, sentence: str) -> None:
    told = complaints(*line.split())
    assert sentence in told[0]


@pytest.mark.parametrize(
    "line",
    [
        "--soft_min_snr --min_snr_gamma 5 --timestep_sampling importance",
        "--timestep_sampling importance --debiased_estimation_loss",
        "--loss_type smooth_l1 --huber_schedule constant --huber_c 0.2 --huber_scale 2",
        "--noise_offset 0.1 --noise_offset_random_strength --adaptive_noise_scale -0.1",
        "--multires_noise_iterations 6 --multires_noise_discount 0.5",
        "--ip_noise_gamma 0.1 --ip_noise_gamma_random_strength",
        "--timestep_sampling logit_normal --logit_mean -1 --logit_std 2",
        "--lr_scheduler inverse_sqrt --lr_scheduler_timescale 5 --lr_warmup_steps 3",
        "--lr_scheduler warmup_stable_decay --lr_decay_steps 0.2 --lr_scheduler_min_lr_ratio 0.1",
        "--lr_scheduler_type StepLR --lr_scheduler_args step_size=5",
        "--caption_loss_weights blurry=0.5 a_red_hat=2 x=.5",
    ],
)
def test_what_belongs_together_is_silent(read, capsys, line: str) -> None:
    read(*line.split())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--huber_c 0.2", "'huber_c' changes nothing without loss_type = huber."),
        ("--loss_type l1 --huber_schedule constant", "'huber_schedule' changes nothing without loss_type = huber."),
        ("--loss_type huber --huber_scale 2", "'huber_scale' changes nothing without another huber_schedule than snr."),
        ("--noise_offset_random_strength", "'noise_offset_random_strength' changes nothing without noise_offset."),
        (
            "--multires_noise_discount 0.1",
            "'multires_noise_discount' changes nothing without multires_noise_iterations.",
        ),
        (
            "--ip_noise_gamma_random_strength",
            "'ip_noise_gamma_random_strength' changes nothing without ip_noise_gamma.",
        ),
        ("--logit_mean 1", "'logit_mean' changes nothing without timestep_sampling = logit_normal."),
        ("--lr_scheduler_timescale 5", "'lr_scheduler_timescale' changes nothing without lr_scheduler = inverse_sqrt."),
        ("--lr_decay_steps 5", "'lr_decay_steps' changes nothing with lr_scheduler = constant, which does not fall."),
        (
            "--lr_scheduler inverse_sqrt --lr_scheduler_min_lr_ratio 0.5",
            "'lr_scheduler_min_lr_ratio' changes nothing with lr_scheduler = inverse_sqrt, which does not fall.",
        ),
    ],
)
def test_what_has_no_effect_is_told_and_runs(read, capsys, line: str, sentence: str) -> None:
    """Files of sd-scripts and its interfaces have such lines."""
    read(*line.split())
    assert capsys.readouterr().err == f"warning: {sentence}\n"
