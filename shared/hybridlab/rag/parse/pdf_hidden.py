"""Text that is in a PDF page and that no reader of the page sees.

The rule: a piece of text is hidden when the picture of the page is the same without it. Rendering a page twice costs more
than reading it, so only pieces that look suspicious are put to that test: white or nearly so, transparent, invisible by render
mode, in a layer that may be off, of the colour of what lies around them, or with something drawn over them. Text below
2 points and text outside of the page are hidden without any test.

An OCR layer is the honest case of invisible text: it lies over (or under) the scan of the very words. So an invisible piece
that lies on a picture, where the picture has ink, counts as visible.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from pypdfium2 import PdfPage, PdfTextPage, raw

from .pdf_objects import Box, PageObjects, TextPiece, address, overlaps

SMALLEST = 2.0  # points
_NEARLY_WHITE = 0.85
_SAME_COLOUR = 0.15
_TRANSPARENT = 0.12
_SEEN = 24  # of 255 shades: less can't be read
_INK = 40
_MOST_PAIRS = 300_000  # of texts and areas: beyond, comparing them takes longer than putting every text to the test
_MOST_PIXELS = 1_600  # of the longer side
_INVISIBLE_MODES = (raw.FPDF_TEXTRENDERMODE_INVISIBLE, raw.FPDF_TEXTRENDERMODE_CLIP)


def hidden_pieces(page: PdfPage, objects: PageObjects) -> set[int]:
    """The keys of the text pieces that nobody sees."""
    sheet = page.get_bbox()
    hidden, doubtful = set(), []
    crowded = len(objects.texts) * (len(objects.fills) + len(objects.images)) > _MOST_PAIRS
    for piece in objects.texts:
        if 0 < piece.size < SMALLEST:
            hidden.add(piece.key)
        elif (box := piece.box()) is None or not _has_area(box):
            continue
        elif not overlaps(box, sheet):
            hidden.add(piece.key)
        elif crowded or _is_suspicious(piece, box, objects):
            doubtful.append((piece, box))
    return hidden | _unseen(page, objects, doubtful, sheet) if doubtful else hidden


def line_ends(page: PdfPage, objects: PageObjects, hidden: set[int]) -> set[int]:
    """The keys of those hidden pieces that are only the end of a line: it begins on the sheet and runs over the right edge.

    Each is drawn next after its beginning, stands on the same line, and has letters as large. They are as unseen as the rest, and no
    more than a typesetter's slip.
    """
    right = page.get_bbox()[2]
    ends: set[int] = set()
    for before, piece in pairwise(objects.texts):
        left_box, box = before.box(), piece.box()
        if piece.key not in hidden or left_box is None or box is None or box[0] < right or left_box[2] < right:
            continue
        begun = before.key in ends or (before.key not in hidden and left_box[0] < right)
        level = (box[1] < left_box[3] and left_box[1] < box[3]) or abs(box[1] - left_box[1]) < piece.size / 2
        if begun and level and abs(box[0] - left_box[2]) <= piece.size and abs(piece.size - before.size) < 0.2 * before.size:
            ends.add(piece.key)
    return ends


def hidden_characters(textpage: PdfTextPage, count: int, keys: set[int]) -> bytearray:
    """1 for each of the page's ``count`` characters that belongs to a piece in ``keys``.

    A space or line break that PDFium put in belongs to what stands before it.
    """
    mask = bytearray(count)
    for index in range(count):
        handle = raw.FPDFText_GetTextObject(textpage, index)
        mask[index] = address(handle) in keys if handle else bool(index and mask[index - 1])
    return mask


def _is_suspicious(piece: TextPiece, box: Box, objects: PageObjects) -> bool:
    if piece.mode in _INVISIBLE_MODES or piece.optional or piece.alpha < _TRANSPARENT or piece.luminance > _NEARLY_WHITE:
        return True
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    for area in (*objects.fills, *objects.images):
        if area.box[0] <= middle[0] <= area.box[2] and area.box[1] <= middle[1] <= area.box[3]:
            alike = area.luminance is not None and abs(area.luminance - piece.luminance) < _SAME_COLOUR
            if alike or area.order > piece.order:
                return True
    return False


def _unseen(page: PdfPage, objects: PageObjects, doubtful: list[tuple[TextPiece, Box]], sheet: Box) -> set[int]:
    """Those of the doubtful pieces that leave the picture as it is, and that no scan shows."""
    scale = min(2.0, _MOST_PIXELS / max(sheet[2] - sheet[0], sheet[3] - sheet[1], 1))
    shown = _picture(page, scale)
    for piece, _ in doubtful:
        raw.FPDFPageObj_SetIsActive(piece.handle, False)
    try:
        without = _picture(page, scale)
    finally:
        for piece, _ in doubtful:
            raw.FPDFPageObj_SetIsActive(piece.handle, True)
    unseen = set()
    for piece, box in doubtful:
        rows, columns = _pixels(page, box, shown.shape)
        here, there = shown[rows, columns], without[rows, columns]
        if here.size and int(np.abs(here - there).max()) >= _SEEN:
            continue
        scanned = any(overlaps(box, image.box) for image in objects.images) and there.size and int(np.ptp(there)) >= _INK
        if not scanned:
            unseen.add(piece.key)
    return unseen


def _picture(page: PdfPage, scale: float) -> np.ndarray:
    """The page in shades of grey, int16 [height, width]."""
    bitmap = page.render(scale=scale, grayscale=True, may_draw_forms=False)  # pyright: ignore[reportArgumentType] - any number will do
    picture = bitmap.to_numpy().astype(np.int16)
    bitmap.close()
    return picture.reshape(picture.shape[:2])


def _pixels(page: PdfPage, box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of the picture that show ``box``, whatever the page's rotation and crop."""
    from ctypes import c_int

    height, width = shape[:2]
    xs, ys = [], []
    for x, y in ((box[0], box[1]), (box[2], box[3])):
        column, row = c_int(), c_int()
        raw.FPDF_PageToDevice(page, 0, 0, width, height, 0, x, y, column, row)
        xs.append(column.value)
        ys.append(row.value)
    return slice(max(min(ys), 0), max(max(ys) + 1, 0)), slice(max(min(xs), 0), max(max(xs) + 1, 0))


def _has_area(box: Box) -> bool:
    return box[2] - box[0] > 0.01 and box[3] - box[1] > 0.01
