"""One Chromium for the browser tests, windows in it that may talk to this machine alone, and the assistant's page in one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.assistant_page import HANDBOOK, PARKING, SHOTS, SOON, WIDE, Voice, pdf
from tests.capstone.conftest import Running, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: sudo apt install chromium")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=options)
        yield running
        running.close()


@pytest.fixture
def open_window(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`open_window(viewport=…)`: a fresh window, nothing remembered; whatever it asks of another machine fails the test."""
    opened: list[Page] = []
    elsewhere: list[str] = []

    def open_one(**options) -> Page:
        window = browser.new_context(**options).new_page()
        window.on("request", lambda request: elsewhere.append(request.url) if leaves(request.url) else None)
        opened.append(window)
        return window

    yield open_one
    for window in opened:
        window.context.close()
    assert not elsewhere, elsewhere


def leaves(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1"


# --- the assistant's page ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The assistant with two documents that are ready."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("page")
    with serving(folder / "home", Voice()) as running, running.client() as client:
        for name, content in (("handbook.pdf", pdf(HANDBOOK)), ("parking.md", PARKING.encode())):
            assert client.post("/v1/documents", files={"file": (name, content)}).status_code == 201
        assert running.service.knowledge.wait(60)
        yield running


@pytest.fixture
def voice(running: Running) -> Voice:
    running.engine.begin_anew()
    return running.engine


@pytest.fixture
def visit(running: Running, voice: Voice, open_window: Callable[..., Page]) -> Iterator[Callable[..., Page]]:
    """`visit(viewport, language)`: the page in a fresh window. An error in its console fails the test, but for refusals asked for."""
    errors: list[str] = []

    def go(viewport=WIDE, language="en", *, refusals: bool = False, **options) -> Page:
        page = open_window(viewport=viewport, locale=language, **options)
        page.set_default_timeout(SOON)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") and not refused(said.text) else None)
        page.on("dialog", lambda dialog: dialog.accept())
        page.on("filechooser", lambda _: None)  # so that choosers are intercepted from the start, not just once a test waits for one
        page.goto(running.url)
        expect(page.locator("#documents > li .name").first).to_be_attached(timeout=SOON)

        def refused(text: str) -> bool:
            return refusals and "Failed to load resource" in text

        return page

    yield go
    assert not errors, errors
