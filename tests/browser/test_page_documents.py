"""Documents on the assistant's page: chosen or dropped, their progress, what can't be read, and what is gone when one is deleted."""

from __future__ import annotations

import base64
import re

import pytest
from playwright.sync_api import expect

from tests.browser import page_checks
from tests.browser.assistant_page import PROMISES, SOON, answered, ask, document, large_pdf, pdf, upload

pytestmark = PROMISES


def test_files_are_chosen_and_their_upload_shows_its_progress(visit, tmp_path):
    page = visit()
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 800_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.evaluate(page_checks.RECORD_PROGRESS)
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose files, or drop them here").click()
    content = large_pdf("The canteen is open from eleven to two.", tmp_path)
    chooser.value.set_files({"name": "canteen.pdf", "mimeType": "application/pdf", "buffer": content})
    expect(document(page, "canteen.pdf")).to_contain_text("ready, 1 page", timeout=SOON)
    seen = page.evaluate("window.progress")
    assert any(0 < share < 1 for share, _ in seen), seen
    assert any(0 < int(percent) < 100 for _, state in seen for percent in re.findall(r"uploading (\d+) %", state)), seen


def test_files_are_dropped_anywhere_on_the_page(visit):
    page = visit()
    content = base64.b64encode(pdf("The library lends five books at once.")).decode()
    files = page.evaluate_handle(page_checks.FILES, [["library.pdf", content]])
    page.locator("main").dispatch_event("dragover", {"dataTransfer": files})
    expect(page.locator("body")).to_have_class("over")
    page.locator("main").dispatch_event("drop", {"dataTransfer": files})
    expect(page.locator("body")).not_to_have_class("over")
    expect(document(page, "library.pdf")).to_contain_text("ready, 1 page", timeout=SOON)


def test_one_file_twice_is_one_document_and_the_page_says_so(visit):
    page = visit()
    twice = [{"name": "twice.md", "mimeType": "text/markdown", "buffer": b"# Twice\n\nThe same file, chosen two times."}] * 2
    page.locator("#file").set_input_files(twice)
    expect(page.locator("#notice")).to_contain_text("is here already", timeout=SOON)
    expect(document(page, "twice.md")).to_have_count(1)


@pytest.mark.parametrize(
    ("language", "empty", "program"),
    [("en", "Choose the file again", "Save it as one of these"), ("vi", "Hãy chọn lại tệp", "Hãy lưu thành một trong các loại này")],
)
def test_a_file_that_cannot_be_read_is_told_in_the_interfaces_language(visit, language, empty, program):
    page = visit(language=language, refusals=True)
    expect(upload(page, f"empty-{language}.txt", b"")).to_contain_text(empty, timeout=SOON)
    expect(upload(page, f"program-{language}.pdf", b"MZ\0\0" * 50)).to_contain_text(program, timeout=SOON)
    expect(page.locator("#documents .retry:visible")).to_have_count(0)


def test_a_name_of_300_characters_and_of_another_script_is_a_name(visit):
    page = visit()
    upload(page, "n" * 296 + ".txt", b"A short text with a long name.")
    expect(document(page, "n" * 100)).to_contain_text("ready", timeout=SOON)
    expect(upload(page, "تقرير 😀.txt", "نص قصير".encode())).to_contain_text("ready", timeout=SOON)
    assert page.evaluate(page_checks.SIDEWAYS) == []


def test_a_deleted_document_answers_nothing(visit, voice):
    page = visit()
    row = upload(page, "canary.txt", b"The canary in the reception is called Beatrice and eats millet.")
    expect(row).to_contain_text("ready", timeout=SOON)
    question = "What is the canary in the reception called?"
    ask(page, question)
    source = answered(page).locator(".source", has_text="canary.txt")
    expect(source).to_contain_text("Beatrice")
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    gone = page.locator(".source", has_text="canary.txt")
    expect(gone).to_contain_text("was deleted")
    expect(gone).not_to_contain_text("Beatrice")
    ask(page, question)
    answer = answered(page)
    expect(answer).to_contain_text("I found nothing about this in your documents")
    expect(answer.locator(".source")).to_have_count(0)
    assert page.evaluate("document.activeElement !== document.body"), "focus has a place after the row is gone"


def test_a_document_deleted_in_mid_answer_is_not_quoted_in_it(visit, voice):
    page = visit()
    row = upload(page, "parrot.txt", b"The parrot in the reception is called Bartholomew and eats nuts.")
    expect(row).to_contain_text("ready", timeout=SOON)
    voice.allowed = 1
    ask(page, "What is the parrot in the reception called?")
    expect(page.locator("article.assistant")).to_contain_text("Twenty-five", timeout=SOON)
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    voice.allowed = 9
    answer = answered(page)
    expect(answer).to_contain_text("as the handbook says")
    expect(answer.locator(".source", has_text="parrot.txt")).to_contain_text("was deleted")
    expect(answer).not_to_contain_text("Bartholomew")
