"""How much of a PDF's page is pictures and shapes, told without drawing it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pypdfium2 as pdfium

    # x' = a x + c y + e, y' = b x + d y + f
    Matrix = tuple[float, float, float, float, float, float]

_DEPTH = 8  # of forms within forms: beyond it, and beyond so many objects, nobody looks
_OBJECTS = 50_000


@dataclass(slots=True)
class Drawn:
    """`pictures`: their area as a share of the page's (layers add up); `paths`: lines, shapes."""

    pictures: float = 0.0
    paths: int = 0


def drawn_on(page: pdfium.PdfPage) -> Drawn:
    """The pictures and shapes of the page, those inside forms included, annotations not."""
    import pypdfium2.raw as raw

    left, bottom, right, top = page.get_bbox()
    survey = _Survey(raw, (left, bottom, right, top))
    count = raw.FPDFPage_CountObjects(page)
    survey.walk(page, count, raw.FPDFPage_GetObject, (1, 0, 0, 1, 0, 0), 0)
    return survey.drawn


class _Survey:
    def __init__(self, raw: Any, page: tuple[float, float, float, float]) -> None:
        self.drawn = Drawn()
        self._raw = raw
        self._page = page
        self._area = max((page[2] - page[0]) * (page[3] - page[1]), 1e-6)
        self._left = _OBJECTS

    def walk(self, parent: Any, count: int, child: Any, matrix: Matrix, depth: int) -> None:
        raw = self._raw
        for index in range(min(count, self._left)):
            self._left -= 1
            one = child(parent, index)
            kind = raw.FPDFPageObj_GetType(one)
            if kind in (raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_SHADING):
                self.drawn.paths += 1
            elif kind == raw.FPDF_PAGEOBJ_IMAGE:
                self.drawn.pictures += self._share(one, matrix)
            elif kind == raw.FPDF_PAGEOBJ_FORM and depth < _DEPTH:
                own = raw.FS_MATRIX()
                raw.FPDFPageObj_GetMatrix(one, ctypes.byref(own))
                inner = _times((own.a, own.b, own.c, own.d, own.e, own.f), matrix)
                inside = raw.FPDFFormObj_CountObjects(one)
                self.walk(one, inside, raw.FPDFFormObj_GetObject, inner, depth + 1)

    def _share(self, picture: Any, matrix: Matrix) -> float:
        """How much of the page the picture's bounds cover."""
        edges = [ctypes.c_float() for _ in range(4)]
        if not self._raw.FPDFPageObj_GetBounds(picture, *map(ctypes.byref, edges)):
            return 0.0
        x0, y0, x1, y1 = (edge.value for edge in edges)
        a, b, c, d, e, f = matrix
        corners = [(a * x + c * y + e, b * x + d * y + f) for x in (x0, x1) for y in (y0, y1)]
        xs, ys = zip(*corners, strict=True)
        left, bottom, right, top = self._page
        width = min(max(xs), right) - max(min(xs), left)
        height = min(max(ys), top) - max(min(ys), bottom)
        return max(width, 0.0) * max(height, 0.0) / self._area


def _times(first: Matrix, then: Matrix) -> Matrix:
    """The matrix that does `first` and then `then`."""
    a, b, c, d, e, f = first
    p, q, r, s, t, u = then
    return (
        *(a * p + b * r, a * q + b * s),
        *(c * p + d * r, c * q + d * s),
        *(e * p + f * r + t, e * q + f * s + u),
    )
