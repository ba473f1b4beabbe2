"""The written file gives the same settings again, whatever they were."""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from library.errors import InputError
from library.settings import DatasetTable, Settings, SubsetTable, read_settings, write_settings
from library.settings.fields import HINTS, RULES
from library.settings.rules import Rule

Read = Callable[..., Settings]

TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=12)
SIZES = st.tuples(*[st.integers(1, 16).map(lambda n: 64 * n)] * 2)
SPANS = st.tuples(st.floats(0.01, 9), st.floats(9, 99))
# Fields whose values other fields or the file system limit; each is given here as a person might.
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "quantize_base": st.just("no"),  # the others go with few kinds of adapters alone
    "selective_checkpointing": st.just(False),  # true goes with neither compile nor gradient_checkpointing
    "cuda_graphs": st.just(False),  # true goes with little of what may come beside it
    "pretrained_model_name_or_path": st.sampled_from(["a/b", "pictures", "./pictures"]),
    "vae": st.sampled_from([None, "c/d"]),
    "train_data_dir": st.just(Path("pictures")),
    "reg_data_dir": st.sampled_from([None, Path("pictures")]),
    "conditioning_data_dir": st.sampled_from([None, Path("pictures")]),
    "in_json": st.sampled_from([None, Path("file.txt")]),
    "sample_prompts": st.sampled_from([None, Path("file.txt")]),
    "network_weights": st.sampled_from([None, Path("file.txt")]),
    "resume": st.sampled_from([None, "auto", "pictures"]),
    "dim_from_weights": st.just(False),
    "network_args": st.lists(st.integers(1, 9).map("conv_dim={}".format), max_size=1).map(tuple),
    "network_layers": st.just(()),
    "network_preset": st.none() | st.sampled_from(["attn-only", "attn-mlp", "full"]),
    "conv_dim": st.none(),
    "optimizer_args": st.lists(TEXTS.map("b=".__add__), max_size=3).map(tuple),
    "network_train_unet_only": st.just(False),
    "optimizer_type": st.sampled_from(["AdamW", "PagedAdamW8bit", "Prodigy", "torch.optim.RAdam"]),
    "soft_min_snr": st.just(False),
    "timestep_sampling": st.sampled_from(["uniform", "logit_normal"]),
    "noise_offset": st.floats(0.001, 9),
    "huber_c": st.floats(0.001, 1),
    "caption_loss_weights": st.lists(st.sampled_from(["a b=0.5", "名前=2"]), max_size=3).map(tuple),
    "lr_decay_steps": st.none() | st.integers(1, 5) | st.floats(0.001, 0.999),
    "lr_scheduler": st.sampled_from(["constant", "cosine", "rex"]),
    "lr_scheduler_type": st.none(),
    "lr_scheduler_args": st.just(()),
    **dict.fromkeys(("instance_prompt", "class_prompt"), TEXTS),
    "prior_preservation": st.none(),
    "network_module": st.just("lora"),
    **dict.fromkeys(("train_text_encoder", "full_bf16", "fused_backward_pass"), st.just(False)),
    **dict.fromkeys(("learning_rate_te", "learning_rate_te1", "stop_text_encoder_training"), st.none()),
    "token_string": st.just("<new>"),
    "init_word": TEXTS,
    "ti_steps": st.none() | st.integers(1, 4) | st.floats(0.001, 0.999),
    "embedding_only": st.just(False),
    "ema": st.just(True),
    "save_model_as": st.sampled_from(["safetensors", "diffusers"]),
    "learning_rate": st.floats(1e-9, 1),
    "unet_lr": st.none() | st.floats(1e-9, 1),
    "lr_warmup_steps": st.integers(0, 5) | st.floats(0.001, 0.999),
    "token_warmup_step": st.integers(0, 5) | st.floats(0.001, 0.999),
    "cache_text_encoder_outputs": st.just(False),
    "max_train_steps": st.integers(5, 10**6),
    "min_timestep": st.none() | st.integers(0, 400),
    "max_timestep": st.none() | st.integers(500, 1000),
    "caption_extension": st.sampled_from([".txt", ".caption"]),
    "output_name": st.sampled_from(["last", "mein erstes", "名前"]),
    "output_dir": st.sampled_from([Path("output"), Path("a b/c")]),
    "logging_dir": st.sampled_from([Path("logs"), Path("a\\b")]),
    "cache_dir": st.sampled_from([None, Path("cache")]),
    "max_bucket_reso": st.sampled_from([1024, 2048]),
    "min_bucket_reso": st.integers(64, 512),
    "bucket_reso_steps": st.just(64),
    "network_alpha": st.floats(0.125, 512),
}


def _values(hint: Any, rule: Rule) -> st.SearchStrategy[Any]:
    """Allowed values of a field of the type `hint`."""
    if get_origin(hint) in (Union, UnionType):
        return st.none() | _values(get_args(hint)[0], replace(rule, low=max(rule.low or 0, 1e-6)))
    if rule.choices:
        return st.sampled_from(rule.choices)
    low, high = rule.low or 0, 10**6 if rule.high is None else rule.high
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-(-low // 1) if low > 1e-6 else round(low + 0.499999), int(high)),
        float: st.floats(low, high, allow_subnormal=False),
        str: TEXTS,
        tuple[int, int]: SIZES,
        tuple[float, float]: SPANS,
    }
    return by_type[hint]


FLAT = st.fixed_dictionaries(
    {name: SPECIAL[name] if name in SPECIAL else _values(HINTS[name], rule) for name, rule in RULES.items()}
)
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "class_tokens": st.none() | TEXTS,
    "num_repeats": st.none() | st.integers(1, 99),
    "shuffle_caption": st.none() | st.booleans(),
    "keep_tokens": st.none() | st.integers(0, 9),
    "color_aug": st.none() | st.booleans(),
    "face_crop_aug_range": st.none() | SPANS,
    "resize_interpolation": st.sampled_from([None, "area", "nearest"]),
    "conditioning_data_dir": st.sampled_from([None, Path("pictures")]),
    "caption_prefix": st.none() | TEXTS,
    "caption_dropout_rate": st.none() | st.floats(0, 1),
    "secondary_separator": st.none() | TEXTS,
    "enable_wildcard": st.none() | st.booleans(),
    "trigger_words": st.none() | TEXTS,
    "token_warmup_min": st.none() | st.integers(0, 9),
    "token_warmup_step": st.none() | st.integers(0, 500) | st.floats(0.001, 0.999),
}
FOLDERS = st.sampled_from([{"image_dir": Path("pictures")}, {"metadata_file": Path("file.txt")}])
SUBSETS = st.builds(lambda folder, **keys: SubsetTable(**folder, **keys), folder=FOLDERS, **KEYS)
DATASETS = st.builds(
    DatasetTable,
    resolution=st.none() | SIZES,
    bucket_no_upscale=st.none() | st.booleans(),
    subsets=st.tuples(SUBSETS),
    **KEYS,
)


def _again(settings: Settings) -> Settings:
    write_settings(settings, "again.toml")
    return read_settings(["--config", "again.toml"])


MANY = effort(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@MANY
@given(values=FLAT)
def test_settings_come_back_equal(values: dict[str, Any]) -> None:
    Path("file.txt").touch()
    # The first reading settles what follows from other values, such as the shortest bucket side.
    settled = _again(Settings(**values))
    assert _again(settled) == settled
    kept = {name for name in values if getattr(settled, name) == values[name]}
    assert set(values) - kept <= {"min_bucket_reso", "max_bucket_reso", "pretrained_model_name_or_path"}


@MANY
@given(datasets=st.lists(DATASETS, min_size=1, max_size=3).map(tuple))
def test_dataset_tables_come_back_equal(datasets: tuple[DatasetTable, ...]) -> None:
    Path("file.txt").touch()
    settings = Settings(pretrained_model_name_or_path="a/b", network_module="lora", datasets=datasets)
    assert _again(settings) == settings


WHOLE = {
    "network_module": None,
    "train_text_encoder": True,
    "learning_rate_te": 1e-6,
    "learning_rate_te1": 2e-6,
    "learning_rate_te2": 3e-6,
    "stop_text_encoder_training": 7,
    "full_bf16": True,
    "fused_backward_pass": True,
    "max_grad_norm": 0.0,
    "mixed_precision": "bf16",
    "ema": True,
    "ema_decay": 0.99,
    "ema_device": "cpu",
    "save_model_as": "both",
}


def test_whole_models_come_back_equal() -> None:
    settings = Settings(pretrained_model_name_or_path="a/b", train_data_dir=Path("pictures"), **WHOLE)
    settings = replace(settings, min_bucket_reso=256)
    write_settings(settings, "again.toml")
    assert read_settings(["--config", "again.toml"], program="train_dreambooth") == settings
    assert "network" not in tomllib.loads(Path("again.toml").read_text())


def test_only_what_matters_is_written(read: Read) -> None:
    write_settings(read("--flip_aug"), "out.toml")
    document = tomllib.loads(Path("out.toml").read_text())
    assert document["pictures"] == {
        "train_data_dir": "pictures",
        "resolution": [512, 512],
        "train_batch_size": 1,
        "flip_aug": True,
    }
    assert document["network"] == {"network_module": "lora", "network_dim": 16, "network_alpha": 16.0}
    assert "captions" not in document and "previews" not in document


CAPTION_WORDS = {
    "in_json": Path("captions.jsonl"),
    "secondary_separator": ";;;",
    "enable_wildcard": True,
    "trigger_words": 'sks, "the" dög',
    "token_warmup_min": 2,
    "token_warmup_step": 0.25,
    "weighted_captions": True,
    "cache_text_encoder_outputs": True,
}


def test_every_word_about_captions_is_written_and_comes_back(read: Read) -> None:
    Path("captions.jsonl").touch()
    words = [word for name, value in CAPTION_WORDS.items() for word in (f"--{name}", str(value).lower())]
    words[words.index("--trigger_words") + 1] = CAPTION_WORDS["trigger_words"]
    settings = read(*words, "--network_train_unet_only")
    write_settings(settings, "out.toml")
    document = tomllib.loads(Path("out.toml").read_text())
    assert document["captions"] == {**CAPTION_WORDS, "in_json": "captions.jsonl"}
    assert _again(settings) == settings


def test_written_whole_or_not_at_all(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read()
    write_settings(settings, "out/run.toml")
    before = Path("out/run.toml").read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk"):
        write_settings(replace(settings, seed=1), "out/run.toml")
    assert Path("out/run.toml").read_bytes() == before
    assert [path.name for path in Path("out").iterdir()] == ["run.toml"]


def test_reading_what_was_written_after_a_dataset_file(read: Read) -> None:
    Path("data.toml").write_text("[[datasets]]\nbatch_size = 3\n[[datasets.subsets]]\nimage_dir = 'pictures'\n")
    words = ["--pretrained_model_name_or_path", "a/b", "--dataset_config", "data.toml"]
    settings = read(*words, complete=False)
    assert _again(settings) == settings
    written = Path("again.toml").read_text()
    assert "train_batch_size" not in written and "resolution" in written, "only what the tables leave open"
    with pytest.raises(InputError, match="dataset_config cannot be set"):
        read_settings(["--config", "again.toml", "--dataset_config", "data.toml"])
