"""Reading a PDF's pages into text with places, marks and tables, against PDFium's bare text of the same pages."""

import tempfile
from pathlib import Path

import pypdfium2
import typst
from hybridlab.rag.parse import parse

from tests.benchmarks.record import ratio, turn_about, write

SOURCE = '#set page(paper: "a4")\n= Chapter\n' + "Sáu mươi ngày nghỉ phép, said the rule. " * 15_000


def bare(path: Path) -> int:
    """Characters that PDFium finds on all pages."""
    with pypdfium2.PdfDocument(path) as document:
        return sum(len(page.get_textpage().get_text_range()) for page in document)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.pdf"
        typst.compile(SOURCE.encode(), output=path)
        pages = len(parse(path).pages)
        taken = turn_about({"ours": lambda: parse(path), "PDFium": lambda: bare(path)}, repeat=7)
    samples = {f"plain page: {side}": [value / pages for value in values] for side, values in taken.items()}
    note = (
        f"{pages} pages of plain text. Ours also finds tables, hidden text and places. A ratio is our time over PDFium's."
    )
    write("parsing", unit="ms of CPU time a page", samples=samples, ratios={"plain page: ours": ratio(taken, "ours", "PDFium")}, note=note)
