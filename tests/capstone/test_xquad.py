"""What the reader learns from XQuAD: whoever downloads it gets the same file, and an answer is where it is said to be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hybridlab.exercise import sha256

from capstone.evaluation import xquad
from capstone.evaluation.documents import NotFetched
from capstone.evaluation.questions import contains


def article(language: str) -> dict:
    """An article of three paragraphs, each with two sentences that answer a question and one that answers none."""
    paragraphs = []
    for n in range(3):
        told = f"{language} {n}: the tower is {n}1 metres high. The bridge is {n}2 metres long. Nothing more is known of it at all."
        asked = [
            {"question": f"{language} {n} {word}?", "answers": [{"text": f"{n}{i}", "answer_start": told.index(f" {n}{i} ") + 1}]}
            for i, word in enumerate(("tower", "bridge"), 1)
        ]
        paragraphs.append({"context": told, "qas": asked})
    return {"title": "It", "paragraphs": paragraphs}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for language in ("en", "vi"):
        made.append(tmp_path / f"xquad.{language}.json")
        made[-1].write_text(json.dumps({"data": [article(language)] * 2}), "utf-8")
    return made


def test_a_passage_that_answers_holds_the_answer_and_another_does_not(files: list[Path]) -> None:
    passages, pairs = xquad.make(files, seed=1)
    assert (passages, pairs) == xquad.make(files, seed=1)
    assert len(passages) == 2 * 3 * 2 + 2 * 3 * 2  # paragraphs in both languages, and a near miss a question
    for pair in pairs:
        _, number, word = pair.question.rstrip("?").split()
        held = contains(passages[pair.passage], f"{number}{1 if word == 'tower' else 2}")
        assert held == pair.answered
        assert [passages[pair.passage][a:b] for a, b in pair.spans] == ([f"{number}{1 if word == 'tower' else 2}"] if held else [])
    near = [pair for pair in pairs if pair.passage >= 12]
    assert len(near) == 12
    for pair in near:  # the rest of its own paragraph is there
        assert ("bridge" if "tower" in pair.question else "tower") in passages[pair.passage]
    asked = {(pair.question, pair.answered) for pair in pairs if pair.passage < 12}
    assert len(asked) == 2 * 3 * 2 * 2  # each question of both languages, both ways
    assert {passages[pair.passage][:2] == pair.question[:2] for pair in pairs if pair.answered} == {True, False}


def test_a_near_miss_is_not_made_where_too_little_is_left() -> None:
    assert xquad.without("It is 12 metres high.", ["12"]) == ""
    assert xquad.without("It is 12 metres high. Nobody knows why that is so.", ["12"]) == "Nobody knows why that is so."
    assert xquad.without("It is 12 m. It is 12 m. It is 12 m. No.", ["12"]) == ""


def test_another_file_is_refused_and_a_missing_one_says_what_to_do(files: list[Path], tmp_path: Path) -> None:
    source = tmp_path.as_uri()
    with pytest.raises(NotFetched, match=r"another file.*thrown away"):
        xquad.fetch(tmp_path / "into", source)
    assert not list((tmp_path / "into").iterdir())
    with pytest.raises(NotFetched, match="by hand"):
        xquad.fetch(tmp_path / "into", f"{source}/nowhere")


def test_what_is_downloaded_is_kept_and_taken_again(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xquad, "FILES", {path.name: sha256(path) for path in files})
    fetched = xquad.fetch(tmp_path / "into", tmp_path.as_uri())
    assert [path.read_bytes() for path in fetched] == [path.read_bytes() for path in files]
    for path in files:
        shutil.move(path, tmp_path / f"{path.name}.gone")
    assert xquad.fetch(tmp_path / "into", tmp_path.as_uri()) == fetched
    fetched[0].write_text("{}")  # damaged: it is wanted again
    with pytest.raises(NotFetched):
        xquad.fetch(tmp_path / "into", tmp_path.as_uri())
