"""What is said from sources by a model without an expert: words, of sources that are there, in a language that it speaks."""

import pytest
from assistant.engines.embedded import Embedded
from assistant.engines.openai_compatible import OpenAICompatible
from assistant.engines.queue import Queued
from assistant.orchestrator import ends_before_more
from hybridlab.llm.smollm2 import gguf_path

from tests.capstone.conftest import QUESTION, FakeEngine, asked_about_handbook

VIETNAMESE = "Mỗi nhân viên được nghỉ phép bao nhiêu ngày?"


@pytest.fixture
def asked(serve):
    """The answer to a question about the handbook, by an engine that says these pieces and speaks these languages; its requests, too."""

    def ask(pieces, question=QUESTION, languages=None, finish="stop", **more):
        engine = FakeEngine(pieces)
        engine.languages, engine.finish = languages, finish
        return asked_about_handbook(serve(engine), question, **more), engine.requests

    return ask


def content(answer: dict) -> str:
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("pieces", [("1. ", "[1] ", "[2] ", "[3]"), ("[1]",), (" ", "\n"), ()])
def test_a_model_that_only_counts_its_sources_is_not_heard(asked, pieces):
    answer, requests = asked(pieces, finish="length")
    assert content(answer).removesuffix(" [1]") in answer["citations"][0]["quote"]
    assert "twenty-five days" in content(answer)
    assert (len(requests), answer["choices"][0]["finish_reason"]) == (1, "stop")


def test_what_stands_before_the_first_word_is_not_lost(asked):
    assert content(asked(("[1] ", "25 ", "days", " [1]."))[0]) == "[1] 25 days [1]."


def test_a_question_in_a_language_that_the_model_does_not_speak_gets_the_sentence_at_once(asked):
    answer, requests = asked(("Nonsense.",), VIETNAMESE, frozenset({"en"}))
    assert requests == []
    assert content(answer).removesuffix(" [1]") in answer["citations"][0]["quote"]


@pytest.mark.parametrize("languages", [None, frozenset({"en", "vi"})])
def test_a_model_that_speaks_it_or_may_is_asked(asked, languages):
    assert content(asked(("Hai mươi lăm ngày [1].",), VIETNAMESE, languages)[0]) == "Hai mươi lăm ngày [1]."


def test_plain_chat_goes_to_the_model_in_every_language(asked):
    assert content(asked(("1 + 1 = ", "2"), VIETNAMESE, frozenset({"en"}), documents=[])[0]) == "1 + 1 = 2"


def test_an_answer_ends_before_a_source_that_is_not_there(asked):
    answer, requests = asked(("Twenty-five days.",), stop=["STOP"])
    assert requests[0].stop == ("STOP", f"[{len(answer['citations']) + 1}]")
    assert asked(("1",), documents=[])[1][0].stop == ()


def test_a_number_that_a_source_has_itself_ends_nothing_and_no_more_ends_are_asked_for_than_may_be():
    class Quote:
        quote = "as in [2]"

    assert ends_before_more((), [Quote]) == ()
    assert ends_before_more((), [Quote, Quote]) == ("[3]",)
    for stop in (("a", "b", "c", "d"), ("a", "b", "c", "d", "e")):
        assert ends_before_more(stop, [Quote, Quote]) == stop


@pytest.mark.slow(seconds=3)
def test_of_the_packaged_model_it_is_known_what_it_speaks_and_of_others_not():
    assert Queued(Embedded(None, threads=1, streams=1), streams=1, waiting=1, seconds=1).languages == {"en"}
    assert Embedded(gguf_path(), threads=1, streams=1).languages is None
    assert OpenAICompatible("http://127.0.0.1:1/v1", "m", "", seconds=1).languages is None
