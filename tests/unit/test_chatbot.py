"""The chatbot's scores, its calls, and the conversation in the terminal."""

import pytest
from hybridlab.llm import chatbot
from hybridlab.llm.chatbot import converse, held_out_answer, main, paragraphs, training_rows
from hybridlab.llm.chatbot_case import Case, grounded_case
from hybridlab.llm.chatbot_data import make_groups
from hybridlab.llm.chatbot_scores import holds, is_silent, score, table, token_f1
from hybridlab.llm.embedded import EmbeddedModel
from hybridlab.llm.gguf_adapter import save_gguf_adapter
from hybridlab.llm.grounded_prompt import NO_EVIDENCE
from hybridlab.llm.span_grammar import span_grammar
from hybridlab.llm.tool_calls import NO_TOOL, NotACall, Tool, call_grammar, read_call, tool_messages, write_call

from tests.unit.test_expert import network

TOOLS = (Tool("get_weather", "forecast", ("city", "day")),)
CASES = [case for group in make_groups(30, part="test") for case in group]


# ---------------------------------------------------------------- scores


def test_who_answers_everything_rightly_scores_one_everywhere():
    scores = score(CASES, lambda case: case.answer)
    assert {value for name, value in vars(scores).items() if name != "cases"} == {1.0}


def test_who_always_keeps_silent_is_right_only_where_that_is_right():
    scores = score(CASES, lambda case: NO_EVIDENCE["en"])
    silent, answered = scores.cases["abstain"], scores.cases["answer"]
    assert (scores.exact, scores.holds, scores.grounded) == (0, 0, 0)
    assert (scores.abstain_precision, scores.abstain_recall) == (silent / (silent + answered), 1.0)


def test_the_right_value_with_a_wrong_source_is_told_apart():
    case = next(c for c in CASES if c.ability == "answer" and c.answer.endswith("[1]"))
    scores = score([case], lambda c: c.answer.replace("[1]", "[3]"))
    assert (scores.exact, scores.f1, scores.holds, scores.grounded) == (0, 1, 1, 0)


def test_a_call_is_valid_where_it_could_be_made_and_right_where_it_is_the_one():
    call = write_call("get_weather", {"city": "Huế", "day": "Monday"})
    asked = Case("tool", (), call, call, tools=TOOLS)
    none = Case("tool", (), NO_TOOL, tools=TOOLS)
    other = write_call("get_weather", {"city": "Vinh", "day": "Monday"})
    scores = [
        score([case], lambda _, text=text: text)
        for case, text in ((asked, call), (asked, other), (asked, "Rain."), (none, call), (none, "No."))
    ]
    assert [(s.valid, s.call, s.declined) for s in scores] == [(1, 1, 0), (1, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 1)]


@pytest.mark.parametrize(
    "text", ["I do not know.", "The sources don't mention it: I can't answer.", "Tôi không biết.", *NO_EVIDENCE.values()]
)
def test_silence_is_heard_in_other_words_too(text):
    assert is_silent(text)


@pytest.mark.parametrize("text", ["The hall opens at 8:15. [1]", "No dogs are allowed.", "Phòng nhạc không mở cửa."])
def test_an_answer_is_no_silence(text):
    assert not is_silent(text)


def test_values_and_words_are_compared_by_hand():
    assert holds("It costs 8 EUR.", "8 EUR")
    assert not holds("since 1998 EUR", "98 EUR")
    assert token_f1("the hall opens at 8", "The hall opens at 9") == pytest.approx(0.8)
    assert token_f1("", "something") == 0


def test_without_cases_there_is_nothing_to_score():
    with pytest.raises(ValueError, match="no cases"):
        score([], lambda case: "")


def test_the_table_has_a_column_for_each_and_the_number_of_cases():
    scores = score(CASES, lambda case: case.answer)
    lines = table({"before": scores, "after": scores}).splitlines()
    assert lines[0].split()[-3:] == ["cases", "before", "after"]
    assert all(line.split()[-2:] == ["1.00", "1.00"] for line in lines[1:])


# ---------------------------------------------------------------- calls


def test_what_is_written_is_read():
    assert read_call(write_call("get_weather", {"day": "thứ hai", "city": 'a "b"'}), TOOLS) == (
        "get_weather",
        {"day": "thứ hai", "city": 'a "b"'},
    )


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("Sunny.", "is no <tool_call>"),
        ("<tool_call>{</tool_call>", "no JSON"),
        ("<tool_call>[]</tool_call>", "is no"),
        (write_call("rm", {}), "there are get_weather"),
        (write_call("get_weather", {"city": "Huế"}), "takes city, day"),
    ],
)
def test_what_is_no_call_is_refused_with_the_reason(answer, sentence):
    with pytest.raises(NotACall, match=sentence):
        read_call(answer, TOOLS)


def test_a_case_is_asked_within_the_grammar_of_its_sources_or_of_its_tools():
    class Engine:
        def answer(self, messages, *, adapter, max_tokens, grammar):
            return f"{adapter} {grammar}"

    sources = ("The hall opens at 8.",)
    assert held_out_answer(Engine(), grounded_case("When?", sources, "8", 1)) == f"None {span_grammar(sources)}"
    assert held_out_answer(Engine(), Case("tool", (), NO_TOOL, tools=TOOLS), adapter=0) == f"0 {call_grammar(TOOLS)}"


@pytest.mark.slow(seconds=6)
def test_an_engine_that_follows_the_grammar_writes_a_call_or_that_none_fits():
    """SmolLM2 as it is: freely it writes something else. A tool without arguments and a quotation mark in a name are among them."""
    tools = (*TOOLS, Tool("stop", "stop the music", ()), Tool('say "hi"', "greet", ("who",)))
    model, calls = EmbeddedModel(threads=1), 0
    for request in ("Stop the music!", "What will the weather be in Huế on Monday?", "Greet Linh."):
        prompt = tool_messages(request, tools)
        for grammar in (call_grammar(tools), call_grammar(tools).replace(f'"{NO_TOOL}" |', "")):
            answer = model.answer(prompt, grammar=grammar)
            if answer != NO_TOOL:
                assert read_call(answer, tools)[0] in {tool.name for tool in tools}
                calls += 1
    assert calls >= 3


@pytest.mark.slow(seconds=2)
def test_a_grammar_that_can_not_be_read_is_refused():
    with pytest.raises(ValueError, match="refused the conversation"):
        EmbeddedModel(threads=1).answer([{"role": "user", "content": "Hello"}], grammar="root ::= (")


# ---------------------------------------------------------------- the terminal


class Echo:
    """An engine that notes what it is asked."""

    def __init__(self, adapters=()):
        self.adapters, self.asked = adapters, []

    def answer(self, messages, *, adapter, grammar, piece):
        self.asked.append((list(messages), adapter, grammar))
        piece("Yes.")
        return "Yes."


def typed(monkeypatch, *lines):
    left = iter(lines)

    def read(_):
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)


def test_questions_about_sources_stand_alone_and_carry_them(monkeypatch, capsys):
    typed(monkeypatch, "When does it open?", "Mấy giờ?", "")
    model = Echo(("a.gguf",))
    converse(model, ["The hall opens at 8."])
    assert [len(messages) for messages, *_ in model.asked] == [2, 2]
    assert model.asked[0][0][1]["content"] == "[1] «The hall opens at 8.»\n\nQuestion: When does it open?"
    assert model.asked[1][0][1]["content"].endswith("Câu hỏi: Mấy giờ?")
    assert {adapter for _, adapter, _ in model.asked} == {0}
    assert [grammar for *_, grammar in model.asked] == [span_grammar(["The hall opens at 8."]), None]
    assert "[1] The hall opens at 8." in capsys.readouterr().out


def test_without_sources_the_conversation_goes_on(monkeypatch):
    typed(monkeypatch, "Hello", "And again")
    model = Echo()
    converse(model, [])
    assert [m["content"] for m in model.asked[1][0][:3]] == ["Hello", "Yes.", "And again"]
    assert {(adapter, grammar) for _, adapter, grammar in model.asked} == {(None, None)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "can't be read"), (b"\xff", "can't be read"), (b" \n\n ", "is empty"), (b"x" * 6001, "make it shorter")],
)
def test_a_file_of_sources_that_can_not_be_used_is_named(tmp_path, content, sentence):
    path = tmp_path / "notes.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"notes\.txt .*{sentence}"):
        paragraphs(path)


def test_paragraphs_are_parted_by_blank_lines(tmp_path):
    (tmp_path / "n.txt").write_text("one\nline\n\n \nanother\n")
    assert paragraphs(tmp_path / "n.txt") == ["one line", "another"]


def test_what_can_not_start_is_one_sentence(tmp_path, capsys):
    assert main(["--adapter", str(tmp_path / "none.gguf")]) == 1
    assert "none.gguf is not there" in capsys.readouterr().err
    (tmp_path / "bad.gguf").write_bytes(b"GGUF no")
    assert main(["--adapter", str(tmp_path / "bad.gguf")]) == 1
    assert "bad.gguf is cut off" in capsys.readouterr().err


@pytest.mark.slow(seconds=4)
def test_an_adapter_of_other_shapes_is_one_sentence(tmp_path, capsys):
    save_gguf_adapter(network(hidden=288), tmp_path / "other.gguf")
    assert main(["--adapter", str(tmp_path / "other.gguf")]) == 1
    assert "other.gguf can't be loaded together" in capsys.readouterr().err


def test_an_empty_training_set_is_refused():
    with pytest.raises(ValueError, match="the training set is empty"):
        training_rows([], None)


def test_the_plan_takes_each_group_once():
    assert chatbot.chatbot_plan().steps == chatbot.GROUPS
    assert len(chatbot.chatbot_lora().targets) == 7 * (30 - chatbot.FIRST_BLOCK)
