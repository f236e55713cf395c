"""Whether anybody sees a run of a DOCX: Word's own "hidden", letters of the paper's colour, letters below 2 points.

A property is looked for in the run, its character style, its paragraph's style, and the document's defaults, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator

from docx.document import Document
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - compiled

from .html_look import luminance

SMALLEST = 4  # half-points
_SAME_COLOUR = 0.1
_HIGHLIGHTS = {"yellow": "yellow", "darkYellow": "olive", "lightGray": "#d3d3d3", "darkGray": "#a9a9a9", "none": "white"}


class Looks:
    """Reads the looks of runs; styles are looked up once."""

    def __init__(self, document: Document) -> None:
        self._styles: dict[str, etree._Element] = {}
        self._chains: dict[str, list[etree._Element]] = {}
        styles = document.part.styles.element
        for style in styles.iterchildren(qn("w:style")):
            self._styles[style.get(qn("w:styleId"), "")] = style
        self._defaults = list(styles.iterfind(f"./{qn('w:docDefaults')}/{qn('w:rPrDefault')}/{qn('w:rPr')}"))
        self._default_style = next(
            (name for name, style in self._styles.items() if style.get(qn("w:default")) == "1" and style.get(qn("w:type")) == "paragraph"),
            "",
        )

    def is_hidden(self, run: etree._Element, paragraph: Paragraph, ground: float | None) -> bool:
        """Whether the run isn't seen on ``ground``, a luminance (None where it can't be told)."""
        sources = list(self._sources(run, paragraph))
        vanish = _first(sources, "w:vanish")
        if vanish is not None and vanish.get(qn("w:val"), "1") not in ("0", "false", "off"):
            return True
        size = _first(sources, "w:sz")
        if size is not None and size.get(qn("w:val"), "24").isdigit() and int(size.get(qn("w:val"), "24")) < SMALLEST:
            return True
        colour = _first(sources, "w:color")
        value = colour.get(qn("w:val"), "auto") if colour is not None else "auto"
        if value == "auto":
            return False
        letters = luminance(f"#{value}", 0.0)
        shade, highlight = _first(sources, "w:shd"), _first(sources, "w:highlight")
        if highlight is not None:
            name = highlight.get(qn("w:val")) or "none"
            ground = luminance(_HIGHLIGHTS.get(name, name.lower()), None)
        elif shade is not None:
            ground = _shade(shade, ground)
        return letters is not None and ground is not None and abs(letters - ground) < _SAME_COLOUR

    def paragraph_ground(self, paragraph: Paragraph) -> float | None:
        """The luminance behind a paragraph: its own shading, its table cell's, or the paper's.

        A table's style can shade a cell without its saying so; then the ground is unknown and no colour counts as hidden.
        """
        node = paragraph._p
        own = node.find(f"./{qn('w:pPr')}/{qn('w:shd')}")
        if own is not None:
            return _shade(own, 1.0)
        for style in self._chain(self._style_name(node, "w:pPr/w:pStyle") or self._default_style):
            shade = style.find(f"./{qn('w:pPr')}/{qn('w:shd')}")
            if shade is not None:
                return _shade(shade, 1.0)
        while (node := node.getparent()) is not None:
            if node.tag == qn("w:tc"):
                shade = node.find(f"./{qn('w:tcPr')}/{qn('w:shd')}")
                if shade is not None:
                    return _shade(shade, 1.0)
            elif node.tag == qn("w:tbl") and self._table_style_shades(node):
                return None
        return 1.0

    def _table_style_shades(self, table: etree._Element) -> bool:
        name = self._style_name(table, "w:tblPr/w:tblStyle")
        return any(style.find(f".//{qn('w:shd')}") is not None for style in self._chain(name)) if name else False

    def _sources(self, run: etree._Element, paragraph: Paragraph) -> Iterator[etree._Element]:
        own = run.find(qn("w:rPr"))
        if own is not None:
            yield own
        names = (self._style_name(run, "w:rPr/w:rStyle"), self._style_name(paragraph._p, "w:pPr/w:pStyle") or self._default_style)
        for name in filter(None, names):
            for style in self._chain(name):
                yield from style.iterchildren(qn("w:rPr"))
        yield from self._defaults

    def _chain(self, name: str) -> list[etree._Element]:
        """A style and those that it is based on."""
        if name not in self._chains:
            chain: list[etree._Element] = []
            current = name
            while current in self._styles and self._styles[current] not in chain and len(chain) < 20:
                chain.append(self._styles[current])
                based = chain[-1].find(qn("w:basedOn"))
                current = based.get(qn("w:val"), "") if based is not None else ""
            self._chains[name] = chain
        return self._chains[name]

    @staticmethod
    def _style_name(node: etree._Element, path: str) -> str:
        found = node.find("/".join(qn(part) for part in path.split("/")))
        return found.get(qn("w:val"), "") if found is not None else ""


def _first(sources: list[etree._Element], name: str) -> etree._Element | None:
    return next((found for source in sources if (found := source.find(qn(name))) is not None), None)


def _shade(shade: etree._Element, around: float | None) -> float | None:
    """A shading's luminance; a pattern is taken for its background's colour."""
    fill = shade.get(qn("w:fill"), "auto")
    if shade.get(qn("w:val"), "clear") not in ("clear", "nil"):
        return None
    return around if fill == "auto" else luminance(f"#{fill}", None)
