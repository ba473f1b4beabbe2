"""Dataset tables: what each key inherits, what is one for the whole run, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from library.settings import DatasetTable, Settings, SubsetTable

Read = Callable[..., Settings]
Complaints = Callable[..., tuple[str, ...]]

TWO_SIZES = """
[general]
shuffle_caption = true
caption_extension = ".caption"
keep_tokens = 1
seed = 5

[[datasets]]
resolution = 512
batch_size = 2
keep_tokens = 2

  [[datasets.subsets]]
  image_dir = "pictures"
  class_tokens = "sks dog"
  num_repeats = 10

  [[datasets.subsets]]
  image_dir = "others"
  is_reg = true
  class_tokens = "dog"
  keep_tokens = 3
  shuffle_caption = false

[[datasets]]
resolution = [768, 1024]
batch_size = 4
min_bucket_reso = 320

  [[datasets.subsets]]
  image_dir = "pictures"
"""


@pytest.fixture(autouse=True)
def _more_pictures() -> None:
    Path("others").mkdir()


def _model(read: Read, toml: str, *words: str) -> Settings:
    return read("--pretrained_model_name_or_path", "a/b", *words, toml=toml, complete=False)


def _refusals(complaints: Complaints, toml: str, *words: str) -> tuple[str, ...]:
    return complaints("--pretrained_model_name_or_path", "a/b", *words, toml=toml, complete=False)


def test_subset_beats_dataset_beats_general_beats_the_flat_settings(read: Read) -> None:
    settings = _model(read, TWO_SIZES, "--flip_aug", "--dataset_repeats", "4")
    first, second, third = settings.subset_tables()
    assert [s.keep_tokens for s in (first, second, third)] == [2, 3, 1]
    assert [s.shuffle_caption for s in (first, second, third)] == [True, False, True]
    assert [s.num_repeats for s in (first, second, third)] == [10, 4, 4]
    assert all(s.flip_aug and s.caption_extension == ".caption" for s in (first, second, third))
    assert (first.is_reg, second.is_reg) == (False, True)
    assert (first.class_tokens, third.class_tokens) == ("sks dog", None)
    assert third.image_dir == Path("pictures")


def test_each_dataset_has_its_size_its_buckets_and_its_batches(read: Read) -> None:
    first, _, third = _model(read, TWO_SIZES).subset_tables()
    assert (first.resolution, first.min_bucket_reso, first.batch_size) == ((512, 512), 256, 2)
    assert (third.resolution, third.min_bucket_reso, third.batch_size) == ((768, 1024), 320, 4)
    first, _, third = _model(read, TWO_SIZES.replace("batch_size = 2", ""), "--train_batch_size", "3").subset_tables()
    assert (first.batch_size, third.batch_size) == (3, 4)


def test_a_small_dataset_lowers_its_shortest_side(read: Read) -> None:
    toml = "[[datasets]]\nresolution = 128\n[[datasets.subsets]]\nimage_dir = 'pictures'\n"
    (subset,) = _model(read, toml).subset_tables()
    assert subset.min_bucket_reso == 128


def test_what_is_one_for_the_run_becomes_flat(read: Read) -> None:
    settings = _model(read, TWO_SIZES.replace("seed = 5", "validation_split = 0.1\nvalidation_seed = 3"))
    assert (settings.validation_split, settings.validation_seed) == (0.1, 3)


def test_general_may_hold_settings_of_the_run(read: Read) -> None:
    assert _model(read, TWO_SIZES).seed == 5


def test_the_same_tables_from_a_file_of_their_own(read: Read) -> None:
    tables = TWO_SIZES.replace("seed = 5\n", "")
    Path("data.toml").write_text(tables)
    apart = read("--pretrained_model_name_or_path", "a/b", "--dataset_config", "data.toml", complete=False)
    assert apart == _model(read, tables)
    assert len(apart.datasets) == 2


def test_tables_as_json(read: Read) -> None:
    tables = {
        "datasets": [{"resolution": [64, 128], "subsets": [{"image_dir": "pictures", "num_repeats": 3}]}]
    }
    Path("data.json").write_text(json.dumps(tables))
    settings = read("--pretrained_model_name_or_path", "a/b", "--dataset_config", "data.json", complete=False)
    subset = SubsetTable(image_dir=Path("pictures"), num_repeats=3)
    assert settings.datasets == (DatasetTable(resolution=(64, 128), subsets=(subset,)),)


METADATA = """
[general]
secondary_separator = ";;;"
trigger_words = "sks"
token_warmup_step = 0.5

[[datasets]]
enable_wildcard = true
token_warmup_min = 3

  [[datasets.subsets]]
  metadata_file = "captions.json"

  [[datasets.subsets]]
  metadata_file = "more.jsonl"
  image_dir = "pictures"
  secondary_separator = "---"
  token_warmup_step = 7
  enable_wildcard = false

  [[datasets.subsets]]
  image_dir = "others"
  is_reg = true
"""


def test_files_that_name_pictures_and_what_captions_inherit(read: Read) -> None:
    for name in ("captions.json", "more.jsonl"):
        Path(name).touch()
    alone, with_folder, reg = _model(read, METADATA, "--trigger_words", "flat").subset_tables()
    assert (alone.metadata_file, alone.image_dir) == (Path("captions.json"), None)
    assert (with_folder.metadata_file, with_folder.image_dir) == (Path("more.jsonl"), Path("pictures"))
    assert [s.secondary_separator for s in (alone, with_folder, reg)] == [";;;", "---", ";;;"]
    assert [s.token_warmup_step for s in (alone, with_folder, reg)] == [0.5, 7, 0.5]
    assert [s.token_warmup_min for s in (alone, with_folder, reg)] == [3, 3, 3]
    assert [s.enable_wildcard for s in (alone, with_folder, reg)] == [True, False, True]


def test_the_class_does_not_learn_the_trigger_words_unless_its_own_table_says_so(read: Read) -> None:
    for name in ("captions.json", "more.jsonl"):
        Path(name).touch()
    first, second, reg = _model(read, METADATA).subset_tables()
    assert [s.trigger_words for s in (first, second, reg)] == ["sks", "sks", None]
    own = _model(read, METADATA + "  trigger_words = 'cls'\n").subset_tables()[-1]
    assert own.trigger_words == "cls"


def test_a_file_of_captions_gives_way_to_tables(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    assert _model(read, TWO_SIZES, "--in_json", "nowhere.json").in_json is None
    assert "and neither is in_json" in capsys.readouterr().err


def test_folder_settings_give_way_to_tables(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    settings = _model(read, TWO_SIZES, "--train_data_dir", "nowhere")
    assert settings.train_data_dir is None
    assert "train_data_dir and reg_data_dir are not read" in capsys.readouterr().err


def test_a_word_on_the_command_line_that_tables_overrule_is_told(
    read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = _model(read, TWO_SIZES, "--resolution", "256")
    assert settings.subset_tables()[0].resolution == (512, 512)
    assert "command line: resolution does not count where the dataset tables set" in capsys.readouterr().err


SUBSET = "[[datasets.subsets]]\nimage_dir = 'pictures'\n"


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        (
            f"[[datasets]]\nresolutoin = 512\n{SUBSET}",
            "run.toml, [[datasets]] 1: 'resolutoin' is unknown in this table; did",
        ),
        (
            f"[[datasets]]\n{SUBSET}num_repeat = 3\n",
            "[[datasets]] 1, [[datasets.subsets]] 1: 'num_repeat' is unknown",
        ),
        (f"[[datasets]]\n{SUBSET}num_repeats = 'x'\n", "1: num_repeats must be a whole number, not 'x'."),
        (f"[[datasets]]\n{SUBSET}num_repeats = 0\n", "1: num_repeats must be between 1 and 100000, not 0."),
        (
            f"[[datasets]]\n{SUBSET}resolution = 512\n",
            "'resolution' belongs into [[datasets]] or [general]; move it",
        ),
        (
            f"[[datasets]]\nimage_dir = 'pictures'\n{SUBSET}",
            "'image_dir' belongs into [[datasets.subsets]]; move it",
        ),
        (
            f"[[datasets]]\n{SUBSET}seed = 3\n",
            "'seed' is a setting of the whole run; move it to another section.",
        ),
        (
            f"[[datasets]]\n{SUBSET}masked_loss = true\n",
            "'masked_loss' is a setting of the whole run; move it to another section.",
        ),
        (
            f"[[datasets]]\n{SUBSET}face_crop_aug_range = [2.0]\n",
            "face_crop_aug_range must be two numbers above 0",
        ),
        (
            f"[[datasets]]\n{SUBSET}conditioning_data_dir = 'no'\n",
            "conditioning_data_dir 'no' does not exist; give an existing folder of pictures.",
        ),
        (
            f"[[datasets]]\n{SUBSET}custom_attributes = {{a = 1}}\n",
            "'custom_attributes' is not supported: the loss is",
        ),
        (
            f"[[datasets]]\n{SUBSET}metadata_file = 'm.json'\n",
            "metadata_file 'm.json' does not exist; give a JSON or JSONL file that names pictures.",
        ),
        (
            f"[[datasets]]\nmetadata_file = 'm.json'\n{SUBSET}",
            "'metadata_file' belongs into [[datasets.subsets]]; move it",
        ),
        (
            "[[datasets]]\n" + "[[datasets.subsets]]\nmetadata_file = 'run.toml'\n" * 2,
            "metadata_file 'run.toml' is there twice; raise num_repeats instead.",
        ),
        (
            f"[[datasets]]\n{SUBSET}weighted_captions = true\n",
            "'weighted_captions' is a setting of the whole run; move it to another section.",
        ),
        (
            f"[general]\nresolutoin = 512\n[[datasets]]\n{SUBSET}",
            "run.toml, section [general]: 'resolutoin' is",
        ),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 2\n", "1: image_dir is missing; name the folder"),
        ("[[datasets]]\nresolution = 512\n", "[[datasets]] 1: no pictures; add a [[datasets.subsets]]"),
        (
            f"[[datasets]]\n{SUBSET}{SUBSET}",
            "image_dir 'pictures' is there twice; raise num_repeats instead.",
        ),
        (
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'gone'\n",
            "image_dir 'gone' does not exist; give an",
        ),
        (
            f"[[datasets]]\n{SUBSET}is_reg = true\n",
            "every [[datasets.subsets]] has is_reg; at least one must",
        ),
        (
            f"[[datasets]]\nresolution = 1536\n{SUBSET}",
            "max_bucket_reso must not be below the resolution, 1536,",
        ),
        (
            f"[[datasets]]\nvalidation_split = 0.2\n{SUBSET}[[datasets]]\n{SUBSET}",
            "validation_split must be one for all [[datasets]], not 0.0 and 0.2; move it to [general].",
        ),
        (
            f"[[dataset]]\n{SUBSET.replace('datasets', 'dataset')}",
            "run.toml: 'dataset' is not a setting; did you mean 'datasets'?",
        ),
        (
            "[datasets]\nresolution = 512\n",
            "run.toml: datasets must be written as [[datasets]], with two brackets.",
        ),
        (
            "[[datasets]]\n[datasets.subsets]\n",
            "subsets must be written as [[datasets.subsets]], with two brackets.",
        ),
        (
            f"general = 5\n[[datasets]]\n{SUBSET}",
            "run.toml, section [general]: 'general' is unknown in this table",
        ),
    ],
)
def test_mistakes_in_tables(toml: str, sentence: str, complaints: Complaints) -> None:
    told = _refusals(complaints, toml)
    assert sum(sentence in said for said in told) == 1, told


def test_tables_in_both_files(complaints: Complaints) -> None:
    Path("data.toml").write_text("[[datasets]]\n" + SUBSET)
    (sentence,) = _refusals(complaints, "[[datasets]]\n" + SUBSET, "--dataset_config", "data.toml")
    assert sentence == "command line: dataset_config cannot be set, because run.toml has [[datasets]] too."


def test_other_things_in_a_dataset_file(complaints: Complaints) -> None:
    Path("data.toml").write_text("[training]\nseed = 3\n")
    assert _refusals(complaints, "", "--dataset_config", "data.toml") == (
        "data.toml: 'training' is not part of a dataset file; move it to the --config.",
        "data.toml has no [[datasets]]; add one with [[datasets.subsets]] in it.",
    )
    Path("data.toml").write_text(f"[[dataset]]\n{SUBSET.replace('datasets', 'dataset')}")
    first, _ = _refusals(complaints, "", "--dataset_config", "data.toml")
    assert first == "data.toml: 'dataset' is not part of a dataset file; did you mean 'datasets'?"
