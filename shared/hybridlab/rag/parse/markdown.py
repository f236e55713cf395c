"""Markdown to sections, by way of HTML: markdown-it writes it, and everything that holds for HTML holds here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from markdown_it import MarkdownIt

from .compose import hold_text_limit
from .html import html_sections
from .text import read_text
from .types import HiddenSpan, Limits, Page, Parsed

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE)
#: ``[//]: # (nobody sees this)``: a link's definition that no text refers to, used as a comment.
_COMMENT = re.compile(r"^ {0,3}\[(?://|comment|_[^\]]*)\]:[ \t]*\S+[ \t]+[\"'(](.*)[\"')][ \t]*$", re.MULTILINE | re.IGNORECASE)


def parse_markdown(path: Path, limits: Limits) -> Parsed:
    """Read a Markdown file (CommonMark with tables); front matter gives the title."""
    text, flags = read_text(path, limits)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT_MATTER.match(text)
    body = text[front.end() :] if front else text
    parsed = html_sections(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(body))
    title = _TITLE.search(front.group(1)) if front else None
    pages = (_with_hidden(parsed.pages[0], [found.strip() for found in _COMMENT.findall(body)]), *parsed.pages[1:])
    return Parsed(title.group(1) if title else parsed.title, hold_text_limit(pages, limits), flags=flags)


def _with_hidden(page: Page, comments: list[str]) -> Page:
    """The page with the document's comments among its hidden texts."""
    text, spans = page.text, list(page.hidden)
    for comment in filter(None, comments):
        text += "\n" if spans else "\n\n" if text else ""
        spans.append(HiddenSpan(len(text), len(text) + len(comment)))
        text += comment
    return replace(page, text=text, hidden=tuple(spans))
