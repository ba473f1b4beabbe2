"""What decides a run, and what the metadata tells of it."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from library.settings import Settings
from library.train.data import Datasets, open_datasets
from library.train.facts import FREE_PREFIXES, FREE_TO_CHANGE, run_identity, training_facts
from library.train.plan import make_plan
from library.train.state import State
from tests.runs import draw_mask


@pytest.fixture
def identity_of(settings_of, family):
    """What decides a run of the toy with some settings."""

    def _identity(**changes):
        settings = settings_of(**changes)
        dataset = open_datasets(settings).train
        return run_identity(settings, family, dataset, make_plan(settings, dataset, 1))

    return _identity


def test_names_that_are_free_are_settings() -> None:
    names = set(Settings.__dataclass_fields__)
    assert names >= FREE_TO_CHANGE
    assert all(any(name.startswith(prefix) for name in names) for prefix in FREE_PREFIXES)
    assert not any(name.startswith(FREE_PREFIXES) for name in ("learning_rate", "seed", "network_dim", "lr_scheduler"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 9), ("learning_rate", 1), ("network_dim", 4), ("noise_offset", 0.1), ("lr_scheduler", "cosine")]
    + [
        ("shuffle_caption", True),
        ("resolution", 128),
        ("max_grad_norm", 0),
        ("clip_skip", 2),
        ("network_dropout", 0.1),
        ("token_warmup_step", 0.5),
        ("weighted_captions", True),
        ("enable_wildcard", True),
    ],
)
def test_what_decides(identity_of, name: str, value: object) -> None:
    before, after = identity_of(), identity_of(**{name: value})
    differing = {key for key in before if before[key] != after[key]}
    assert name in differing and differing <= {name, "pictures_and_captions", "min_bucket_reso"}


@pytest.mark.parametrize(
    "changes",
    [
        {"max_train_steps": 99, "output_name": "other", "save_every_n_epochs": 1, "log_every_n_steps": 5},
        {"train_batch_size": 1, "gradient_accumulation_steps": 2},
        {"mixed_precision": "bf16", "cache_latents": False, "max_data_loader_n_workers": 2},
    ],
)
def test_what_does_not(identity_of, changes: dict) -> None:
    assert identity_of(**changes) == identity_of()


def test_where_text_outputs_are_kept_does_not(identity_of) -> None:
    frozen = {"network_train_unet_only": True}
    assert identity_of(cache_text_encoder_outputs=True, **frozen) == identity_of(**frozen)


def test_crops_and_masks_decide(identity_of, bench, tmp_path) -> None:
    chances = {"random_crop": True, "color_aug": True}
    assert identity_of(cache_variants=2) == identity_of(), "without chances there are no variants"
    assert identity_of(cache_variants=2, **chances) != identity_of(**chances)
    assert identity_of(cache_latents=False, **chances) != identity_of(**chances)
    folder = tmp_path / "masked"
    shutil.copytree(bench.pictures, folder)
    masked = {"masked_loss": True, "train_data_dir": folder}
    bare = identity_of(**masked)
    draw_mask(folder / "000.png")
    beside = identity_of(**masked)
    assert beside["pictures_and_captions"] != bare["pictures_and_captions"]
    (tmp_path / "masks").mkdir()
    (folder / "000-masklabel.png").rename(tmp_path / "masks" / "000.png")
    assert identity_of(**masked, conditioning_data_dir=tmp_path / "masks") == beside, "wherever it lies"


def test_batches_of_tables_decide_however_they_are_cut(identity_of, bench, tmp_path) -> None:
    def tables(first: int, second: int, **changes):
        rows = (f"[[datasets]]\nresolution = {64 * n}\nbatch_size = {size}\n" for n, size in ((1, first), (2, second)))
        subset = f"[[datasets.subsets]]\nimage_dir = '{bench.pictures}'\n"
        (tmp_path / "data.toml").write_text(subset.join((*rows, "")))
        return identity_of(train_data_dir=None, dataset_config=tmp_path / "data.toml", **changes)

    assert tables(4, 2) == tables(2, 1, gradient_accumulation_steps=2)
    assert tables(4, 2) != tables(4, 4) and tables(4, 2) != tables(2, 4)


def test_captions_decide(identity_of, bench) -> None:
    assert identity_of(caption_extension=".none")["pictures_and_captions"] != identity_of()["pictures_and_captions"]


@pytest.fixture
def facts_of(settings_of, family, tiny):
    """The facts of a run of the toy."""

    def _facts(state: State | None = None, **changes):
        settings = settings_of(**changes)
        datasets: Datasets = open_datasets(settings)
        learner = SimpleNamespace(learned=tiny, optimizer=torch.optim.SGD(tiny.parameters("unet"), lr=1))
        plan = make_plan(settings, datasets.train, 1)
        return training_facts(settings, family, learner, plan, datasets, state)

    return _facts


def test_facts(facts_of) -> None:
    facts = facts_of(max_train_epochs=3, gradient_accumulation_steps=2, validation_split=0.3, lr_warmup_steps=0.5)
    assert (facts.epochs, facts.batch_size, facts.total_batch_size) == (3, 2, 4)
    assert facts.pictures + facts.validation_pictures == 4 and facts.validation_pictures > 0
    assert facts.optimizer.startswith("torch.optim.sgd.SGD(")
    assert facts.warmup_steps == round(0.5 * 3 * -(-facts.pictures // 4))


def test_facts_of_tables(facts_of, bench, tmp_path) -> None:
    """As sd-scripts words them in ss_datasets."""
    (tmp_path / "meta.json").write_text(json.dumps({path.name: {"tags": "x"} for path in bench.pictures.glob("*.png")}))
    (tmp_path / "data.toml").write_text(f"""
        [general]
        secondary_separator = ';;;'
        [[datasets]]
        resolution = 64
        [[datasets.subsets]]
        image_dir = '{bench.pictures}'
        num_repeats = 2
        class_tokens = 'thing'
        enable_wildcard = true
        [[datasets]]
        resolution = 128
        [[datasets.subsets]]
        metadata_file = '{tmp_path / "meta.json"}'
        image_dir = '{bench.pictures}'
        caption_prefix = 'best'
    """)
    facts = facts_of(train_data_dir=None, dataset_config=tmp_path / "data.toml")
    folder, file = json.loads(json.dumps(facts.datasets))
    assert (folder["is_dreambooth"], folder["num_train_images"], folder["num_reg_images"]) == (True, 8, 0)
    assert folder["resolution"] == [64, 64] and folder["batch_size_per_device"] == 2
    assert folder["bucket_info"] == {"buckets": {"0": {"resolution": [64, 64], "count": 8}}}
    (subset,) = folder["subsets"]
    expected = {"img_count": 4, "num_repeats": 2, "enable_wildcard": True, "secondary_separator": ";;;"}
    expected |= {"image_dir": bench.pictures.name, "class_tokens": "thing", "is_reg": False}
    assert subset | expected == subset and "metadata_file" not in subset
    assert file["is_dreambooth"] is False and file["subsets"][0]["metadata_file"] == "meta.json"
    assert file["subsets"][0]["caption_prefix"] == "best" and "image_dir" not in file["subsets"][0]
    assert file["tag_frequency"] == {"meta.json": {"x": 4}}
    assert facts_of().datasets == [] and str(bench.folder) not in json.dumps(facts.datasets)


def test_no_path_is_told(facts_of, bench) -> None:
    assert str(bench.folder) not in repr(facts_of().settings)
    assert "train_data_dir" not in facts_of().settings


def test_a_resumed_run_began_earlier(facts_of) -> None:
    assert facts_of(State({}, {}, {"started_at": 123.0}, {})).started_at == 123.0
    assert facts_of().started_at > 1.6e9
