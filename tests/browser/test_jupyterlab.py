"""A learner's evening in a real browser: Home, the lab, a wrong answer named by Validate, a right one accepted, Ctrl-C.

Screenshots of each step are kept in .build/browser/.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from coursekit import paths
from coursekit.build import notebook_text
from coursekit.catalogue import read_catalogue
from coursekit.course import load_course
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow(seconds=150), pytest.mark.timeout(420)]

WEEK = "week02"
TOKEN = "evening"
SHOTS = paths.BUILD / "browser"
SOON, LATER = 30_000, 180_000  # milliseconds


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evening") / "workspace"


@pytest.fixture(scope="module")
def address(workspace: Path) -> Iterator[str]:
    """`make learn`, as a learner starts it, with a fixed port and token; ended as Ctrl-C in a terminal ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {**os.environ, "COURSE_WORKSPACE": str(workspace), "COURSE_PORT": str(port), "COURSE_TOKEN": TOKEN, "BROWSER": "true"}
    SHOTS.mkdir(parents=True, exist_ok=True)
    log = SHOTS / "learn.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            ["make", "learn"], cwd=paths.REPO, env=environ, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not answers(url):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield url
        os.killpg(server.pid, signal.SIGINT)
        server.wait(timeout=30)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "after Ctrl-C nothing listens any more"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(f"{url}/api", timeout=2).status == 200
    except OSError:
        return False


@pytest.fixture
def page(open_window: Callable[..., Page]) -> Page:
    return open_window(viewport={"width": 1400, "height": 1000})


class Notebook:
    """The notebook that is open in a JupyterLab window, worked with mouse and keyboard."""

    def __init__(self, page: Page, sources: dict[str, str]) -> None:
        self.page = page
        self.order = list(sources)
        self.panel = page.locator(".jp-NotebookPanel:visible")
        expect(self.panel.locator(".jp-Cell").first).to_be_visible(timeout=LATER)
        expect(self.panel.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible(timeout=LATER)

    def select(self, cell: str) -> Locator:
        """Make a cell the active one, in command mode, by the keys that a learner uses."""
        self.panel.locator(".jp-Notebook").click(position={"x": 5, "y": 5})
        self.page.keyboard.press("Escape")
        for _ in self.order:
            self.page.keyboard.press("k")
        for _ in range(self.order.index(cell)):
            self.page.keyboard.press("j")
        active = self.panel.locator(".jp-Cell.jp-mod-active")
        expect(active).to_have_attribute("data-windowed-list-index", str(self.order.index(cell)), timeout=SOON)
        return active

    def write(self, cell: str, source: str) -> None:
        self.select(cell)
        self.page.keyboard.press("Enter")
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Escape")

    def run(self, cell: str) -> Locator:
        """Run a cell and wait until it is done."""
        active = self.select(cell)
        self.page.keyboard.press("Control+Enter")
        expect(active.locator(".jp-InputPrompt").first).to_have_text("[1]:", timeout=LATER)
        return active

    def validate(self) -> str:
        """Press Validate; the text of the dialog that answers."""
        self.panel.get_by_role("button", name="Validate", exact=True).click()
        dialog = self.page.locator(".jp-Dialog").filter(has_text="alidation")
        expect(dialog).to_be_visible(timeout=LATER)
        return dialog.inner_text()

    def dialog_fits(self) -> bool:
        """Whether no text in the dialog runs out of its box."""
        return self.page.locator(".jp-Dialog pre").evaluate_all("boxes => boxes.every(box => box.scrollWidth <= box.clientWidth)")

    def close_dialog(self) -> None:
        self.page.locator(".jp-Dialog .jp-mod-accept").last.click()
        expect(self.page.locator(".jp-Dialog")).to_have_count(0, timeout=SOON)


@pytest.fixture(scope="module")
def week():
    return load_course().week(WEEK)


def sources(week, variant: str) -> dict[str, str]:
    """Cell id → source of the week's lab."""
    notebook = nbformat.reads(notebook_text(week, week.graded, variant), as_version=4)
    return {cell.id: cell.source for cell in notebook.cells}


def test_without_the_token_nothing_is_shown(address: str, page: Page) -> None:
    page.goto(f"{address}/lab")
    assert "/login" in page.url
    assert urllib.request.urlopen(f"{address}/api/contents?token={TOKEN}", timeout=10).status == 200
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{address}/api/contents", timeout=10)


def test_home_opens_first_and_leads_to_the_week(address: str, page: Page, week) -> None:
    page.goto(f"{address}/?token={TOKEN}")
    home = page.locator(".jp-NotebookPanel:visible")
    expect(home.get_by_role("heading").first).to_be_visible(timeout=LATER)
    expect(home.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible(timeout=LATER)
    page.screenshot(path=SHOTS / "1-home.png")
    assert page.url.split("?")[0].endswith("/lab/tree/Home.ipynb")
    link = home.locator(f"a[href*='{load_course().units[0].name}']").first
    expect(link).to_be_visible(timeout=SOON)
    link.click()
    expect(page.locator(".lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel", has_text=".ipynb").last).not_to_have_text(
        "Home.ipynb", timeout=SOON
    )


def test_validate_names_the_mistake_and_accepts_the_solution(address: str, page: Page, week, workspace: Path) -> None:
    released, solved = sources(week, "release"), sources(week, "solved")
    first = week.exercises[0]
    wrong = next(
        answer
        for answer in read_catalogue(week.source / "mistakes.py")
        if answer.kind == "mistake" and answer.name == first.symbol.rpartition(".")[2]
    )
    page.goto(f"{address}/lab/tree/{week.name}/{week.graded}.ipynb?reset&token={TOKEN}")
    lab = Notebook(page, released)

    ran = lab.run("imports")
    assert "rror" not in ran.inner_text()
    page.screenshot(path=SHOTS / "2-lab.png")

    lab.write(first.id, wrong.source)
    text = lab.validate()
    page.screenshot(path=SHOTS / "3-mistake.png")
    assert wrong.code in text, text
    assert "Hint:" in text
    assert lab.dialog_fits(), "the end of a message, where its hint stands, can be read"
    lab.close_dialog()

    for exercise in week.exercises:
        lab.write(exercise.id, solved[exercise.id])
    text = lab.validate()
    page.screenshot(path=SHOTS / "4-solved.png")
    assert "passes all the tests" in text, text
    lab.close_dialog()

    saved = nbformat.read(workspace / week.name / f"{week.graded}.ipynb", as_version=4)
    written = {cell.id: cell.source for cell in saved.cells}
    assert all(written[exercise.id].strip() == solved[exercise.id].strip() for exercise in week.exercises)
