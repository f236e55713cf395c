"""The long reader: however a text is cut, the same; interrupted, saved and resumed, bit for bit; what is no text or no state is refused."""

import numpy as np
import pytest
import torch
from hybridlab.ssm.long_reader import CHUNK, LongReader, Progress, save_model
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.planted import FIRST_KEY, FIRST_VALUE, KEYS, LONGEST, VALUES, VOCAB, encode, encode_some, statement
from hybridlab.ssm.reader_state import StateError, save_place
from hybridlab.ssm.text_source import ReadError

WORDS = "The king, in 1603, said: amber -> 42 and no more. Also ember -> 07! Và tiếng Việt — 5, 10. amber ->42 lamber -> 99 ->  \n"


def text_of(length, seed=0):
    rng = np.random.default_rng(seed)
    return "".join(rng.choice([*WORDS.split(" "), *KEYS, "amber -> 42", "\n"]) + " " for _ in range(length // 4))[:length]


PIECE = 5000  # bytes


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr("hybridlab.ssm.long_reader.PIECE", PIECE)


def reader(seed=0):
    torch.manual_seed(seed)
    return LongReader(Mamba(MambaConfig(VOCAB, d_model=8, d_head=8, d_state=4, step="relu")))


def place(who):
    """Everything that a reader carries, as plain values and bytes."""
    where = who._place
    layers = [part.numpy().tobytes() for layer in where.state or [] for part in layer]
    return layers, where.pending.tolist(), where.rest, where.tokens


class Stop(Exception):
    pass


def stop_after(pieces):
    seen = []

    def progress(at):
        seen.append(at)
        if len(seen) == pieces:
            raise Stop

    return progress


# ---------------------------------------------------------------- tokens


def test_a_statement_is_two_tokens_and_the_rest_is_bytes():
    assert encode(statement("anchor", "07")).tolist() == [FIRST_KEY + KEYS.index("anchor"), FIRST_VALUE + 7]
    assert encode("ab é").tolist() == [*b"ab ", 0xC3, 0xA9]
    assert encode("1603 5").tolist() == [FIRST_VALUE + 16, FIRST_VALUE + 3, *b" 5"]
    assert encode("amber ->42").tolist() == [*b"amber ->", FIRST_VALUE + 42]
    assert len(set(KEYS)) == 64
    assert VALUES[7] == "07"


@pytest.mark.parametrize("piece", [1, 2, 7, LONGEST - 1, LONGEST, LONGEST + 1, 100])
def test_tokens_are_the_same_however_a_text_is_cut(piece):
    data = (WORDS * 3).encode()
    got, rest = [], b""
    for start in range(0, len(data), piece):
        tokens, rest = encode_some(rest + data[start : start + piece], last=False)
        assert len(rest) < LONGEST
        got.append(tokens)
    got.append(encode_some(rest, last=True)[0])
    assert np.concatenate(got).tolist() == encode(WORDS * 3).tolist()
    assert FIRST_KEY + KEYS.index("amber") in encode(WORDS)


@pytest.mark.parametrize(("key", "value"), [("nobody", "42"), ("amber", "7"), ("amber", "142")])
def test_what_can_not_be_planted_is_named(key, value):
    with pytest.raises(ValueError, match=f"{key!r} is no key" if key == "nobody" else repr(value)):
        statement(key, value)


# ---------------------------------------------------------------- reading


def test_the_state_is_that_of_the_model_over_the_same_tokens():
    text = text_of(3000)
    one = reader()
    assert one.read([text]) == len(encode(text))
    with torch.inference_mode():
        logits, _ = one.model(torch.cat([encode(text), torch.tensor([FIRST_KEY])])[None])
    expected = logits[0, -1, FIRST_VALUE:].softmax(-1).max()
    assert one.ask(KEYS[0]).probability == pytest.approx(expected.item(), rel=1e-4)


def test_file_and_pieces_give_the_same_bit_for_bit(tmp_path):
    text = text_of(9000)
    (tmp_path / "a.txt").write_text(text, "utf-8")
    whole, cut, ones = reader(), reader(), reader()
    whole.read(tmp_path / "a.txt")
    cut.read(text[i : i + 777] for i in range(0, len(text), 777))
    ones.read(iter(text))
    assert place(whole) == place(cut) == place(ones)
    assert whole.tokens == len(encode(text))


def test_questions_change_nothing_and_texts_follow_each_other():
    one, two = reader(), reader()
    one.read([text_of(2000)])
    before, answers = place(one), one.answers()
    assert place(one) == before
    assert one.answers() == answers
    one.read([text_of(1500, 1)])
    two.read([text_of(2000) + " "[:0], ""])
    two.read([text_of(1500, 1)])
    assert place(one) == place(two)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1258"])
def test_encodings_give_the_same_tokens(tmp_path, encoding):
    text = ("King Lear, naïve; amber -> 42\n" * 5000)[: PIECE + 5001]
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    one = reader()
    one.read(tmp_path / "a.txt", encoding="utf-8-sig" if encoding == "utf-8" else encoding)
    assert one.tokens == len(encode(text))


def test_progress_says_how_far(tmp_path):
    (tmp_path / "a.txt").write_text("x" * (2 * PIECE + 10))
    seen = []
    one = reader()
    one.read(tmp_path / "a.txt", progress=seen.append)
    assert [at.bytes for at in seen] == [PIECE, 2 * PIECE, 2 * PIECE + 10]
    assert all(at.of_bytes == 2 * PIECE + 10 and at.tokens <= at.bytes for at in seen)
    pieces = []
    one.read(["ab", "cd"], progress=pieces.append)
    assert [at[1:] for at in pieces] == [(2, None), (4, None)]
    assert isinstance(pieces[0], Progress)


def test_nothing_and_almost_nothing_can_be_read(tmp_path):
    (tmp_path / "empty").touch()
    one = reader()
    assert one.read(tmp_path / "empty") == 0
    assert one.planted() == {}
    assert one.state_bytes == 0
    assert one.read(["a"]) == 1
    assert len(one.answers()) == len(KEYS)


# ---------------------------------------------------------------- what is no text


def test_what_is_no_text_is_refused_with_the_place(tmp_path):
    file = tmp_path / "a"
    for content, encoding, message in (
        (b"\x89PNG\r\n\x1a\n", "utf-8-sig", "byte 0x89 at 0 is not utf-8-sig"),
        (b"a" * (PIECE + 9) + b"\xff", "utf-8-sig", f"byte 0xff at {PIECE + 9:,} is not"),
        (b"a" * (PIECE - 1) + "é".encode() + b"\xff", "utf-8-sig", f"byte 0xff at {PIECE + 1:,} is not"),
        (b"abc\0def", "utf-8-sig", "a NUL character within bytes 0 to 7"),
        ("é".encode()[:1], "utf-8-sig", "at 0 is not utf-8-sig .*end"),
        (b"abc", "utf-99", "'utf-99' is not an encoding"),
        (b"abc", "hex", "'hex' is not an encoding"),
        (b"abc", "undefined", "'undefined' is not an encoding"),
        (b"abc", "utf\0008", r"'utf\\x008' is not an encoding"),
        ("amber -> 42".encode("utf-16-le"), "utf-16", "bytes 0 to 22 are not utf-16 .*BOM"),
        (b"amber -> 42", "punycode", "bytes 0 to 11 are not punycode"),
    ):
        file.write_bytes(content)
        one = reader()
        one.read([text_of(1500)])
        before = place(one)
        with pytest.raises(ReadError, match=message):
            one.read(file, encoding=encoding)
        assert place(one) == before
        assert one.read(["more"]) > before[3]
    with pytest.raises(FileNotFoundError):
        reader().read(tmp_path / "none")
    with pytest.raises(ReadError, match="gave bytes, not str"):
        reader().read([b"abc"])
    with pytest.raises(ReadError, match="half a surrogate"):
        reader().read(["ab\ud800"])


@pytest.mark.parametrize("what", ["step", "nan"])
def test_a_model_that_overflows_is_an_error_and_never_a_nan(what):
    """A step so large that the state overflows; a weight that has become no number."""
    one = reader()
    one.read([text_of(1500)])
    before = place(one)
    mixer = one.model.layers[-1].mixer
    with torch.no_grad():
        if what == "step":
            mixer.dt_bias.fill_(3e38)
            mixer.in_proj.weight[mixer.config.d_inner :] *= 1e6
        else:
            mixer.in_proj.weight[mixer.config.d_inner] = torch.nan  # of x
    with pytest.raises(ValueError, match=r"overflow|not finite"):
        one.read([text_of(3000)])
    assert place(one) == before


def test_an_answer_that_is_no_number_is_an_error():
    one = reader()
    one.read([text_of(1500)])
    with torch.no_grad():
        one.model.layers[-1].mixer.in_proj.weight[0] = torch.nan  # of the gate: the state stays finite, and what is read of it does not
    with pytest.raises(ValueError, match="scores are not finite"):
        one.answers()


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = reader().model
    model.layers[0].mixer.norm.weight.data[3] = torch.inf
    save_model(model, tmp_path / "model")
    with pytest.raises(ValueError, match=r"layers\.0\.mixer\.norm\.weight has values that are not finite"):
        LongReader.load(tmp_path / "model")


# ---------------------------------------------------------------- saved and resumed


@pytest.mark.parametrize("pieces", [1, 2])
def test_resumed_elsewhere_is_uninterrupted_bit_for_bit(tmp_path, pieces):
    file = tmp_path / "a.txt"
    text = text_of(PIECE + 9000)
    file.write_text("é" + text, "utf-8")
    whole = reader()
    whole.read(file)

    first = reader()
    with pytest.raises(Stop):
        first.read(file, progress=stop_after(pieces))
    first.save_state(tmp_path / "state")
    with pytest.raises(ReadError, match="was interrupted at byte"):
        first.read(["more"])
    other = reader()
    other.load_state(tmp_path / "state")
    assert place(other) == place(first) != place(whole)
    for one in (first, other):
        assert one.resume(file) == whole.tokens
        assert place(one) == place(whole)
        assert one.answers() == whole.answers()


@pytest.mark.parametrize("read", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_a_state_comes_back_whole_and_reading_goes_on(tmp_path, read):
    text = "x" * read
    one, two = reader(), reader()
    one.read([text])
    one.save_state(tmp_path / "state")
    two.load_state(tmp_path / "state")
    assert place(one) == place(two)
    one.read([text_of(2000)])
    two.read([text_of(2000)])
    assert place(one) == place(two)


def test_only_the_file_that_was_begun_is_resumed(tmp_path):
    (tmp_path / "a").write_text("a" * (PIECE + 9))
    (tmp_path / "b").write_text("b" * (PIECE + 9))
    one = reader()
    with pytest.raises(ReadError, match="nothing to resume"):
        one.resume(tmp_path / "a")
    with pytest.raises(Stop):
        one.read(tmp_path / "a", progress=stop_after(1))
    with pytest.raises(ReadError, match="is another file"):
        one.resume(tmp_path / "b")
    assert one.resume(tmp_path / "a") == PIECE + 9


def test_a_state_of_another_model_or_version_or_none_at_all_is_refused(tmp_path, monkeypatch):
    state = tmp_path / "state"
    one = reader()
    one.read([text_of(3000)])
    one.save_state(state)
    before = place(one)
    other = reader(seed=1)
    with pytest.raises(StateError, match=f"by model {one.model_hash[:12]}, and this is {other.model_hash[:12]}"):
        other.load_state(state)
    monkeypatch.setattr("hybridlab.ssm.reader_state.FORMAT", "hybridlab reader state 2")
    with pytest.raises(StateError, match=r"format 'hybridlab reader state 1', and this version reads 'hybridlab reader state 2'"):
        one.load_state(state)
    monkeypatch.undo()
    good = state.read_bytes()
    for damaged in (good[:-40], b"", b"no state", good.replace(b"0.memory", b"0.menory")):
        state.write_bytes(damaged)
        with pytest.raises(StateError, match="damaged"):
            one.load_state(state)
    save_model(one.model, state)
    with pytest.raises(StateError, match="long reader"):
        one.load_state(state)
    first, second = one._place.state
    bad = first._replace(memory=torch.full_like(first.memory, torch.nan))
    save_place(one._place._replace(state=[bad, second]), one.model_hash, state)
    with pytest.raises(StateError, match="not finite"):
        reader().load_state(state)
    with pytest.raises(FileNotFoundError):
        one.load_state(tmp_path / "none")
    assert place(one)[1:] == before[1:]


def test_a_model_comes_back_the_same_and_another_file_is_refused(tmp_path):
    one = reader()
    save_model(one.model, tmp_path / "model")
    assert LongReader.load(tmp_path / "model").model_hash == one.model_hash
    one.save_state(tmp_path / "state")
    for wrong, error in (("state", "format 'hybridlab reader state 1'"), ("none", "no model at"), ("text", "can't be read")):
        if wrong == "text":
            (tmp_path / wrong).write_text("text")
        with pytest.raises((ValueError, FileNotFoundError), match=error):
            LongReader.load(tmp_path / wrong)
