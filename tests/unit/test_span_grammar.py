"""An answer within the grammar of spans stands in a source, word for word, and every such run of words is within it."""

import json
import re

import pytest
from hybridlab.llm.embedded import EmbeddedModel
from hybridlab.llm.grounded_prompt import NO_EVIDENCE, grounded_messages
from hybridlab.llm.span_grammar import span_grammar
from hypothesis import given
from hypothesis import strategies as st

HALL = "The hall opens at 9:30 (daily). Dogs, cats & birds may enter!"


def allows(grammar: str, said: str) -> bool:
    """Whether a grammar of literals, names and choices between them can say a text."""
    rules = {}
    for line in grammar.splitlines():
        name, _, ways = line.partition(" ::= ")
        rules[name] = [[]]
        for token in re.findall(r'"(?:[^"\\]|\\.)*"|\||\w+', ways):
            rules[name].append([]) if token == "|" else rules[name][-1].append(token)

    def says(way: list[str], rest: str) -> bool:
        if not way:
            return not rest
        if way[0] in rules:
            return any(says([*other, *way[1:]], rest) for other in rules[way[0]])
        text = json.loads(way[0])
        return rest.startswith(text) and says(way[1:], rest[len(text) :])

    return says(["root"], said)


@pytest.mark.parametrize("said", ["9:30 [1]", "The hall opens at 9:30 (daily [1]", "hall [1]", "cats & birds [1]", "birds may enter [1]"])
def test_a_run_of_words_with_its_number_can_be_said(said):
    assert allows(span_grammar([HALL]), said)


@pytest.mark.parametrize(
    "said",
    [
        "9:30 [2]",  # another source
        "9:30",  # no source
        "hall at [1]",  # not neighbours
        "all opens [1]",  # a part of a word
        "the hall [1]",  # other letters
        "daily). Dogs [1]",  # over the end of a sentence
        "Dogs, [1]",  # a mark that belongs to the sentence
        "(daily [1]",
        "& birds [1]",  # no word
        "& [1]",
        "The hall opens at 9:31 [1]",
        "",
    ],
)
def test_nothing_else_can(said):
    assert not allows(span_grammar([HALL]), said)


def test_that_nothing_was_found_can_be_said_always():
    for sources in ([], [HALL], ["…"]):
        assert allows(span_grammar(sources), NO_EVIDENCE["en"])


@pytest.mark.parametrize(
    ("source", "span"),
    [
        ("Call f(x), then g(y).", "f(x)"),
        ("Closed from 3 a.m. on.", "3 a.m."),
        ("It runs 6.3.", "6.3"),
        ("See [the list].", "the list"),
        ("Pay 90 % of it.", "90 %"),
        ('He said “no”.', "no"),
        ("Item: A | Price: 3 EUR", "3 EUR"),
        ("Item: A | Price: 3 EUR", "A | Price: 3 EUR"),
        ('a "quoted" back\\slash', 'quoted" back\\slash'),
        ("Hai con mèo.", "con mèo"),
    ],
)
def test_words_end_where_they_do(source, span):
    assert allows(span_grammar([source]), f"{span} [1]")


def test_a_rows_border_is_no_end():
    grammar = span_grammar(["Item: A | Price: 3 EUR"])
    assert not allows(grammar, "A | [1]")
    assert not allows(grammar, "| Price [1]")


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=60)


@given(st.lists(words, max_size=3))
def test_whatever_is_said_stands_in_its_source(sources):
    """The grammar's ways, walked at random lengths: the words that come out are neighbours in the source, in its own letters."""
    rules = dict(line.split(" ::= ", 1) for line in span_grammar(sources).split("\n"))
    for number, source in enumerate(sources, 1):
        for name in (name for name in rules if name.startswith(f"w{number}x")):
            first = json.loads(re.match(r'"(?:[^"\\]|\\.)*"', rules[name]).group()) if rules[name].startswith('"') else ""
            assert " ".join(first.split()) in " ".join(source.split())


@pytest.mark.slow(seconds=4)
def test_an_engine_follows_it():
    """SmolLM2 as it is, and letters that a grammar has to write in another way: quotation marks, a backslash, a tab, Vietnamese."""
    source = 'The "Lotus Hall" opens at 9:30; keys lie in C:\\keys. Phòng\tnhạc mở cửa lúc 8 giờ.'
    said = EmbeddedModel(threads=1).answer(
        grounded_messages("When does the Lotus Hall open?", [source], "en"), grammar=span_grammar([source]), max_tokens=60
    )
    assert allows(span_grammar([source]), said)
