"""Answers on the assistant's page: they grow, name their sources, open them with the quote marked, and can be stopped."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.assistant_page import GARAGE, HOTEL, LEAVE, NGHI_PHEP, PROMISES, SHOTS, SOON, answered, ask, document

pytestmark = PROMISES


def test_an_answer_grows_as_it_is_written(visit, voice):
    page = visit()
    voice.allowed = 1
    ask(page, LEAVE)
    content = page.locator("article.assistant .content")
    expect(content).to_have_text("Twenty-five days ", timeout=SOON)
    expect(page.locator("article.assistant")).to_have_attribute("aria-busy", "true")
    voice.allowed = 2
    expect(content).to_have_text("Twenty-five days of paid leave, ")
    voice.allowed = 3
    expect(answered(page)).to_contain_text("as the handbook says [1].")
    expect(page.get_by_role("status")).to_contain_text("Twenty-five days of paid leave, as the handbook says [1]. Sources:")


@pytest.mark.parametrize(("question", "number", "language"), [(LEAVE, 1, "en"), (NGHI_PHEP, 3, "vi")])
def test_a_numbered_source_opens_its_page_with_the_quote_marked(visit, voice, running, question, number, language):
    page = visit(language=language)
    voice.own = language == "en"  # once is enough: the packaged model takes its time
    ask(page, question)
    source = answered(page, 4 * SOON).locator("button.source").first
    place = source.locator(".place").inner_text()
    assert re.search(rf"^1.*handbook\.pdf.*, (page|trang) {number}$", place), place
    quote = running.service.store.conversations.messages("local", page.url.rpartition("/")[2])[-1].citations[0]["quote"]
    source.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading")).to_contain_text(re.compile(rf"handbook\.pdf.*, (page|trang) {number}$"))
    assert viewer.locator("mark").evaluate("mark => mark.textContent") == quote
    assert ("twenty-five days" if language == "en" else "hai mươi lăm ngày") in quote
    expect(viewer.locator("mark")).to_be_in_viewport()
    page.screenshot(path=SHOTS / f"assistant-viewer-{language}.png")


def test_a_number_in_the_answer_opens_the_source_of_that_number(visit):
    page = visit()
    ask(page, HOTEL)
    answered(page).get_by_role("button", name="Source 1", exact=True).click()
    expect(page.locator("#viewer mark")).to_contain_text("ninety euros")


def test_instructions_in_a_source_are_marked_in_words_in_both_languages(visit):
    page = visit()
    ask(page, GARAGE)
    source = answered(page).locator(".source", has_text="parking.md")
    expect(source).to_contain_text("This passage gives instructions to a machine")
    source.click()
    expect(page.get_by_role("dialog").get_by_text("This passage gives instructions to a machine")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#language").select_option("vi")
    expect(source).to_contain_text("Đoạn này ra lệnh cho máy")
    expect(document(page, "parking.md")).to_contain_text("Có câu ra lệnh cho máy")
    source.click()
    expect(page.get_by_role("dialog").get_by_text("Đoạn này ra lệnh cho máy")).to_be_visible()
    page.keyboard.press("Escape")
    other = page.locator(".source", has_text="handbook.pdf").first
    expect(other).not_to_contain_text("ra lệnh cho máy")
    other.click()
    expect(page.get_by_role("dialog").locator("mark")).to_be_visible()
    expect(page.get_by_text("Đoạn này ra lệnh cho máy")).to_have_count(2)  # in the list of sources, and hidden in the viewer
    expect(page.locator("#viewer-warning")).to_be_hidden()


def test_stop_leaves_what_was_written_marked_and_the_next_question_works(visit, voice):
    page = visit()
    voice.allowed = 1
    ask(page, LEAVE)
    expect(page.locator("article.assistant .content")).to_have_text("Twenty-five days ", timeout=SOON)
    page.wait_for_timeout(700)  # a click sooner is taken for the second one of a double click on Ask
    page.locator("#stop").click()
    stopped = answered(page)
    expect(stopped).to_contain_text("Twenty-five days")
    expect(stopped).to_contain_text("Stopped by you: this answer is not whole.")
    voice.allowed = 9
    ask(page, HOTEL)
    expect(answered(page)).to_contain_text("as the handbook says")
    page.reload()
    first = page.locator("article.assistant").first
    expect(first).to_contain_text("this answer is not whole", timeout=SOON)
    expect(first).to_contain_text("Twenty-five days")
    expect(page.locator("article.assistant").last).not_to_contain_text("not whole")


def test_a_double_click_asks_once_and_stops_nothing(visit, voice):
    page = visit()
    page.locator("#question").fill(LEAVE)
    page.locator("#send").dblclick()
    answer = answered(page)
    expect(answer).to_contain_text("as the handbook says", timeout=SOON)
    expect(answer).not_to_contain_text("not whole")
    assert (page.locator("article.user").count(), voice.questions) == (1, 1)
