"""The data-set doctor: every check on every picture, a verdict, and what it says in a terminal and in JSON."""

import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from library.prepare import caption_checks, picture_checks
from library.prepare.caption_checks import bucket_samples, tag_counts
from library.prepare.examined import Examined, Wish, examine, find_folders
from library.prepare.findings import ERROR, SEVERITIES, Finding, by_weight, counted

HEALTHY, BAD = 0, 3  # exit statuses
WIDTH = 100  # columns of the table
SEVERITY_WIDTH = 9
LINKS = {"exact_duplicates": " = ", "near_duplicates": " ~ ", "same_stem": " and "}
NAMED = 8  # pictures of a finding that the table names, unless they are unreadable


@dataclass(frozen=True)
class Report:
    """What was found in a folder."""

    folder: Path
    wish: Wish
    pictures: tuple[Examined, ...]
    findings: tuple[Finding, ...]

    @property
    def status(self) -> int:
        """The exit status: 3 if training would suffer."""
        return BAD if any(each.severity == ERROR for each in self.findings) else HEALTHY

    @cached_property
    def severities(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        counts = Counter(each.severity for each in self.findings)
        return {severity: counts[severity] for severity in SEVERITIES}

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        words = ", ".join(counted(number, severity) for severity, number in self.severities.items() if number)
        if self.status == BAD:
            return f"training would suffer: {words}."
        return f"fit for training: {words or 'nothing to complain of'}."

    @property
    def plan(self) -> str:
        """What was examined, and for which training, in one line."""
        wish, folders = self.wish, {each.subset for each in self.pictures}
        width, height = wish.subset.resolution
        size = f"{counted(len(self.pictures))} in {counted(len(folders), 'folder')}"
        shapes = counted(len(bucket_samples(self.pictures)), "bucket")
        return f"{size}; trained at {width}x{height} in {shapes}, batches of {wish.train_batch_size}"

    def name(self, path: Path) -> str:
        """A path as reports name it: from the folder on."""
        name = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)
        return name.encode(errors="replace").decode()  # a name that is no text, from another system

    def findings_of(self, path: Path) -> list[Finding]:
        """What was found about one picture."""
        return self._by_picture.get(path, [])

    @cached_property
    def _by_picture(self) -> dict[Path, list[Finding]]:
        found: dict[Path, list[Finding]] = {}
        for each in self.findings:
            for path in each.pictures:
                found.setdefault(path, []).append(each)
        return found


def diagnose(
    folder: Path, wish: Wish, recursive: bool = False, thumbnails: bool = False, processes: int = 0
) -> Report:
    """Examines a folder as training would find it.

    Args:
        folder: pictures, or folders named `N_class words` that hold some
        wish: what the pictures are to be trained with
        recursive: whether every folder in it counts
        thumbnails: whether the pictures' looks carry one, as a page needs
        processes: how many look at pictures; 0 stands for as many as help

    Raises InputError where there are no pictures or the sizes of the buckets do not fit together.
    """
    pictures = examine(find_folders(folder, wish, recursive), thumbnails, processes)
    checks = (*picture_checks.CHECKS, *caption_checks.CHECKS)
    return Report(folder, wish, tuple(pictures), tuple(by_weight(f for check in checks for f in check(pictures, wish))))


def table(report: Report) -> str:
    """The findings for a terminal: plain text in at most 100 columns, the verdict last."""
    lines = [*_wrapped(report.plan, 0), ""]
    for each in report.findings:
        first, *rest = _wrapped(each.sentence, SEVERITY_WIDTH)
        lines += [f"{each.severity:<{SEVERITY_WIDTH}}{first.lstrip()}", *rest]
        lines += [*_wrapped("; ".join(named(report, each)), SEVERITY_WIDTH + 2), ""]
    return "\n".join([*lines, f"verdict: {report.verdict}"])


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON holds it; paths begin in the folder, sides are pixels.

    "status" is the exit status and "verdict" its sentence; "pictures" their number, "errors", "warnings" and "notes"
    those of findings. "findings" are {"kind", "severity", "pictures", "sentence", "details", "groups"}, where details
    are words on single pictures and groups the copies that belong together. "buckets" are samples an epoch, "tags"
    pictures by tag. "facts" has a row for each picture; what does not apply is null.
    """
    return {
        "status": report.status,
        "verdict": report.verdict,
        "folder": str(report.folder),
        "pictures": len(report.pictures),
        **{f"{severity}s": number for severity, number in report.severities.items()},
        "findings": [_finding_row(report, each) for each in report.findings],
        "buckets": {f"{width}x{height}": n for (width, height), n in bucket_samples(report.pictures).items()},
        "tags": dict(tag_counts(report.pictures).most_common()),
        "facts": [_fact_row(report, each) for each in report.pictures],
    }


def _finding_row(report: Report, each: Finding) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "severity": each.severity,
        "pictures": [report.name(path) for path in each.pictures],
        "sentence": each.sentence,
        "details": {report.name(path): words for path, words in each.pictures.items() if words},
        "groups": [[report.name(path) for path in group] for group in each.groups],
    }


def _fact_row(report: Report, each: Examined) -> dict[str, Any]:
    looks, placing, caption = each.looks, each.placing, each.caption
    row: dict[str, Any] = {
        "picture": report.name(each.path),
        "reason": each.reason or None,
        "caption": caption.words if caption.shown else None,
        "tokens": caption.tokens,
        "findings": [found.kind for found in report.findings_of(each.path)],
    }
    if looks is None or placing is None:
        return row
    return row | {
        "sha256": looks.sha256,
        "width": looks.width,
        "height": looks.height,
        "bucket": list(placing.size),
        "enlargement": round(each.enlargement, 3),
        "cut_off": round(each.loss, 3),
        "softness": None if looks.softness is None else round(looks.softness, 2),
        "brightness": round(looks.brightness, 3),
        "colour": round(looks.colour, 3),
        "detail": round(looks.detail, 3),
    }


def named(report: Report, each: Finding) -> list[str]:
    """The pictures of a finding by name, each with its own words; copies group by group.

    All that are unreadable, as each of them stops a run; of others the first ones.
    """
    if each.groups:
        items = [LINKS[each.kind].join(report.name(path) for path in group) for group in each.groups]
    else:
        items = [f"{report.name(path)}{words and f': {words}'}" for path, words in each.pictures.items()]
    limit = len(items) if each.kind == "unreadable" else NAMED
    more = [f"and {len(items) - limit} more"] if len(items) > limit else []
    return [*items[:limit], *more]


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


