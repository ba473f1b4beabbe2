"""A grid as one page of HTML: no scripts, nothing fetched, every picture inside; a click shows one in full size."""

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL.Image import Image

from library.grid.axes import Axis

STYLE = Path(__file__).with_name("page.css")
QUALITY = 92  # of WebP; a grid of PNGs would be ten times as large


@dataclass(frozen=True)
class Shown:
    """A picture of the grid, the seconds that drawing it took, and all that it was drawn with, in words."""

    picture: Image
    seconds: float
    words: str


def page(title: str, facts: Sequence[tuple[str, str]], axes: Sequence[Axis], shown: Sequence[Shown]) -> str:
    """The whole page.

    Args:
        title: its heading
        facts: names and values of what all pictures have in common
        axes: x, y and, if there is one, z; across, down, and one table after the other
        shown: the pictures, x the fastest and z the slowest
    """
    across, down = axes[0], axes[1]
    size = len(across.titles) * len(down.titles)
    headings = axes[2].titles if len(axes) > 2 else ("",)
    tables = []
    for number, heading in enumerate(headings):
        part = shown[number * size : (number + 1) * size]
        above = f"<h2>{escape(heading)}</h2>" if heading else ""
        tables.append(f"<section>{above}{_table(across, down, part)}</section>")
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts if value)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    style = STYLE.read_text(encoding="utf-8")
    body = f"<header><h1>{escape(title)}</h1><dl>{told}</dl></header>\n" + "\n".join(tables)
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>\n{style}</style></head>\n<body>{body}</body></html>\n'


def _table(across: Axis, down: Axis, shown: Sequence[Shown]) -> str:
    width = len(across.titles)
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in across.titles)
    rows = []
    for number, title in enumerate(down.titles):
        cells = "".join(f"<td>{_figure(each)}</td>" for each in shown[number * width : (number + 1) * width])
        rows.append(f'<tr><th scope="row">{escape(title)}</th>{cells}</tr>')
    head, body = f"<thead><tr><td></td>{heads}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="table"><table>{head}{body}</table></div>'


def _figure(each: Shown) -> str:
    """A picture with its seconds; the box that is ticked by a click makes it large."""
    file = io.BytesIO()
    each.picture.save(file, "WEBP", quality=QUALITY)
    data = b64encode(file.getvalue()).decode()
    words = escape(each.words)
    picture = f'<img alt="{words}" title="{words}" src="data:image/webp;base64,{data}">'
    box = f'<label><input type="checkbox" aria-label="full size">{picture}</label>'
    return f"<figure>{box}<figcaption>{each.seconds:.2f} s</figcaption></figure>"
