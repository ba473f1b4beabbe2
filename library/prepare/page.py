"""The data-set doctor's report as one page of HTML: no scripts, nothing fetched, every thumbnail inside."""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from library.prepare.caption_checks import bucket_samples, tag_counts
from library.prepare.doctor import Report
from library.prepare.examined import Examined
from library.prepare.findings import ERROR, Finding, counted
from library.prepare.picture_checks import BLURRED

STYLE = Path(__file__).with_name("page.css")
IN_A_FINDING, IN_ALL = 18, 1000  # pictures shown with a thumbnail: for each finding, and in the list of all
TAGS, BUCKETS = 18, 24  # rows of the tables


def page(report: Report) -> str:
    """The whole page. Thumbnails are those of the report's pictures, where they have some."""
    shown = {each.path: each for each in report.pictures}
    title = escape(report.folder.resolve().name or str(report.folder))
    parts = [
        _headline(report, title),
        _findings(report, shown),
        f'<div class="columns">{_tags(report)}{_buckets(report)}</div>',
        _all_pictures(report),
    ]
    style = STYLE.read_text(encoding="utf-8")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}: check</title>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>\n{style}</style></head>\n<body>{body}</body></html>\n'


def _headline(report: Report, title: str) -> str:
    """The verdict and what it is about."""
    bad = any(each.severity == ERROR for each in report.findings)
    mood = "error" if bad else "warning" if report.severities["warning"] else "good"
    verdict, _, rest = report.verdict.rstrip(".").partition(": ")
    chips = "".join(
        f'<a class="chip {severity}" href="#{severity}">{counted(number, severity)}</a>'
        for severity, number in report.severities.items()
        if number
    )
    return (
        f'<header class="{mood}"><p class="folder">{title}</p><h1>{verdict.capitalize()}</h1>'
        f"<p>{escape(report.plan)}.</p><p>{chips or escape(rest.capitalize()) + '.'}</p></header>"
    )


def _findings(report: Report, shown: dict[Path, Examined]) -> str:
    parts: list[str] = []
    severity = ""
    for each in report.findings:
        mark = f' id="{each.severity}"' if each.severity != severity else ""
        severity = each.severity
        sentence = escape(each.sentence[0].upper() + each.sentence[1:])
        parts.append(
            f'<section class="finding {severity}"{mark}><div><span class="badge {severity}">{severity}</span>'
            f'<h2>{escape(each.title)}<span class="count">{len(each.pictures)}</span></h2><p>{sentence}</p></div>'
            f"<div>{_evidence(report, each, shown)}</div></section>"
        )
    return "\n".join(parts)


def _evidence(report: Report, each: Finding, shown: dict[Path, Examined]) -> str:
    """The pictures of a finding: groups together, the first ones with thumbnails, the rest by name."""
    if len(each.pictures) == len(report.pictures) and len(each.pictures) > IN_A_FINDING:
        return ""
    room, drawn = IN_A_FINDING, []
    for group in each.groups or [(path,) for path in each.pictures]:
        if room <= 0:
            break
        room -= len(group)
        frames = "".join(_frame(report, path, each.pictures[path], shown.get(path)) for path in group)
        drawn.append(f'<div class="group">{frames}</div>' if each.groups else frames)
    count = len(drawn) if not each.groups else sum(map(len, each.groups[: len(drawn)]))
    rest = [escape(report.name(path)) for path in list(each.pictures)[count:]]
    more = f"<details><summary>and {len(rest)} more</summary>{', '.join(rest)}</details>" if rest else ""
    return f'<div class="row">{"".join(drawn)}</div>{more}'


def _frame(report: Report, path: Path, words: str, picture: Examined | None) -> str:
    """A thumbnail with its name and what is said of it."""
    name = escape(report.name(path))
    if picture is None:  # a mask, or a file that is passed over
        return f'<p class="file">{name}<small>{escape(words)}</small></p>'
    note = f"<small>{escape(words)}</small>" if words else ""
    return f'<figure>{_thumbnail(picture)}<figcaption title="{name}">{name}{note}</figcaption></figure>'


def _thumbnail(picture: Examined) -> str:
    if picture.looks is None or not picture.looks.thumbnail:
        return '<div class="thumb none" aria-hidden="true">?</div>'
    data = b64encode(picture.looks.thumbnail).decode()
    return f'<img class="thumb" loading="lazy" decoding="async" alt="" src="data:image/jpeg;base64,{data}">'


def _tags(report: Report) -> str:
    """How many pictures have each tag."""
    counts = tag_counts(report.pictures)
    if not counts:
        return "<section><h2>Tags</h2><p>There are no captions.</p></section>"
    rows = [(escape(tag), "", count) for tag, count in counts.most_common(TAGS)]
    rest = len(counts) - len(rows)
    more = f"<p>and {counted(rest, 'rarer one')}</p>" if rest else ""
    heading = f'<h2>Tags<span class="count">{len(counts)}</span></h2><p>Pictures with each part of the caption.</p>'
    return f"<section>{heading}{_bars(rows)}{more}</section>"


def _buckets(report: Report) -> str:
    """How many samples of an epoch each bucket has, with its shape."""
    samples = Counter(bucket_samples(report.pictures))
    largest = max((max(size) for size in samples), default=1)
    rows = []
    for (width, height), count in samples.most_common(BUCKETS):
        sides = f"width:{30 * width / largest:.0f}px;height:{30 * height / largest:.0f}px"
        rows.append((f"{width} x {height}", f'<span class="shape"><i style="{sides}"></i></span>', count))
    batch = report.wish.train_batch_size
    words = f"Samples an epoch in each size, repeats included; a batch takes {batch}."
    heading = f'<h2>Buckets<span class="count">{len(samples)}</span></h2>'
    return f"<section>{heading}<p>{words}</p>{_bars(rows)}</section>"


def _bars(rows: Sequence[tuple[str, str, int]]) -> str:
    """A table of names, each with a mark before it and a bar as long as its number."""
    most = max((count for *_, count in rows), default=1)
    lines = (
        f'<tr><th>{mark}{name}</th><td><i class="bar" style="width:{100 * count / most:.1f}%"></i></td>'
        f"<td>{count}</td></tr>"
        for name, mark, count in rows
    )
    return f"<table>{''.join(lines)}</table>"


def _all_pictures(report: Report) -> str:
    cards = "".join(_card(report, each) for each in report.pictures[:IN_ALL])
    rest = len(report.pictures) - IN_ALL
    more = f"<p>and {rest} more, which the JSON report lists.</p>" if rest > 0 else ""
    heading = f'<h2>All pictures<span class="count">{len(report.pictures)}</span></h2>'
    return f'<section class="all">{heading}<div class="cards">{cards}</div>{more}</section>'


def _card(report: Report, each: Examined) -> str:
    """One picture with its facts, its caption and what was found about it."""
    name = escape(report.name(each.path))
    found = [f for f in report.findings_of(each.path) if f.severity == ERROR or len(f.pictures) < len(report.pictures)]
    badges = "".join(f'<span class="badge {f.severity}">{escape(f.title)}</span>' for f in found)
    words = escape(each.caption.words)
    caption = f'<p class="caption" title="{words}">{words}</p>' if words else '<p class="caption none">no caption</p>'
    facts = "".join(f"<dt>{name}</dt><dd>{escape(fact)}</dd>" for name, fact in _facts(each))
    return (
        f'<article>{_thumbnail(each)}<h3 title="{name}">{name}</h3><dl>{facts}</dl>{caption}'
        f"<p>{badges}</p></article>"
    )


def _facts(each: Examined) -> Iterable[tuple[str, str]]:
    """What is known of a picture, in words."""
    if each.looks is None or each.placing is None:
        return [("unreadable", each.reason)]
    looks, (width, height) = each.looks, each.placing.size
    scale = f"{each.enlargement:.2f} times" if each.enlargement else ""
    cut = f", {each.loss:.0%} cut off" if each.loss >= 0.005 else ""
    soft = "no edges" if looks.softness is None else f"{looks.softness:.1f} px"
    return [
        ("size", f"{looks.width} x {looks.height}"),
        ("bucket", f"{width} x {height}"),
        ("resized", f"{scale}{cut}"),
        ("softness", f"{soft}{', blurred' if (looks.softness or 0) >= BLURRED else ''}"),
        ("brightness", f"{looks.brightness:.0%}"),
        ("tokens", str(each.caption.tokens)),
    ]
