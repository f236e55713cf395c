"""A file is read in constant memory and its passages are marked: where, what, whether it was known before, and how sure the state is."""

import pytest
import torch
from hybridlab.ssm.long_reader import CHUNK, Chunk, LongReader, Progress
from hybridlab.ssm.planted import ABSENT, KEYS, decode, draw_pairs, encode, plant
from hybridlab.ssm.reading import Mark, Marker, answer_question, read_file
from hybridlab.ssm.text_source import ReadError

PROSE = "The king said no more of it, and went — naïve as he was — to the river.\nIt was late.\n"


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A reader and the marks of a text, which is written to a file first."""

    def run(text, piece=None, encoding="utf-8"):
        path = tmp_path_factory.mktemp("text") / "a.txt"
        path.write_bytes(text.encode(encoding))
        reader = LongReader.load()
        with pytest.MonkeyPatch.context() as patch:
            if piece:
                patch.setattr("hybridlab.ssm.long_reader.PIECE", piece)
            events = list(read_file(path, reader, encoding="utf-8-sig" if encoding == "utf-8" else encoding))
        return reader, [event for event in events if isinstance(event, Mark)], [event for event in events if isinstance(event, Progress)]

    return run


def test_each_planted_pair_is_marked_where_it_stands(read):
    pairs = draw_pairs(8, seed=1)
    text = plant(PROSE * 150, pairs, seed=1)
    _, marks, progress = read(text)
    assert [(mark.key, mark.value) for mark in marks] == sorted(pairs.items(), key=lambda pair: text.index(f"{pair[0]} -> "))
    for mark in marks:
        assert mark.kind == "new"
        assert mark.earlier is None
        assert mark.score > 0.9
        assert text.encode()[mark.byte :].startswith(mark.value.encode())
        assert text.splitlines()[mark.line - 1] == f"{mark.key} -> {mark.value}"
        assert f"{mark.key} -> {mark.value}\n" in mark.text
        assert mark.text in text
        assert len(encode(text[: text.index(f"{mark.key} -> ")])) + 1 == mark.token
    assert progress[-1].bytes == progress[-1].of_bytes == len(text.encode())


@pytest.mark.parametrize("piece", [100, 777, 4096])
def test_marks_are_the_same_however_the_file_is_fetched(read, piece):
    text = plant(PROSE * 60, draw_pairs(6, seed=2), seed=2)
    assert read(text, piece)[1] == read(text)[1]


@pytest.mark.slow(seconds=7)
def test_a_line_without_an_end_is_read_like_the_same_text_in_pieces(read):
    pairs = draw_pairs(4, seed=6)
    text = plant(PROSE * 1700, pairs, seed=6).replace("\n", " ")
    reader, marks, progress = read(text)
    size = len(text.encode())
    assert [at.bytes for at in progress] == [2**16, 2**17, size]
    assert {(mark.key, mark.value, mark.kind, mark.line) for mark in marks} == {(*pair, "new", 1) for pair in pairs.items()}
    other = LongReader.load()
    assert [one for one in read_file((text[i : i + 999] for i in range(0, len(text), 999)), other) if isinstance(one, Mark)] == marks
    assert other.answers() == reader.answers()


def test_what_is_said_again_far_away_is_known_again_and_what_is_said_otherwise_is_named(read):
    far = PROSE * 40  # more than a chunk
    assert len(encode(far)) > 2 * CHUNK
    text = f"{far}amber -> 42\n{far}raven -> 07\namber -> 42\n{far}raven -> 99\n{far}"
    _, marks, _ = read(text)
    assert [(m.key, m.value, m.kind, m.earlier) for m in marks] == [
        ("amber", "42", "new", None),
        ("raven", "07", "new", None),
        ("amber", "42", "repeated", "42"),
        ("raven", "99", "changed", "07"),
    ]


def test_a_text_without_pairs_has_no_marks(read):
    reader, marks, _ = read(PROSE * 300 + "In 1603 and 42 more; amber; amber -> x; -> 42\n" * 20)
    assert marks == []
    assert answer_question(reader, "What was planted?") == []


def test_a_place_where_the_model_opens_without_a_pair_is_not_hidden():
    reader = LongReader.load()
    tokens = encode("é, so\nit is").numpy()
    opened = torch.zeros(len(tokens))
    opened[[0, 4, 8]] = 0.1
    state = reader._run(0, tokens, None).after
    marks = Marker(reader).marks(Chunk(0, tokens, None, state, opened))
    assert [(mark.kind, mark.token, mark.byte, mark.line, mark.key, mark.value, mark.score) for mark in marks] == [
        ("stray", 0, 0, 1, None, None, 0.0),
        ("stray", 4, 4, 1, None, None, 0.0),
        ("stray", 8, 8, 2, None, None, 0.0),
    ]


def test_the_bytes_of_a_text_in_another_encoding_are_those_of_its_utf_8(read):
    text = PROSE * 30 + "amber -> 42\n"
    assert read(text, encoding="utf-16")[1] == read(text)[1]


def test_a_question_is_answered_by_the_keys_that_it_names(read):
    reader, _, _ = read(PROSE + "amber -> 42\nraven -> 07\n" + PROSE)

    def said(question):
        return [(answer.key, answer.value) for answer in answer_question(reader, question)]

    assert said("Raven, then? And what of AMBER, and of the raven?") == [("raven", "07"), ("amber", "42")]
    assert said("What of cedar?") == [("cedar", None)]
    assert sorted(said("What did you find?")) == [("amber", "42"), ("raven", "07")]


@pytest.mark.slow(seconds=10)
def test_whoever_stops_can_go_on(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(plant(PROSE * 3000, draw_pairs(4, seed=5), seed=5), "utf-8")
    reader, whole = LongReader.load(), LongReader.load()
    assert len(path.read_bytes()) > 2 * 2**16
    next(event for event in read_file(path, reader) if isinstance(event, Progress))
    assert reader.resume(path) == whole.read(path)
    assert reader.answers() == whole.answers()


def test_what_is_no_text_is_refused_and_the_reader_is_as_before(tmp_path):
    (tmp_path / "binary").write_bytes(b"amber -> 42\n" + bytes(range(256)))
    reader = LongReader.load()
    with pytest.raises(ReadError, match="binary, or in another encoding"):
        list(read_file(tmp_path / "binary", reader))
    assert reader.tokens == 0
    (tmp_path / "empty").touch()
    assert list(read_file(tmp_path / "empty", reader)) == []


@pytest.mark.parametrize("length", [0, 1])
def test_almost_nothing_has_no_marks(read, length):
    assert read("x" * length)[1] == []


def test_tokens_come_back_as_the_bytes_that_they_were():
    text = PROSE + "amber -> 42, 1603; ĩ"
    assert decode(encode(text).tolist()) == text.encode()
    assert decode([ABSENT]) == b""


def test_pairs_are_planted_whole_and_each_once():
    pairs = draw_pairs(len(KEYS), seed=3)
    text = plant(PROSE * 64, pairs, seed=3)
    assert [line for line in text.splitlines() if line in (PROSE.splitlines())] == (PROSE * 64).splitlines()
    assert all(text.count(f"{key} -> {value}\n") == 1 for key, value in pairs.items())
    with pytest.raises(ValueError, match="65 pairs need as many keys"):
        draw_pairs(65, seed=0)
    with pytest.raises(ValueError, match="can't be planted in 2 lines"):
        plant(PROSE, draw_pairs(3, seed=0), seed=0)
