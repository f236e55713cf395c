"""Conversations on the assistant's page outlive a reload, and what goes wrong is told without anything typed being lost."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.assistant_page import HOTEL, LEAVE, PROMISES, SOON, answered, ask, document, upload

pytestmark = PROMISES


def test_conversations_outlive_a_reload_and_are_found_by_the_back_button(visit):
    page = visit()
    ask(page, HOTEL)
    answered(page)
    first = page.url
    page.get_by_role("button", name="New conversation").click()
    ask(page, LEAVE)
    answered(page)
    page.reload()
    expect(page.locator("article.user")).to_have_text(re.compile(re.escape(LEAVE)), timeout=SOON)
    expect(page.locator("article.assistant button.source").first).to_be_visible()
    expect(page.locator("#conversations a[aria-current]")).to_have_text(LEAVE)
    page.go_back()
    expect(page.locator("article.user")).to_have_text(re.compile(re.escape(HOTEL)), timeout=SOON)
    assert page.url == first
    expect(page.locator("#conversations a[aria-current]")).to_have_text(HOTEL)
    link = page.locator("#conversations li", has=page.locator("[aria-current]"))
    link.get_by_role("button", name="Delete").click()
    expect(page.locator("article")).to_have_count(0)
    expect(page.locator("#conversations a[aria-current]")).to_have_count(0)


def test_a_reload_in_mid_answer_keeps_what_was_written_and_what_was_typed(visit, voice):
    page = visit()
    voice.allowed = 1
    ask(page, LEAVE)
    expect(page.locator("article.assistant .content")).to_have_text("Twenty-five days ", timeout=SOON)
    page.locator("#question").fill("half a question")
    page.reload()
    expect(page.locator("article.assistant")).to_contain_text("Twenty-five days", timeout=SOON)
    expect(page.locator("article.assistant")).to_contain_text("Cut off: this answer is not whole.")
    expect(page.locator("#question")).to_have_value("half a question")


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_lost_service_is_told_and_nothing_typed_or_chosen_is_lost(visit):
    page = visit(refusals=True)
    page.context.set_offline(True)
    ask(page, LEAVE)
    expect(page.get_by_role("alert")).to_contain_text("The assistant can't be reached. Start it again", timeout=SOON)
    expect(page.locator("#question")).to_have_value(LEAVE)
    expect(page.locator("article")).to_have_count(0)
    expect(upload(page, "waiting.txt", b"A text that waits for the service.")).to_contain_text("can't be reached", timeout=SOON)
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_contain_text("The assistant is back", timeout=SOON)
    expect(document(page, "waiting.txt")).to_contain_text("ready", timeout=SOON)
    page.locator("#question").press("Enter")
    expect(answered(page)).to_contain_text("as the handbook says")


def test_a_revoked_key_is_asked_for_again_and_what_was_typed_stays(visit, running, monkeypatch):
    page = visit(refusals=True)
    keys = running.service.store.keys
    label = "for one test"
    new = keys.add("local", label)
    monkeypatch.setattr(running.service, "local_key", new)
    page.reload(wait_until="networkidle")  # what it asks as it begins is answered
    keys.revoke(next(key.id for key in keys.all() if key.label == label))
    ask(page, LEAVE)
    login = page.get_by_role("dialog")
    expect(login).to_contain_text("This key is not valid, or was revoked. Paste another one", timeout=SOON)
    login.get_by_label("Key", exact=True).fill(running.key)
    page.keyboard.press("Enter")
    expect(login).to_be_hidden()
    expect(page.locator("#question")).to_have_value(LEAVE)
    page.locator("#question").press("Enter")
    expect(answered(page)).to_contain_text("as the handbook says")


def test_a_question_that_is_too_long_is_told_and_kept(visit):
    page = visit()
    long = "paid leave " * 95_000
    page.locator("#question").focus()
    page.keyboard.insert_text(long)  # as a paste does
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("1,044,999.* characters, and at most .*32,000"), timeout=SOON)
    assert page.locator("#question").input_value() == long
    page.locator("#question").fill("")
    page.locator("#question").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Write a question first.")
