"""The assistant's page is for everybody: both languages, both colour schemes, a screen reader, the keyboard alone, a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import page_checks
from tests.browser.assistant_page import GARAGE, LEAVE, PHONE, PROMISES, SHOTS, SOON, answered, ask, upload

pytestmark = PROMISES


def crowded(page: Page) -> None:
    """Bring everything that the page can show onto it."""
    expect(upload(page, "empty.txt", b"")).to_contain_text(re.compile("0 byte"), timeout=SOON)
    for question in (LEAVE, GARAGE):
        ask(page, question)
        answered(page)
    ask(page, "")
    expect(page.get_by_role("alert")).to_be_visible()


def test_both_languages_say_everything(visit):
    page = visit(refusals=True)
    assert page_checks.missing_texts(page.evaluate("import('/web/texts.js').then((module) => module.TEXTS)")) == []
    crowded(page)
    english = page_checks.sentences(page, "en")
    shown = page.evaluate(page_checks.EVERYTHING_SAID)
    assert len([said for said in shown if english(said)]) > 25, shown
    page.locator("#language").select_option("vi")
    expect(page.locator("html")).to_have_attribute("lang", "vi")
    assert [said for said in page.evaluate(page_checks.EVERYTHING_SAID) if english(said)] == []
    page.reload()
    expect(page.get_by_role("button", name="Hội thoại mới")).to_be_visible()
    page.screenshot(path=SHOTS / "assistant-vi.png")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(visit, theme):
    page = visit(refusals=True, color_scheme=theme)
    crowded(page)
    page.screenshot(path=SHOTS / f"assistant-{theme}.png")
    assert page.evaluate(page_checks.PALE) == []
    page.locator(".source", has_text="parking.md").last.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(page_checks.PALE) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("Escape")
    page.locator("#theme").select_option("dark" if theme == "light" else "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    assert page.evaluate(page_checks.PALE) == []


def test_a_screen_reader_finds_its_way(visit):
    page = visit(refusals=True)
    crowded(page)
    page.locator("button.source").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page_checks.nameless(page.get_by_role("dialog").aria_snapshot()) == []
    page.keyboard.press("Escape")
    assert page_checks.nameless(page.locator("body").aria_snapshot()) == []
    assert page.evaluate(page_checks.STRUCTURE) == []
    for role in ("banner", "main", "complementary", "status"):
        expect(page.get_by_role(role)).to_have_count(1)
    vietnamese = page.locator("q", has_text="nghỉ phép").first
    if vietnamese.count():
        expect(vietnamese).to_have_attribute("lang", "vi")


def test_the_keyboard_alone_is_enough(visit):
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the question")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type(LEAVE)
    page.keyboard.press("Enter")
    answered(page)
    page.keyboard.press("Shift+Tab")
    expect(page.locator("button.source").last).to_be_focused()
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    expect(viewer.locator("mark")).to_be_focused()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page.locator("button.source").last).to_be_focused()
    page.locator("#language").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    with page.expect_file_chooser():
        page.keyboard.press("Enter")
    assert page_checks.walk(page) == []


@pytest.mark.parametrize("width", [375, 320])
def test_a_phone_shows_everything_without_scrolling_sideways(visit, width):
    page = visit({**PHONE, "width": width}, refusals=True)
    assert page.evaluate(page_checks.SIDEWAYS) == []
    page.locator("#menu").click()
    expect(page.locator("#side")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#side")).to_be_hidden()
    ask(page, GARAGE)
    answered(page)
    assert page.evaluate(page_checks.SIDEWAYS) == []
    page.screenshot(path=SHOTS / f"assistant-phone-{width}.png")
    page.locator("button.source").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(page_checks.SIDEWAYS) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.locator("#menu").click()
    assert page.evaluate(page_checks.SIDEWAYS) == []
    page.locator("#conversations a", has_text=GARAGE).first.click()
    expect(page.locator("#side")).to_be_hidden()
    expect(page.locator("#question")).to_be_in_viewport()
