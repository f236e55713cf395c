"""How well a chatbot answers from its sources, keeps silent where they say nothing, and calls tools: each case by itself, then a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hybridlab.llm.chatbot_case import Case
from hybridlab.llm.tool_calls import NotACall, read_call

CITATION = re.compile(r"\s*\[(\d+)\]")
# also the words of a model that was never told the assistant's own sentence
SILENT = re.compile(
    r"found nothing|(do not|don't|did not|didn't|cannot|can't|could not|couldn't) (know|find|answer)|"
    r"no (information|mention|answer)|not (mentioned|stated|given|specified)|"
    r"không (biết|tìm thấy|có thông tin|được đề cập|thể trả lời)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scores:
    """Shares (0 to 1) over `cases` cases of each ability (and "no tool": requests that no tool fits).

    answer: `exact` is the whole answer with its source's number, `f1` the words shared with it, `holds` whether the gold value stands
    in it, `grounded` whether the right source's number (and no other) does, too. abstain: of all cases about sources, how many
    silences are right, and how many of those that ought to be silent are. tool: of the requests that an offered tool fits, how many
    are answered with a valid call of any (`valid`), and with exactly the right one (`call`); of the others, with no call (`declined`).
    """

    cases: dict[str, int]
    exact: float
    f1: float
    holds: float
    grounded: float
    abstain_precision: float
    abstain_recall: float
    valid: float
    call: float
    declined: float


def score(cases: Sequence[Case], answer: Callable[[Case], str], seen: Callable[[int], None] = lambda done: None) -> Scores:
    """Ask every case, and score the answers. `seen` is called with the number of cases that are done.

    Raises ValueError where there are no cases.
    """
    if not cases:
        raise ValueError("there are no cases to score")
    given: list[tuple[Case, str]] = []
    for done, case in enumerate(cases, 1):
        given.append((case, answer(case).strip()))
        seen(done)
    answers = [(c, text) for c, text in given if c.ability == "answer"]
    about_sources = [(c, text) for c, text in given if c.ability != "tool"]
    silent = [(c, text) for c, text in about_sources if is_silent(text)]
    to_be_silent = [c for c, _ in about_sources if c.ability == "abstain"]
    right = sum(c.ability == "abstain" for c, _ in silent)
    calls = [(c, text) for c, text in given if c.ability == "tool" and c.gold]
    others = [(c, text) for c, text in given if c.ability == "tool" and not c.gold]
    return Scores(
        cases=dict(Counter("no tool" if c.ability == "tool" and not c.gold else c.ability for c in cases)),
        exact=_share(text == c.answer for c, text in answers),
        f1=_share(token_f1(CITATION.sub("", text), CITATION.sub("", c.answer)) for c, text in answers),
        holds=_share(not is_silent(text) and holds(text, c.gold) for c, text in answers),
        grounded=_share(
            not is_silent(text) and holds(text, c.gold) and set(CITATION.findall(text)) == set(CITATION.findall(c.answer))
            for c, text in answers
        ),
        abstain_precision=right / max(1, len(silent)),
        abstain_recall=right / max(1, len(to_be_silent)),
        valid=_share(_is_call(c, text) for c, text in calls),
        call=_share(text == c.answer for c, text in calls),
        declined=_share("<tool_call>" not in text for c, text in others),
    )


def is_silent(text: str) -> bool:
    """Whether an answer says that it does not know."""
    return bool(SILENT.search(text))


def holds(text: str, gold: str) -> bool:
    """Whether the gold value stands in an answer as words of its own: "8" is not in "1998"."""
    return re.search(rf"(?<!\w){re.escape(gold.casefold())}(?!\w)", text.casefold()) is not None


def token_f1(given: str, wanted: str) -> float:
    """The harmonic mean of precision and recall over words (SQuAD, arXiv 1606.05250, section 6.1)."""
    have, want = (Counter(re.findall(r"\w+", text.casefold())) for text in (given, wanted))
    same = sum((have & want).values())
    return 2 * same / (sum(have.values()) + sum(want.values())) if same else 0.0


def table(columns: dict[str, Scores]) -> str:
    """The scores side by side, a row for each measure."""
    first = next(iter(columns.values()))
    rows = {
        "answer: word for word, with its source": "exact",
        "answer: word F1": "f1",
        "answer: holds the value": "holds",
        "answer: holds it, and names its source": "grounded",
        "silence: precision": "abstain_precision",
        "silence: recall": "abstain_recall",
        "tool: a valid call": "valid",
        "tool: exactly the right call": "call",
        "no tool: none is called": "declined",
    }
    lines = [f"{'share of the held-out cases':40}{'cases':>7}" + "".join(f"{name:>10}" for name in columns)]
    for text, field in rows.items():
        ability = text.partition(":")[0].replace("silence", "abstain")
        lines.append(f"{text:40}{first.cases.get(ability, 0):7}" + "".join(f"{getattr(s, field):10.2f}" for s in columns.values()))
    return "\n".join(lines)


def _is_call(case: Case, text: str) -> bool:
    try:
        read_call(text, case.tools)
    except NotACall:
        return False
    return True


def _share(values) -> float:
    values = [float(value) for value in values]
    return sum(values) / len(values) if values else 0.0
