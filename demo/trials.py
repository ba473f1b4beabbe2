"""What the judge is asked: prompts of the world, of the subject or of its class, and the figures over all pictures."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from demo.captions import full_caption
from demo.draw_subject import SEEN_BACKGROUNDS
from demo.judge import agreement, judge
from demo.judge_subject import judge_marks
from demo.sight import look
from demo.world import BACKGROUNDS, Creature, random_for, sample

GOALS = {
    "background": 0.97,
    "body": 0.95,
    "shape": 0.92,
    "accessory": 0.90,
    "not smeared": 1.0,
}  # of the base model
SUBJECT_GOALS = {"all marks": 0.80, "background": 0.70}  # of a LoRA trained on demo/subject

Findings = dict[str, bool]


@dataclass(frozen=True)
class Trial:
    """A prompt, the group that it counts in, and what a picture drawn for it is found to be."""

    prompt: str
    group: str
    examine: Callable[[Image.Image], Findings]


def world_trials(count: int, seed: int) -> list[Trial]:
    """Random creatures in words that name shape, colour, accessory and ground; no picture of the training is one."""
    trials = []
    for index in range(count):
        rng = random_for(seed, index, "judge")
        creature = sample(rng)
        trials.append(Trial(full_caption(creature, rng), "all", partial(world_findings, creature)))
    return trials


def class_trials(count: int) -> list[Trial]:
    """Any creature on every ground in turn: what becomes of the subject's class."""
    trials = []
    for index in range(count):
        ground = BACKGROUNDS[index % len(BACKGROUNDS)]
        trials.append(Trial(f"a creature on {_a(ground)} background", "all", partial(class_findings, ground)))
    return trials


def subject_trials(count: int, words: str = "sks creature") -> list[Trial]:
    """The subject, by the `words` that name it, on every ground in turn; half were never seen with it."""
    trials = []
    for index in range(count):
        background = BACKGROUNDS[index % len(BACKGROUNDS)]
        group = "seen" if background in SEEN_BACKGROUNDS else "unseen"
        trials.append(
            Trial(f"{words} on {_a(background)} background", group, partial(subject_findings, background))
        )
    return trials


def world_findings(creature: Creature, picture: Image.Image) -> Findings:
    """The creature's attributes, and that nothing is smeared."""
    return agreement(judge(picture), creature)


def subject_findings(background: str, picture: Image.Image) -> Findings:
    """The marks of the subject, all of them together, the ground, and what of the world's words fits the subject."""
    marks, verdict = judge_marks(picture), judge(picture)
    return {
        **marks.by_name(),
        "all marks": marks.all,
        "background": look(picture).background == background,
        "round body": verdict.shape == "round",
        "no accessory": verdict.accessory == "none",
    }


def class_findings(background: str, picture: Image.Image) -> Findings:
    """A creature of the world on its ground, without any mark of the subject."""
    verdict, marks = judge(picture), judge_marks(picture)
    return {
        "background": verdict.background == background,
        "a creature of the world": None not in (verdict.body, verdict.shape) and not verdict.smeared,
        "no mark of the subject": not any(marks.by_name().values()),
    }


def spread(pictures: Sequence[Image.Image]) -> dict[str, float]:
    """How many body colours and shapes there are, each counted by how often it comes: exp of the entropy.

    Pictures of one colour have 1; those that nothing is recognised in do not count.
    """
    verdicts = [judge(picture) for picture in pictures]
    seen = {"body colours": [each.body for each in verdicts], "shapes": [each.shape for each in verdicts]}
    return {name: _effective(Counter(each for each in values if each)) for name, values in seen.items()}


def figures(groups: Iterable[str], findings: Iterable[Findings]) -> dict[str, dict[str, float]]:
    """For every finding its part of the pictures, 0 to 1, in "all" and in each group."""
    pairs = list(zip(groups, findings, strict=True))
    columns = {"all": [found for _, found in pairs]}
    for name in sorted({group for group, _ in pairs} - {"all"}):
        columns[name] = [found for group, found in pairs if group == name]
    names = list(columns["all"][0])
    return {
        name: {group: sum(found[name] for found in rows) / len(rows) for group, rows in columns.items()}
        for name in names
    }


def table(parts: dict[str, dict[str, float]], goals: dict[str, float]) -> str:
    """The figures in per cent, as lines of text."""
    groups = list(next(iter(parts.values())))
    heads = groups if len(groups) > 1 else [""]
    width = max(len(name) for name in parts)
    lines = [f"{'':{width}}" + "".join(f"{head:>10}" for head in heads) + f"{'goal':>10}"]
    for name, columns in parts.items():
        cells = "".join(f"{_per_cent(columns[group]):>10}" for group in groups)
        goal = _per_cent(goals[name]) if name in goals else ""
        lines.append(f"{name:{width}}{cells}{goal:>10}".rstrip())
    return "\n".join(lines)


def _effective(counts: Counter[str]) -> float:
    total = sum(counts.values())
    return math.exp(-sum(count / total * math.log(count / total) for count in counts.values())) if total else 0.0


def _a(word: str) -> str:
    """The word with its article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _per_cent(part: float) -> str:
    """0.975 as 97.5 %."""
    return f"{100 * part:.1f} %"
