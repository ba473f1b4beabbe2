"""The trials: prompts that are drawn again the same, judged by what they say, counted in groups."""

from demo.captions import full_caption
from demo.draw_subject import SEEN_BACKGROUNDS, draw_subject, sample_subject
from demo.trials import GOALS, SUBJECT_GOALS, class_trials, figures, spread, subject_trials, table, world_trials
from demo.world import BACKGROUNDS, draw, random_for, sample


def test_world_trials_know_what_their_prompt_asks_for() -> None:
    trials = world_trials(12, seed=3)
    assert [trial.prompt for trial in trials] == [trial.prompt for trial in world_trials(12, seed=3)]
    assert trials[0].prompt != world_trials(1, seed=4)[0].prompt
    pictures = []
    for index, trial in enumerate(trials):
        rng = random_for(3, index, "judge")
        creature = sample(rng)
        assert trial.prompt == full_caption(creature, rng)
        pictures.append(draw(creature))
    assert all(
        trial.examine(picture) == dict.fromkeys(GOALS, True) for trial, picture in zip(trials, pictures, strict=True)
    )
    assert not all(all(trial.examine(pictures[0]).values()) for trial in trials)


def test_subject_trials_ask_for_every_ground_as_often() -> None:
    trials = subject_trials(24)
    grounds = [trial.prompt.removesuffix(" background").split()[-1] for trial in trials]
    assert sorted(grounds) == sorted(BACKGROUNDS * 3)
    assert trials[1].prompt == "sks creature on an orange background"
    for ground, trial in zip(grounds, trials, strict=True):
        assert trial.group == ("seen" if ground in SEEN_BACKGROUNDS else "unseen")
        right = draw_subject(sample_subject(random_for(0, 0), ground))
        assert all(trial.examine(right).values())
        other = draw_subject(sample_subject(random_for(0, 0), "red" if ground != "red" else "blue"))
        assert [name for name, good in trial.examine(other).items() if not good] == ["background"]
    assert sum(trial.group == "seen" for trial in trials) == 12
    assert set(SUBJECT_GOALS) <= set(trials[0].examine(other))


def test_one_lacking_mark_is_not_all_marks() -> None:
    found = subject_trials(1)[0].examine(draw(sample(random_for(0, 1))))
    assert not found["all marks"] and set(found) >= {"turquoise stripes", "brown stripes", "antennae"}


def test_figures_count_in_groups() -> None:
    found = [{"a": True, "b": True}, {"a": False, "b": True}, {"a": True, "b": False}]
    parts = figures(["seen", "seen", "unseen"], found)
    assert list(figures(["unseen", "unseen", "seen"], found)["a"]) == ["all", "seen", "unseen"]
    assert parts == {
        "a": {"all": 2 / 3, "seen": 0.5, "unseen": 1.0},
        "b": {"all": 2 / 3, "seen": 1.0, "unseen": 0.0},
    }
    assert figures(["all"] * 3, found)["a"] == {"all": 2 / 3}


def test_the_table_shows_groups_and_goals() -> None:
    lines = table({"a": {"all": 0.5, "seen": 1.0}, "long name": {"all": 0.975, "seen": 0.0}}, {"a": 0.8}).splitlines()
    assert lines[0].split() == ["all", "seen", "goal"]
    assert lines[1].split() == ["a", "50.0", "%", "100.0", "%", "80.0", "%"]
    assert lines[2].split() == ["long", "name", "97.5", "%", "0.0", "%"]
    assert table({"a": {"all": 0.5}}, {}).splitlines()[0].split() == ["goal"]


def test_class_trials_tell_creatures_of_the_world_from_the_subject() -> None:
    trials = class_trials(8)
    assert trials[1].prompt == "a creature on an orange background"
    world = [sample(random_for(5, index)) for index in range(40)]
    ordinary = next(one for one in world if one.background == BACKGROUNDS[0])
    assert all(trials[0].examine(draw(ordinary)).values())
    subject = trials[0].examine(draw_subject(sample_subject(random_for(0, 0), BACKGROUNDS[0])))
    assert subject["background"] and not subject["no mark of the subject"]


def test_the_spread_counts_what_is_there() -> None:
    pictures = [draw(sample(random_for(5, index))) for index in range(30)]
    assert spread(pictures[:1] * 7) == {"body colours": 1.0, "shapes": 1.0}
    many = spread(pictures)
    assert 5 < many["body colours"] <= 9 and 3 < many["shapes"] <= 4
    assert spread([pictures[0].resize((1, 1)).resize((128, 128))]) == {"body colours": 0.0, "shapes": 0.0}
