"""A contact sheet: pictures in rows and columns, with their labels, as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

PAPER = (255, 255, 255)
INK = (32, 32, 36)
FRAME = (214, 214, 218)

SMALLEST_CELL = 256  # pixels; smaller pictures are enlarged by a whole factor, pixels staying squares
LINE_HEIGHT = 1.35  # times the letter size
LETTERS_ACROSS = 100  # of a row of pictures at most: shown as wide as a page, they can still be read

# Pillow's own letters are Latin; other scripts are written in the first of these that the machine has.
OTHER_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "msyh.ttc", "PingFang.ttc", "Arial Unicode.ttf")


@dataclass(frozen=True)
class Layout:
    """Where everything stands, in pixels: cells of one size, a column of labels at the left, titles above."""

    factor: int
    cell: tuple[int, int]
    letter: int
    margin: int
    label_width: int
    title_height: int
    note_height: int = 0

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """The upper left corner of a cell."""
        left = self.margin + (self.label_width + self.margin if self.label_width else 0)
        top = self.margin + (self.title_height + self.margin if self.title_height else 0)
        height = self.cell[1] + self.note_height + self.margin
        return left + column * (self.cell[0] + self.margin), top + row * height


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str] = (),
    titles: Sequence[str] = (),
    notes: Sequence[Sequence[str]] = (),
) -> Image.Image:
    """The pictures of `rows` in a table, with a label at the left of each row and a title above each column.

    Every row has as many pictures as the first; labels, titles and the `notes` of one line below each picture may
    be left out. Pictures smaller than a readable cell are enlarged by one whole factor; those of other sizes
    stand in the middle of equal cells. Raises ValueError if the numbers of rows, labels, columns and titles do
    not fit together.
    """
    columns = len(rows[0]) if rows else 0
    if not columns or any(len(row) != columns for row in rows):
        raise ValueError("A sheet needs rows of pictures, all equally long.")
    if labels and len(labels) != len(rows) or titles and len(titles) != columns:
        raise ValueError("A sheet needs one label for each row and one title for each column, or none.")
    if notes and [len(row) for row in notes] != [len(row) for row in rows]:
        raise ValueError("A sheet needs one note for each picture, or none.")
    layout = _plan(rows, labels, titles, bool(notes))
    width, height = (end for end in layout.corner(len(rows), columns))
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        left, _ = layout.corner(0, column)
        box = (left, layout.margin, left + layout.cell[0], layout.margin + layout.title_height)
        _write(pen, title, box, layout.letter, centred=True)
    for number, row in enumerate(rows):
        if labels:
            _, top = layout.corner(number, 0)
            box = (layout.margin, top, layout.margin + layout.label_width, top + layout.cell[1])
            _write(pen, labels[number], box, layout.letter, centred=False)
        for column, picture in enumerate(row):
            left, top = layout.corner(number, column)
            _paste(sheet, picture, layout, (left, top))
            if notes:
                below = top + layout.cell[1]
                box = (left, below, left + layout.cell[0], below + layout.note_height)
                _write(pen, notes[number][column], box, layout.letter, centred=True)
    return sheet


def stacked(sheets: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Sheets of one size below each other, with a title above each."""
    letter = max(20, round(max(sheets[0].size) / 45))
    height = round(2 * letter * LINE_HEIGHT)
    width, each_height = sheets[0].size
    whole = Image.new("RGB", (width, len(sheets) * (each_height + height)), PAPER)
    pen = ImageDraw.Draw(whole)
    for number, (sheet, title) in enumerate(zip(sheets, titles, strict=True)):
        top = number * (each_height + height)
        _write(pen, title, (letter, top, width - letter, top + height), letter, centred=False)
        whole.paste(sheet, (0, top + height))
    return whole


def _plan(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], titles: Sequence[str], has_notes: bool
) -> Layout:
    """The layout that fits these pictures and words."""
    width = max(picture.width for row in rows for picture in row)
    height = max(picture.height for row in rows for picture in row)
    factor = max(1, -(-SMALLEST_CELL // max(width, height)))
    cell = (width * factor, height * factor)
    letter = max(15, round(max(cell) / 22), round(len(rows[0]) * cell[0] / LETTERS_ACROSS))
    title_lines = max((len(_wrap(title, letter, cell[0])) for title in titles), default=0)
    return Layout(
        factor=factor,
        cell=cell,
        letter=letter,
        margin=max(10, letter),
        label_width=round(max(9 * letter, 0.6 * max(cell))) if any(labels) else 0,
        title_height=round(title_lines * letter * LINE_HEIGHT),
        note_height=round(letter * LINE_HEIGHT) if has_notes else 0,
    )


def _paste(sheet: Image.Image, picture: Image.Image, layout: Layout, corner: tuple[int, int]) -> None:
    """Put a picture into the middle of its cell, in a thin frame that shows where white pictures end."""
    size = (picture.width * layout.factor, picture.height * layout.factor)
    left = corner[0] + (layout.cell[0] - size[0]) // 2
    top = corner[1] + (layout.cell[1] - size[1]) // 2
    ImageDraw.Draw(sheet).rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=FRAME)
    sheet.paste(picture.convert("RGB").resize(size, Image.Resampling.NEAREST), (left, top))


def _write(
    pen: ImageDraw.ImageDraw, text: str, box: tuple[int, int, int, int], letter: int, centred: bool
) -> None:
    """Write wrapped text into a box (left, top, right, bottom), half-way up; what is too long is cut."""
    left, top, right, bottom = box
    step = letter * LINE_HEIGHT
    lines = _wrap(text, letter, right - left)
    room = max(1, int((bottom - top) / step))
    if len(lines) > room:
        lines = [*lines[: room - 1], lines[room - 1][:-1] + "…"]
    height = top + ((bottom - top) - len(lines) * step) / 2
    for number, line in enumerate(lines):
        font = _font(letter, line.isascii())
        start = left + ((right - left) - font.getlength(line)) / 2 if centred else left
        pen.text((start, height + (number + 0.5) * step), line, INK, font, anchor="lm")


def _wrap(text: str, letter: int, width: int) -> list[str]:
    """The lines of a text that is to be at most `width` pixels wide; words that are wider are broken."""
    font = _font(letter, text.isascii())
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width:
            longer_ends = (end for end in range(2, len(word) + 1) if font.getlength(word[:end]) > width)
            end = next(longer_ends, 2) - 1
            lines.append(word[:end])
            word = word[end:]
        line = word
    return [*lines, line] if line else lines


@cache
def _font(letter: int, latin: bool) -> ImageFont.FreeTypeFont:
    """The letters to write with, `letter` pixels high."""
    for name in () if latin else OTHER_FONTS:
        try:
            return ImageFont.truetype(name, letter)
        except OSError:
            continue
    font = ImageFont.load_default(letter)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
