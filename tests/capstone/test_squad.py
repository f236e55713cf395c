"""What the reader learns from SQuAD 2.0: a question belongs to its paragraph, and one that is only near an answer is none."""

from __future__ import annotations

import json
from pathlib import Path

from capstone.evaluation import squad


def files(folder: Path) -> list[Path]:
    """Two articles of three paragraphs, each with two questions that it answers and one that it only seems to answer."""
    articles = []
    for article in ("A", "B"):
        paragraphs = []
        for n in range(3):
            told, asked = f"{article}{n} is {n} years old and {n} metres long.", []
            for what, text in (("old", f"{n} years"), ("long", f"{n} metres"), ("tall", "")):
                answers = [{"text": text, "answer_start": told.index(text)}] * 2 if text else []
                asked.append({"question": f"{article}{n} {what}? ", "is_impossible": not text, "answers": answers})
            paragraphs.append({"context": told, "qas": asked})
        articles.append({"title": article, "paragraphs": paragraphs})
    path = folder / "dev-v2.0.json"
    path.write_text(json.dumps({"version": "v2.0", "data": articles}), "utf-8")
    return [path]


def test_every_question_has_its_paragraph_and_some_have_another(tmp_path: Path) -> None:
    passages, pairs = squad.make(files(tmp_path), seed=2)
    assert (passages, pairs) == squad.make(files(tmp_path), seed=2)
    assert len(passages) == 6
    own = [pair for pair in pairs if passages[pair.passage].startswith(pair.question.split()[0])]
    assert len(own) == 18
    assert all(pair.answered == (not pair.question.endswith("tall?")) for pair in own)
    for pair in own:
        spans = [passages[pair.passage][start:end] for start, end in pair.spans]
        number, what = pair.question[1], pair.question.split()[1]
        assert spans == {"old?": [f"{number} years"], "long?": [f"{number} metres"], "tall?": []}[what]
    elsewhere = [pair for pair in pairs if pair not in own]
    assert 2 <= len(elsewhere) <= 10
    assert not any(pair.answered for pair in elsewhere)
    assert all(passages[pair.passage][0] == pair.question[0] for pair in elsewhere), "of the same article: a near miss"
    assert not any(pair.question.endswith("tall?") for pair in elsewhere)

