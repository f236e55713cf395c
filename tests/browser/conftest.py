"""One Chromium for the browser tests, and windows in it that may talk to this machine alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright


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
