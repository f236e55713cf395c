"""The conversations that the chatbot is tuned on: right by construction, and nothing of the test part, or of the assistant's
evaluation, is among them."""

import json
import random
import re
from collections import Counter

import pytest
from coursekit.paths import REPO
from hybridlab.llm.chatbot_data import make_groups, material
from hybridlab.llm.chatbot_passages import LENGTHS, Deck, passages
from hybridlab.llm.grounded_prompt import NO_EVIDENCE
from hybridlab.llm.tool_calls import NO_TOOL, read_call, tool_messages

from tests.unit.test_span_grammar import allows

COMMON = {"into", "another", "between"}
TRAIN = [case for group in make_groups(600, part="train") for case in group]
TEST = [case for group in make_groups(300, part="test", seed=5) for case in group]


def question_of(case) -> str:
    return case.prompt[-1]["content"].rpartition("\n")[2].partition(": ")[2] if case.ability != "tool" else case.prompt[-1]["content"]


def test_the_same_seed_gives_the_same_cases():
    assert make_groups(20, part="train", seed=3) == make_groups(20, part="train", seed=3)
    assert make_groups(20, part="train", seed=3) != make_groups(20, part="train", seed=4)


@pytest.mark.parametrize("cases", [TRAIN, TEST], ids=["train", "test"])
def test_an_answer_is_its_source_word_for_word(cases):
    for case in (c for c in cases if c.ability == "answer"):
        said, number = re.fullmatch(r"(.*) \[(\d+)\]", case.answer, re.DOTALL).groups()
        sources = re.findall(r"\[(\d+)\] «([^»]*)»", case.prompt[-1]["content"])
        assert said == case.gold
        assert said in dict(sources)[number]
        assert tuple(text for _, text in sources) == case.sources


@pytest.mark.parametrize("cases", [TRAIN[:1200], TEST[:1200]], ids=["train", "test"])
def test_every_answer_can_be_said_within_the_grammar_of_its_case(cases):
    for case in cases:
        assert case.tools or allows(case.grammar, case.answer), (case.answer, case.sources)


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("cases", [TRAIN, TEST], ids=["train", "test"])
def test_a_question_to_keep_silent_on_has_no_answer_in_its_sources(cases):
    """Of a passage, it is one of those that ask for what the passage leaves out. Of made facts, its attribute is found by the question's
    pattern, and no statement of the sources gives that attribute of that thing."""
    left_out = {question for part in passages().values() for one in part for question in one["misses"]}
    facts = [about for part in ("train", "test") for about in material()["facts"][part]]
    for case in (c for c in cases if c.ability == "abstain"):
        assert case.answer == NO_EVIDENCE["en"]
        sources, question = case.prompt[-1]["content"].rpartition("\n\n")[0], question_of(case)
        if question in left_out:
            continue
        meant = [(about, m[1]) for about in facts for ask in about["asks"] if (m := re.fullmatch(filled(ask, s="(.+)"), question, re.I))]
        assert meant, question
        for about, subject in meant:
            for statement in about["says"]:
                assert not re.search(filled(statement, s=re.escape(subject), v="[^.«»]+"), sources, re.I), (question, sources)


def filled(pattern: str, **names: str) -> str:
    """A pattern of the material as a regular expression, with `names` for what stands in braces."""
    text = re.escape(pattern)
    for name, value in names.items():
        text = text.replace(rf"\{{{name}\}}", value)
    return text


@pytest.mark.parametrize("cases", [TRAIN, TEST], ids=["train", "test"])
def test_a_call_can_be_read_and_holds_what_the_request_says(cases):
    for case in (c for c in cases if c.ability == "tool"):
        if not case.gold:
            assert case.answer == NO_TOOL
            continue
        _, arguments = read_call(case.answer, case.tools)
        request = case.prompt[-1]["content"].casefold()
        assert all(isinstance(value, str) and len(value) <= 30 and value.casefold() in request for value in arguments.values())
        assert list(case.prompt) == tool_messages(case.prompt[-1]["content"], case.tools)


def test_there_is_little_silence_to_learn_and_as_much_as_answers_to_measure():
    """A model that learns from many silences keeps silent on everything."""
    train, test = (Counter(c.ability for c in cases) for cases in (TRAIN, TEST))
    assert 1 / 12 < train["abstain"] / (train["abstain"] + train["answer"]) < 1 / 5
    assert test["abstain"] == test["answer"]
    assert min(train["tool"] / len(TRAIN), test["tool"] / len(TEST)) > 1 / 5


@pytest.mark.parametrize("cases", [TRAIN, TEST], ids=["train", "test"])
def test_as_many_requests_fit_no_tool_as_fit_one_and_most_of_them_are_requests_for_another(cases):
    tools = [c for c in cases if c.ability == "tool"]
    assert sum(bool(c.gold) for c in tools) * 2 == len(tools)
    unfit = [question_of(c) for c in tools if not c.gold]
    for_none = {request for part in ("train", "test") for request in material()["tools"]["other"][part]}
    assert 0.6 < sum(request not in for_none for request in unfit) / len(unfit) < 0.7


def test_a_request_has_a_word_that_its_tools_description_has_and_none_that_only_another_tools_has():
    """So a tool can be chosen by the words that it shares with the request, and never two of them."""
    every = [tool for part in ("train", "test") for tool in material()["tools"][part]]
    counted = Counter(word for tool in every for word in set(words(tool["does"])))
    keys = {tool["name"]: {word for word in words(tool["does"]) if counted[word] == 1 and len(word) > 2} - COMMON for tool in every}
    for tool in every:
        for pattern in tool["says"]:
            said = set(words(re.sub(r"{\w+}", "", pattern)))
            assert [name for name, own in keys.items() if own & said] == [tool["name"]], pattern


def test_a_source_states_several_things_and_several_are_asked_for():
    """The right source is not the right words yet."""
    groups = [group for group in make_groups(200, part="train") if group[0].sources]
    for group in groups:
        sources = group[0].sources
        assert sum(len(re.findall(r"[.] |[.]$|\n", source)) >= 1 for source in sources) >= 2, sources
    asked = [Counter(c.answer[-3:] for c in group if c.ability == "answer").most_common(1)[0][1] for group in groups]
    assert sum(count >= 3 for count in asked) / len(asked) > 0.8


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_passage_is_whole(part):
    """Each question's words stand in the sentence that answers it and in no other; several sentences are asked for, and not all is told."""
    seen = Counter(sentence for both in passages().values() for one in both for sentence in one["sentences"])
    assert set(seen.values()) == {1}
    for one in passages()[part]:
        assert 4 <= len(one["sentences"]) <= 6
        assert len({place for _, place, _ in one["asks"]}) >= 3
        assert len(one["misses"]) >= 2
        for question, place, gold in one["asks"]:
            assert [i for i, sentence in enumerate(one["sentences"]) if gold in sentence] == [place], question
        assert not re.search(r"[«»\[\]\n]", " ".join(one["sentences"]))


def test_sources_have_the_lengths_that_the_assistant_quotes():
    """And every passage comes once before any comes again."""
    deck = Deck(random.Random(0), "train")
    groups = [deck.group() for _ in range(20)]
    for group in groups:
        assert all(len(text) <= longest for text, longest in zip(group[0].sources, LENGTHS, strict=True))
    sentences = {sentence: number for number, one in enumerate(passages()["train"]) for sentence in one["sentences"]}
    drawn = [next(n for sentence, n in sentences.items() if text.startswith(sentence)) for group in groups for text in group[0].sources]
    assert sorted(drawn) == list(range(len(passages()["train"])))


def test_the_two_parts_share_no_question_answer_or_value():
    """What the assistant itself says (that it knows nothing, that no tool fits) is the same in both, by intent."""
    own = {NO_EVIDENCE["en"], NO_TOOL}
    for take in (question_of, lambda c: c.answer, lambda c: c.gold):
        shared = {take(c) for c in TRAIN} & {take(c) for c in TEST}
        assert shared <= {"", *own}


def test_the_two_parts_share_no_name():
    for name, pool in material()["pools"].items():
        assert not {x.casefold() for x in pool["train"]} & {x.casefold() for x in pool["test"]}, name


def test_about_half_of_the_tests_calls_are_of_tools_that_training_never_mentions():
    tools = material()["tools"]
    names = {part: {tool["name"] for tool in tools[part]} for part in ("train", "test")}
    assert not names["train"] & names["test"]
    called = [read_call(c.answer, c.tools)[0] for c in TEST if c.ability == "tool" and c.gold]
    assert 0.3 < sum(name in names["test"] for name in called) / len(called) < 0.7
    assert not {name for c in TRAIN for name in [t.name for t in c.tools]} & names["test"]


def test_the_two_parts_share_no_pattern_of_a_statement_or_question():
    """Statements and questions with their names and values taken out: a pattern that both parts had could be learned by heart."""
    facts, tables, tools = (material()[name] for name in ("facts", "tables", "tools"))
    known = [about[key] for about in facts["train"] for key in ("says", "asks")] + [tool["says"] for tool in tools["train"]]
    held_out, trained = {patterns[-1] for patterns in known}, {pattern for patterns in known for pattern in patterns[:-1]}
    held_out |= {pattern for about in facts["test"] for key in ("says", "asks") for pattern in about[key]}
    held_out |= {pattern for tool in tools["test"] for pattern in tool["says"]}
    for part, into in (("train", trained), ("test", held_out)):
        into |= {pattern for table in tables[part] for column in table["columns"] for pattern in column["asks"]}
    assert not held_out & trained


def test_about_half_of_the_tests_questions_are_about_what_training_never_mentions():
    patterns = [ask for about in material()["facts"]["test"] for ask in about["asks"]]
    patterns += [ask for table in material()["tables"]["test"] for column in table["columns"] for ask in column["asks"]]
    unseen = [re.compile(re.escape(p).replace(r"\{s\}", ".+"), re.IGNORECASE) for p in patterns]
    of_passages = {question for one in passages()["test"] for question, *_ in one["asks"]}
    asked = [question_of(c) for c in TEST if c.ability == "answer" and question_of(c) not in of_passages]
    share = sum(any(p.fullmatch(q) for p in unseen) for q in asked) / len(asked)
    assert 0.3 < share < 0.7


def test_nothing_of_the_assistants_evaluation_is_among_them():
    """No question of the evaluation is trained on; no training text shares eight words in a row with one, or with an invented passage."""
    evaluation = REPO / "capstone" / "evaluation"
    asked = [
        json.loads(line)["question"]
        for name in ("questions.jsonl", "translated.jsonl")
        for line in (evaluation / name).read_text("utf-8").splitlines()
    ]
    invented = json.loads((evaluation / "invented.json").read_text("utf-8"))
    asked += [
        text
        for facts in invented["facts"].values()
        for fact in facts
        for text in (fact["en"], fact["vi"], *fact["asked_en"], *fact["asked_vi"])
    ]
    handbook = [path.read_text("utf-8") for path in sorted((evaluation / "handbook").glob("*.typ"))]
    theirs = {run for text in (*asked, *handbook) for run in runs(text, 8)}
    ours = {run for case in TRAIN for message in case.messages if message["role"] != "system" for run in runs(message["content"], 8)}
    assert not ours & theirs
    assert not {" ".join(words(question_of(c))) for c in TRAIN} & {" ".join(words(text)) for text in asked}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def runs(text: str, length: int) -> set[str]:
    found = words(text)
    return {" ".join(found[i : i + length]) for i in range(len(found) - length + 1)}


def test_an_empty_training_set_is_refused():
    with pytest.raises(ValueError, match="the training set would be empty"):
        make_groups(0, part="train")


def test_the_material_is_whole():
    """Every pattern names what it is about, every value has a pool or a unit, and the training part has wordings to spare for the test."""
    for part, least in (("train", 3), ("test", 2)):
        for about in material()["facts"][part]:
            assert len(about["says"]) == len(about["asks"]) >= least, about
            assert all("{s}" in text for key in ("says", "asks") for text in about[key])
            assert all("{v}" in text for text in about["says"])
        for tool in material()["tools"][part]:
            assert len(tool["says"]) >= least
            assert all(f"{{{name}}}" in text for text in tool["says"] for name in tool["arguments"])
