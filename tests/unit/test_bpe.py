"""Promises of byte-level BPE: the same merges and the same tokens as Hugging Face's `tokenizers`, and nothing lost."""

import json
import os
import random
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hybridlab.data.parallel import load_parallel
from hybridlab.data.shakespeare import fetch
from hybridlab.llm import tokenizer as tokenizer_module
from hybridlab.llm.bpe import count_words, merge_pair, merge_word, split_words, train_bpe
from hybridlab.llm.byte_alphabet import BYTE_ORDER, from_printable, to_printable
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.smollm2 import gguf_path
from hybridlab.llm.tokenizer import BytePairTokenizer
from tokenizers import models, pre_tokenizers, trainers

# every class of the pattern, combining marks, numbers that are no digits, emoji of several characters, odd spaces
POOL = "abcdeABC 12  \n\t'sndtm.,!?_-áàạếệưđ日本語😀👩‍👩‍👧é́Ⅷ½٣\u00a0\u3000\u0085ß§{}()"


def words_of_smollm2() -> pre_tokenizers.PreTokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def theirs(own: BytePairTokenizer) -> tokenizers.Tokenizer:
    vocabulary, merges = own.to_strings()
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = words_of_smollm2()
    return made


@pytest.fixture(scope="module")
def smollm2() -> BytePairTokenizer:
    return BytePairTokenizer.from_gguf(GGUFFile(gguf_path()))


def test_tokens_are_those_of_tokenizers_and_the_text_comes_back(smollm2):
    oracle, rng = theirs(smollm2), random.Random(0)
    texts = ["".join(rng.choice(POOL) for _ in range(rng.randint(0, 40))) for _ in range(3000)]
    texts += [fetch().read_text("utf-8")[:50_000], Path(os.__file__).read_text("utf-8"), *load_parallel()[0].vietnamese]
    for text in texts:
        tokens = smollm2.encode(text)
        assert tokens == oracle.encode(text).ids, text
        assert "".join(split_words(text)) == text
        if "\u0085" not in text:  # its first byte stands alone in no training text
            assert smollm2.decode(tokens) == text


@pytest.mark.parametrize("kind", ["plays", "Vietnamese", "code"])
def test_merges_are_those_that_tokenizers_learns(kind):
    texts = {
        "plays": [fetch().read_text("utf-8")[:100_000]],
        "Vietnamese": list(load_parallel()[0].vietnamese) * 3,
        "code": [Path(os.__file__).read_text("utf-8")],
    }[kind]
    trainer = trainers.BpeTrainer(vocab_size=256 + 700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    oracle = tokenizers.Tokenizer(models.BPE())
    oracle.pre_tokenizer = words_of_smollm2()
    oracle.train_from_iterator(texts, trainer)
    model = json.loads(oracle.to_str())["model"]
    vocabulary, merges = BytePairTokenizer.trained(train_bpe(count_words(texts), 700)).to_strings()
    assert merges == [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    assert vocabulary == model["vocab"]


def test_training_stops_where_no_pair_is_left():
    assert train_bpe({(1, 2, 1, 2): 3, (5,): 9}, 50) == [(1, 2), (256, 256)]
    assert train_bpe({}, 5) == []


def merge_by_search(tokens, merges):
    """The slow way: look at every place, merge the best one, look again."""
    tokens = list(tokens)
    while places := [(merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]:
        new, i = min(places)
        tokens[i : i + 2] = [new]
    return tokens


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 30, 300])
def test_the_queue_merges_as_the_slow_search_does(length):
    rng = random.Random(length)
    for letters in (1, 2, 5):
        words = [tuple(rng.randrange(letters) for _ in range(length)) for _ in range(20)]
        merges = {pair: 256 + i for i, pair in enumerate(train_bpe(dict.fromkeys(words, 1), 40))}
        for word in words:
            assert merge_word(word, merges) == merge_by_search(word, merges)


def test_a_word_of_a_hundred_thousand_letters_is_no_trap(smollm2):
    text = "abcdefghij" * 10_000  # a search for each merge would take hours
    assert smollm2.decode(smollm2.encode(text)) == text


def test_one_merge_goes_from_left_to_right():
    assert merge_pair((1, 1, 1), (1, 1), 9) == (9, 1)
    assert merge_pair((1, 2, 1, 2, 2), (1, 2), 9) == (9, 9, 2)


def test_every_byte_has_a_character_of_its_own_and_comes_back():
    assert to_printable(b" \n") == "ĠĊ"
    assert from_printable(to_printable(bytes(range(256)))) == bytes(range(256)) == bytes(sorted(BYTE_ORDER))
    with pytest.raises(ValueError, match="stands for no byte"):
        from_printable("日")


def test_special_tokens_come_from_no_text(smollm2):
    assert not set(smollm2.special.values()) & set(smollm2.encode("".join(smollm2.special)))


def test_trained_special_tokens_stand_behind_the_others():
    own = BytePairTokenizer.trained([(0, 1)], special=["<end>"])
    assert own.special == {"<end>": 257}
    assert own.decode([*own.encode('!"!"'), 257]) == '!"!"<end>'


def test_the_memory_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "MOST_WORDS", 5)
    own = BytePairTokenizer.trained([])
    for i in range(50):
        own.encode(f"{'x' * i} {'y' * 2000}")
    assert len(own._words) <= 5
    assert max(map(len, own._words)) <= tokenizer_module.LONGEST_WORD


def test_what_can_not_be_encoded_or_decoded_is_said(smollm2):
    with pytest.raises(ValueError, match=r"half a character.*errors='replace'"):
        smollm2.encode("ab \ud83d c")
    for token in (-1, len(smollm2)):
        with pytest.raises(ValueError, match=f"token {token} is not in this vocabulary of 49152"):
            smollm2.decode([5, token])


@pytest.mark.slow(seconds=3)
def test_a_tokenizer_json_is_the_same_tokenizer_or_is_named(smollm2, tmp_path):
    vocabulary, merges = smollm2.to_strings()
    added = [{"id": token, "content": name} for name, token in smollm2.special.items()]
    whole = {"added_tokens": added, "model": {"type": "BPE", "vocab": vocabulary | smollm2.special, "merges": merges}}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(whole))
    read = BytePairTokenizer.from_json(path)
    assert (read.pieces, read.becomes, read.special) == (smollm2.pieces, smollm2.becomes, smollm2.special)

    whole["model"]["merges"] = merges[:5] + merges[4:]
    path.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer\.json .*merge 5"):
        BytePairTokenizer.from_json(path)
    whole["model"]["merges"] = [["no", "such"]]
    path.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"tokenizer\.json .*fetch the repository again"):
        BytePairTokenizer.from_json(path)
    path.write_text(json.dumps(whole)[:5000])
    with pytest.raises(ValueError, match=r"tokenizer\.json .*fetch the repository again"):
        BytePairTokenizer.from_json(path)


def test_merges_that_use_what_is_not_made_yet_are_refused():
    with pytest.raises(ValueError, match=r"merge 0 is \(0, 256\), but only the tokens below 256"):
        BytePairTokenizer.trained([(0, 256)])
