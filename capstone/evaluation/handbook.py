"""The handbook of a company that does not exist, Sao Mai Instruments: written for the evaluation, in English and Vietnamese.

Two PDFs by typst with tables, two versions of one policy and a Vietnamese procedure as DOCX by python-docx, and a document that only
one key may see. The same input gives the same bytes: no dates, typst's own fonts, zip entries in order with one time.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typst
from docx import Document

SOURCES = Path(__file__).with_name("handbook")
RESTRICTED = "salary-bands.pdf"  # only the board's key may see it
MADE = datetime(2026, 1, 5, 8, 0, 0, tzinfo=UTC)

Table = list[list[str]]


@dataclass(frozen=True)
class Section:
    """A heading, its paragraphs, and a table after them, first row the names of the columns."""

    heading: str
    paragraphs: tuple[str, ...]
    table: Table | None = None


def expense_policy(year: int, meal: str, taxi: str, receipts: str, days: int, limits: Table, note: str) -> tuple[str, list[Section]]:
    """One policy, of which each year has its own version."""
    sections = [
        Section(
            "Scope",
            (
                f"This is the expense policy of Sao Mai Instruments for the year {year}. {note}",
                f"Under the {year} policy an expense is claimed within {days} days after it arose, in the portal or with form F-17.",
            ),
        ),
        Section(
            "Meals and taxis",
            (
                f"In {year} a meal with a customer is paid up to {meal} per person; alcohol is not paid.",
                f"Taxis are paid up to {taxi} per ride in {year}. Receipts are needed for everything above {receipts}.",
            ),
        ),
        Section("Approval limits", (f"Who may approve an expense in {year}:",), limits),
    ]
    return f"Expense policy {year}", sections


DOCX: dict[str, tuple[str, list[Section]]] = {
    "expense-policy-2024.docx": expense_policy(
        2024,
        "400.000 VND",
        "120.000 VND",
        "200.000 VND",
        45,
        [
            ["Approver in 2024", "Limit of one expense", "Second signature"],
            ["team leader", "3.000.000 VND", "none"],
            ["department head", "15.000.000 VND", "finance"],
            ["managing director", "no limit", "chairwoman above 200.000.000 VND"],
        ],
        "It ended on 31 December 2024 and is kept for old claims.",
    ),
    "expense-policy-2026.docx": expense_policy(
        2026,
        "550.000 VND",
        "160.000 VND",
        "100.000 VND",
        20,
        [
            ["Approver in 2026", "Limit of one expense", "Second signature"],
            ["team leader", "5.000.000 VND", "none"],
            ["department head", "25.000.000 VND", "finance"],
            ["managing director", "no limit", "chairwoman above 350.000.000 VND"],
        ],
        "It has been in force since 1 January 2026 and replaces all earlier ones.",
    ),
    "quy-trinh-cntt.docx": (
        "Quy trình công nghệ thông tin",
        [
            Section(
                "Cấp tài khoản",
                (
                    "Tài khoản của người mới được tạo trong 4 giờ làm việc sau khi trưởng phòng gửi phiếu IT-03.",
                    "Tài khoản không dùng trong 90 ngày bị khóa; sau 180 ngày thì bị xóa cùng hộp thư.",
                ),
            ),
            Section(
                "Sao lưu dữ liệu",
                (
                    "Ổ đĩa chung được sao lưu lúc 23:30 mỗi đêm và giữ trong 35 ngày. Bản sao cuối tháng được giữ bảy năm.",
                    "Muốn khôi phục một tệp đã xóa, hãy gọi máy lẻ 2233 và cho biết đường dẫn của tệp.",
                ),
            ),
            Section(
                "Mức độ sự cố",
                ("Thời gian xử lý tính từ lúc nhận được báo cáo:",),
                [
                    ["Mức", "Ví dụ", "Phản hồi trong", "Khắc phục trong"],
                    ["Khẩn cấp", "máy chủ sản xuất ngừng", "15 phút", "4 giờ"],
                    ["Cao", "một phòng mất mạng", "1 giờ", "12 giờ"],
                    ["Trung bình", "máy in hỏng", "8 giờ", "3 ngày"],
                    ["Thấp", "xin cài phần mềm", "2 ngày", "10 ngày"],
                ],
            ),
            Section(
                "Thiết bị di động",
                ("Điện thoại có thư công ty phải đặt mã khóa sáu số. Khi mất máy, phòng công nghệ xóa dữ liệu từ xa trong vòng 2 giờ.",),
            ),
        ],
    ),
}
PDF = ("staff-handbook.pdf", "so-tay-nhan-vien.pdf", RESTRICTED)


def make(folder: Path) -> list[Path]:
    """Write every document of the handbook into a folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PDF:
        source = SOURCES / Path(name).with_suffix(".typ").name
        typst.compile(str(source), output=str(folder / name), ignore_system_fonts=True, timestamp=int(MADE.timestamp()))
    for name, (title, sections) in DOCX.items():
        (folder / name).write_bytes(docx_of(title, sections))
    return [folder / name for name in (*PDF, *DOCX)]


def docx_of(title: str, sections: list[Section]) -> bytes:
    document = Document()
    document.core_properties.title, document.core_properties.author = title, "Sao Mai Instruments"
    document.core_properties.created = document.core_properties.modified = MADE.replace(tzinfo=None)
    document.add_heading(title, 0)
    for section in sections:
        document.add_heading(section.heading, 1)
        for paragraph in section.paragraphs:
            document.add_paragraph(paragraph)
        if section.table:
            table = document.add_table(len(section.table), len(section.table[0]), style="Table Grid")
            for row, values in zip(table.rows, section.table, strict=True):
                for cell, value in zip(row.cells, values, strict=True):
                    cell.text = value
    written = io.BytesIO()
    document.save(written)
    return same_times(written.getvalue())


def same_times(package: bytes) -> bytes:
    """A zip with all its entries, each as if it had been written at `MADE`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name, MADE.timetuple()[:6]), source.read(name), zipfile.ZIP_DEFLATED)
    return out.getvalue()
