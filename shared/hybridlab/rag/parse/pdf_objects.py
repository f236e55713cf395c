"""What is drawn on a PDF page, in one walk: pieces of text, filled areas, pictures, and the straight lines of rulings."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from pypdfium2 import PdfPage, raw

Box = tuple[float, float, float, float]  # left, bottom, right, top, in points of the page
Matrix = tuple[float, float, float, float, float, float]

_DEEPEST_FORM = 12
_MOST_PATHS = 4_000  # more are a drawing, not a table
_MOST_SEGMENTS = 400
_THIN = 2.5  # points: a filled box no thicker than this is a ruled line
_SHORTEST = 4.0


@dataclass
class TextPiece:
    """One text object. ``luminance`` and ``alpha`` lie in 0 … 1, ``size`` is the font's size as it comes out, in points."""

    handle: object
    order: int
    matrix: Matrix | None
    luminance: float
    alpha: float
    mode: int
    size: float
    optional: bool

    @property
    def key(self) -> int:
        return address(self.handle)

    def box(self) -> Box | None:
        return bounds(self.handle, self.matrix)


@dataclass
class Area:
    """A filled path or a picture, and its place in the order of drawing. ``luminance`` is None for a picture."""

    box: Box
    order: int
    luminance: float | None


@dataclass
class PageObjects:
    """All that :mod:`pdf_hidden` and :mod:`pdf_tables` ask about."""

    texts: list[TextPiece] = field(default_factory=list)
    fills: list[Area] = field(default_factory=list)
    images: list[Area] = field(default_factory=list)
    rules: list[Box] = field(default_factory=list)


def page_objects(page: PdfPage) -> PageObjects:
    """Read the page's objects, those inside of forms too."""
    found = PageObjects()
    paths = 0
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    size = ctypes.c_float()
    for order, (handle, matrix) in enumerate(_walk(page)):
        kind = raw.FPDFPageObj_GetType(handle)
        if kind == raw.FPDF_PAGEOBJ_TEXT:
            raw.FPDFPageObj_GetFillColor(handle, red, green, blue, alpha)
            raw.FPDFTextObj_GetFontSize(handle, size)
            found.texts.append(
                TextPiece(
                    handle,
                    order,
                    matrix,
                    _luminance(red.value, green.value, blue.value),
                    alpha.value / 255,
                    raw.FPDFTextObj_GetTextRenderMode(handle),
                    abs(size.value) * _scale(own_matrix(handle)) * _scale(matrix),
                    _is_optional(handle),
                )
            )
        elif kind == raw.FPDF_PAGEOBJ_IMAGE:
            if box := bounds(handle, matrix):
                found.images.append(Area(box, order, None))
        elif kind in (raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_SHADING):
            paths += 1
            if paths <= _MOST_PATHS and (box := bounds(handle, matrix)):
                _read_path(found, handle, matrix, box, order)
    if paths > _MOST_PATHS:
        found.rules = []
    return found


def address(handle: object) -> int:
    """A number that is equal for two handles of the same object."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def own_matrix(handle: object) -> Matrix | None:
    """What the object is moved, scaled and turned by on the page, or in the form that it lies in; None where PDFium can't say."""
    matrix = raw.FS_MATRIX()
    if not raw.FPDFPageObj_GetMatrix(handle, matrix):
        return None
    return (matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f)


def bounds(handle: object, matrix: Matrix | None) -> Box | None:
    """The object's box in points of the page; ``matrix`` is the form's that it lies in."""
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    if not raw.FPDFPageObj_GetBounds(handle, left, bottom, right, top):
        return None
    box = (left.value, bottom.value, right.value, top.value)
    if matrix is None:
        return box
    corners = [_apply(matrix, x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return (min(xs), min(ys), max(xs), max(ys))


def overlaps(one: Box, other: Box) -> bool:
    """Whether two boxes have some area in common: it is not enough that their edges touch."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _walk(page: PdfPage) -> Iterator[tuple[object, Matrix | None]]:
    """Objects in the order in which they are drawn, with the matrix of the form around them."""
    stack: list[tuple[object, int, int, bool, Matrix | None]] = [(page.raw, 0, raw.FPDFPage_CountObjects(page), False, None)]
    while stack:
        holder, index, count, in_form, matrix = stack.pop()
        while index < count:
            handle = raw.FPDFFormObj_GetObject(holder, index) if in_form else raw.FPDFPage_GetObject(holder, index)
            index += 1
            if not handle:
                continue
            if raw.FPDFPageObj_GetType(handle) == raw.FPDF_PAGEOBJ_FORM:
                if len(stack) < _DEEPEST_FORM:
                    stack.append((holder, index, count, in_form, matrix))
                    stack.append((handle, 0, raw.FPDFFormObj_CountObjects(handle), True, _multiply(own_matrix(handle), matrix)))
                    break
                continue
            yield handle, matrix


def _read_path(found: PageObjects, handle: object, matrix: Matrix | None, box: Box, order: int) -> None:
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    raw.FPDFPath_GetDrawMode(handle, fill, stroke)
    width, height = box[2] - box[0], box[3] - box[1]
    if not fill.value and not stroke.value:
        return
    if min(width, height) <= _THIN:
        if max(width, height) >= _SHORTEST:
            found.rules.append(box)
        return
    if fill.value:
        color = [ctypes.c_uint() for _ in range(4)]
        raw.FPDFPageObj_GetFillColor(handle, *color)
        found.fills.append(Area(box, order, _luminance(*(part.value for part in color[:3]))))
    if stroke.value:
        found.rules.extend(_straight_lines(handle, _multiply(own_matrix(handle), matrix)))


def _straight_lines(handle: object, matrix: Matrix | None) -> Iterator[Box]:
    """The horizontal and vertical segments of a stroked path."""
    count = raw.FPDFPath_CountSegments(handle)
    if count > _MOST_SEGMENTS:
        return
    x, y = ctypes.c_float(), ctypes.c_float()
    start = here = (0.0, 0.0)
    for index in range(count):
        segment = raw.FPDFPath_GetPathSegment(handle, index)
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        there = _apply(matrix, x.value, y.value)
        kind = raw.FPDFPathSegment_GetType(segment)
        if kind == raw.FPDF_SEGMENT_MOVETO:
            start = there
        elif kind == raw.FPDF_SEGMENT_LINETO:
            yield from _line(here, there)
        if raw.FPDFPathSegment_GetClose(segment):
            yield from _line(there, start)
        here = there


def _line(one: tuple[float, float], other: tuple[float, float]) -> Iterator[Box]:
    box = (min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1]))
    width, height = box[2] - box[0], box[3] - box[1]
    if min(width, height) <= _THIN and max(width, height) >= _SHORTEST:
        yield box


def _is_optional(handle: object) -> bool:
    """Whether the object belongs to a layer that a viewer can switch off."""
    for index in range(raw.FPDFPageObj_CountMarks(handle)):
        name, size = (ctypes.c_ushort * 4)(), ctypes.c_ulong()
        raw.FPDFPageObjMark_GetName(raw.FPDFPageObj_GetMark(handle, index), name, ctypes.sizeof(name), size)
        if bytes(name)[: size.value] == "OC\0".encode("utf-16-le"):
            return True
    return False


def _luminance(red: int, green: int, blue: int) -> float:
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def _scale(matrix: Matrix | None) -> float:
    return 1.0 if matrix is None else math.sqrt(abs(matrix[0] * matrix[3] - matrix[1] * matrix[2]))


def _apply(matrix: Matrix | None, x: float, y: float) -> tuple[float, float]:
    if matrix is None:
        return x, y
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f


def _multiply(inner: Matrix | None, outer: Matrix | None) -> Matrix | None:
    """First ``inner``, then ``outer``."""
    if inner is None or outer is None:
        return inner or outer
    a, b, c, d, e, f = inner
    left, top = _apply(outer, e, f)
    (ax, ay), (cx, cy) = _apply((*outer[:4], 0, 0), a, b), _apply((*outer[:4], 0, 0), c, d)
    return (ax, ay, cx, cy, left, top)
