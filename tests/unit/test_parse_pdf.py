"""PDF: the text that a reader sees, in the order of reading, with its headings; tables with their columns."""

from __future__ import annotations

import unicodedata

from hybridlab.rag.parse import parse
from hybridlab.rag.parse import pdf_lines as lines_module

from tests.unit.pdf_pages import VISIBLE, drawn, hidden, tables, typeset, visible

# --- text -----------------------------------------------------------------------------------------------------------


def test_wrapped_lines_are_joined_and_paragraphs_are_not(tmp_path):
    first = "Every employee has a right to twelve days of paid leave in a year, and to one more for each five years of service. " * 3
    page = parse(typeset(tmp_path / "a.pdf", f"#set page(width: 12cm)\n{first}\n\nThe second paragraph.")).pages[0]
    assert visible(page).split("\n\n") == [" ".join(first.split()), "The second paragraph."]


def test_vietnamese_is_composed_and_its_words_stay_apart(tmp_path):
    said = "Người lao động được nghỉ phép năm mười hai ngày, mức lương tối thiểu là 1.200.000 đồng mỗi tháng."
    source = '#set text(font: "DejaVu Sans")\n' + said
    page = parse(typeset(tmp_path / "a.pdf", unicodedata.normalize("NFD", source))).pages[0]
    assert visible(page) == said
    assert unicodedata.is_normalized("NFC", page.text)


def test_a_divided_word_is_mended_and_a_hyphenated_one_keeps_its_hyphen(tmp_path):
    source = '#set page(width: 5.4cm, margin: 0.5cm)\n#set text(hyphenate: true, lang: "en", size: 11pt)\n#set par(justify: true)\n'
    words = "The extraordinary responsibilities of administrators include documentation, internationalization and accountability."
    page = parse(typeset(tmp_path / "a.pdf", source + words)).pages[0]
    assert visible(page) == words


def test_code_keeps_its_lines(tmp_path):
    page = parse(typeset(tmp_path / "a.pdf", "Do this:\n```\ncd /tmp\nmake all\nmake install\n```\n" + "Then rest. " * 40)).pages[0]
    assert "cd /tmp\nmake all\nmake install" in page.text


def test_pages_are_numbered_as_a_viewer_counts(tmp_path):
    parsed = parse(typeset(tmp_path / "a.pdf", "One\n#pagebreak()\nTwo\n#pagebreak()\nThree"))
    assert [(page.number, visible(page)) for page in parsed.pages] == [(1, "One"), (2, "Two"), (3, "Three")]


def test_columns_are_read_one_after_the_other_in_whatever_order_they_are_drawn(tmp_path):
    def draw(canvas):
        for side, left in (("right", 330), ("left", 72)):
            for row in range(8):
                canvas.drawString(left, 600 - 14 * row, f"{side} {row} of the column")
        canvas.drawString(72, 760, "Header drawn last")

    text = visible(parse(drawn(tmp_path / "a.pdf", draw)).pages[0])
    places = [text.index(piece) for piece in ("Header", VISIBLE, "left 0", "left 7", "right 0", "right 7")]
    assert places == sorted(places)


def test_rows_that_are_drawn_as_rows_stay_rows(tmp_path):
    def draw(canvas):
        for row in range(8):
            canvas.drawString(72, 600 - 14 * row, f"Person {row}")
            canvas.drawString(330, 600 - 14 * row, f"{row} days")
        canvas.drawString(72, 600 - 14 * 8, "Nobody else has a right to any more days than these, by rule.")

    assert "Person 6 6 days\nPerson 7 7 days\nNobody else" in visible(parse(drawn(tmp_path / "a.pdf", draw)).pages[0])


def test_text_that_is_turned_is_read_upright(tmp_path):
    def draw(canvas):
        canvas.rotate(90)
        for row in range(6):
            canvas.drawString(100, -300 - 14 * row, f"turned line {row} of a landscape table on an upright page")

    text = visible(parse(drawn(tmp_path / "a.pdf", draw)).pages[0])
    assert [text.index(f"turned line {row}") for row in range(6)] == sorted(text.index(f"turned line {row}") for row in range(6))


def test_letters_beyond_the_basic_plane_do_not_shift_the_others(tmp_path):
    page = parse(
        typeset(tmp_path / "a.pdf", '#set text(font: "DejaVu Sans")\nSet 𝔸 and 𝔹 hold.\n\n#text(fill: white)[order]\n\nThe end.')
    ).pages[0]
    assert visible(page) == "Set 𝔸 and 𝔹 hold.\n\nThe end."
    assert hidden(page) == ["order"]


def test_the_two_ways_to_the_characters_agree(tmp_path, monkeypatch):
    path = typeset(tmp_path / "a.pdf", "= Chapter\n" + "Some text, and fi ligatures: office, waffle. " * 20)
    quick = parse(path)
    monkeypatch.setattr(lines_module.PdfTextPage, "get_text_range", lambda self: "")
    assert parse(path) == quick


# --- sections -------------------------------------------------------------------------------------------------------


def test_the_outline_gives_the_path_of_headings(tmp_path):
    source = (
        '#set heading(numbering: "1.1")\n= Leave\nText of leave.\n== Annual\nTwelve days.\n#pagebreak()\nStill annual.\n= Pay\nMonthly.'
    )
    first, second = parse(typeset(tmp_path / "a.pdf", source)).pages
    assert [(heading.path, first.text[heading.start :].split("\n")[0]) for heading in first.headings] == [
        (("1 Leave",), "1 Leave"),
        (("1 Leave", "1.1 Annual"), "1.1 Annual"),
    ]
    assert second.heading == ("1 Leave", "1.1 Annual")
    assert [heading.path for heading in second.headings] == [("2 Pay",)]


def test_an_outline_that_names_only_pages_is_matched_by_its_titles(tmp_path):
    def draw(canvas):
        canvas.bookmarkPage("leave", fit="Fit")
        canvas.addOutlineEntry("2. Annual leave", "leave", 0)
        canvas.drawString(72, 600, "2 Annual  Leave")
        canvas.drawString(72, 560, "Twelve days.")

    page = parse(drawn(tmp_path / "a.pdf", draw)).pages[0]
    assert [(heading.path, page.text[heading.start :].split("\n")[0]) for heading in page.headings] == [
        (("2. Annual leave",), "2 Annual Leave")
    ]


def test_without_an_outline_the_size_of_letters_gives_it(tmp_path):
    body = "Body text that is long enough to be the usual size of letters in this document. " * 5
    source = f"#text(size: 20pt)[Leave]\n\n{body}\n\n#text(size: 15pt)[Annual]\n\n{body}"
    page = parse(typeset(tmp_path / "a.pdf", source)).pages[0]
    assert [heading.path for heading in page.headings] == [("Leave",), ("Leave", "Annual")]


# --- tables ---------------------------------------------------------------------------------------------------------

TABLE = """#set text(font: "DejaVu Sans")
Before.
#table(columns: 3,
  [Cấp bậc], [Ngày nghỉ], [Lương], [Nhân viên], [12], [1.200.000], [Quản lý], [15], [2.500.000])
After."""


def test_each_row_of_a_ruled_table_says_its_columns(tmp_path):
    page = parse(typeset(tmp_path / "a.pdf", TABLE)).pages[0]
    assert tables(page) == [
        "Cấp bậc | Ngày nghỉ | Lương\n"
        "Cấp bậc: Nhân viên | Ngày nghỉ: 12 | Lương: 1.200.000\n"
        "Cấp bậc: Quản lý | Ngày nghỉ: 15 | Lương: 2.500.000"
    ]
    assert page.tables[0].header == "Cấp bậc | Ngày nghỉ | Lương"
    assert visible(page) == f"Before.\n\n{tables(page)[0]}\n\nAfter."


def test_a_table_without_an_outer_frame_is_found(tmp_path):
    source = TABLE.replace("columns: 3,", "columns: 3, stroke: (x, y) => (left: if x > 0 {1pt}, top: if y > 0 {1pt}),")
    assert tables(parse(typeset(tmp_path / "a.pdf", source)).pages[0])[0].endswith("Cấp bậc: Quản lý | Ngày nghỉ: 15 | Lương: 2.500.000")


def test_a_cell_over_several_rows_or_columns_counts_for_each_row(tmp_path):
    source = "#table(columns: 3, [Grade], table.cell(colspan: 2)[Days], table.cell(rowspan: 2)[A], [12], [13], [14], [15])"
    assert tables(parse(typeset(tmp_path / "a.pdf", source)).pages[0]) == [
        "Grade | Days\nGrade: A | Days: 12 | Days: 13\nGrade: A | Days: 14 | Days: 15"
    ]


def test_a_table_that_goes_on_overleaf_keeps_its_columns(tmp_path):
    cells = "".join(f"[Person {row}], [Town {row}], " for row in range(30))
    source = f"#set page(height: 12cm)\n#table(columns: (4cm, 4cm), [Name], [Place], {cells})"
    pages = parse(typeset(tmp_path / "a.pdf", source)).pages
    assert len(pages) > 1
    assert tables(pages[1])[0].split("\n")[0].startswith("Name: Person")
    assert pages[1].tables[0].header == "Name | Place"


def test_a_frame_around_text_is_no_table(tmp_path):
    page = parse(typeset(tmp_path / "a.pdf", "#rect[First line\n\nSecond line]\n#rect[Third line]")).pages[0]
    assert page.tables == ()
    assert visible(page).split("\n\n") == ["First line", "Second line", "Third line"]
