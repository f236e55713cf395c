"""Answers that are copied: a grammar (llama.cpp's GBNF) of all runs of words that stand in the sources, so that nothing can be invented.

An answer is a *span*, as in SQuAD (arXiv 1606.05250): neighbouring words of one sentence, word for word, and its source's number. A small
model finds a span where it can't find a whole sentence: what answers stands beside the words that the question shares with it, but the
first word of a sentence comes before all that tells whether it is the right one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from hybridlab.llm.grounded_prompt import NO_EVIDENCE, Language
from hybridlab.rag.sentences import sentence_spans

LANGUAGE: Language = "en"  # of the questions that spans answer: of Vietnamese SmolLM2 hardly knows where a word ends
BEFORE, AFTER = "([“‘\"'«", ".,;:!?)]”’\"'»…"  # marks around a word that no answer begins or ends with
ABBREVIATED = re.compile(r"([^\W\d_]\.){2,}")  # "a.m.", whose last period is its own
NO_END = "|•=*–—-"  # what no answer ends with, though it stands alone


def span_grammar(sources: Sequence[str]) -> str:
    """A grammar of what can be answered from the sources, numbered from 1: a span and its number, "9:30 [1]", or that nothing was found.

    A rule for each word: the word, and then the end or the next one. All but those without a letter or a digit can be the first.
    """
    rules = {"root": [literal(NO_EVIDENCE[LANGUAGE])]}
    for number, source in enumerate(sources, 1):
        rules[f"end{number}"] = [literal(f" [{number}]")]
        for place, (start, end) in enumerate(sentence_spans(source, 0, len(source))):
            words = list(map(_parted, source[start:end].split()))
            for i, (_, word, after) in enumerate(words):
                name = f"w{number}x{place}x{i}"
                ways = [f"{literal(word)} end{number}"] if word.strip(NO_END) else []
                if i + 1 < len(words):
                    ways.append(f"{literal(f'{word}{after} {words[i + 1][0]}')} w{number}x{place}x{i + 1}")
                rules[name] = ways or [f"end{number}"]
                if any(map(str.isalnum, word)):
                    rules["root"].append(name)
    return "\n".join(f"{name} ::= {' | '.join(ways)}" for name, ways in rules.items())


def _parted(word: str) -> tuple[str, str, str]:
    """A word without the marks around it, and these: `(f(x)),` is `(`, `f(x)`, `),`."""
    inner = word.lstrip(BEFORE)
    before, word = word[: len(word) - len(inner)], inner
    while word and word[-1] in AFTER and not (_closes(word) or ABBREVIATED.fullmatch(word)):
        word = word[:-1]
    return before, word, inner[len(word) :]


def _closes(word: str) -> bool:
    """Whether a word's last mark closes a bracket that it opens itself."""
    return word[-1] in ")]" and word.count("(" if word[-1] == ")" else "[") >= word.count(word[-1])


def literal(text: str) -> str:
    """A text as a grammar (GBNF) writes it."""
    return json.dumps(text, ensure_ascii=False)
