"""Pages for documents that have none: one for each heading, cut where a section is too long to be shown at once."""

from __future__ import annotations

from .compose import Block, compose
from .types import Page

LONGEST = 12_000  # characters of one page


class Sections:
    """Takes headings, blocks and hidden texts in the order of reading, and gives pages."""

    def __init__(self) -> None:
        self._pages: list[Page] = []
        self._path: list[tuple[int, str]] = []
        self._blocks: list[Block] = []
        self._hidden: list[str] = []
        self._only_headings = True
        self._length = 0

    def heading(self, level: int, title: str) -> None:
        """Begin a section. A heading with nothing under it stands on top of the next section's page."""
        title = " ".join(title.split())
        if not title:
            return
        if not self._only_headings:
            self._close()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, title))
        self._blocks.append(Block(title))

    def add(self, block: Block) -> None:
        """Add a paragraph or a table; it is never cut, but a new page begins before it when this one is long."""
        if not block.text.strip():
            return
        if self._length and self._length + len(block.text) > LONGEST:
            self._close()
        self._blocks.append(block)
        self._length += len(block.text)
        self._only_headings = False

    def hide(self, text: str) -> None:
        """Add what a reader of this section doesn't see."""
        if text.strip():
            self._hidden.append(text)

    def pages(self) -> tuple[Page, ...]:
        """All pages; at least one, though it may be empty."""
        if self._blocks or self._hidden or not self._pages:
            self._close()
        return tuple(self._pages)

    def _close(self) -> None:
        page = compose(self._blocks, self._hidden, number=None, heading=tuple(title for _, title in self._path))
        if page.text or not self._pages:
            self._pages.append(page)
        self._blocks, self._hidden, self._only_headings, self._length = [], [], True, 0
