"""The contact sheet: every picture in its place, labels that can be read."""

import numpy as np
import pytest
from PIL import Image

from library.sheet import FRAME, PAPER, SMALLEST_CELL, contact_sheet, stacked

COLOURS = ((200, 0, 0), (0, 180, 0), (0, 0, 220), (120, 60, 0))


def picture(colour: tuple[int, int, int], width: int = 64, height: int = 64) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", (width, height), colour)


def box_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of all pixels of a colour; fails if some pixel in the box has another."""
    found = (np.asarray(sheet) == colour).all(axis=2)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    assert found[box[1] : box[3], box[0] : box[2]].all()
    return box


def ink(sheet: Image.Image, box: tuple[int, int, int, int]) -> int:
    """How many pixels of a part of the sheet are written on."""
    return int((np.asarray(sheet.crop(box)).sum(axis=2) < 300).sum())


def test_pictures_stand_in_rows_and_columns_and_are_enlarged() -> None:
    first, second, third, fourth = COLOURS
    sheet = contact_sheet([[picture(first), picture(second)], [picture(third), picture(fourth)]])
    boxes = [box_of(sheet, colour) for colour in COLOURS]
    assert all((right - left, bottom - top) == (SMALLEST_CELL,) * 2 for left, top, right, bottom in boxes)
    assert boxes[0][0] == boxes[2][0] < boxes[1][0] == boxes[3][0]
    assert boxes[0][1] == boxes[1][1] < boxes[2][1] == boxes[3][1]
    gap = boxes[1][0] - boxes[0][2]
    assert gap == boxes[2][1] - boxes[0][3] == boxes[0][0] == boxes[0][1] == sheet.width - boxes[1][2]


def test_pictures_large_enough_keep_their_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 310, 3), dtype=np.uint8)
    sheet = contact_sheet([[Image.fromarray(noise)]])
    left, top = (sheet.width - 310) // 2, (sheet.height - 300) // 2
    assert np.array_equal(np.asarray(sheet)[top : top + 300, left : left + 310], noise)


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet([[Image.fromarray(noise)]]))
    edge = (sheet.shape[0] - 300) // 2
    assert np.array_equal(sheet[edge : edge + 300, edge : edge + 300][1::3, 1::3], noise)


def test_pictures_of_other_sizes_stand_in_the_middle_of_their_cells() -> None:
    wide, tall = picture(COLOURS[0], 400, 200), picture(COLOURS[1], 200, 400)
    sheet = contact_sheet([[wide, tall]])
    first, second = box_of(sheet, COLOURS[0]), box_of(sheet, COLOURS[1])
    assert first[1] + first[3] == second[1] + second[3]
    assert (first[2] - first[0], second[3] - second[1]) == (400, 400)


def test_a_white_picture_has_a_visible_edge() -> None:
    sheet = np.asarray(contact_sheet([[picture(PAPER)]]))
    assert (sheet == FRAME).all(axis=2).sum() == 4 * SMALLEST_CELL + 4


def test_labels_stand_at_the_left_and_titles_above() -> None:
    rows = [[picture(COLOURS[0]), picture(COLOURS[1])], [picture(COLOURS[2]), picture(COLOURS[3])]]
    sheet = contact_sheet(rows, ["first row", ""], ["", "second column"])
    upper, lower = box_of(sheet, COLOURS[0]), box_of(sheet, COLOURS[2])
    right = box_of(sheet, COLOURS[1])
    assert ink(sheet, (0, upper[1], upper[0], upper[3])) > 50
    assert ink(sheet, (0, lower[1], lower[0], lower[3])) == 0
    assert ink(sheet, (right[0], 0, right[2], right[1])) > 50
    assert ink(sheet, (upper[0], 0, upper[2], upper[1])) == 0


@pytest.mark.parametrize(
    "words", ["word " * 300, "unbrokenwords" * 60, "ein Bär über dem Fluß", "猫と犬", "x"]
)
def test_words_stay_out_of_the_pictures(words: str) -> None:
    sheet = contact_sheet([[picture(COLOURS[0])], [picture(COLOURS[1])]], [words, words], [words[:200]])
    for colour in COLOURS[:2]:
        box = box_of(sheet, colour)
        assert box[2] - box[0] == box[3] - box[1] == SMALLEST_CELL
        assert ink(sheet, (0, box[1], box[0], box[3])) > 5
        assert ink(sheet, (0, box[3] + 1, sheet.width, box[3] + 4)) == 0


def test_letters_grow_with_the_pictures() -> None:
    small = contact_sheet([[picture(COLOURS[0])]], ["label"])
    large = contact_sheet([[picture(COLOURS[0], 1024, 1024)]], ["label"])
    parts = [ink(sheet, (0, 0, box_of(sheet, COLOURS[0])[0], sheet.height)) for sheet in (small, large)]
    assert parts[1] > 4 * parts[0]


@pytest.mark.parametrize(
    ("rows", "labels", "titles"),
    [
        ([], [], []),
        ([[]], [], []),
        ([[1], [1, 1]], [], []),
        ([[1]], ["a", "b"], []),
        ([[1]], [], ["a", "b"]),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    rows: list[list[int]], labels: list[str], titles: list[str]
) -> None:
    with pytest.raises(ValueError, match="A sheet needs"):
        contact_sheet([[picture(COLOURS[0]) for _ in row] for row in rows], labels, titles)


def test_letters_grow_with_the_width_of_the_sheet() -> None:
    """Titles are as high a part of a wide sheet, which is shown smaller, as of a narrow one."""
    heights = []
    for columns in (6, 12):
        sheet = contact_sheet([[picture(PAPER)] * columns], titles=["LoRA"] * columns)
        dark = np.flatnonzero((np.asarray(sheet).sum(axis=2) < 300).any(axis=1))
        heights.append((dark[-1] + 1 - dark[0]) / sheet.width)
    assert 0.8 < heights[1] / heights[0] < 1.25, heights


def test_notes_stand_below_their_pictures() -> None:
    rows = [[picture(COLOURS[0]), picture(COLOURS[1])], [picture(COLOURS[2]), picture(COLOURS[3])]]
    plain, noted = contact_sheet(rows), contact_sheet(rows, notes=[["", "1.25 s"], ["", ""]])
    assert noted.width == plain.width and noted.height > plain.height
    boxes = [box_of(noted, colour) for colour in COLOURS]
    left, _, right, bottom = boxes[1]
    assert ink(noted, (left, bottom + 1, right, boxes[3][1] - 1)) > 20
    left, _, right, bottom = boxes[0]
    assert ink(noted, (left, bottom + 1, right, boxes[2][1] - 1)) == 0
    with pytest.raises(ValueError, match="one note for each picture"):
        contact_sheet(rows, notes=[["a"], ["b"]])


def test_stacked_sheets_have_titles_above() -> None:
    sheets = [contact_sheet([[picture(colour)]]) for colour in COLOURS[:2]]
    whole = stacked(sheets, ["", "steps 5"])
    first, second = (box_of(whole, colour) for colour in COLOURS[:2])
    assert first[0] == second[0] and first[3] < second[1]
    assert ink(whole, (0, first[3] + 1, whole.width, second[1] - 1)) > 20
    assert ink(whole, (0, 0, whole.width, first[1] - 1)) == 0
