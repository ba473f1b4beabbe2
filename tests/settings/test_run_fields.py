"""The defaults that the contracts fix for the run, and choices that are the house's tables."""

from library import lookup, samplers
from library.settings import run_fields
from library.settings.fields import RULES


def test_defaults() -> None:
    network, learning = run_fields.NetworkFields(), run_fields.LearningFields()
    training, saving = run_fields.TrainingFields(), run_fields.SavingFields()
    assert (network.network_module, network.network_dim, network.network_alpha) == (None, 16, 16.0)
    assert (learning.learning_rate, learning.optimizer_type) == (1e-4, "AdamW")
    assert (training.max_train_steps, training.mixed_precision, training.seed) == (1600, "no", 42)
    assert (str(saving.output_dir), saving.output_name, saving.save_model_as) == (
        "output",
        "last",
        "safetensors",
    )
    assert saving.save_precision is None and run_fields.PreviewFields().sample_sampler == "ddim"
    assert str(run_fields.LoggingFields().logging_dir) == "logs"


def test_an_optimizer_may_be_any_class(read) -> None:
    name = "bitsandbytes.optim.AdEMAMix8bit"
    assert read("--optimizer_type", name).optimizer_type == name
    assert [name for name, rule in RULES.items() if rule.dotted] == ["optimizer_type"]


def test_choices_are_the_tables() -> None:
    tables = {
        "network_module": lookup.ADAPTERS,
        "optimizer_type": lookup.OPTIMIZERS,
        "lr_scheduler": lookup.LR_SCHEDULES,
        "sample_sampler": samplers.NAMES,
    }
    for name, table in tables.items():
        assert RULES[name].choices == tuple(table)


def test_samplers_have_many_names(read) -> None:
    for words in ("DPM++ 2M Karras", "k_dpmsolver++_karras", "dpmsolver++_karras"):
        assert read("--sample_sampler", words).sample_sampler == "dpmsolver++_karras"
