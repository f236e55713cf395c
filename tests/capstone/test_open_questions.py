"""What the cross-encoder learns from open sets of questions: an answer is where it is said to be, and nothing is learned twice."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from hybridlab.exercise import sha256

from capstone.evaluation import open_questions
from capstone.evaluation.documents import NotFetched
from capstone.evaluation.questions import contains

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
HEAD = ("title", "context", "question", "ids", "answers", "answer_start", "plausible_answers", "plausible_answers_start", "is_impossible")
TOLD = "The mill_x005F_ is 12 m high. It stands in Brno."
READ = "The mill_ is 12 m high. It stands in Brno."
ROWS = [
    (TOLD, "How high is it?", ["12 m", "12 m", "12"], [13, 13, 13], 0),
    (TOLD, "Where does it stand? ", ["Brno"], [READ.index("Brno")], 0),
    (TOLD, "Where does it fall?", "No answer", "--", 1),
    (TOLD, "Who damaged this?", ["Brno"], [READ.index("Brno") + 1], 0),
    (TOLD, "How  high is it??", ["12 m"], [13], 0),  # asked already
]


def tower(language: str, n: int) -> str:
    return f"{language} {n}: the tower is {n}1 metres high. The bridge is {n}2 metres long. Nothing more is known of it at all."


def article(language: str, asking: str, name: str = "") -> dict:
    """Twelve paragraphs, each with two sentences that answer a question in the language `asking`."""
    paragraphs = []
    for n in range(10, 22):
        told = name + tower(language, n)
        asked = []
        for i, word in enumerate(("tower", "bridge"), 1):
            answers = [{"text": f"{n}{i}", "answer_start": told.index(f" {n}{i} ") + 1}] * 2
            asked.append({"id": f"{n}{word}", "question": f"{asking} {n} {word}?", "answers": answers})
        paragraphs.append({"context": told, "qas": asked})
    return {"title": "It", "paragraphs": paragraphs}


def workbook(path: Path) -> Path:
    strings: list[str] = []
    rows = []
    for row in [HEAD, *[("It", f"[{told!r}]", asked, "5ad", str(said), str(at), "--", "--", none) for told, asked, said, at, none in ROWS]]:
        cells = []
        for column, value in zip("ABCDEFGHI", row, strict=True):
            kind, held = ("b", value) if isinstance(value, int) else ("s", len(strings))
            strings += [value] if kind == "s" else []
            cells.append(f'<c r="{column}{len(rows) + 1}" t="{kind}"><v>{held}</v></c>')
        rows.append(f"<row>{''.join(cells)}</row>")
    with ZipFile(path, "w") as book:
        shared = "".join(f"<si><r><t>{text[:3]}</t></r><r><t>{text[3:]}</t></r></si>" for text in strings)
        book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{SHEET}">{shared}</sst>')
        book.writestr("xl/worksheets/sheet1.xml", f'<worksheet xmlns="{SHEET}"><sheetData>{"".join(rows)}</sheetData></worksheet>')
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[Path]]:
    made = {
        "squad_rest": [article("en", "en", "rest ")],
        "squad_train": [article("en", "en", "rest "), article("en", "en", "train ")],
        "tydi": [article("en", "en", "tydi ")],
        "mlqa": [article("vi", "en"), article("en", "vi")],
    }
    paths = {name: [tmp_path / f"{name}{i}.json" for i in range(len(of))] for name, of in made.items()}
    for name, of in made.items():
        for path, one in zip(paths[name], of, strict=True):
            path.write_text(json.dumps({"data": [one]}), "utf-8")
    return {"squad2": [workbook(tmp_path / "squad2.xlsx")], **paths}


def test_a_spreadsheets_questions_are_read_but_for_what_it_has_damaged(files: dict[str, list[Path]]) -> None:
    asked = open_questions.new(open_questions.sheet(files["squad2"]), set())
    assert {one.passage for one in asked} == {READ}
    assert [(one.question, [READ[a:b] for a, b in one.spans]) for one in asked] == [
        ("How high is it?", ["12", "12 m"]),
        ("Where does it stand?", ["Brno"]),
        ("Where does it fall?", []),
    ]


def test_mlqa_is_asked_in_its_own_language_and_in_the_other(files: dict[str, list[Path]]) -> None:
    asked = open_questions.new(open_questions.crossed(files["mlqa"]), set())
    assert [(one.passage[:2], one.question[:2]) for one in asked[::24]] == [("vi", "vi"), ("en", "en"), ("vi", "en"), ("en", "vi")]
    assert len(asked) == 4 * 24
    assert all(one.passage[3:5] == one.question[3:5] for one in asked)


def test_an_answer_is_where_it_is_said_to_be_and_a_near_miss_does_not_hold_it(files: dict[str, list[Path]]) -> None:
    passages, pairs = open_questions.make(files, seed=1)
    assert (passages, pairs) == open_questions.make(files, seed=1)
    towers = [pair for pair in pairs if "tower" in pair.question or "bridge" in pair.question]
    wanted = {pair: f"{pair.question[3:5]}{1 if 'tower' in pair.question else 2}" for pair in towers}
    for pair in towers:
        said = passages[pair.passage]
        assert [said[a:b] for a, b in pair.spans] == ([wanted[pair]] if pair.answered else [])
        assert pair.answered == contains(said, wanted[pair])
    assert sum(pair.answered for pair in towers) == 3 * 24 + 4 * 24, "what stands in two sets is taken once"
    misses = [(pair, passages[pair.passage]) for pair in towers if not pair.answered]
    cut = [(pair, said) for pair, said in misses if said.count(".") == 2]
    near = [(pair, said) for pair, said in misses if said.count(".") == 3]
    assert len(cut) + len(near) == len(misses)
    assert 0.25 * 168 < len(cut) < 0.55 * 168
    assert 0.2 * 144 < len(near) < 0.55 * 144
    for pair, said in cut:
        assert contains(said, f"{pair.question[3:5]}{2 if 'tower' in pair.question else 1}"), "the rest of its own passage"
    apart = {abs(int(said.split(":")[0][-2:]) - int(pair.question[3:5])) for pair, said in near}
    assert apart - {9, 10, 11} == {1, 2, 3}, "or the first of one article and the last of another"
    assert not any(said.startswith("tydi") for _, said in near)
    of_sheet = [pair.question for pair in pairs if pair not in towers]
    assert of_sheet == ["How high is it?", "Where does it stand?", "Where does it fall?"], "it has near misses of its own"


def test_files_are_those_of_their_commits_or_are_refused(
    files: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    shared = files["tydi"][0].rename(tmp_path / "a" / "b" / "c" / "it.json")
    of = open_questions.Set("a/b/c", {"it.json": sha256(shared)}, open_questions.articles)
    monkeypatch.setattr(open_questions, "SETS", {"it": of})
    fetched = open_questions.fetch(tmp_path / "into", tmp_path.as_uri())
    assert fetched == {"it": [tmp_path / "into" / "it" / "it.json"]}
    assert fetched["it"][0].read_bytes() == shared.read_bytes()
    fetched["it"][0].unlink()
    shared.write_text("{}")
    with pytest.raises(NotFetched, match="another file"):
        open_questions.fetch(tmp_path / "into", tmp_path.as_uri())


def test_every_set_names_a_commit_and_what_is_downloaded() -> None:
    for of in open_questions.SETS.values():
        commit = of.source.split("/")[2]
        assert len(commit) == 40
        assert all(len(code) == 64 and not set(code) - set("0123456789abcdef") for code in [*of.files.values(), commit + commit[:24]])
