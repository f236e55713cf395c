"""`assistant read`: a file stored, read to its end, and told line by line in the terminal."""

from __future__ import annotations

import time
from pathlib import Path

from hybridlab.ssm.long_reader import LongReader
from rich.console import Console
from rich.progress import Progress

from assistant.knowledge.long_reading import Answered, Marked, Read, read_document
from assistant.knowledge.service import Knowledge
from assistant.store import StoreError
from assistant.store.documents import Document

LOOK = 0.1  # seconds between two looks whether the file was taken in


def read_aloud(knowledge: Knowledge, user: str, path: Path, question: str, out: Console) -> None:
    """Raises StoreError where the file has no text, and what storing it raises."""
    with path.open("rb") as stream:
        document = taken_in(knowledge, user, knowledge.add(user, path.name, stream).id)
    if document.state == "failed":
        raise StoreError(f"{document.name} has no text to read. {document.error}")
    with Progress(console=out) as progress:
        bar = progress.add_task("reading", total=None)
        for step in read_document(knowledge, user, document, LongReader.load(), question):
            if isinstance(step, Read):
                described = f"{step.tokens:,} tokens, {step.seconds:.0f} s"
                progress.update(bar, total=step.of_characters, completed=step.characters, description=described)
            else:
                out.print(in_words(step), markup=False, soft_wrap=True)


def taken_in(knowledge: Knowledge, user: str, document: str) -> Document:
    while (found := knowledge.document(user, document)).state == "received":
        time.sleep(LOOK)
    return found


def in_words(step: Marked | Answered) -> str:
    if isinstance(step, Marked):
        place = f"page {step.page}" if step.page else f"part {step.page_index + 1}, character {step.start:,}"
        pair = f"{step.key} -> {step.value}" if step.key else repr(step.passage)
        return f"{place}: {step.kind} {pair}{f', before {step.earlier}' if step.kind == 'changed' else ''} ({step.score:.2f})"
    lost = f"nothing, though {step.marked} was marked" if step.marked else "nothing"
    held = f"{step.value} ({step.probability:.2f})" if step.value else lost
    often = f", {step.times} times, {step.apart:,} tokens apart" if step.times > 1 else ""
    found = ", ".join(step.retrieved.values) if step.retrieved else "nothing"
    return f"{step.key}: {held}{often}; search alone: {found}"
