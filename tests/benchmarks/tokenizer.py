"""Our byte-level BPE in Python against Hugging Face's `tokenizers` in Rust: the same merges, the same tokens."""

from collections.abc import Callable

import tokenizers
from hybridlab.data.shakespeare import fetch
from hybridlab.llm.bpe import count_words, train_bpe
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.smollm2 import gguf_path, model_folder
from hybridlab.llm.tokenizer import BytePairTokenizer
from tokenizers import models, pre_tokenizers, trainers

from tests.benchmarks.record import Spent, alone, ratio, turn_about, write

MERGES = 1000
NOTE = (
    "The eight plays, 1.03 MB, with SmolLM2's 48,900 merges; training on 200,000 characters of them, 1,000 merges. "
    "Ours, first time: no word is known. Ours, known words: what a text costs once its words have been merged. "
    "`tokenizers` keeps a dictionary of words, too, and notes where each token stands. A process that loads the tokenizer and encodes "
    "the plays once grows at its peak by {ours:.0f} MiB with ours, by {theirs:.0f} MiB with `tokenizers`."
)


def words_of_smollm2() -> pre_tokenizers.PreTokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def train_theirs(text: str) -> None:
    trainer = trainers.BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words_of_smollm2()
    tokenizer.train_from_iterator([text], trainer)


def grown(load: Callable[[str], Callable[[str], object]]) -> dict[str, float]:
    """What a process spends on loading a tokenizer and encoding the plays."""
    text, path = fetch().read_text("utf-8"), str(model_folder() / "tokenizer.json")
    spent = Spent()
    load(path)(text)
    return spent.told()


def load_ours(path: str) -> Callable[[str], object]:
    return BytePairTokenizer.from_json(path).encode


def load_theirs(path: str) -> Callable[[str], object]:
    return tokenizers.Tokenizer.from_file(path).encode


def main() -> None:
    text = fetch().read_text("utf-8")
    ours = BytePairTokenizer.from_gguf(GGUFFile(gguf_path()))
    vocabulary, merges = ours.to_strings()
    theirs = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    theirs.pre_tokenizer = words_of_smollm2()
    if ours.encode(text) != theirs.encode(text).ids:
        raise SystemExit("the tokens differ: there is nothing to compare")

    def first_time() -> None:
        ours._words.clear()
        ours.encode(text)

    encoding = turn_about(
        {
            "encode: ours, first time": first_time,
            "encode: ours, known words": lambda: ours.encode(text),
            "encode: tokenizers": lambda: theirs.encode(text).ids,
        },
        repeat=9,
    )
    part = text[:200_000]
    training = turn_about(
        {"train: ours": lambda: train_bpe(count_words([part]), MERGES), "train: tokenizers": lambda: train_theirs(part)}, repeat=5
    )
    ratios = {row: ratio(encoding, row, "encode: tokenizers") for row in encoding if row != "encode: tokenizers"}
    ratios["train: ours"] = ratio(training, "train: ours", "train: tokenizers")
    note = NOTE.format(ours=alone(grown, load_ours)["memory"], theirs=alone(grown, load_theirs)["memory"])
    write("tokenizer", unit="ms of CPU time", samples=encoding | training, ratios=ratios, note=note)
