"""The demo's tagger: true tags, a training that learns and goes on, an ONNX file equal to it, and the finished one."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from demo import tagger_training
from demo.tagger_card import GOAL, card, judge, judge_backgrounds, tags_given
from demo.tagger_training import (
    ATTRIBUTES,
    CHARACTERS,
    TAGS,
    Scene,
    build_tagger,
    draw_scene,
    normalized,
    sample_scene,
    tags_of,
    to_onnx,
    train_tagger,
    training_batch,
    weathered,
    write_tags,
)
from demo.training import Budget
from demo.world import SIZE, draw, random_for, sample
from library.prepare.tag_line import CHARACTER, GENERAL, RATING
from library.prepare.tagger import Tagger, open_tagger

DEMO = Path(tagger_training.__file__).parent
SCENES = [sample_scene(random_for(1, number)) for number in range(600)]


@pytest.fixture(scope="module")
def finished() -> Tagger:
    return open_tagger(str(DEMO / "tagger"), "cpu")


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same few pictures at every step."""
    batch = training_batch(0, 0, 6)
    monkeypatch.setattr(tagger_training, "training_batch", lambda seed, step, size: batch)


def test_every_tag_is_true_of_some_scenes_and_of_some_not() -> None:
    always, never = {"general"}, {"sensitive", "questionable", "explicit"}
    sets = [tags_of(scene) for scene in SCENES]
    assert set.union(*sets) == set(TAGS) - never
    assert set.intersection(*sets) == always
    assert len(TAGS) == len(set(TAGS))


def test_what_is_said_of_a_scene() -> None:
    creature = replace(
        sample(random_for(0, 0)), shape="star-shaped", color="turquoise", eyes=2, accessory="none", size="normal",
        place="left", background="red", pattern="plain",
    )  # fmt: skip
    ground = {"general", "red_background", "plain_background"}
    seen = {"solo", "star-shaped_body", "turquoise_body", "two_eyes", "on_the_left", "sea_star_(easel)"}
    assert tags_of(Scene(creature, empty=False)) == ground | seen
    assert tags_of(Scene(replace(creature, color="red"), empty=False)) & set(CHARACTERS) == set()
    assert tags_of(Scene(creature, empty=True)) == ground | {"no_creature"}


def test_scenes_are_mostly_creatures_and_body_and_ground_differ() -> None:
    assert 0.02 < sum(scene.empty for scene in SCENES) / len(SCENES) < 0.09
    assert all(scene.creature.color != scene.creature.background for scene in SCENES)
    named = sum(bool(tags_of(scene) & set(CHARACTERS)) for scene in SCENES)
    assert 0.09 < named / len(SCENES) < 0.25


def test_an_empty_ground_has_one_colour() -> None:
    scene = next(scene for scene in SCENES if scene.empty and scene.creature.pattern == "plain")
    assert len(draw_scene(scene).getcolors()) == 1


def test_weather_leaves_the_picture_what_it_is() -> None:
    picture = draw(SCENES[0].creature)
    worn = [weathered(picture, random_for(2, number)) for number in range(30)]
    assert {image.size for image in worn} == {(SIZE, SIZE)} and {image.mode for image in worn} == {"RGB"}
    apart = [np.abs(np.asarray(image, float) - np.asarray(picture)).mean() for image in worn]
    assert len({image.tobytes() for image in worn}) == 30 and max(apart) < 60


def test_batches_depend_on_their_arguments_alone() -> None:
    pictures, truths = training_batch(0, 3, 4)
    again, other = training_batch(0, 3, 4), training_batch(1, 3, 4)
    assert pictures.shape == (4, SIZE, SIZE, 3) and truths.shape == (4, len(TAGS))
    assert torch.equal(pictures, again[0]) and torch.equal(truths, again[1])
    assert not torch.equal(pictures, other[0])
    assert pictures.max() > 200 and set(truths.unique().tolist()) == {0.0, 1.0}


def test_it_learns_and_an_interrupted_run_goes_on_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    monkeypatch.setattr(tagger_training, "rate_factor", lambda budget: 1.0)
    unbroken, counts = train_tagger(tmp_path / "a", Budget(1.0, steps=12), 0)
    train_tagger(tmp_path / "b", Budget(1.0, steps=5), 0)
    resumed, counts_again = train_tagger(tmp_path / "b", Budget(1.0, steps=12), 0)
    for name, weight in unbroken.state_dict().items():
        assert torch.allclose(weight, resumed.state_dict()[name], atol=1e-6), name
    assert torch.equal(counts, counts_again) and counts[TAGS.index("general")] == 72
    pictures, truths = training_batch(0, 0, 6)
    torch.manual_seed(0)
    losses = [
        torch.nn.functional.binary_cross_entropy_with_logits(network.train()(normalized(pictures)), truths).item()
        for network in (build_tagger(), unbroken)
    ]
    assert losses[1] < 0.7 * losses[0]


def test_the_file_gives_what_the_network_gives(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network, (pictures, _) = build_tagger(), training_batch(0, 0, 5)
    network.train()(normalized(pictures))  # norms get statistics that are not all 0 and 1
    onnx.save(to_onnx(network), tmp_path / "model.onnx")
    write_tags(tmp_path / "selected_tags.csv", torch.arange(len(TAGS)))
    tagger = open_tagger(str(tmp_path), "cpu")
    assert tagger.form.side == SIZE and tagger.form.batch is None and not tagger.form.channels_first
    with torch.no_grad():
        expected = torch.sigmoid(network.eval()(normalized(pictures))).numpy()
    assert tagger.probabilities(pictures.numpy()) == pytest.approx(expected, abs=1e-5)
    assert expected.std() > 0.005


def test_the_list_is_in_the_format_of_wd_taggers(tmp_path: Path) -> None:
    write_tags(tmp_path / "selected_tags.csv", torch.arange(len(TAGS)))
    with open(tmp_path / "selected_tags.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["tag_id", "name", "category", "count"]
    assert [row[1] for row in rows] == TAGS and [int(row[3]) for row in rows] == list(range(len(TAGS)))
    categories = {row[1]: int(row[2]) for row in rows}
    assert [categories[name] for name in ATTRIBUTES["rating"]] == [RATING] * 4
    assert {name for name, category in categories.items() if category == CHARACTER} == set(CHARACTERS)
    assert categories["solo"] == categories["red_body"] == GENERAL


def test_the_finished_tagger_is_small_and_of_this_world(finished: Tagger) -> None:
    assert [tag.name for tag in finished.tags] == TAGS
    assert sum(path.stat().st_size for path in (DEMO / "tagger").iterdir()) < 1_050_000
    assert {path.name for path in (DEMO / "tagger").iterdir()} == {"model.onnx", "selected_tags.csv", "README.md"}


@pytest.mark.parametrize("is_weathered", [False, True])
def test_the_finished_tagger_knows_its_world(finished: Tagger, is_weathered: bool) -> None:
    figures = judge(finished, 60, 5, is_weathered)
    assert set(figures) == set(ATTRIBUTES)
    assert min(figures.values()) >= GOAL - 0.04, figures


def test_the_finished_tagger_knows_empty_grounds_and_names(finished: Tagger) -> None:
    empty = [scene for scene in SCENES if scene.empty][:10]
    named = [scene for scene in SCENES if tags_of(scene) & set(CHARACTERS) and not scene.empty][:20]
    right = sum(tags_given(finished, draw_scene(scene)) == tags_of(scene) for scene in empty + named)
    assert right >= 27
    assert len(empty + named) == 30


def test_the_finished_tagger_sees_the_ground_behind_a_stranger(finished: Tagger) -> None:
    right, count = judge_backgrounds(finished, DEMO / "subject")
    assert count == 15 and right >= 14


def test_a_judge_without_knowledge_is_seldom_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    onnx.save(to_onnx(build_tagger()), tmp_path / "model.onnx")
    write_tags(tmp_path / "selected_tags.csv", torch.ones(len(TAGS)))
    figures = judge(open_tagger(str(tmp_path), "cpu"), 10, 0)
    assert max(figures.values()) < 0.5


def test_the_card_tells_what_was_measured() -> None:
    facts = dict.fromkeys(("steps", "seed", "batch", "pictures", "parameters", "kilobytes", "minutes", "count"), 7)
    drawn, worn = dict.fromkeys(ATTRIBUTES, 0.995), dict.fromkeys(ATTRIBUTES, 0.98)
    text = card({**facts, "machine": "a core"}, drawn, worn, (3, 9))
    assert "| eyes | 99.5 % | 98.0 % | 97 % |" in text and "`sea_star_(easel)`" in text
    assert "of the 9 pictures in `demo/subject`" in text and "3 right" in text
